"""The headers of a page that depends on the visitor: caching (RFC 9111), entity tags (RFC 9110), and what the
app's Content-Security-Policy allows us. Pure functions over raw header lists; names keep the case they came in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from consentkit.web.flow import Wake

Header = tuple[bytes, bytes]

FALLBACK_CSP = b"default-src 'self' data:; style-src 'self' 'unsafe-inline'"
"""For a page that can't be read and so can't be gated: nothing but the own origin loads, no inline script runs.
Several policies only narrow each other (CSP3 section 8.1), so the app's own is not widened."""

_REWRITTEN = frozenset(
    {b"content-length", b"accept-ranges", b"last-modified"}  # a byte count, offsets and a date that are the app's
    | {b"content-md5", b"digest", b"repr-digest", b"content-digest"}
)
_FOR_SHARED_CACHES = frozenset({b"surrogate-control", b"cdn-cache-control", b"x-accel-expires"})  # RFC 9213; nginx
_ENTITY_TAG = re.compile(rb'(W/)?"([^"]*)"')
_MARK = re.compile(rb"\A(.*)-ck([0-9a-f]{12})\Z", re.DOTALL)
_DIRECTIVE = re.compile(rb'[^,"]*(?:"(?:[^"\\]|\\.)*"?[^,"]*)*')
_SAME_ORIGIN = frozenset({"'self'", "*", "https:", "http:"})
_NONCE = re.compile(r"'nonce-([A-Za-z0-9+/_=-]+)'")


def page_headers(headers: Iterable[Header], *, tag: bytes | None, private: bool) -> list[Header]:
    """The headers of a rewritten page, without a length.

    Args:
        tag: what the entity tag gets to stand for this variant; None takes the entity tag away.
        private: whether the page depends on the visitor, and so may be kept by the visitor's browser only.
    """
    kept: list[Header] = []
    cache: list[bytes] = []
    vary: list[bytes] = []
    for header in headers:
        name = header[0].lower()
        if name in _REWRITTEN:
            continue
        if name == b"etag":
            marked = mark(header[1], tag) if tag else None
            if marked:
                kept.append((header[0], marked))
        elif not private:
            kept.append(header)
        elif name == b"cache-control":
            cache.append(header[1])
        elif name == b"vary":
            vary.append(header[1])
        elif name not in _FOR_SHARED_CACHES and not name.endswith(b"-cdn-cache-control"):
            kept.append(header)
    if private:
        kept.append((b"cache-control", private_cache(b", ".join(cache))))
        kept.append((b"vary", varying(b", ".join(vary), b"Cookie")))
    return kept


def recoded(headers: Iterable[Header], *, gzip: bool) -> list[Header]:
    """The headers of a page whose content coding was undone, and done again as gzip or not at all."""
    kept: list[Header] = []
    vary: list[bytes] = []
    for header in headers:
        name = header[0].lower()
        if name == b"vary":
            vary.append(header[1])
        elif name != b"content-encoding":
            kept.append(header)
    coding = [(b"content-encoding", b"gzip")] if gzip else []
    return [*kept, *coding, (b"vary", varying(b", ".join(vary), b"Accept-Encoding"))]


@lru_cache(maxsize=256)
def private_cache(value: bytes) -> bytes:
    """A `Cache-Control` value that keeps shared caches off and says the same to the browser as before."""
    kept = []
    for directive in map(bytes.strip, _DIRECTIVE.findall(value)):
        name = directive.partition(b"=")[0].strip().lower()
        if directive and name not in (b"public", b"s-maxage", b"private"):  # `private="field"` is not private
            kept.append(directive)
    return b", ".join([b"private", *kept])


@lru_cache(maxsize=256)
def varying(value: bytes, name: bytes) -> bytes:
    """A `Vary` value with `name` in it."""
    fields = [field.strip() for field in value.split(b",") if field.strip()]
    if b"*" in fields or name.lower() in (field.lower() for field in fields):
        return b", ".join(fields)
    return b", ".join([*fields, name])


def mark(entity_tag: bytes, tag: bytes) -> bytes | None:
    """The app's entity tag with ours in it; weak stays weak. None when it is not written as one."""
    found = _ENTITY_TAG.fullmatch(entity_tag.strip())
    return b'%b"%b-ck%b"' % (found[1] or b"", found[2], tag) if found else None


def unmark(condition: bytes, tag: bytes | None, *, page: bool) -> tuple[bytes | None, bool]:
    """What the app is told of an `If-None-Match`, and whether a tag of this variant was in it.

    Args:
        condition: the header's value: a list of entity tags, weak or strong, or `*`.
        tag: of the variant that this visitor would get now; None when it has no entity tag.
        page: whether the answer may be a page. Then a tag that is not of this variant is left out, so that the
            app sends the page anew; it may stem from another choice, or from before the gate.
    """
    passed: list[bytes] = []
    ours = False
    for found in _ENTITY_TAG.finditer(condition):
        marked = _MARK.match(found[2])
        if marked is None:
            if not page:
                passed.append(found[0])
        elif marked[2] == tag:
            passed.append(b'%b"%b"' % (found[1] or b"", marked[1]))
            ours = True
    if not page and condition.strip() == b"*":
        passed.append(b"*")
    return (b", ".join(passed) or None), ours


def plain_condition(condition: bytes) -> bytes:
    """An `If-Match` with our marks taken off: it asks whether the resource changed, not for whom it was made."""

    def plain(found: re.Match[bytes]) -> bytes:
        marked = _MARK.match(found[2])
        return b'%b"%b"' % (found[1] or b"", marked[1]) if marked else found[0]

    return _ENTITY_TAG.sub(plain, condition)


def content_policy(values: Iterable[bytes], metas: Iterable[str] = ()) -> tuple[str | None, Wake]:
    """The nonce in the app's Content-Security-Policy, and how a gated inline script may be woken under it.

    Under `require-trusted-types-for 'script'` text may become a script only through a Trusted Types policy; ours
    is called `consentkit` and can be made where `trusted-types` is absent, names it, or has `*` (in every header).
    Where `connect-src` leaves out the own origin the script may not fetch: then forms go their plain way.

    Args:
        values: of the header. metas: the contents of `<meta>` elements, each one policy (HTML Standard 4.2.5.3).
    """
    nonce: str | None = None
    required, allowed, fetches = False, True, True
    for policy in (*(one for value in values for one in value.decode("latin-1").split(",")), *metas):
        directives: dict[str, str] = {}
        for directive in policy.split(";"):
            name, *words = directive.split(maxsplit=1) or [""]
            directives.setdefault(name.lower(), "".join(words))  # the first of a name holds (CSP3 section 2.2.1)
        for name in ("script-src-elem", "script-src", "default-src", "style-src-elem", "style-src"):
            found = _NONCE.search(directives.get(name, ""))
            nonce = nonce or (found[1] if found else None)
        required = required or "'script'" in directives.get("require-trusted-types-for", "").lower().split()
        sources = directives.get("connect-src", directives.get("default-src"))
        fetches = fetches and (sources is None or not _SAME_ORIGIN.isdisjoint(sources.lower().split()))
        if "trusted-types" in directives:
            names = directives["trusted-types"].split()
            allowed = allowed and ("consentkit" in names or "*" in names)
    if not fetches:
        return nonce, "form"
    return nonce, "here" if not required else "policy" if allowed else "reload"

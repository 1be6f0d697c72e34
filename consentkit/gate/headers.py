"""The same gate for response headers: cookies, and what else makes a browser fetch or report.

Pure functions over raw ASGI header lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from consentkit.gate.decide import Gate
from consentkit.gate.urls import candidates, refresh_url
from consentkit.gate.vectors import link_fetches

Headers = list[tuple[bytes, bytes]]

_POLICIES = frozenset({b"content-security-policy", b"content-security-policy-report-only"})
FETCHING: Final = _POLICIES | {
    b"link", b"refresh", b"speculation-rules", b"report-to", b"reporting-endpoints", b"nel"
}  # fmt: skip
"""The headers, in lower case, that `filter_fetches` looks at: without any of these a response needs no look."""

# Link = #( "<" URI ">" *( ";" parameter ) ), RFC 8288 section 3; a comma within a quoted value does not separate.
_LINK = re.compile(rb"""[\s,]*+(<[^>]*+>?+(?:"(?:[^"\\]|\\.)*+"?+|[^,"])*+|[^,<]++)""", re.DOTALL)
_PARAMETER = re.compile(rb"""[;"\s](rel|imagesrcset)\s*=\s*(?:"([^"]*)|([^\s;"]+))""", re.IGNORECASE)
# A member of a structured list or dictionary (RFC 9651 section 3): commas within strings do not separate.
_MEMBER = re.compile(rb"""\s*+((?:"(?:[^"\\]|\\.)*+"?+|[^,"])++)""", re.DOTALL)
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)', re.DOTALL)
_REPORT_URI = re.compile(rb"((?:\A|[;,])[\t\n\f\r ]*)(report-uri[\t\n\f\r ]+)([^;,]*)", re.IGNORECASE)
_JSON = json.JSONDecoder()
_BETWEEN = re.compile(r"[\t\n\r ,]*")

Denied = Callable[[str], bool]


def filter_set_cookie(
    headers: Iterable[tuple[bytes, bytes]], gate: Gate, granted: Collection[str]
) -> tuple[Headers, list[str]]:
    """Drop `Set-Cookie` of registered cookies whose service has no consent (Tw 11.7a(1), ePrivacy 5(3)).

    A cookie that expires at once is let through: the application is removing it.

    Returns:
        The headers that go out, and the names of the cookies that were dropped.
    """
    kept: Headers = []
    dropped: list[str] = []
    for key, value in headers:
        if key.lower() == b"set-cookie":
            name = value.partition(b";")[0].partition(b"=")[0].strip(b" \t").decode("latin-1")
            service = gate.cookie(name)
            if service is not None and not gate.stores(service, granted) and not _expires(value):
                dropped.append(name)
                continue
        kept.append((key, value))
    return kept, dropped


_LONG_AGO = re.compile(rb"\b(?:19\d\d|200\d)\b|-(?:[789]\d|0\d)\b")
"""A year before 2010, with two digits too, where no clock is needed to tell that it is over."""


def _expires(cookie: bytes) -> bool:
    for attribute in cookie.lower().split(b";")[1:]:
        key, _, value = attribute.partition(b"=")
        if key.strip() == b"max-age" and re.fullmatch(rb"\s*(?:-\d+|0+)\s*", value):
            return True
        if key.strip() == b"expires" and _LONG_AGO.search(value):
            return True
    return False


def filter_fetches(headers: Iterable[tuple[bytes, bytes]], gate: Gate, granted: Collection[str]) -> Headers:
    """Take out what makes the browser fetch from, or report to, a service without consent.

    That is entries of `Link` (RFC 8288), `Refresh`, entries of `Speculation-Rules`, of `Reporting-Endpoints`, of
    `Report-To` and, with the group they report to, of `NEL`. Browsers keep the last two for as long as they say: one
    that has no consent is given an age of 0, which takes back what was agreed to before. Of a Content-Security-Policy
    only URLs of `report-uri` go, and the directive with the last of them: what the policy allows stays the same. All
    else stays as it came.
    """
    headers = list(headers)
    if not gate.denies(frozenset(granted)):
        return headers

    def denied(url: str) -> bool:
        return gate.holds_back(url, granted)

    reporting = _reporting(headers, denied)
    kept: Headers = []
    for key, value in headers:
        name = key.lower()
        left: bytes | None = value
        if name in reporting:
            left, reporting[name] = reporting[name], None  # what stood in several headers goes out in the first
        elif name in _ENTRIES:
            left = _ENTRIES[name](value, denied)
        if left is not None:
            kept.append((key, left))
    return kept


def without_fetches(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What `filter_fetches` looks at, all of it taken out, for where that can't be asked. Policies stay as strict."""
    kept: Headers = []
    for key, value in headers:
        if key.lower() in _POLICIES:
            kept.append((key, _REPORT_URI.sub(rb"\1", value)))
        elif key.lower() not in FETCHING:
            kept.append((key, value))
    return kept


def _links(value: bytes, denied: Denied) -> bytes | None:
    return _left(_LINK, value, lambda entry: _link_fetches(entry, denied))


def _link_fetches(entry: bytes, denied: Denied) -> bool:
    url, _, parameters = entry.removeprefix(b"<").partition(b">")
    fetches, urls = False, [url.decode("latin-1")]
    for found in _PARAMETER.finditer(b";" + parameters):  # also in quotes: browsers differ in where those end
        value = (found[2] or found[3] or b"").decode("latin-1")
        if found[1].lower() == b"rel":
            fetches = fetches or link_fetches(value)
        else:
            urls += candidates(value)
    return fetches and any(map(denied, urls))


def _refresh(value: bytes, denied: Denied) -> bytes | None:
    url = refresh_url(value.decode("latin-1"))
    return None if url and denied(url) else value


def _members(value: bytes, denied: Denied) -> bytes | None:
    def holds(member: bytes) -> bool:
        texts = (re.sub(rb"\\(.)", rb"\1", text).decode("latin-1") for text in _STRING.findall(member))
        return any(map(denied, texts))

    return _left(_MEMBER, value, holds)


def _left(entry: re.Pattern[bytes], value: bytes, goes: Callable[[bytes], bool]) -> bytes | None:
    """The entries that may stay: the very same value if all may, None if none may."""
    entries = [found[1].strip() for found in entry.finditer(value)]
    left = [one for one in entries if not goes(one)]
    if len(left) == len(entries):
        return value
    return b", ".join(left) if left else None


def _policy(value: bytes, denied: Denied) -> bytes | None:
    def report_uri(found: re.Match[bytes]) -> bytes:
        urls = found[3].split()
        left = [url for url in urls if not denied(url.decode("latin-1"))]
        if len(left) == len(urls):
            return found[0]
        return found[1] + found[2] + b" ".join(left) if left else found[1].rstrip()

    left = _REPORT_URI.sub(report_uri, value)
    return left if left == value or left.strip(b"\t\n\f\r ,;") else None


def _reporting(headers: Headers, denied: Denied) -> dict[bytes, bytes | None]:
    """`Report-To` and `NEL` as they go out, if they change: JSON objects with commas between (Reporting API, NEL).

    What can't be read is left out: to browsers it says nothing either.
    """
    groups, policies = _objects(headers, b"report-to"), _objects(headers, b"nel")
    changed: dict[bytes, bytes | None] = {}
    gone: set[str] = set()
    out: list[str] = []
    for text, group in groups or ():
        endpoints = group.get("endpoints")
        every = endpoints if isinstance(endpoints, list) else []
        left = [one for one in every if not (isinstance(one, dict) and denied(str(one.get("url", ""))))]
        if len(left) == len(every):
            out.append(text)
            continue
        if not left:
            gone.add(str(group.get("group", "default")))
        out.append(json.dumps({**group, "endpoints": left} if left else {**group, "max_age": 0, "endpoints": []}))
        changed[b"report-to"] = None
    if groups is None or changed:
        changed[b"report-to"] = ", ".join(out).encode("latin-1") or None
    if policies is None:
        changed[b"nel"] = None
    elif any(str(policy.get("report_to")) in gone for _, policy in policies):
        parts = [
            json.dumps({**policy, "max_age": 0}) if str(policy.get("report_to")) in gone else text
            for text, policy in policies
        ]
        changed[b"nel"] = ", ".join(parts).encode("latin-1")
    return changed


def _objects(headers: Headers, name: bytes) -> list[tuple[str, dict[str, Any]]] | None:
    """The objects in all headers of this name together, each with its text; None when that is no JSON."""
    text = ", ".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
    found: list[tuple[str, dict[str, Any]]] = []
    at = _BETWEEN.match(text).end()  # type: ignore[union-attr]
    try:
        while at < len(text):
            value, end = _JSON.raw_decode(text, at)
            if isinstance(value, dict):
                found.append((text[at:end], value))
            at = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
    except ValueError:
        return None
    return found


_ENTRIES: Final[dict[bytes, Callable[[bytes, Denied], bytes | None]]] = {
    b"link": _links,
    b"refresh": _refresh,
    b"speculation-rules": _members,
    b"reporting-endpoints": _members,
    b"content-security-policy": _policy,
    b"content-security-policy-report-only": _policy,
}

"""The same gate for response headers: `Set-Cookie`, `Link` and `Refresh`. Pure functions over raw ASGI header lists."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from consentkit.gate.decide import Gate
from consentkit.gate.urls import refresh_url
from consentkit.gate.vectors import link_fetches

Headers = list[tuple[bytes, bytes]]

# Link = #( "<" URI ">" *( ";" parameter ) ), RFC 8288 section 3; a comma within a quoted value does not separate.
_LINK = re.compile(rb"""[\s,]*+(<[^>]*+>?+(?:"(?:[^"\\]|\\.)*+"?+|[^,"])*+|[^,<]++)""", re.DOTALL)


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
            if service is not None and not gate.allows(service, granted) and not _expires(value):
                dropped.append(name)
                continue
        kept.append((key, value))
    return kept, dropped


def _expires(cookie: bytes) -> bool:
    for attribute in cookie.lower().split(b";")[1:]:
        key, _, value = attribute.partition(b"=")
        if key.strip() == b"max-age" and re.fullmatch(rb"\s*(?:-\d+|0+)\s*", value):
            return True
    return False


def filter_link(headers: Iterable[tuple[bytes, bytes]], gate: Gate, granted: Collection[str]) -> Headers:
    """Take out what makes the browser fetch from a service without consent: entries of `Link`, and `Refresh`."""
    kept: Headers = []
    for key, value in headers:
        lowered = key.lower()
        if lowered == b"link":
            entries = [item[1].strip() for item in _LINK.finditer(value)]
            left = [entry for entry in entries if not _fetches(entry, gate, granted)]
            if len(left) < len(entries):
                if left:
                    kept.append((key, b", ".join(left)))
                continue
        elif lowered == b"refresh":
            url = refresh_url(value.decode("latin-1"))
            if url and gate.holds_back(url, granted):
                continue
        kept.append((key, value))
    return kept


def _fetches(entry: bytes, gate: Gate, granted: Collection[str]) -> bool:
    url, _, parameters = entry.removeprefix(b"<").partition(b">")
    found = re.search(rb"""(?:^|;)\s*rel\s*=\s*(?:"([^"]*)"|([^\s;]+))""", parameters, re.IGNORECASE)
    rels = (found[1] or found[2] or b"").decode("latin-1") if found else ""
    return link_fetches(rels) and gate.holds_back(url.decode("latin-1"), granted)

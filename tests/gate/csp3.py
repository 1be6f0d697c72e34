"""A small reading of CSP3 for tests: what a browser that got these policies would fetch. Not the code under test."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_FALLBACKS = {
    "script-src-elem": ["script-src"],
    "script-src-attr": ["script-src"],
    "style-src-elem": ["style-src"],
    "style-src-attr": ["style-src"],
    "worker-src": ["child-src", "script-src"],
    "frame-src": ["child-src"],
}
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}
_UPGRADES = {"http": {"https"}, "ws": {"wss", "http", "https"}, "wss": {"https"}}
FETCHES = (
    "script-src-elem", "style-src-elem", "img-src", "connect-src", "frame-src", "font-src", "media-src", "object-src",
    "worker-src", "manifest-src",
)  # fmt: skip


def policies(headers: list[tuple[bytes, bytes]], name: bytes = b"content-security-policy") -> list[str]:
    """Every policy that a response carries; a header may hold several (CSP3 section 2.2.2)."""
    values = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return [policy for value in values for policy in value.split(",") if policy.strip()]


def fetches(policies: list[str], directive: str, url: str, page: str, nonce: str = "") -> bool:
    """Whether all of these policies let a page at `page` fetch `url` (section 8.1: each one must)."""
    return all(_allows(policy, directive, url, page, nonce) for policy in policies)


def runs_inline(policies: list[str], nonce: str = "") -> bool:
    """Whether an inline script with this nonce runs (section 6.7.3.3)."""

    def one(policy: str) -> bool:
        sources = _sources(policy, "script-src-elem")
        if sources is None:
            return True
        strict = any(word.startswith(("'nonce-", "'sha")) for word in sources) or "'strict-dynamic'" in sources
        return (f"'nonce-{nonce}'" in sources and bool(nonce)) or ("'unsafe-inline'" in sources and not strict)

    return all(map(one, policies))


def _sources(policy: str, directive: str) -> list[str] | None:
    found: dict[str, list[str]] = {}
    for part in policy.split(";"):
        name, *words = part.split() or [""]
        found.setdefault(name.lower(), words)
    for name in (directive, *_FALLBACKS.get(directive, []), "default-src"):
        if name in found:
            return found[name]
    return None


def _allows(policy: str, directive: str, url: str, page: str, nonce: str) -> bool:
    sources = _sources(policy, directive)
    if sources is None:
        return True
    if directive == "script-src-elem" and nonce and f"'nonce-{nonce}'" in sources:
        return True
    if directive == "script-src-elem" and "'strict-dynamic'" in sources:
        return False
    return any(_matches(source, url, page) for source in sources)


def _matches(source: str, url: str, page: str) -> bool:
    """Section 6.7.2.8, for one source."""
    place, here = urlsplit(url), urlsplit(page)
    if source == "'self'":
        same = (place.hostname, _port(place)) == (here.hostname, _port(here))
        return same and (place.scheme == here.scheme or place.scheme in ("https", "wss", "ws"))
    if source.startswith("'"):
        return False
    if source == "*":
        return place.scheme in _PORTS or place.scheme == here.scheme
    if source.endswith(":") and "/" not in source:
        return _scheme(source[:-1], place.scheme)
    scheme, _, rest = source.rpartition("://")
    host, slash, path = rest.partition("/")
    host, _, port = host.partition(":")
    if not _scheme(scheme or here.scheme, place.scheme):
        return False
    name = place.hostname or ""
    fits = name.endswith(host[1:].lower()) if host.startswith("*.") else host in ("*", name) or host.lower() == name
    if not fits:
        return False
    if port != "*" and (int(port) if port else _PORTS[place.scheme]) != _port(place):
        return False
    wanted, given = unquote(slash + path), unquote(place.path or "/")
    return not wanted or wanted == "/" or (given.startswith(wanted) if wanted.endswith("/") else given == wanted)


def _scheme(wanted: str, given: str) -> bool:
    wanted = wanted.lower()
    return wanted == given or given in _UPGRADES.get(wanted, set())


def _port(place: object) -> int:
    return place.port or _PORTS.get(place.scheme, 0)  # type: ignore[attr-defined, no-any-return]

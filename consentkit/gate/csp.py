"""A Content-Security-Policy of our own beside the app's: the browser itself blocks what nobody granted. Pure.

Several policies only narrow each other (CSP3 section 8.1), so the app's own is left as it is and can't be widened.
Ours is one `default-src`, which every fetch directive falls back to: where something may load from. How it may run
(nonces, hashes, `strict-dynamic`) stays the app's; ours allows inline code, eval, `data:` and `blob:`, which reach no
other host by themselves. A nonce opens no host in ours, so it does not open an undeclared one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from typing import Final
from urllib.parse import quote

from consentkit.gate.registry import Place
from consentkit.gate.urls import parents, plain_host, plain_path
from consentkit.service import Service

Header = tuple[bytes, bytes]

ENFORCE: Final = b"content-security-policy"
REPORT: Final = b"content-security-policy-report-only"
ENDPOINT: Final = "consentkit"
"""What our reporting endpoint is called (Reporting API section 3.2)."""

_ALWAYS: Final = "default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' data: blob:"
CLOSED_CSP: Final = _ALWAYS.encode()
"""Nothing but the own origin: what goes out where the policy can't be made."""

_MEMO = 256
_NONCE = re.compile(rb"'nonce-[^']*'")
_PARTS = "child connect default fenced-frame font frame img manifest media object prefetch style script worker"
FETCHES = frozenset(
    [f"{part}-src" for part in _PARTS.split()]
    + [f"{part}-src-{kind}" for part in ("script", "style") for kind in ("attr", "elem")]
)
"""The directives that say where something is fetched from (CSP3 section 6.1)."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):\Z")
_NETWORK = frozenset({"http", "https", "ws", "wss", "ftp"})
_SOURCE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?"
    r"(?P<below>\*\.)?(?P<host>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?"
    r"(?P<port>:(?:\d+|\*))?(?P<path>/[^\s?#;,]*)?\Z"
)
_ADDRESS = re.compile(r"[0-9.]+\Z|localhost\Z")
_IN_HEADER = "/%:@!$&()*+=~-._?"


class ContentPolicy:
    """The policies of one site, made when first asked for and remembered.

    Listed of a service are its `hosts` with their subdomains, and what it `connects` to: a domain with its subdomains,
    a longer name by itself. What stands in both may also be a WebSocket's.

    Args:
        services: all known services, the catalogue's and the site's own.
        configured: the ids of those the site names: what nobody can consent to is never listed.
        allows: whether a service may load for who granted these purposes.
        own_hosts: the site's own host names; they and their subdomains are never a third party.
        enforce: whether the browser blocks, or only reports.
        everybody: the same page goes to everybody (shared mode), so what anybody may have granted is listed.
        strict: hosts that only the app's policy names are no declared third parties, and stay out.
        path: where reports go, from the app's root: `/privacy/csp-report`.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        configured: Collection[str],
        allows: Callable[[Service, Collection[str]], bool],
        own_hosts: Collection[str],
        enforce: bool,
        everybody: bool,
        strict: bool,
        path: str,
    ) -> None:
        self._known = list(services)
        self._configured = [service for service in self._known if service.id in configured]
        self._allows = allows
        self._own = tuple(dict.fromkeys(_domain(plain_host(host)) for host in own_hosts))
        self._own_names = tuple(dict.fromkeys([*self._own, *map(plain_host, own_hosts)]))
        self._everybody = frozenset(service.purpose_id for service in self._configured) if everybody else None
        self._strict = strict
        self._path = path
        self._places: dict[str, list[tuple[str, Service]]] = {}
        for service in self._known:
            for entry in service.hosts:
                place = Place.of(entry)
                self._places.setdefault(place.host, []).append((place.path.lower(), service))
        for places in self._places.values():
            places.sort(key=lambda one: -len(one[0]))
        self._made: dict[tuple[object, ...], tuple[Header, ...]] = {}
        self.name: Final = ENFORCE if enforce else REPORT
        """The name of the header."""
        self.reloads: Final = enforce and not everybody
        """Whether what is granted on a page stays blocked until the page is loaded again, with another policy."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same page might get another policy: part of its entity tag (RFC 9110 section 8.8.3)."""
        told = [(one.id, one.purpose_id, one.hosts, one.connects) for one in self._configured]
        known = [(one.id, one.hosts) for one in self._known]
        what = repr([self.name, self._own_names, self._strict, self._everybody is None, self._path, told, known])
        return blake2b(what.encode(), digest_size=4).hexdigest()

    def headers(
        self, granted: frozenset[str], policies: Iterable[bytes], *, root: str, secure: bool
    ) -> tuple[Header, ...]:
        """The headers to append to a page.

        Args:
            granted: the purposes that this visitor granted; in shared mode they don't matter.
            policies: the values of the app's own `Content-Security-Policy` headers.
            root: the path that the app is mounted under, or empty.
            secure: whether the site is on https. Without it a host counts on every port, and the newer way of
                reporting is left out, for browsers only use it on https.
        """
        app = tuple([_NONCE.sub(b"", value) if b"'nonce-" in value else value for value in policies])
        key = (granted, app, root, secure)
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MEMO:
                self._made.clear()
            found = self._made[key] = self._make(self._everybody or granted, app, root, secure=secure)
        return found

    def _make(self, granted: frozenset[str], app: tuple[bytes, ...], root: str, *, secure: bool) -> tuple[Header, ...]:
        denied = {service.id for service in self._known if not self._allows(service, granted)}
        sources = self._own_sources(denied, secure=secure)
        for service in self._configured:
            if service.id not in denied:
                for entry in service.hosts:
                    sources += _sources(entry, secure=secure)
                for entry in service.connects:
                    below = entry.partition("/")[0].count(".") == 1
                    sources += _sources(entry, secure=secure, below=below)
                    if any(entry == host or entry.endswith(f".{host}") for host in service.hosts):
                        sources += _sources(entry, secure=secure, socket=True, below=below)
        if not self._strict:
            sources += [source for source in app_sources(app) if self._keeps(source, denied)]
        url = quote(root + self._path, safe=_IN_HEADER)
        to = f"; report-to {ENDPOINT}" if secure else ""
        policy = f"{' '.join([_ALWAYS, *_shortened(sources)])}; report-uri {url}{to}"
        made: tuple[Header, ...] = ((self.name, policy.encode("ascii")),)
        return (*made, (b"reporting-endpoints", f'{ENDPOINT}="{url}"'.encode("ascii"))) if secure else made

    def _own_sources(self, denied: Collection[str], *, secure: bool) -> list[str]:
        """The own domains; without their subdomains where one of those is a service that nobody granted."""
        sources: list[str] = []
        for domain in self._own:
            below = not any(
                name.endswith("." + domain) and any(service.id in denied for _, service in places)
                for name, places in self._places.items()
            )
            names = [domain] if below else [name for name in self._own_names if _domain(name) == domain]
            for name in names:
                for socket in (False, True):
                    sources += _sources(name, secure=secure, socket=socket, below=below)
        return sources

    def _keeps(self, source: str, denied: Collection[str]) -> bool:
        """Whether a source of the app's policy may stand in ours: it leads to no known service without consent."""
        found = _SOURCE.match(source)
        if found is None:
            return True  # a scheme that reaches no network
        host, path = found["host"].lower(), plain_path(found["path"] or "").lower()
        if found["below"]:
            for name, places in self._places.items():
                if (name == host or name.endswith("." + host)) and any(one.id in denied for _, one in places):
                    return False
        for name in parents(host):
            for prefix, service in self._places.get(name, ()):
                if not path or path.startswith(prefix) or prefix.startswith(path):
                    if service.id in denied:
                        return False
                    if path.startswith(prefix):
                        return True
        return True


def app_sources(policies: Iterable[bytes]) -> list[str]:
    """The hosts that fetch directives name, as written, and schemes that reach no network.

    A whole network (`https:`, `*`) is left out, as are keywords, nonces and hashes.
    """
    sources: dict[str, None] = {}
    for value in policies:
        for policy in value.decode("latin-1").split(","):
            seen: set[str] = set()
            for directive in policy.split(";"):
                name, *words = directive.split() or [""]
                name = name.lower()
                if name not in FETCHES or name in seen:  # the first of a name holds (CSP3 section 2.2.1)
                    continue
                seen.add(name)
                for word in filter(str.isascii, words):
                    scheme = _SCHEME.match(word)
                    if scheme[1].lower() not in _NETWORK if scheme else _SOURCE.match(word):
                        sources[word] = None
    return list(sources)


def _domain(host: str) -> str:
    """`www.school.example` is `school.example`'s own front door."""
    rest = host.removeprefix("www.")
    return rest if "." in rest else host


def _sources(entry: str, *, secure: bool, socket: bool = False, below: bool = True) -> list[str]:
    """An entry as host sources (CSP3 section 2.3.1): the host, and its subdomains, for `*.host` leaves out `host`.

    Without a scheme a source stands for the page's own, and for https; only sockets must say theirs (section 6.7.2.8).
    A policy knows no parameters.
    A path that ends in a slash stands for all beneath it, any other for itself.
    """
    name, port, path, _ = Place.of(entry)
    scheme = ("wss://" if secure else "ws://") if socket else ""
    names = [name]
    if below and not _ADDRESS.match(name) and not name.startswith("www."):
        names.append(f"*.{name}")
    ending = f":{port}" if port else "" if secure else ":*"
    path = quote(path, safe=_IN_HEADER.replace("?", ""))
    paths = [path] if not path or path.endswith("/") or "." in path.rpartition("/")[2] else [path, f"{path}/"]
    return [f"{scheme}{one}{ending}{tail}" for one in names for tail in paths]


def _shortened(sources: Iterable[str]) -> list[str]:
    """The same without repetitions, and without what a `*.domain` before or after says too: headers have a limit."""
    every = dict.fromkeys(sources)
    return [source for source in every if not _covered(source, every)]


def _covered(source: str, every: Collection[str]) -> bool:
    scheme, slashes, rest = source.rpartition("://")
    host, slash, _ = rest.removeprefix("*.").partition("/")
    wider = host if slash and rest.startswith("*.") else host.partition(".")[2]
    return any(f"{scheme}{slashes}*.{one}" in every for one in parents(wider))

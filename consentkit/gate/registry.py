"""Which known service a URL, an inline script or a cookie belongs to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Self
from urllib.parse import unquote

from consentkit.gate.urls import Target, parents, plain_host, plain_path, target, unescape_text
from consentkit.service import Service

_SLASH = rb"(?:/|\\/|\\u002[fF]|\\x2[fF]|%2[fF])"
_HOST_IN_CODE = re.compile(_SLASH + rb"{2}+((?:[A-Za-z0-9._~:@?&=+-]|" + _SLASH + rb"){4,300}+)")
_ESCAPED_SLASH = re.compile(rb"\\/|\\u002[fF]|\\x2[fF]|%2[fF]")
_MEMO_ENTRIES = 4096


class Place(NamedTuple):
    """Where a service is: an entry of its `hosts`, `host:port/path?parameter`, as it is compared.

    The port and the case of the path count in a browser's policy only (CSP3 section 6.7.2.8): a tracker that one port
    of a host has is held on every port.
    """

    host: str
    port: str
    path: str
    parameter: str

    @classmethod
    @lru_cache(4096)
    def of(cls, entry: str) -> Self:
        """An entry as written in the catalogue or in the configuration."""
        authority, slash, rest = entry.partition("/")
        name, _, port = authority.partition(":")
        path, _, parameter = rest.partition("?")
        return cls(plain_host(name), port, plain_path(slash + path) if slash else "", parameter)


def _prefix_fits(prefix: str, path: str) -> bool:
    if not path.startswith(prefix):
        return False
    following = path[len(prefix) : len(prefix) + 1]
    return prefix.endswith("/") or not (following.isalnum() or following in ("_", "-"))


class Registry:
    """Looks services up by host suffix and path prefix, by inline marker, by cookie name. Immutable but for a memo."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.services: dict[str, Service] = {service.id: service for service in services}
        self._hosts: dict[str, list[tuple[str, str, Service]]] = {}
        self._asked: set[str] = set()  # the paths whose query tells services apart
        self._markers: dict[int, list[tuple[bytes, Service]]] = {}
        self._files = {name: service for service in self.services.values() for name in service.files}
        for service in self.services.values():
            for entry in service.hosts:
                place = Place.of(entry)
                prefix = place.path.lower()
                if place.parameter:
                    self._asked.add(prefix)
                self._hosts.setdefault(place.host, []).append((prefix, place.parameter, service))
            for marker in filter(None, map(str.encode, service.inline)):
                self._markers.setdefault(marker[0], []).append((marker, service))
        for known in self._hosts.values():
            known.sort(key=lambda place: (-len(place[0]), -len(place[1])))
        words = tuple(sorted(marker for markers in self._markers.values() for marker, _ in markers))
        self._some_marker = _any_of(words) if words else None
        self._found: dict[Target, Service | None] = {}

    def of_target(self, place: Target) -> Service | None:
        """The service at this host and path: the longest host wins, then the longest path prefix, then a parameter.

        Where no host is known the name of the file may tell.
        """
        if place.query and place.path.lower() not in self._asked:
            place = Target(place.host, place.path)
        try:
            return self._found[place]
        except KeyError:
            pass
        found = self._look_up(place)
        if len(self._found) >= _MEMO_ENTRIES:
            self._found.clear()
        self._found[place] = found
        return found

    def _look_up(self, place: Target) -> Service | None:
        path, parameters = place.path.lower(), unquote(place.query).split("&")
        for host in parents(place.host):
            for prefix, parameter, service in self._hosts.get(host, ()):
                if parameter and not any(one.startswith(parameter) for one in parameters):
                    continue
                if not prefix or _prefix_fits(prefix, path):
                    return service
        return self._files.get(path.rpartition("/")[2])

    def of_url(self, url: str) -> Service | None:
        """The service that an absolute or protocol-relative URL belongs to."""
        place = target(url)
        return self.of_target(place) if place else None

    def of_code(self, code: bytes, *, markup: bool = True) -> list[Service]:
        """The services that an inline script gives away, by their markers or by a URL of theirs in its text."""
        found: dict[str, Service] = {}
        for text in {code, _unescaped(code)} if markup else (code,):
            for place in self._some_marker.finditer(text) if self._some_marker else ():
                at = place.start()
                found.update((one.id, one) for marker, one in self._markers[text[at]] if text.startswith(marker, at))
            for item in _HOST_IN_CODE.finditer(text):
                url = "//" + _ESCAPED_SLASH.sub(b"/", item[1]).decode("ascii")
                service = self.of_url(url)
                if service:
                    found[service.id] = service
        return list(found.values())

    def of_cookie(self, name: str, preferred: Collection[str] = ()) -> Service | None:
        """The service that registers a cookie of this name; one that asks for consent goes before one that doesn't.

        Args:
            preferred: ids of services before which no other counts.
        """
        owners = [service for service in self.services.values() if service.cookie(name)]
        owners = [service for service in owners if service.id in preferred] or owners
        return next((service for service in owners if service.asks), owners[0] if owners else None)


def _unescaped(code: bytes) -> bytes:
    """The same with character references resolved: how a script within SVG, or in an attribute, is read."""
    return unescape_text(code.decode("utf-8", "replace")).encode() if b"&" in code else code


@lru_cache(maxsize=4)
def _any_of(words: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Built once for all gates that know the same services: it is most of what a gate costs."""
    return re.compile(b"(?=" + _trie(words) + b")")


def _trie(words: Sequence[bytes]) -> bytes:
    """One expression matching any of the sorted words, branching on shared beginnings so that `re` can be quick."""
    heads: dict[int, list[bytes]] = {}
    for word in words:
        if not word:
            return b""
        heads.setdefault(word[0], []).append(word[1:])
    return b"(?:%s)" % b"|".join(re.escape(bytes([head])) + _trie(tails) for head, tails in heads.items())

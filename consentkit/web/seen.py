"""What was seen on a site and not declared: names, how often, where and on which days. Never of whom.

The middleware, the browsers' policy reports and `consentkit check` note names here, in memory; the audit writes them
to the database in the background. A name that carries an id is folded to its pattern before it is kept, so that no
name leads to a visitor; no value and no query of an address comes here at all.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Final, Literal, NamedTuple, get_args

from consentkit.gate import Seen
from consentkit.gate.registry import Place
from consentkit.gate.urls import parents
from consentkit.service import Service

log = logging.getLogger("consentkit")

Kind = Literal["cookie", "host", "storage", "tag"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

MOST_NAMES: Final = 500
"""So many names of a site wait at most to be written; what comes on top is not noted until they are."""

MAX_NAME: Final = 120
"""The most characters of a name and of a place."""

FIRST_VIEWS: Final = 3
"""So many first views of a path are looked at for third parties, and then one page in `EVERY`: looking takes time."""

EVERY: Final = 64

_MOST_PATHS = 2048
_MAX_PATH = 256
_MEMO = 4096
_MAX_RAW = 512

_ID = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # a UUID
    r"|(?=[A-Za-z]*[0-9][A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8,}"  # letters and digits: hex, or an account
    r"|[A-Za-z0-9]{32,}"
    r"|[0-9]{4,}"
    r"|%[0-9A-Fa-f]{2}"
)
_RUN = re.compile(r"\*(?:[-_.:|~]*\*)+")
_LABEL = re.compile(
    r"(?<![^.])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-z-]*[0-9][a-z-]*[0-9])[a-z0-9-]{20,}|[a-z0-9-]{40,})"
    r"(?=\.)"
)
_OWN_COOKIES = frozenset(  # the first two are on the statement; the others are of who logs in to the console
    {"consentkit", "consentkit-once", "consentkit-console", "consentkit-console-lang"}
)
_ODD = re.compile(r"[^!-~]")


class Noted(NamedTuple):
    """A name that was seen since the last time that all was written.

    Args:
        kind: of what. place: the path of a page with it, without a query; empty where only browsers told of it; what
            a policy report said of it where no page is known.
        first, last: days. total: how often it was noted, which is no number of visitors.
    """

    kind: str
    name: str
    place: str
    first: date
    last: date
    total: int


class Declared:
    """What a site declares: the answer to "may this be there at all?", whatever the visitor chose.

    Args:
        services: that the site names, its own cookies among them. own_hosts: the site's own, with their subdomains.
    """

    def __init__(self, services: Iterable[Service] = (), own_hosts: Iterable[str] = ()) -> None:
        self.services = tuple(services)
        self.ids = frozenset(service.id for service in self.services)
        own = {host.lower().rstrip(".") for host in own_hosts}
        theirs = {Place.of(entry).host for service in self.services for entry in (*service.hosts, *service.connects)}
        self._hosts = own | theirs

    def cookie(self, name: str) -> bool:
        """Whether a service declares a cookie of this name, or it is one of consentkit's own."""
        return name.removeprefix("__Host-") in _OWN_COOKIES or any(service.cookie(name) for service in self.services)

    def storage(self, name: str) -> bool:
        """Whether a service declares a key or a database of this name."""
        return any(item.kind != "cookie" and item.matches(name) for one in self.services for item in one.items)

    def host(self, host: str) -> bool:
        """Whether a host is the site's own, or a declared service's. Of one that serves several, any of them counts."""
        return not self._hosts.isdisjoint(parents(host))

    def covers(self, kind: Kind, name: str) -> bool:
        """Whether a name of this kind is declared."""
        match kind:
            case "cookie":
                return self.cookie(name)
            case "storage":
                return self.storage(name)
            case "host":
                return self.host(name.lower())
            case _:
                return name in self.ids


def fold(name: str) -> str:
    """A name without what could lead to a visitor: `_ga_4V3K2L1M9` is `_ga_*`. At most MAX_NAME characters."""
    if "@" in name or "%40" in name:
        return "*"
    return _RUN.sub("*", _ID.sub("*", _ODD.sub("?", name)))[:MAX_NAME]


def fold_host(host: str) -> str:
    """The same for a host name, of which most numbers belong to no visitor."""
    return _LABEL.sub("*", _ODD.sub("?", host.lower()))[:MAX_NAME]


def fold_path(path: str) -> str:
    """The same for the path of a page, without its query."""
    plain = path.partition("?")[0].partition("#")[0]
    return "/".join(fold(part) if part else "" for part in plain.split("/"))[:MAX_NAME]


def _today() -> date:
    return datetime.now(UTC).date()


class Sightings:
    """The names of one site that wait to be written. Of any thread; costs a look-up where a name came before.

    Args:
        declared: what is not noted. today: the day, in UTC.
        wake: called when a name comes for the first time on a day, so that somebody writes it.
    """

    def __init__(
        self,
        declared: Declared | None = None,
        *,
        today: Callable[[], date] = _today,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.declared = declared or Declared()
        self.today = today
        self._wake = wake
        self._keys: dict[tuple[Kind, str], tuple[str, str] | None] = {}
        self._views: dict[str, int] = {}
        self._others = 0
        self.renew()

    def renew(self) -> None:
        """Begin anew in a forked child, which leaves what waited to its parent."""
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Noted] = {}
        self._told: dict[tuple[str, str], date] = {}

    def note(self, kind: Kind, name: str, where: str = "") -> None:
        """Count a name, unless it is declared. Never raises, never waits.

        Args:
            where: the path of the page; without one another word on where it stands, or nothing.
        """
        try:
            raw = (kind, name[:_MAX_RAW])
            found = self._keys.get(raw, raw)
            key = self._learn(raw) if found is raw else found
            if key is not None and self._count(key, where):
                self._wake()
        except Exception:
            log.exception("a name that was seen could not be noted")

    def _learn(self, raw: tuple[Kind, str]) -> tuple[str, str] | None:
        kind, name = raw
        declared = not name or self.declared.covers(kind, name)
        key = None if declared else (kind, fold_host(name) if kind == "host" else fold(name))
        if len(self._keys) >= _MEMO:
            self._keys.clear()
        self._keys[raw] = key
        return key

    def _count(self, key: tuple[str, str], where: str) -> bool:
        """Whether it is the first time today."""
        today = self.today()
        with self._lock:
            found = self._waiting.get(key)
            if found is not None:
                place = found.place if found.place[:1] == "/" or not where else fold_path(where)
                self._waiting[key] = found._replace(place=place, last=max(found.last, today), total=found.total + 1)
            elif len(self._waiting) < MOST_NAMES:
                self._waiting[key] = Noted(*key, fold_path(where), today, today, 1)
            else:
                return False
            if self._told.get(key) == today:
                return False
            if len(self._told) >= _MEMO:
                self._told.clear()
            self._told[key] = today
            return True

    # -- what pages load ------------------------------------------------------------------------------------------

    def due(self, path: str) -> bool:
        """Whether the tags of the page that now goes out are to be looked at."""
        views = self._views.get(path)
        if views is not None:
            self._views[path] = views + 1
            return views < FIRST_VIEWS or views % EVERY == 0
        if len(self._views) < _MOST_PATHS and len(path) <= _MAX_PATH:
            self._views[path] = 1
            return True
        self._others += 1
        return self._others % EVERY == 0

    def look(self, seen: Sequence[Seen], path: str) -> None:
        """Note once what a page's tags load from, and the tags that nothing will ever release. Never raises.

        Args:
            seen: of a rewriter. path: the page's.
        """
        found: dict[tuple[Kind, str], None] = {}
        for one in seen:
            if one.parked:
                found["tag", one.parked] = None
            elif one.service_id is not None and one.service_id in self.declared.ids:
                continue
            elif one.host:
                found["host", one.host] = None
            elif one.service_id is not None:
                found["tag", one.service_id] = None
        for kind, name in found:
            self.note(kind, name, path)

    # -- for the audit --------------------------------------------------------------------------------------------

    def take(self) -> list[Noted]:
        """What waits, which is no longer held here then."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    def give_back(self, rows: Iterable[Noted]) -> None:
        """Hold again what could not be written."""
        with self._lock:
            for row in rows:
                key = (row.kind, row.name)
                found = self._waiting.get(key)
                if found is not None:
                    total = found.total + row.total
                    self._waiting[key] = found._replace(first=row.first, place=found.place or row.place, total=total)
                elif len(self._waiting) < MOST_NAMES:
                    self._waiting[key] = row

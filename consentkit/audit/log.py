"""The audit as others use it: write in the background what was seen and not declared, read it, forget it in time.

A page view only counts in memory. A few seconds after a name comes for the first time on a day, all that waits is
written in one transaction; so it is when the app ends. Where the database is away it all waits on, in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from consentkit.audit import ledger
from consentkit.audit.ledger import Row, Sighting
from consentkit.errors import ConsentKitError
from consentkit.store import Store, after_fork

log = logging.getLogger("consentkit.audit")

COLLECT: Final = 3.0
"""Seconds for which what was seen waits to be written together."""

RETRY: Final = 60.0
"""Seconds until the next try where the database could not take it."""

KEEP: Final = timedelta(days=396)
"""How long a name is kept that is not seen any more: 13 months."""


class Source(Protocol):
    """Where names wait to be written; `take` hands them over, `give_back` holds them again."""

    def take(self) -> Sequence[Row]: ...
    def give_back(self, rows: Iterable[Any], /) -> None: ...
    def renew(self) -> None: ...


class Audit:
    """Keeps what was seen and not declared. Its thread comes with the first name, and goes when all is written.

    Args:
        store: the database. sources: by the name of their site.
    """

    def __init__(self, store: Store, sources: Mapping[str, Source]) -> None:
        self._store = store
        self._sources = sources
        self._fresh()
        after_fork(self, "after_fork")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = self._again = self._failing = False

    def after_fork(self) -> None:
        """Leave the parent's names to the parent."""
        self._fresh()
        for source in self._sources.values():
            source.renew()

    def wake(self) -> None:
        """Write soon. Never waits."""
        with self._lock:
            self._again = True
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="consentkit-audit", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = COLLECT
        while True:
            self._bell.wait(pause)
            with self._lock:
                self._again = False
            written = self._try()
            pause = COLLECT if written else RETRY
            with self._lock:
                if self._closing or (written and not self._again):
                    self._thread = None
                    return

    def _try(self) -> bool:
        try:
            self.flush()
        except (ConsentKitError, SQLAlchemyError, OSError) as error:
            if not self._failing:
                log.warning("what was seen waits, the database can't take it: %s", type(error).__name__)
        except Exception:
            if not self._failing:
                log.exception("what was seen could not be written")
        else:
            self._failing = False
            return True
        self._failing = True
        return False

    def flush(self) -> None:
        """Write what waits.

        Raises:
            ConsentKitError, sqlalchemy.exc.SQLAlchemyError: the database is away; it all waits on.
        """
        with self._writing:
            for site, source in self._sources.items():
                rows = source.take()
                if not rows:
                    continue
                try:
                    with self._store.begin(patience=10.0) as connection:
                        ledger.merge(connection, site, rows)
                except BaseException:
                    source.give_back(rows)
                    raise

    def close(self, *, patience: float = 5.0) -> None:
        """Write what waits, and stop. Never raises."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._bell.set()
        if thread is not None:
            thread.join(patience)
        else:
            self._try()
        with self._lock:
            self._closing = False
            self._bell.clear()

    def read(self, site: str | None = None) -> list[Sighting]:
        """What was seen and not declared, of one site or of all, by site, kind and name.

        Raises:
            DatabaseUnavailable, SchemaOutdated: it can't be asked now.
        """
        with self._store.read() as connection:
            return ledger.read(connection, site)

    def purge(self, today: date, *, keep: timedelta = KEEP, dry_run: bool = False) -> int:
        """Forget what was last seen longer ago than `keep`. Idempotent.

        Returns:
            how many names went, or would go.

        Raises:
            DatabaseUnavailable, SchemaOutdated: nothing changed.
        """
        with self._store.told(), self._store.begin() as connection:
            gone = ledger.purge(connection, today - keep)
            if dry_run:
                connection.rollback()
        return gone

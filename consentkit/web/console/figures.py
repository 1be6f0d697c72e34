"""Figures that take long to count: counted behind, shown at once.

A page never waits for a count over millions of rows. It shows what was counted last and when, and a new count begins
behind it once that is too old. The first page after a start waits a moment, in which a small table is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast

from consentkit.store import after_fork

log = logging.getLogger("consentkit.console")

T = TypeVar("T")

WAIT: Final = 0.05
"""Seconds that a page waits for a figure that was never counted."""

FRESH: Final = 20.0
"""Seconds after which a figure is counted anew, when somebody asks; longer for one that takes long."""

_SHARE: Final = 20
_MOST: Final = 500
_MOST_AT_ONCE: Final = 100
"""So many counts wait their turn; whoever asks for more has to ask again."""


@dataclass(frozen=True, slots=True)
class Figure(Generic[T]):
    """What was counted, and when."""

    value: T
    at: datetime


class Figures:
    """Counts behind, and remembers.

    Args:
        clock: tells the time, aware.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[Figure[Any], float]] = OrderedDict()
        self._counting: dict[Hashable, tuple[object, Future[Any]]] = {}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="consentkit-figures")

    def get(
        self, key: Hashable, count: Callable[[], T], *, fresh: float = FRESH, wait: float | None = None
    ) -> Figure[T] | None:
        """The figure as it was counted last; None where it is being counted for the first time.

        Args:
            key: names it. count: counts it, in a thread, and may take long.
            fresh: seconds for which the last count is good enough. wait: seconds to wait for a first count.

        Raises:
            whatever `count` raised, where nothing was counted before.
        """
        with self._lock:
            known = self._known.get(key)
            if known is not None and time.monotonic() < known[1]:
                self._known.move_to_end(key)
                return cast("Figure[T]", known[0])
            running = self._counting.get(key)
            if running is None and len(self._counting) < _MOST_AT_ONCE:
                turn = object()
                running = self._counting[key] = turn, self._pool.submit(self._count, key, count, fresh, turn)
        if known is not None:
            return cast("Figure[T]", known[0])
        if running is None:
            return None
        try:
            running[1].result(WAIT if wait is None else wait)
        except NotYet:
            return None
        with self._lock:
            found = self._known.get(key)
        return cast("Figure[T]", found[0]) if found else None

    def _count(self, key: Hashable, count: Callable[[], Any], fresh: float, turn: object) -> None:
        began = time.monotonic()
        try:
            figure = Figure(count(), self._now())
            ended = time.monotonic()
            with self._lock:
                if not self._has(key, turn):  # something changed since it began
                    return
                self._known[key] = (figure, ended + max(fresh, _SHARE * (ended - began)))
                self._known.move_to_end(key)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
        except Exception:
            log.exception("a figure could not be counted")
            raise
        finally:
            with self._lock:
                if self._has(key, turn):
                    del self._counting[key]

    def _has(self, key: Hashable, turn: object) -> bool:
        running = self._counting.get(key)
        return running is not None and running[0] is turn

    def forget(self, *keys: Hashable) -> None:
        """Something changed: count these anew when somebody asks, and show nothing old until then."""
        with self._lock:
            for key in keys:
                self._known.pop(key, None)
                self._counting.pop(key, None)

    def close(self) -> None:
        """Begin no further counts."""
        self._pool.shutdown(wait=False, cancel_futures=True)

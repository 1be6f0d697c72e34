"""Memory with a bound: what was decided for the same bytes before."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """By bytes; forgets everything once its keys and values exceed `room` bytes. Single operations only: no lock."""

    __slots__ = ("_left", "_room", "_values", "get")

    def __init__(self, room: int) -> None:
        self._room = self._left = room
        self._values: dict[bytes, V] = {}
        self.get = self._values.get

    def put(self, key: bytes, value: V, *, size: int) -> None:
        """Keep `value`, which weighs `size` bytes together with its key."""
        if size > self._room // 16:
            return
        self._left -= size
        if self._left < 0:
            self._values.clear()
            self._left = self._room - size
        self._values[key] = value


class Recent(Generic[V]):
    """By any key; forgets what was not asked for longest once it exceeds `room` bytes."""

    __slots__ = ("_left", "_lock", "_room", "_values")

    def __init__(self, room: int) -> None:
        self._room = self._left = room
        self._values: dict[Hashable, tuple[int, V]] = {}
        self._lock = Lock()

    def get(self, key: Hashable) -> V | None:
        """What was put under this key, which now counts as just used."""
        with self._lock:
            found = self._values.pop(key, None)
            if found is None:
                return None
            self._values[key] = found
            return found[1]

    def put(self, key: Hashable, value: V, *, size: int) -> None:
        """Keep `value`, which weighs `size` bytes together with its key."""
        if size > self._room // 4:
            return
        with self._lock:
            before = self._values.pop(key, None)
            self._left += (before[0] if before else 0) - size
            self._values[key] = (size, value)
            while self._left < 0:
                oldest = next(iter(self._values))
                self._left += self._values.pop(oldest)[0]

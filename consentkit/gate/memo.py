"""Memory with a bound: what was decided for the same bytes before."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_STRIDE: Final = 256  # one byte in so many is in the sample
_MOST_ALIKE: Final = 8  # bodies of one length and one sample: pages that differ by a token or a name
_MOST_MET: Final = 4096


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


class Bodies(Generic[V]):
    """By a body's bytes and a variant; forgets what was not asked for longest once it exceeds `room` bytes.

    A body is looked up by its length and a sample of its bytes and then compared as a whole: hashing all of it would
    take longer than everything else that a repeating page costs.
    """

    __slots__ = ("_left", "_lock", "_met", "_room", "_values")

    def __init__(self, room: int) -> None:
        self._room = self._left = room
        self._values: dict[Hashable, list[tuple[bytes, V, int]]] = {}
        self._met: set[int] = set()
        self._lock = Lock()

    def repeats(self, body: bytes, variant: Hashable) -> bool:
        """Whether this came before, as far as is known: what never comes again is not worth the room and the copy."""
        met = hash((body, variant))
        if met in self._met:
            return True
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        self._met.add(met)
        return False

    def get(self, body: bytes, variant: Hashable) -> V | None:
        """What was put under this key, which now counts as just used."""
        key = (len(body), body[::_STRIDE], variant)
        with self._lock:
            alike = self._values.pop(key, None)
            if alike is None:
                return None
            self._values[key] = alike
            for known, value, _ in alike:
                if known == body:
                    return value
        return None

    def put(self, body: bytes, variant: Hashable, value: V, *, size: int) -> None:
        """Keep `value`, which weighs `size` bytes together with its key."""
        if size > self._room // 4:
            return
        key = (len(body), body[::_STRIDE], variant)
        with self._lock:
            alike = self._values.pop(key, [])
            outdated = [entry for entry in alike if entry[0] == body] or alike[: max(0, len(alike) - _MOST_ALIKE + 1)]
            for entry in outdated:
                alike.remove(entry)
                self._left += entry[2]
            self._left -= size
            self._values[key] = [*alike, (body, value, size)]
            while self._left < 0:
                oldest = next(iter(self._values))
                self._left += sum(entry[2] for entry in self._values.pop(oldest))

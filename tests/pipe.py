"""A stream that can't be sought in, as a pipe gives."""

from __future__ import annotations

import io
from collections.abc import Iterator


class Pipe(io.RawIOBase):
    """Gives as many of `rows` as are asked for."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._rows = rows
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while len(self._waiting) < len(buffer) and (row := next(self._rows, b"")):
            self._waiting += row
        data, self._waiting = self._waiting[: len(buffer)], self._waiting[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

"""A mail server that takes everything, fast, and writes down whom it answered for before it says so."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from typing import Self

_ID = re.compile(rb"^Message-ID: <(\d+)\.(\d+)\.\d+@", re.MULTILINE)


class Sink:
    """Listens on a free port of this machine, in a thread.

    Attributes:
        accepted: mailing, delivery and recipient of every message that was, or was about to be, answered with 250.
        delay: seconds, at most, that an answer takes.
    """

    def __init__(self, *, delay: float = 0.0, pipelining: bool = True) -> None:
        self.accepted: list[tuple[int, int, str]] = []
        self.delay = delay
        self._pipelining = pipelining
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 sink\r\n")
            to = ""
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-sink\r\n250-PIPELINING\r\n250 SIZE\r\n" if self._pipelining else b"250 sink\r\n")
                elif verb == b"RCPT":
                    to = line.partition(b"<")[2].partition(b">")[0].decode()
                    writer.write(b"250 2.1.5 ok\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    await self._pause()
                    text = await reader.readuntil(b"\r\n.\r\n")
                    found = _ID.search(text)
                    assert found
                    self.accepted.append((int(found[1]), int(found[2]), to))
                    await self._pause()
                    writer.write(b"250 2.0.0 taken\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 ok\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _pause(self) -> None:
        if self.delay:
            await asyncio.sleep(random.uniform(0, self.delay))

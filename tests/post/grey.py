"""Greylisting as servers do it: who sends to somebody for the first time is asked to come back.

Postfix asks over its policy protocol: lines of `name=value`, an empty line, and an answer `action=…`.
"""

from __future__ import annotations

import socketserver
import threading
import time
from typing import cast

Triplet = tuple[str, str, str]


class Greylist(socketserver.ThreadingTCPServer):
    """A policy service of Postfix.

    Attributes:
        wary: the recipients that it protects. patience: seconds before a sender may come back.
        asked: who asked, in their order: client, sender, recipient.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Question)
        self.forget()

    @property
    def port(self) -> int:
        """Where it listens."""
        return cast(int, self.server_address[1])

    def forget(self) -> None:
        """Know nobody, and let everybody in."""
        self.wary: frozenset[str] = frozenset()
        self.patience = 0.5
        self.asked: list[Triplet] = []
        self._seen: dict[Triplet, float] = {}

    def answer(self, triplet: Triplet) -> str:
        """What is done with a message. As Postgrey says it, which Postfix makes a 450 of."""
        if triplet[2] not in self.wary:
            return "DUNNO"
        self.asked.append(triplet)
        first = self._seen.setdefault(triplet, time.monotonic())
        return "DUNNO" if time.monotonic() - first >= self.patience else "DEFER_IF_PERMIT 4.2.0 Greylisted"

    def start(self) -> None:
        """Listen, in a thread."""
        threading.Thread(target=self.serve_forever, name="greylist", daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()


class _Question(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().strip().partition("=")
            if name:
                asked[name] = value
                continue
            triplet = (asked["client_address"], asked["sender"], asked["recipient"])
            self.wfile.write(f"action={cast(Greylist, self.server).answer(triplet)}\n\n".encode())

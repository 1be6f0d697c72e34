"""Senders that can be killed: each is a fork of this process, which has everything imported and nothing open.

    python -m tests.mailing.fork_server FOLDER SMTP_URL DATABASE_URL

It reads lines: `send MAILING` forks a sender, `queue 0` a worker of the queue, and prints its number; `reap PID` waits
for one and prints how it ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from consentkit import ConsentKit
from consentkit.mailing import engine, queue
from tests.mailing.school import sending

engine.OVERTAKE_SECONDS = 0.1  # type: ignore[misc]  # a dead sender's heir needs no patience here
engine.LOOK_SECONDS = 0.05  # type: ignore[misc]
queue.LOOK_SECONDS = queue.POLL_SECONDS = 0.1  # type: ignore[misc]
queue.DEAD_SECONDS = 2.0  # type: ignore[misc]
queue.SLICE_SECONDS = 0.5  # type: ignore[misc]


def main(folder: str, smtp: str, database: str) -> None:
    """Serve the lines of standard input."""
    kit = ConsentKit(sending(Path(folder), smtp, database))
    for line in sys.stdin:
        verb, number = line.split()
        if verb in ("send", "queue"):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    if verb == "send":
                        asyncio.run(kit.engine.work(int(number)))
                    else:
                        kit.work_queue()
                    code = 0
                finally:
                    os._exit(code)
            sys.stdout.write(f"{pid}\n")
        else:
            sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(int(number), 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

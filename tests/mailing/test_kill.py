"""The published guarantee, held against SIGKILL at any moment: at most once, nothing lost, doubt listed, exits kept.

A mail server records whom it answered for. Senders are killed while they send; others go on. Meanwhile people leave.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import pytest

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.mailing.states import DeliveryState
from tests.mailing import hall
from tests.mailing.school import draft, sending
from tests.mailing.sink import Sink

RUNS = int(os.environ.get("CONSENTKIT_SOAK_RUNS", "20"))
READERS = 40
CONNECTIONS = 3
HANDED_OVER = {DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.IN_DOUBT, DeliveryState.FAILED}


class Senders:
    """Forks senders, kills them, and waits for them."""

    def __init__(self, folder: Path, smtp: str, database: str) -> None:
        command = [sys.executable, "-m", "tests.mailing.fork_server", str(folder), smtp, database]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, mailing: int) -> int:
        return self._ask(f"send {mailing}")

    def kill(self, pid: int) -> bool:
        """Whether it was still at it."""
        os.kill(pid, signal.SIGKILL)
        return self._ask(f"reap {pid}") == -signal.SIGKILL

    def wait(self, pid: int) -> int:
        return self._ask(f"reap {pid}")

    def _ask(self, line: str) -> int:
        stdin, stdout = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        stdin.write(line + "\n")
        stdin.flush()
        return int(stdout.readline())

    def close(self) -> None:
        cast("IO[str]", self._server.stdin).close()
        self._server.wait(10)
        cast("IO[str]", self._server.stdout).close()


@dataclass
class Scene:
    """Where it happens, and what happened in all runs."""

    kit: ConsentKit
    senders: Senders
    sink: Sink
    chance: random.Random
    killed: int = 0
    in_doubt: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self, number: int) -> None:
        """Send a mailing, kill its senders in the middle, let others finish it, and hold everybody's account."""
        id = self.kit.mailings.new(draft(where={"run": (str(number),)}))
        self.kit.mailings.send(id, dns=False)
        self.sink.accepted.clear()
        two = not self.kit.store.sqlite  # on PostgreSQL several send at a time
        in_time: set[int] = set()
        kills = 0
        for _ in range(self.chance.choice((1, 1, 2))):
            first, *other = [self.senders.start(id) for _ in range(1 + two)]
            end = time.monotonic() + self.chance.uniform(0.01, 0.16)
            while time.monotonic() < end:
                self.leave(id, number * READERS + self.chance.randint(1, READERS), in_time)
                time.sleep(self.chance.uniform(0.0, 0.03))
            kills += self.senders.kill(first)
            if other and self.chance.random() < 0.5:
                self.senders.wait(other[0])  # it takes over while it goes on
            elif other:
                kills += self.senders.kill(other[0])
        self.killed += kills > 0
        self.expect(self.senders.wait(self.senders.start(id)) == 0, id, "the last sender failed")
        self.account(id, kills, in_time)

    def leave(self, mailing: int, reader: int, in_time: set[int]) -> None:
        """Somebody leaves. What was not handed over when that was committed must never be."""
        leaving = self.kit.links.read(self.kit.links.token(f"lezer{reader}@school{reader % 3}.example", hall.LIST))
        if self.kit.newsletter.leave(leaving, reason=Reason.ONE_CLICK, channel="one-click"):
            self.left += 1
            if hall.rows(self.kit, mailing, reader=reader)[reader].state not in HANDED_OVER:
                in_time.add(reader)

    def account(self, id: int, kills: int, in_time: set[int]) -> None:
        """Everybody's state against what the mail server took."""
        rows, status = hall.rows(self.kit, id, but="excluded"), self.kit.mailings.status(id)
        got = Counter(delivery for mailing, delivery, _ in self.sink.accepted if mailing == id)
        for reader, row in rows.items():
            allowed = {"sent": {1}, "in_doubt": {0, 1}, "suppressed": {0}}.get(row.state, set())
            self.expect(got[row.id] in allowed, id, f"{row.state} {row.reason} was taken {got[row.id]} times")
            self.expect(reader not in in_time or not got[row.id], id, "somebody who had left got it")
        doubtful = [row.id for row in rows.values() if row.state == "in_doubt"]
        self.expect(len(rows) == READERS, id, f"{len(rows)} rows")
        self.expect(sum(got.values()) == sum(got[row.id] for row in rows.values()), id, "somebody else got it")
        self.expect(status.mailing.state == "done", id, f"it is {status.mailing.state}")
        self.expect(len(doubtful) <= kills * CONNECTIONS, id, f"{len(doubtful)} in doubt after {kills} kill(s)")
        self.expect(sorted(doubtful) == [*status.in_doubt], id, "what is in doubt is not listed")
        self.in_doubt += len(doubtful)

    def expect(self, holds: bool, mailing: int, otherwise: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.problems.append(f"mailing {mailing}: {otherwise}")


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with Sink(delay=0.006) as sink:
        kit = ConsentKit(sending(tmp_path, sink.url, database_url))
        kit.store.upgrade()
        people = [(n + 1, {"name": f"Lezer {n}", "run": str(n // READERS)}, {}) for n in range(READERS * RUNS)]
        hall.seats(kit, people)
        senders = Senders(tmp_path, sink.url, database_url)
        seed = os.environ.get("CONSENTKIT_SEED", str(time.time_ns()))
        print(f"CONSENTKIT_SEED={seed}")
        yield Scene(kit, senders, sink, random.Random(seed))
        senders.close()
        kit.close()


@pytest.mark.checklist("UNS-04")
@pytest.mark.timeout(240 if RUNS <= 50 else 3600)
def test_killed_at_any_moment_nobody_gets_it_twice_is_lost_or_gets_it_after_leaving(scene: Scene) -> None:
    for number in range(RUNS):
        scene.run(number)

    assert scene.problems == []
    assert scene.killed > RUNS * 0.8  # the kills came while something was going on
    assert scene.in_doubt > 0
    assert scene.left > RUNS
    print(f"{RUNS} runs: {scene.killed} with a kill, {scene.in_doubt} in doubt, {scene.left} left meanwhile")

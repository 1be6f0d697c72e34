"""A process that records as fast as it can and prints each id once it was answered. Started by the tests.

python child.py DATABASE_URL JOURNAL_FOLDER PATIENCE HOW_MANY
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from consentkit.evidence import Evidence
from consentkit.store import Store
from tests.evidence.samples import NOTICE, NOW, make_event, nonce


async def visit(evidence: Evidence, left: list[None]) -> None:
    while left:
        left.pop()
        event = make_event()
        durability = await evidence.record(event, NOTICE)
        counted = await evidence.count("delinde", NOW, "banner.refuse", NOTICE.hash, nonce())
        sys.stdout.write(f"{event.event_id} {durability} {counted}\n")
        sys.stdout.flush()


async def main(url: str, journal: str, patience: str, how_many: str) -> None:
    store = Store(url)
    evidence = Evidence(store, journal=Path(journal), patience=float(patience), retry=0.2)
    left = [None] * int(how_many)
    await asyncio.gather(*(visit(evidence, left) for _ in range(32)))
    evidence.close()
    store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

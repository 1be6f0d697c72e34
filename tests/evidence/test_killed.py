"""A process that is killed at any moment has lost nothing that it had answered."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from consentkit.evidence import Evidence
from tests.evidence.child import start


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_what_was_answered_survives_sigkill_at_any_moment(
    evidence: Evidence, database_url: str, tmp_path: Path
) -> None:
    dice = random.Random()
    answered: list[str] = []
    counted = 0

    for _ in range(4):
        printed = run_and_kill(database_url, tmp_path / "journal", after=dice.uniform(0.0, 0.25))
        answered += [line.split()[0] for line in printed]
        counted += len(printed)
    evidence.replay()

    stored = [line["event_id"] for line in evidence.export()]
    assert len(answered) > 100
    assert set(answered) <= set(stored)
    assert len(stored) == len(set(stored))
    assert sum(count.total for count in evidence.counts()) >= counted
    report = evidence.verify()
    assert report.ok, str(report)
    assert report.events == len(stored)


def run_and_kill(database_url: str, journal: Path, *, after: float) -> list[str]:
    """Let a child record, and kill it so many seconds after its first answer; returns the whole lines it printed."""
    printed = journal.with_name("printed")
    printed.unlink(missing_ok=True)
    child = start(database_url, journal, printed, patience=5)
    while printed.stat().st_size == 0:
        assert child.is_alive()
        time.sleep(0.01)
    time.sleep(after)
    child.kill()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    return [line for line in printed.read_text().splitlines(keepends=True) if line.endswith("\n")]

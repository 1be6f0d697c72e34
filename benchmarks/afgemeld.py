"""Looking up who left, and scrubbing a list of contacts against the ledger, on SQLite.

    python -m benchmarks.afgemeld

A million addresses are suppressed; the list has a million rows, of which one in twenty is among them. Two in three
addresses are at one of eight large providers, as in lists of households. The plain way asks the same table by one
prepared statement a row, between the csv module's reader and writer, with our own spelling and digest of an address,
so that only what scrubbing does differently counts. Scrubbing runs in a process of its own, from a cold start.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from consentkit.address import AddressKeys, canonical
from consentkit.afgemeld import Afgemeld
from consentkit.afgemeld.scrub import scrub
from consentkit.store import Store

Row = tuple[str, float, str, bool | None]

ROOT = Path(__file__).parents[1]
KEYS = AddressKeys([b"w4Rz8Kc1Yh6Bv3Mx9Td5Ng2Qj7Pf0LsE"])
ROWS = 1_000_000
SAMPLE = 50_000
PROVIDERS = ("gmail.com", "hotmail.com", "ziggo.nl", "kpnmail.nl", "outlook.com", "live.nl", "icloud.com", "xs4all.nl")


def main(*, rows: int = ROWS) -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = _ledger(folder)
        ledger.open()
        _fill(folder, rows)
        look_up = _look_up(ledger, rows)
        ledger.close()
        one_a_row = _one_query_a_row(folder)
        digesting = _digesting(folder) * rows
        runs = [_scrub_apart(folder) for _ in range(3)]
        one_a_row = min(one_a_row, _one_query_a_row(folder))  # before and after, so that a busy moment harms both alike
    seconds = min(run["seconds"] for run in runs)
    peak = max(run["peak"] for run in runs)
    faster = one_a_row * rows / seconds
    return [
        ("one look-up of an address, p50, µs", look_up, "≤ 20", look_up <= 20),
        ("one query a row ÷ scrubbing, time", faster, "≥ 6", faster >= 6),
        ("peak memory of the process that scrubs, MB", peak, "≤ 100", peak <= 100),
        ("the same before it scrubs: Python and what consentkit imports, MB", runs[0]["before"], "", None),
        ("one `look_up` a row ÷ scrubbing, time", look_up / 1e6 * rows / seconds, "", None),
        ("scrubbing ÷ the digests alone, time", seconds / digesting, "", None),
        ("scrubbing, rows a second", rows / seconds, "", None),
        ("one query a row, rows a second", 1 / one_a_row, "", None),
    ]


def _ledger(folder: Path) -> Afgemeld:
    store = Store(f"sqlite:///{folder / 'consentkit.db'}")
    return Afgemeld(store, KEYS, tombstones=folder / "tombstones", clock=lambda: datetime.now(UTC))


def _address(kind: str, number: int) -> str:
    domain = PROVIDERS[number % 8] if number % 3 else f"school{number % 5000}.nl"
    return f"{kind}.{number}@{domain}"


def _fill(folder: Path, rows: int) -> None:
    key = KEYS.newest
    rest = ("marketing", key.id, "import", "import", "2026-01-31T09:30:00.000000Z")
    left = ((key.digest(_address("weg", number).encode()), *rest) for number in range(rows))
    with sqlite3.connect(folder / "consentkit.db") as connection:
        connection.executemany(
            "INSERT INTO afgemeld (digest, scope, key_id, reason, channel, at) VALUES (?, ?, ?, ?, ?, ?)", left
        )
    connection.close()
    with (folder / "contacts.csv").open("w", encoding="utf-8", newline="") as file:
        file.write("id,naam,email,plaats\n")
        for number in range(rows):
            address = _address("jan.jansen", number) if number % 20 else _address("weg", number * 7919 % rows)
            file.write(f"{number},Jan Jansen {number},{address},Utrecht\n")


def _look_up(ledger: Afgemeld, rows: int) -> float:
    times: list[float] = []
    for number in range(min(rows, 10_000)):
        address = _address("weg" if number % 2 else "jan.jansen", number * 37 % rows)
        start = time.perf_counter()
        ledger.look_up(address)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def _one_query_a_row(folder: Path) -> float:
    """Seconds a row of the plain way."""
    connection = sqlite3.connect(folder / "consentkit.db")
    query = "SELECT 1 FROM afgemeld WHERE digest = ? AND scope IN ('mail', 'marketing') LIMIT 1"
    digest = KEYS.newest.digest
    count = 0
    with (
        (folder / "contacts.csv").open(encoding="utf-8", newline="") as source,
        (folder / "plain.csv").open("w", encoding="utf-8", newline="") as sink,
    ):
        writer = csv.writer(sink)
        reader = csv.reader(source)
        writer.writerow(next(reader))
        start = time.perf_counter()
        for row in reader:
            if connection.execute(query, (digest(canonical(row[2]).encode()),)).fetchone() is None:
                writer.writerow(row)
            count += 1
            if count == SAMPLE:
                break
        took = time.perf_counter() - start
    connection.close()
    return took / count


def _digesting(folder: Path) -> float:
    """Seconds that one digest takes."""
    spelled = [canonical(address).encode() for address in _some(folder)]
    digest = KEYS.newest.digest
    start = time.perf_counter()
    for text in spelled:
        digest(text)
    return (time.perf_counter() - start) / len(spelled)


def _some(folder: Path) -> Iterator[str]:
    with (folder / "contacts.csv").open(encoding="utf-8", newline="") as file:
        for _, row in zip(range(SAMPLE), csv.DictReader(file), strict=False):
            yield row["email"]


def _scrub_apart(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.afgemeld", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _scrub_here(folder: Path) -> dict[str, float]:
    before = _peak()
    start = time.perf_counter()
    with (folder / "contacts.csv").open("rb") as source, (folder / "clean.csv").open("wb") as sink:
        scrub(_ledger(folder), source, sink)
    return {"seconds": time.perf_counter() - start, "peak": _peak(), "before": before}


def _peak() -> float:
    """The most memory that this process had, in MB; `ru_maxrss` would count what its parent had when it forked."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_scrub_here(Path(sys.argv[1]))))
    else:
        for what, value, goal, ok in main():
            print(f"{what:66} {value:10,.2f}  {goal:6} {'' if ok is None else 'ok' if ok else 'short'}")

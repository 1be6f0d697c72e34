"""Every goal beside what this machine measures: `make bench`, or `python -m benchmarks front gate` for some parts.

A part is a module with a `main()` that gives rows of what was measured, the figure, the goal and whether it is met
(`None`: no goal, for information); lines that it prints with a `#` in front are notes, shown under its table.
A goal that is missed is shown and no more: this is a report. Only a part that crashes makes the exit status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

Row = tuple[str, float, str, bool | None]

PARTS = {
    "gate": "Scanning and rewriting HTML",
    "middleware": "The middleware, end to end",
    "evidence": "Writing consent events, each one durable",
    "tokens": "Signed values and cookies",
    "afgemeld": "The afgemeld ledger",
    "mailing": "Sending mailings",
    "console": "The console: a million subscribers beside a hundred",
    "front": "In the browser",
}
RESULT = {True: "ok", False: "short", None: ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are named, all without a name; the exit status is 1 when one crashes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them when none is named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(machine())
    measured: dict[str, list[Row]] = {}
    for name in options.parts or PARTS:
        started = time.monotonic()
        try:
            rows, notes = run(name)
        except Exception:
            print(f"\n{PARTS[name]} ({name}): crashed", flush=True)
            traceback.print_exc()
            continue
        measured[name] = rows
        print(f"\n{PARTS[name]} ({name}, {time.monotonic() - started:.0f} s)", flush=True)
        print("\n".join([*table(rows), *(f"  {note}" for note in notes)]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(as_json(measured), indent=1, ensure_ascii=False) + "\n", "utf-8")
    goals = [ok for rows in measured.values() for _, _, _, ok in rows if ok is not None]
    print(f"\n{sum(goals)} of {len(goals)} goals met")
    return 0 if len(measured) == len(set(options.parts or PARTS)) else 1


def machine() -> str:
    """What it runs on, in one line."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores ({platform.machine()}), {python}{load}; trust the ratios, not the absolute figures"


def run(name: str) -> tuple[list[Row], list[str]]:
    """The rows of a part, and the notes it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        rows = importlib.import_module(f"benchmarks.{name}").main()
    notes = [line[1:].strip() for line in said.getvalue().splitlines() if line.startswith("#")]
    return [(what.removeprefix(f"{name}: "), *rest) for what, *rest in rows], notes


def table(rows: Sequence[Row]) -> list[str]:
    """Aligned lines: what, measured, goal, result."""
    cells = [("", "measured", "goal", "")]
    cells += [
        (name, figure(value), goal.replace("<=", "≤").replace(">=", "≥"), RESULT[ok]) for name, value, goal, ok in rows
    ]
    first, second, third, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
    return [
        f"  {name:{first}}  {value:>{second}}  {goal:{third}}  {result}".rstrip() for name, value, goal, result in cells
    ]


def figure(value: float) -> str:
    """A number with as many digits as tell something."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def as_json(measured: dict[str, list[Row]]) -> dict[str, object]:
    """The rows as a program reads them."""
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "parts": {
            part: [{"what": name, "measured": value, "goal": goal, "met": ok} for name, value, goal, ok in rows]
            for part, rows in measured.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())

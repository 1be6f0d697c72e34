"""Runs the battery against every tool there is, and writes the table of docs/battery.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from battery import HERE
from battery.browsers import Missing
from battery.cases import load
from battery.peers import PEER_TARGETS
from battery.run import Report, battery
from battery.targets import ConsentKitTarget, Target

PAGE: Final = HERE.parent / "docs" / "battery.md"
BEGIN, END = "<!-- battery: begin -->", "<!-- battery: end -->"

OURS = ConsentKitTarget()
RUNS: Final[tuple[tuple[Target, str], ...]] = (
    (Target(), ""),
    *((OURS, mode) for mode in OURS.modes),
    *((peer, "") for peer in PEER_TARGETS),
)


def measure(browser: str, runs: Sequence[tuple[Target, str]]) -> list[Report]:
    """Each tool in each of its modes, in one browser."""
    with battery(load(), browser) as running:
        return [running.run(target, mode) for target, mode in runs]


def title(report: Report) -> str:
    """A tool, its version and its mode in a line."""
    name = "no tool at all" if report.target == "none" else f"{report.target} {report.version}"
    return f"{name}, {report.mode}" if report.mode else name


def totals(reports: Sequence[Report]) -> str:
    """Cases leaked, of how many, per state, and how many of those that loaded on a bare page load after consent."""
    lines = [
        "| tool | before, with JavaScript | before, without | refused, with | refused, without | lost after consent |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        cells = []
        for state in ("before", "refused"):
            for js in (True, False):
                run = next(run for run in report.runs if run.state == state and run.js == js)
                asked = state == "before" or run.answered
                cells.append(f"{len(run.leaked)} of {run.reaches}" if asked else "can't")
        granted = next(run for run in report.runs if run.state == "granted" and run.js)
        closed = len({one.case for one in granted.findings if one.kind == "missing"})
        cells.append(str(closed) if granted.answered or report.target == "none" else "can't")
        lines.append(f"| {title(report)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def groups(reports: Sequence[Report]) -> str:
    """Cases leaked before consent, per kind of case, with JavaScript or without."""
    of = {case.name: case.group for case in load() if not case.innocent}
    names = sorted(set(of.values()))
    lines = [f"| tool | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for report in reports:
        leaked = {name for run in report.runs if run.state == "before" for name in run.leaked if name in of}
        counts = [sum(of[name] == group for name in leaked) for group in names]
        sizes = [sum(group == other for other in of.values()) for group in names]
        cells = [f"{count} of {size}" if count else "–" for count, size in zip(counts, sizes, strict=True)]
        lines.append(f"| {title(report)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def left(reports: Sequence[Report]) -> str:
    """By name what leaks through us, and why."""
    lines: dict[str, list[str]] = {}
    for report in reports:
        names = {one.case: one.needs for run in report.runs for one in run.findings if one.kind in ("leaked", "stored")}
        excused = ", ".join(f"`{name}`" for name, needs in sorted(names.items()) if needs)
        unexcused = ", ".join(f"`{name}`" for name, needs in sorted(names.items()) if not needs)
        text = f"only a policy in the browser stops {excused}" if excused else "nothing"
        text = f"{text}{f'; and {unexcused}' if unexcused else ''}"
        lines.setdefault(text, []).append(f"{report.mode} in {report.browser.capitalize()}")
    return "\n".join(f"- {text}: {', '.join(where)}" for text, where in lines.items())


def page(chromium: Sequence[Report], others: Sequence[Report]) -> str:
    """The part of docs/battery.md that is written here."""
    ours = [report for report in (*chromium, *others) if report.target == OURS.name]
    browsers = "\n\n".join(
        f"In {browser.capitalize()}:\n\n{totals([one for one in others if one.browser == browser])}"
        for browser in dict.fromkeys(report.browser for report in others)
    )
    return (
        f"Battery {chromium[0].battery}: {chromium[0].cases} cases. In Chromium:\n\n{totals(chromium)}\n\n"
        f"Leaked before a choice, by kind of case, with JavaScript or without:\n\n{groups(chromium)}\n\n"
        f"{browsers}\n\nWhat still leaks through consentkit:\n\n{left(ours)}"
    )


def write(text: str, where: Path = PAGE) -> None:
    """Put the tables between their marks."""
    old = where.read_text("utf-8")
    head, _, rest = old.partition(BEGIN)
    _, _, tail = rest.partition(END)
    where.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", "utf-8")


def main(*, as_json: bool = False) -> int:
    """Measure all there is and write the page; browsers that aren't there are left out, and that is said."""
    chromium = measure("chromium", RUNS)
    others: list[Report] = []
    for browser in ("firefox", "webkit"):
        try:
            others += measure(browser, [(OURS, mode) for mode in OURS.modes])
        except Missing as error:
            print(error)
    if as_json:
        print(json.dumps([report.data() for report in (*chromium, *others)], indent=1))
    text: Any = page(chromium, others)
    write(text)
    print(text)
    return 0

"""The command: `python -m battery --target consentkit --browser chromium`, `python -m battery compare`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from battery import VERSION, anywhere, compare
from battery.browsers import BROWSERS, Missing
from battery.cases import STATES, load
from battery.peers import PEER_TARGETS
from battery.run import Report, battery
from battery.targets import ConsentKitTarget, Target

TARGETS = {target.name: target for target in (ConsentKitTarget(), *PEER_TARGETS, Target())}


def show(report: Report) -> str:
    """A report for people."""
    mode = f", {report.mode}" if report.mode else ""
    lines = [f"{report.target} {report.version}{mode}, {report.browser}: {report.cases} cases, {report.seconds} s"]
    for run in report.runs:
        script = "with JavaScript" if run.js else "without JavaScript"
        unanswered = "" if run.answered else " (no button to press)"
        lines.append(f"  {run.state}, {script}{unanswered}: {len(run.leaked)} of {run.reaches} leaked")
        for one in run.findings:
            excuse = {"csp": " [only a policy stops that]", "mode": " [closed in this mode]"}.get(one.needs, "")
            lines.append(f"    {one.kind:8} {one.case}: {one.detail}{excuse}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing leaked, nothing missing. 1: something did. 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m battery", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("run", "compare"), default="run", help="compare: all tools, to docs"
    )
    parser.add_argument("--target", choices=[*TARGETS, "url"], default="consentkit")
    parser.add_argument("--url", action="append", default=[], help="with --target url: a page of any running site")
    parser.add_argument("--browser", choices=BROWSERS, default="chromium")
    parser.add_argument("--mode", action="append", help="one of the target's modes; all of them without this")
    parser.add_argument("--case", action="append", help="only this case")
    parser.add_argument("--state", action="append", choices=STATES, help="only this state")
    parser.add_argument("--script", choices=("on", "off"), help="only with JavaScript on, or off")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--version", action="version", version=VERSION)
    chosen = parser.parse_args(arguments)
    if chosen.what == "compare":
        return compare.main(as_json=chosen.json)
    scripts = (True, False) if chosen.script is None else (chosen.script == "on",)
    if chosen.target == "url":
        looks = anywhere.look(chosen.url, chosen.browser, scripts=scripts)
        print(json.dumps([one.data() for one in looks], indent=1) if chosen.json else "\n".join(map(str, looks)))
        return int(any(one.trackers for one in looks))
    target = TARGETS[chosen.target]
    cases = [case for case in load() if not chosen.case or case.name in chosen.case]
    try:
        with battery(cases, chosen.browser) as running:
            reports = [
                running.run(target, mode, scripts=scripts, states=chosen.state or STATES)
                for mode in chosen.mode or target.modes
            ]
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps([report.data() for report in reports], indent=1))
    else:
        print("\n".join(map(show, reports)))
    return int(any(report.findings(excused=False) for report in reports))


if __name__ == "__main__":
    sys.exit(main())

"""The battery against consentkit, in every browser of this machine: nothing reaches a tracker before consent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from battery.browsers import CHROMIUM, FIREFOX
from battery.cases import STATES, load
from tests.browser_fixtures import forget_loop

ROOT = Path(__file__).parents[2]
WHERE = {"chromium": CHROMIUM, "firefox": FIREFOX}
FOUND = [
    ("chromium", "private-off", ("on",), STATES),
    ("chromium", "private-off", ("off",), ("before", "granted")),
    ("chromium", "shared-off", ("on",), ("before", "granted")),
    ("chromium", "private-enforce", ("on",), ("before", "granted")),
    ("firefox", "private-off", ("on",), ("before", "refused")),
]
"""`make battery` runs every state of every mode in every browser, WebKitGTK too, with JavaScript and without."""


def run(*arguments: str) -> list[dict[str, Any]]:
    """The reports of a run in a process of its own, as its command prints them."""
    forget_loop()
    command = [sys.executable, "-m", "battery", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def said(report: dict[str, Any]) -> list[str]:
    """Every finding that has no excuse, in a line."""
    return [
        f"{run['state']}, {'with' if run['js'] else 'without'} JavaScript: {one['case']} {one['kind']}: {one['detail']}"
        for run in report["runs"]
        for one in run["findings"]
        if not one["needs"]
    ]


@pytest.mark.browser
@pytest.mark.checklist("GAT-01", "GAT-06")
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("browser", "mode", "scripts", "states"), FOUND, ids=["-".join((*one[:2], *one[2])) for one in FOUND]
)
def test_no_case_reaches_a_tracker_before_consent_or_after_refusal_and_all_do_after_consent(
    browser: str, mode: str, scripts: tuple[str, ...], states: tuple[str, ...]
) -> None:
    if shutil.which(WHERE[browser]) is None:
        pytest.skip(f"{browser} is not on this machine; scripts/needs browsers installs it where the system has it")

    only = ["--script", *scripts] if len(scripts) == 1 else []
    only += [word for state in states for word in ("--state", state)]
    (report,) = run("--target", "consentkit", "--browser", browser, "--mode", mode, *only)

    assert "\n".join(said(report)) == ""
    assert [run["answered"] for run in report["runs"]] == [True] * len(states) * len(scripts)


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_on_a_bare_page_every_case_does_what_it_says() -> None:
    (report,) = run("--target", "none", "--state", "before")

    reached = [
        {one["case"] for one in found["findings"] if one["kind"] in ("leaked", "stored")} for found in report["runs"]
    ]
    silent = {
        (case.name, js)
        for js, names in zip((True, False), reached, strict=True)
        for case in load()
        if case.expected("chromium", js=js) and not case.parked and case.name not in names
    }
    assert silent == set()
    assert {case.name for case in load() if case.innocent} & (reached[0] | reached[1]) == set()


def test_the_battery_is_large_and_every_case_says_what_it_is() -> None:
    cases = load()

    assert len(cases) >= 150
    assert [count for count in Counter(case.what for case in cases).values() if count > 1] == []
    assert [case.name for case in cases if not case.innocent and case.loads == "never" and not (
        case.live or case.stores or case.headers or case.name in {"script-plain-http", "svg-use"})] == []  # fmt: skip

"""The benchmarks are reports: these tests hold that each part runs and says what it measured in one format."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as bench
from benchmarks import front, tokens

ROOT = Path(__file__).parents[2]
ROWS: list[bench.Row] = [("work, µs", 1234.5, ">= 3", True), ("a ratio", 1.234, "≤ 1", False), ("note", 0.0, "", None)]


def part(name: str, main: Callable[[], list[bench.Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a part of that name in the place of the real ones."""
    module = ModuleType(f"benchmarks.{name}")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(bench, "PARTS", {**bench.PARTS, name: f"Part {name}"})


def check(rows: list[bench.Row]) -> None:
    """The format that every part keeps to."""
    assert rows
    for name, value, goal, ok in rows:
        assert name.strip()
        assert isinstance(value, float | int)
        assert re.fullmatch(r"((≤|≥|<=|>=) [\d.]+)?", goal), goal
        assert (ok is None) == (goal == "")


@pytest.mark.parametrize("name", bench.PARTS)
def test_every_part_can_be_imported_and_run_without_an_argument(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")

    assert callable(module.main)


def test_the_part_about_signed_values_gives_rows_in_the_format() -> None:
    check(tokens.main(rounds=1, calls=20))


def test_the_part_about_the_browser_gives_rows_in_the_format() -> None:
    ours = front.Figures("consentkit", brotli=5000, visible=800, paint=790, ratio=1.01, strict="ok")
    peer = front.Figures("Peer 1.0", gzip=12_000, brotli=10_000, visible=1600, paint=800, ratio=2)

    rows = front.goals(ours, [peer], {"refusing": 0})

    check(rows)
    assert ("bytes brotli: Peer 1.0 ÷ ours", 2.0, "", None) in rows


def test_a_tool_survives_only_what_leaves_it_unharmed() -> None:
    figures = front.Figures("x", strict="ok", trusted="no banner", plain="ok", swap="gone")

    assert figures.survives == 2


def test_the_peers_are_pinned_to_one_version_and_no_lock_file_names_where_they_come_from() -> None:
    package = json.loads((ROOT / "benchmarks" / "package.json").read_text("utf-8"))
    wanted = {tool.package for tool in front.TOOLS if tool.package}

    assert set(package["dependencies"]) == wanted
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["dependencies"].values())
    assert not list((ROOT / "benchmarks").glob("*lock*"))


def test_the_report_aligns_what_was_measured_with_its_goal() -> None:
    assert bench.table(ROWS) == [
        "            measured  goal",
        "  work, µs     1,234  ≥ 3   ok",
        "  a ratio       1.23  ≤ 1   short",
        "  note             0",
    ]


def test_a_missed_goal_is_shown_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def main() -> list[bench.Row]:
        print("# a note about it\nand noise")
        return ROWS

    part("made", main, monkeypatch)

    assert bench.main(["made", "--json", str(tmp_path / "rows.json")]) == 0
    said = capsys.readouterr().out
    assert "short" in said
    assert "  a note about it" in said
    assert "and noise" not in said
    assert "1 of 2 goals met" in said
    (first, *_) = json.loads((tmp_path / "rows.json").read_text("utf-8"))["parts"]["made"]
    assert first == {"what": "work, µs", "measured": 1234.5, "goal": ">= 3", "met": True}


def test_a_part_that_crashes_fails_the_run_after_the_others_have_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> list[bench.Row]:
        raise RuntimeError("no disk")

    part("broken", crash, monkeypatch)
    part("made", lambda: ROWS, monkeypatch)

    assert bench.main(["broken", "made"]) == 1
    said = capsys.readouterr()
    assert "no disk" in said.err
    assert "1 of 2 goals met" in said.out


def test_a_part_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(["nowhere"])

    assert stopped.value.code == 2
    assert "nowhere" in capsys.readouterr().err

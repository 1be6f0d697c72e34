"""The table of requirements says what the tests say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project import coverage_table

# What this release promises; the rest of the checklist belongs to the mailings and the console.
PROMISED = {
    "BAN": range(1, 15),
    "GAT": (1, 2, 3, 5, 6, 13, 14, 15, 16, 17),
    "STO": range(1, 6),
    "WDR": (1, 2, 3, 4, 6, 7),
    "EVI": (1, 2, 3, 4, 6, 7, 8),
    "CST": (1, 2, 3, 7, 8),
    "NEW": range(1, 9),
    "UNS": (2, 3, 4, 5, 6, 8),
    "SUP": range(1, 6),
    "SEC": range(1, 6),
    "ACC": range(1, 8),
}


def test_the_committed_table_is_what_the_tests_say_now() -> None:
    assert coverage_table.TABLE.read_text("utf-8") == coverage_table.page(coverage_table.held()), "run: make checklist"


def test_every_requirement_that_this_release_promises_is_held_by_a_test() -> None:
    held = coverage_table.held()
    promised = [f"{group}-{number:02}" for group, numbers in PROMISED.items() for number in numbers]

    assert [id for id in promised if not held[id]] == []


def test_all_110_requirements_stand_in_the_table_once() -> None:
    table = coverage_table.TABLE.read_text("utf-8")

    assert len(coverage_table.requirements()) == 110
    assert [one.id for one in coverage_table.requirements() if table.count(f"| {one.id} |") != 1] == []


def test_an_unknown_id_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/checklist.json").write_bytes((coverage_table.ROOT / "docs/checklist.json").read_bytes())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text('@pytest.mark.checklist("BAN-99")\ndef test_a(): ...\n')
    monkeypatch.setattr(coverage_table, "ROOT", tmp_path)

    with pytest.raises(ValueError, match="BAN-99"):
        coverage_table.held()

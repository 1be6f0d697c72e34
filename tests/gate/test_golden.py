"""Whole pages as files: `x.in.html` goes in, `x.out.html` comes out. CONSENTKIT_GOLDEN=1 writes the latter anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.gate.samples import DENIED, EVERYTHING, gate, marks, nothing

CASES = Path(__file__).parent.parent / "cases" / "gate"
PAGES = sorted(path.name.removesuffix(".in.html") for path in CASES.glob("*.in.html"))


def test_there_are_pages() -> None:
    assert len(PAGES) >= 4


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_leaves_the_gate_as_written_down(name: str) -> None:
    page = (CASES / f"{name}.in.html").read_bytes()
    out = gate().rewrite(page, DENIED, marks, document=None)
    expected = CASES / f"{name}.out.html"
    if os.environ.get("CONSENTKIT_GOLDEN"):
        expected.write_bytes(out)
    assert out == expected.read_bytes()
    assert gate(configured_too=("unnamed",)).rewrite(page, EVERYTHING, nothing, document=None) == page

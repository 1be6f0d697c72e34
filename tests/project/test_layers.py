"""The architecture is checked, not hoped for."""

from __future__ import annotations

import sys

from importlinter.cli import lint_imports


def test_imports_point_down_and_the_core_stays_pure() -> None:
    before = list(sys.path)
    try:
        assert lint_imports(no_cache=True) == 0
    finally:
        sys.path[:] = before

"""Imports point down, and the core touches nothing but values; the contracts are in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_imports_point_down_and_the_core_is_pure() -> None:
    # In a process of its own: within this one it would silence everybody's loggers for the tests that follow.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"]

    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout

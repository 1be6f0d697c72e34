"""How commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from consentkit.kit import ConsentKit
from consentkit.settings import CONFIG_FILE, Settings

error_console = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.write(text + "\n")


def data(value: Any) -> None:
    """One JSON value on a line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def table(rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows of the same keys as aligned columns."""
    lines = [list(map(str, row.values())) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)] if lines else []
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def config_path(context: typer.Context, own: Path | None = None) -> Path:
    """The configuration that a command reads: its own option, the common one, or the file in this folder."""
    return own or context.obj or Path(CONFIG_FILE)


def open_kit(context: typer.Context, own: Path | None = None) -> ConsentKit:
    """The kit of the configuration in use.

    Raises:
        SettingsError: there is none, or it can't be used.
    """
    return ConsentKit(Settings.load(config_path(context, own)))

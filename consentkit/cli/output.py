"""How commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import fstat
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn

from consentkit.errors import ConsentKitError
from consentkit.kit import ConsentKit
from consentkit.probe import visible
from consentkit.settings import CONFIG_FILE, Settings

error_console = Console(stderr=True)

_TOLD_EVERY: Final = 64 << 20

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def say(*lines: str) -> None:
    """Lines for people; what is in them can't begin another line, nor steer the terminal."""
    for line in lines:
        sys.stdout.write(visible(line) + "\n")


def data(value: Any) -> None:
    """One JSON value on a line."""
    told = json.dumps(value, ensure_ascii=False, default=str)
    sys.stdout.write(told.encode("utf-8", "backslashreplace").decode() + "\n")  # a lone surrogate is no UTF-8


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


@contextmanager
def opened_kit(context: typer.Context) -> Iterator[ConsentKit]:
    """As `open_kit`, closed at the end whatever happens."""
    kit = open_kit(context)
    try:
        yield kit
    finally:
        kit.close()


@contextmanager
def open_source(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bytes of a file and how many there are; None for standard input."""
    if file == "-":
        yield sys.stdin.buffer, None
        return
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise ConsentKitError(f"{file}: {error.strerror}") from error
        yield opened, fstat(opened.fileno()).st_size


@contextmanager
def bar(what: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    if error_console.is_terminal:
        with Progress(what, BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=error_console) as progress:
            task = progress.add_task(what, total=size)
            yield lambda moved: progress.update(task, completed=moved)
        return
    told = 0

    def moved(count: int) -> None:
        nonlocal told
        if count - told >= _TOLD_EVERY:
            told = count
            tell(f"{what}: {count >> 20} MB read")

    yield moved


def tell(line: str) -> None:
    """A line for people on standard error; see `say`."""
    line = visible(line)
    if error_console.is_terminal:
        error_console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        sys.stderr.write(line + "\n")

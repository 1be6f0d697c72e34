"""The command line: what cron, operators and privacy officers use. It adds no rule of its own.

Exit codes: 0 fine, 1 something was found, 2 the call or the configuration is wrong.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version as release
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler

from consentkit.cli import afgemeld, check, database, demo, init, mailing, newsletter, records, run, staff
from consentkit.cli.output import error_console, say
from consentkit.errors import ConsentKitError
from consentkit.probe import visible

app = typer.Typer(
    name="consentkit",
    help="The consent and opt-out layer for Python web apps.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(init.init)
app.command()(run.run)
app.command()(demo.demo)
app.command()(check.check)
app.add_typer(database.app, name="db")
app.add_typer(records.app, name="records")
app.add_typer(afgemeld.app, name="afgemeld")
app.add_typer(newsletter.app, name="newsletter")
app.add_typer(mailing.app, name="mailing")
app.add_typer(staff.app, name="staff")
app.command()(mailing.worker)
app.command()(records.purge)


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="CONSENTKIT_CONFIG", help="The configuration."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the release and end.", is_eager=True)] = False,
) -> None:
    if version:
        say(f"consentkit {release('consentkit')}")
        raise typer.Exit
    context.obj = config
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=error_console, show_path=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


def main() -> None:
    """Run the command line; errors of ours are one sentence each on standard error, and exit code 2."""
    try:
        app()
    except ConsentKitError as error:
        for line in str(error).split("\n"):
            error_console.print(visible(line), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)

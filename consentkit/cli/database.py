"""`consentkit db`: the schema."""

from __future__ import annotations

import typer

from consentkit.cli.output import JsonOption, data, open_kit, say

app = typer.Typer(help="The database schema.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `upgrade` a command of its own."""


@app.command()
def upgrade(context: typer.Context, json: JsonOption = False) -> None:
    """Bring the database up to date with this release."""
    kit = open_kit(context)
    done = kit.store.upgrade()
    kit.close()
    if json:
        data({"applied": done})
    else:
        say(*[f"applied {revision}" for revision in done] or ["the database is up to date"])

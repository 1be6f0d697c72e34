"""`consentkit run`: serves an existing app behind the consent layer, with no change to its code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from consentkit.cli import apps
from consentkit.cli.output import open_kit, say


def run(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="An ASGI or WSGI application.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Serve an existing ASGI or WSGI app behind consentkit."""
    app = apps.load(target)
    kit = open_kit(context, config)
    wrapped = kit.wrap_wsgi(app) if apps.is_wsgi(app) else kit.wrap(app)
    say(f"{target} behind consentkit on http://{host}:{port} (settings on {kit.settings.all_sites[0].prefix}/settings)")
    uvicorn.run(wrapped, host=host, port=port, log_level="info")

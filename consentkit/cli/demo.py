"""`consentkit demo`: the school site of the repository, behind consentkit."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from consentkit.errors import ConsentKitError


def demo(port: Annotated[int, typer.Option(min=1, max=65534, help="The port of the site.")] = 8000) -> None:
    """Serve the demo site with its stand-in analytics, video and map hosts."""
    try:
        site = importlib.import_module("demo_site.__main__")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("demo_site"):
            raise ConsentKitError(f"the demo needs {error.name}: `make demo` in the repository installs it") from error
        raise ConsentKitError(
            "the demo site is not part of the installed package: clone the repository and run `make demo` there"
        ) from error
    site.main(port=port)

"""Finds the shipped `static/` and `templates/`: beside this file once installed, one level up in a checkout."""

from __future__ import annotations

from pathlib import Path

from consentkit.errors import ConsentKitError

_PACKAGE = Path(__file__).resolve().parent


def directory(name: str) -> Path:
    """The folder called `name`.

    Raises:
        ConsentKitError: the package was built without it.
    """
    installed, checkout = _PACKAGE / name, _PACKAGE.parent / name
    if installed.is_dir():
        return installed
    if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return checkout
    raise ConsentKitError(f"no {name}/ directory in {_PACKAGE}: the wheel was built without it")

"""What an area of the console is: a name in the menu, and its routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from consentkit.web.console.ask import Route


class Area(Protocol):
    """One area."""

    @property
    def name(self) -> str:
        """Of its entry in the menu."""

    @property
    def routes(self) -> Sequence[Route]:
        """Its paths, in the order in which they are tried."""

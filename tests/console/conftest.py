"""What every test of the console shares: a page waits for its figures, however busy the machine is."""

from __future__ import annotations

import pytest

from consentkit.web.console import figures


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "WAIT", 20.0)

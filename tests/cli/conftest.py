"""A folder with a configuration of two lists, and a terminal to type commands in."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

from consentkit.cli import main
from tests.journeys.school import KEY

CONFIG = """
[site]
name = "Basisschool De Linde"
base_url = "http://school.test"
privacy_statement = "/privacyverklaring"

[site.controller]
name = "Stichting De Linde"
address = "Lindelaan 1, 1234 AB Utrecht"
email = "privacy@delinde.example"

[lists.nieuws]
title = { nl = "Nieuws", en = "News" }
about = { nl = "Het nieuws", en = "The news" }
frequency = { nl = "elke maand", en = "monthly" }

[lists.agenda]
title = { nl = "Agenda", en = "Agenda" }
about = { nl = "De agenda", en = "The agenda" }
frequency = { nl = "elke week", en = "weekly" }
"""
AFGEMELD_KEY = "w4Rz8Kc1Yh6Bv3Mx9Td5Ng2Qj7Pf0LsE"
Run = Callable[..., tuple[int, str, str]]
COMMANDS = functools.cache(typer.main.get_command)
"""The tree of commands is made once, not for each that is typed: half of what one costs."""
# For a call that ends before it asks the database, or asks it what the other tests of the file ask on both.
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def run(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Run:
    """Types a command in a folder of its own; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "consentkit.toml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.delenv("CONSENTKIT_CONFIG", raising=False)
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", KEY)
    monkeypatch.setenv("CONSENTKIT_AFGEMELD_KEYS", AFGEMELD_KEY)
    monkeypatch.setenv("CONSENTKIT_DATABASE_URL", database_url)
    monkeypatch.setattr(typer.main, "get_command", COMMANDS)

    def typed(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["consentkit", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfdbinary.readouterr()
        return int(ended.value.code or 0), out.decode(), err.decode()

    return typed

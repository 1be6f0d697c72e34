"""The kit behind which every host is put: the real one, on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consentkit import ConsentKit, Settings
from tests.hosts import content


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosts") / "static"
    content.write_static(folder)
    return folder


def settings(folder: Path, **site: Any) -> Settings:
    return Settings.model_validate(
        {
            "site": {
                "name": "Basisschool De Linde",
                "base_url": "http://delinde.test",
                "privacy_statement": "/privacyverklaring",
                "controller": {
                    "name": "Stichting De Linde",
                    "address": "Lindelaan 1, 1234 AB Utrecht",
                    "email": "privacy@delinde.test",
                },
                **site,
            },
            "services": {"google-analytics": {}, "youtube": {}, "meta-pixel": {}},
            "database": {"url": f"sqlite:///{folder / 'consentkit.db'}"},
        }
    )


@pytest.fixture(scope="session", params=["private", "shared"])
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentKit]:
    made = ConsentKit(settings(tmp_path_factory.mktemp("kit"), html=request.param))
    yield made
    made.close()

"""A school with a list, its database, and a mailbox that takes what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consentkit import ConsentKit
from consentkit.settings import Settings

WORDS = {"nl": "Nieuwsbrief", "en": "Newsletter"}
LIST = {"title": WORDS, "about": {"nl": "Wat er speelt"}, "frequency": {"nl": "elke maand"}}


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[ConsentKit]:
    settings = Settings(
        site={
            "name": "Basisschool De Linde",
            "base_url": "https://www.basisschool-de-linde.example",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1, 1234 AB Utrecht"},
        },
        lists={"nieuwsbrief": LIST, "agenda": LIST, "groep-8": {**LIST, "pupils": True}},
        mail={"unsubscribe": "afmelden@delinde.example", "sender": "De Linde <nieuws@delinde.example>"},
        database={"url": f"sqlite:///{tmp_path / 'consentkit.db'}"},
        secret_keys=("k7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-and-more",),
        afgemeld_keys=("a5Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt-and-more",),
        folder=tmp_path,
    )
    kit = ConsentKit(settings)
    kit.store.upgrade()
    yield kit
    kit.close()

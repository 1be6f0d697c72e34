"""A school with two lists behind a real kit, a clock that stands still, and a mailbox that is read by hand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from consentkit import ConsentKit, Settings
from consentkit.mail import MemoryMailer, Message
from tests.journeys.school import KEY, Clock, app

AFGEMELD_KEY = "Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"
LISTS = {
    "nieuwsbrief": {
        "title": {"nl": "Nieuwsbrief", "en": "Newsletter"},
        "about": {"nl": "Nieuws van de school", "en": "News from the school"},
        "frequency": {"nl": "elke maand", "en": "monthly"},
    },
    "agenda": {
        "title": {"nl": "Agenda", "en": "Diary"},
        "about": {"nl": "Wat er komt", "en": "What is coming"},
        "frequency": {"nl": "elke week", "en": "weekly"},
        "sender": "De Linde agenda <agenda@delinde.example>",
    },
}
JAN = "jan@voorbeeld.nl"


def settings(folder: Path, **tables: Any) -> Settings:
    """The school's settings; what is given replaces a table."""
    table: dict[str, Any] = {
        "site": {
            "name": "Basisschool De Linde",
            "base_url": "http://school.test",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
        },
        "services": {"google-analytics": {}},
        "lists": LISTS,
        "mail": {"sender": "De Linde <nieuws@delinde.example>", "unsubscribe": "afmelden@delinde.example"},
        "secret_keys": [KEY],
        "afgemeld_keys": [AFGEMELD_KEY],
        "folder": folder,
        "source": "test",
    }
    return Settings(**(table | tables))


@dataclass
class Desk:
    """The kit, its clock, what it mailed, and a browser without cookies or scripts."""

    kit: ConsentKit
    clock: Clock
    mailer: MemoryMailer
    browser: TestClient

    def get(self, path: str, **headers: str) -> Any:
        return self.browser.get(path, headers=headers)

    def post(self, path: str, **fields: Any) -> Any:
        return self.browser.post(path, data=fields, follow_redirects=False)

    def ask(self, address: str = JAN, list: str = "nieuwsbrief", **fields: Any) -> Any:
        """Fill in the sign-up form."""
        return self.post(f"/privacy/newsletter/{list}", email=address, **fields)

    def mails(self) -> list[Message]:
        """What goes out now, newest last; each mail is given once."""
        before = len(self.mailer.sent)
        while asyncio.run(self.kit.outbox.drain()):
            pass
        return self.mailer.sent[before:]

    def link(self, kind: str, mail: Message | None = None) -> str:
        """The path of a link in a mail, the newest by default."""
        text = (mail or self.mailer.sent[-1]).text
        found = re.search(rf"http://school\.test(/privacy/{kind}/\S+)", text)
        assert found, f"no link to {kind} in: {text}"
        return found[1]

    def subscribe(self, address: str = JAN, list: str = "nieuwsbrief", **fields: Any) -> Message:
        """Sign up and confirm; gives the welcome mail."""
        assert self.ask(address, list, **fields).status_code == 303
        (asked,) = self.mails()
        assert self.post(self.link("confirm", asked)).status_code == 200
        (welcome,) = self.mails()
        return welcome

    def why_not(self, address: str = JAN, list: str = "nieuwsbrief") -> str | None:
        return self.kit.newsletter.why_not(address, list)

    def suppressed(self, address: str = JAN, list: str | None = "nieuwsbrief") -> bool:
        return self.kit.afgemeld.look_up(address, list=list) is not None

    def events(self) -> list[dict[str, Any]]:
        return [*self.kit.evidence.export()]


@contextmanager
def desk(folder: Path, **tables: Any) -> Iterator[Desk]:
    """A running school."""
    clock, mailer = Clock(), MemoryMailer()
    kit = ConsentKit(settings(folder, **tables), clock=clock, mailer=mailer)
    kit.store.upgrade()
    kit.outbox.wake = lambda: None  # type: ignore[method-assign]  # the test says when mail goes out
    browser = TestClient(kit.wrap(app()), base_url="http://school.test", headers={"Accept": "text/html"})
    try:
        yield Desk(kit, clock, mailer, browser)
    finally:
        kit.close()

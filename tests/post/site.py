"""The school's site as it is installed: a folder with a configuration and keys, and the command `consentkit`."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

import pytest
from sqlalchemy import update

from consentkit import ConsentKit, Settings
from consentkit.afgemeld import Suppression
from consentkit.cli import main
from consentkit.mailing import Status
from consentkit.newsletter.tables import subscriber_digests, subscribers
from tests.journeys.school import KEY
from tests.mailing import hall
from tests.mailing.school import send
from tests.newsletter.desk import AFGEMELD_KEY
from tests.post.office import MAIL_USER, PASSWORD, Office

CONFIG = """
[site]
name = "Basisschool De Linde"
base_url = "http://school.test"
privacy_statement = "/privacyverklaring"
controller = {{ name = "Stichting De Linde", address = "Lindelaan 1", email = "privacy@delinde.example" }}

[lists.nieuwsbrief]
title = {{ nl = "Nieuwsbrief", en = "Newsletter" }}
about = {{ nl = "Nieuws van de school", en = "News from the school" }}
frequency = {{ nl = "elke maand", en = "monthly" }}

[mail]
sender = "De Linde <nieuws@delinde.example>"
smtp = "{smtp}"
unsubscribe = "afmelden@{mailboxes}"
bounces = "bounces@{mailboxes}"

[mailing]
connections = {connections}
{mailing}
"""


class Site:
    """One site, and its kit in this process.

    Args:
        office: where its mail goes, and where it lives.
        smtp: where mail is handed over. mailboxes: the domain of its own two. connections: to the mail server.
        mailing: more lines of `[mailing]`. keys: more lines of the key file.
    """

    def __init__(
        self,
        office: Office,
        *,
        smtp: str = "",
        mailboxes: str = "delinde.example",
        connections: int = 3,
        mailing: str = "",
        keys: str = "",
    ) -> None:
        self.folder = folder = Path(mkdtemp(prefix="site-", dir=office.folder))
        config = CONFIG.format(smtp=smtp or office.smtp, mailboxes=mailboxes, connections=connections, mailing=mailing)
        (folder / "consentkit.toml").write_text(config, "utf-8")
        secrets = folder / "consentkit.keys"
        secrets.touch(mode=0o600)
        secrets.write_text(f"CONSENTKIT_SECRET_KEYS={KEY}\nCONSENTKIT_AFGEMELD_KEYS={AFGEMELD_KEY}\n{keys}", "utf-8")
        self.kit = ConsentKit(Settings.load(folder / "consentkit.toml", {}))
        self.kit.store.upgrade()

    def close(self) -> None:
        self.kit.close()

    def seat(self, *numbers: int) -> Sequence[str]:
        """Put these readers on the list; gives their addresses."""
        return hall.seats(self.kit, [(number, {"name": f"Lezer {number}"}, {}) for number in numbers])

    def seat_at(self, number: int, address: str) -> None:
        """Put a reader with an address of its own on the list."""
        self.seat(number)
        digest = self.kit.afgemeld.keys.newest.digest(address.encode())
        with self.kit.store.begin() as connection:
            person = {"address": address, "digest": digest}
            connection.execute(update(subscribers).where(subscribers.c.id == number).values(person))
            mine = subscriber_digests.c.subscriber_id == number
            connection.execute(update(subscriber_digests).where(mine).values(digest=digest))

    def send(self, *, wait: bool = False) -> Status:
        """Send a mailing to everybody on the list."""
        return send(self.kit, wait=wait)

    def left(self, address: str, *, service: bool = False) -> tuple[str, str] | None:
        """Why and how somebody left the list, or with `service` all mail."""
        where = None if service else hall.LIST
        found: Suppression | None = self.kit.afgemeld.look_up(address, list=where, service=service)
        return (str(found.reason), found.channel) if found else None

    def intake(self, url: str) -> tuple[int, str]:
        """`consentkit afgemeld intake --mailbox …`, as cron runs it; gives its exit code and what it says."""
        words = ["consentkit", "afgemeld", "intake", "--mailbox", url]
        login = {"CONSENTKIT_IMAP_USER": MAIL_USER, "CONSENTKIT_IMAP_PASSWORD": PASSWORD}
        said = io.StringIO()
        with (
            chdir(self.folder),
            patch.dict(os.environ, login),
            patch.object(sys, "argv", words),
            redirect_stdout(said),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return int(ended.value.code or 0), said.getvalue()

    def give_to(self, user: str) -> None:
        """Let somebody else have all of it, as a site belongs to the user that runs it."""
        for path in [self.folder, *self.folder.rglob("*")]:
            shutil.chown(path, user)

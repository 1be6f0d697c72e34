"""A service that got a grant on the server's side is told of its withdrawal: every one, once, whatever happens."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from consentkit import ConsentKit, Settings
from consentkit.newsletter.recipients import derived_secret
from tests.journeys.school import KEY, School, school

SECRET = "Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"


class Recipient:
    """A real HTTP server that refuses so many calls, and keeps what it took.

    Attributes:
        refuse: how many calls it still refuses. tries: how many came. told: the bodies that it took, with headers.
    """

    def __init__(self) -> None:
        self.refuse, self.tries, self.slow = 0, 0, 0.0
        self.told: list[tuple[dict[str, Any], dict[str, str], bytes]] = []
        recipient = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recipient.tries += 1
                time.sleep(recipient.slow)
                refused = recipient.refuse > 0
                recipient.refuse -= refused
                self.send_response(503 if refused else 204)
                self.end_headers()
                if not refused:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    recipient.told.append((json.loads(body), headers, body))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/weg"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def services(self) -> list[str]:
        return [body["service"] for body, _, _ in self.told]


@pytest.fixture
def recipient() -> Iterator[Recipient]:
    made = Recipient()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join(10)


@pytest.fixture
def site(tmp_path: Path, recipient: Recipient) -> Iterator[School]:
    """A school whose analytics and video services want to hear of withdrawals; calls go out when the test says."""
    with school(tmp_path, services=services(recipient)) as made:
        made.kit.outbox.wake = lambda: None  # type: ignore[method-assign]
        yield made


def services(recipient: Recipient) -> dict[str, Any]:
    told = {"webhook": recipient.url}
    return {"google-analytics": told, "matomo": told, "youtube": told, "meta-pixel": {}}


def call(kit: ConsentKit) -> None:
    """Carry out what is due."""
    while asyncio.run(kit.outbox.drain()):
        pass


@pytest.mark.checklist("WDR-05")
def test_a_withdrawal_is_told_to_every_service_that_was_granted_and_only_to_those(
    site: School, recipient: Recipient, caplog: pytest.LogCaptureFixture
) -> None:
    site.choose("save", "analytics", "marketing")
    record = next(iter(site.kit.evidence.export()))["record_id"]
    site.clock.later(hours=1)
    site.choose("withdraw", notice="")

    with caplog.at_level(logging.INFO):
        call(site.kit)

    at = site.clock.now.astimezone(UTC).isoformat()
    told = {"record": record, "state": "withdrawn", "at": at, "site": "Basisschool De Linde"}
    assert sorted((body for body, _, _ in recipient.told), key=str) == sorted(
        [{"service": "google-analytics", **told}, {"service": "matomo", **told}], key=str
    )
    assert caplog.text.count("was told of a withdrawal") == 2
    assert site.kit.outbox.waiting() == 0


@pytest.mark.checklist("WDR-05")
def test_as_many_are_informed_as_were_granted_however_often_a_recipient_fails(
    site: School, recipient: Recipient, caplog: pytest.LogCaptureFixture
) -> None:
    granted = 0
    for _ in range(3):
        visitor = site.another()
        site.choose("accept", browser=visitor)
        granted += 3
        site.choose("withdraw", browser=visitor, notice="")
        site.choose("withdraw", browser=visitor, notice="")
    site.choose("refuse", browser=site.another())
    recipient.refuse = 2

    with caplog.at_level(logging.WARNING):
        call(site.kit)
        first = len(recipient.told)
        call(site.kit)
        site.clock.later(minutes=2)
        call(site.kit)

    assert first == granted - 2
    assert len(recipient.told) == granted
    assert recipient.tries == granted + 2
    assert caplog.text.count("a withdrawal call has to wait, it is tried again in 0:01:00") == 2
    ids = [headers["consentkit-id"] for _, headers, _ in recipient.told]
    assert len(set(ids)) == granted


@pytest.mark.checklist("WDR-05")
def test_a_purpose_that_a_later_answer_takes_back_is_told_too(site: School, recipient: Recipient) -> None:
    site.choose("accept")
    site.choose("save", "analytics")
    call(site.kit)
    assert recipient.services() == ["youtube"]

    site.choose("save", "analytics")
    call(site.kit)
    assert recipient.services() == ["youtube"]

    site.choose("save")
    call(site.kit)
    assert sorted(recipient.services()) == ["google-analytics", "matomo", "youtube"]


@pytest.mark.checklist("WDR-05")
def test_what_was_not_told_before_a_restart_is_told_after_it(tmp_path: Path, recipient: Recipient) -> None:
    with school(tmp_path, services=services(recipient)) as before:
        before.kit.outbox.wake = lambda: None  # type: ignore[method-assign]
        before.choose("accept")
        before.choose("withdraw", notice="")
    assert recipient.tries == 0

    with school(tmp_path, services=services(recipient)) as after:
        after.kit.start()
        deadline = time.monotonic() + 10
        while len(recipient.told) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)

    assert sorted(recipient.services()) == ["google-analytics", "matomo", "youtube"]


@pytest.mark.checklist("WDR-05")
def test_a_withdrawal_while_the_database_is_away_is_told_once_it_is_back(site: School, recipient: Recipient) -> None:
    site.choose("accept")
    site.kit.store.upgrade()
    begin, away = site.kit.store.begin, [True]

    def broken(**options: Any) -> Any:
        if away[0]:
            raise OSError("the disk is gone")
        return begin(**options)

    site.kit.store.begin = broken  # type: ignore[method-assign]
    assert site.choose("withdraw", notice="").status_code == 303
    assert site.kit.evidence.journal_waiting
    away[0] = False
    site.kit.evidence.replay()
    call(site.kit)

    assert sorted(recipient.services()) == ["google-analytics", "matomo", "youtube"]
    assert site.kit.evidence.replay().entries == 0
    call(site.kit)
    assert len(recipient.told) == 3


@pytest.mark.checklist("WDR-05")
def test_the_visitor_waits_for_no_recipient(tmp_path: Path, recipient: Recipient) -> None:
    recipient.slow = 2.0
    with school(tmp_path, services=services(recipient)) as site:
        site.choose("accept")
        began = time.monotonic()
        site.choose("withdraw", notice="")
        took = time.monotonic() - began
        deadline = time.monotonic() + 10
        while len(recipient.told) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)

    assert took < 1.0
    assert len(recipient.told) == 3


@pytest.mark.parametrize("own", [True, False])
def test_a_call_is_signed_so_that_the_recipient_can_tell_whose_it_is(
    tmp_path: Path, recipient: Recipient, own: bool
) -> None:
    with school(tmp_path, services=services(recipient)) as site:
        site.kit.outbox.wake = lambda: None  # type: ignore[method-assign]
        if own:
            site.kit.settings.webhook_secrets["youtube"] = SECRET
        site.choose("accept")
        site.choose("withdraw", notice="")
        call(site.kit)
        sent = site.clock.now.timestamp()

    _, headers, body = next(one for one in recipient.told if one[0]["service"] == "youtube")
    secret = SECRET.encode() if own else derived_secret(KEY.encode(), "youtube")
    expected = hmac.digest(secret, f"{sent:.0f}.".encode() + body, "sha256").hex()
    assert headers["consentkit-signature"] == f"t={sent:.0f},v1={expected}"
    assert headers["content-type"] == "application/json"


def test_the_secret_of_a_service_comes_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "consentkit.toml"
    path.write_text(
        '[site]\nname = "De Linde"\nbase_url = "http://school.test"\nprivacy_statement = "/p"\n[site.controller]\n'
        'name = "De Linde"\n[services.own-crm]\ncategory = "marketing"\nprovider = "CRM BV"\ncountry = "NL"\n'
        'purpose = { nl = "Bewaart je bezoek", en = "Keeps your visit" }\nwebhook = "https://crm.example/weg"\n',
        encoding="utf-8",
    )

    found = Settings.load(path, {"CONSENTKIT_SECRET_KEYS": KEY, "CONSENTKIT_WEBHOOK_OWN_CRM": SECRET})

    assert found.webhook_secrets == {"own-crm": SECRET}

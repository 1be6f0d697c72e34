"""The console of the demo: what it is filled with, and a mailing that is sent from it through all that happens."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.afgemeld import Lifting
from consentkit.mailing.report import report
from consentkit.settings import Settings
from consentkit.staff import StaffLog
from demo_site import past, readers, staff
from demo_site.__main__ import READER
from demo_site.post import Post
from demo_site.site import CONFIG, build, settings
from tests.console.office import Visitor
from tests.demo.conftest import free_ports, launch

PORT = 8000
LEFT_OUT = {"afgemeld": readers.LEFT + past.BOUNCED, "unconfirmed": 9, "unproven": 14}
GET_IT = readers.EVERYBODY - sum(LEFT_OUT.values())


def own(folder: Path, port: int = PORT) -> Settings:
    return settings(port=port, environ={}, config=folder / CONFIG.name)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder after its first start, with a mailing that goes faster; to be copied."""
    folder = tmp_path_factory.mktemp("first")
    text = CONFIG.read_text("utf-8")
    assert "per_second = 20" in text
    (folder / CONFIG.name).write_text(text.replace("per_second = 20", "per_second = 200"), "utf-8")
    past.settle(own(folder))
    return folder


@pytest.fixture(scope="module")
def kit(first: Path) -> Iterator[ConsentKit]:
    """Over the first start itself: to look only."""
    kit = ConsentKit(own(first))
    yield kit
    kit.close()


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "demo"))


def log_in(browser: Any, role: str) -> Visitor:
    """Somebody of the staff, with the password that the start prints."""
    visitor = Visitor(browser)
    page = visitor.submit("login", "login", name=role, password=staff.PASSWORDS[staff.Role(role)])
    assert page.status_code == 303
    return visitor


def test_500_made_up_readers_stand_on_the_list_by_the_ways_in_which_real_ones_come(kit: ConsentKit) -> None:
    people = dict(readers.everybody())
    audience = kit.mailings.audience(2)

    assert len(people) == audience.candidates == readers.EVERYBODY == 500
    assert (audience.queued, audience.excluded) == (GET_IT, LEFT_OUT)
    assert kit.outbox.waiting() == 0
    with CONFIG.with_name("ouders.csv").open(encoding="utf-8") as file:
        others = {row["email"].lower() for row in csv.DictReader(file)} | {READER, staff.BY_PHONE}
    assert others.isdisjoint(people)


def test_one_mailing_went_out_weeks_ago_one_is_ready_and_one_is_being_written(kit: ConsentKit) -> None:
    mailings = {one.id: one for one in kit.mailings.all()}
    (written,) = kit.drafts.open()

    assert {id: one.state for id, one in mailings.items()} == {1: "done", 2: "draft"}
    assert timedelta(days=past.MAILED - 1) < kit.now() - (mailings[1].ended_at or kit.now()) < timedelta(days=25)
    assert "kerstdiner" in written.title
    assert kit.drafts.of_mailing(2) is not None
    told = report(kit.store, 1, kit.now())
    assert told.sent > 400
    assert sum(told.failed.values()) == past.BOUNCED
    assert told.opens
    assert told.clicks
    assert min(told.left, told.opens.people, told.clicks.people) >= 4


def test_two_months_of_choices_were_recorded_under_two_wordings_and_verify(kit: ConsentKit) -> None:
    name = kit.sites[0].settings.name
    events = [*kit.evidence.export(site=name)]
    refused = sum(one.total for one in kit.evidence.counts(name))
    given = sum(event["state"] == "given" for event in events)

    assert kit.evidence.verify().ok
    assert len({event["at"][:10] for event in events}) > 55
    assert 0.4 < given / (given + refused) < 0.75
    assert 10 < len(events) - given < given / 4
    assert len({event["policy"] for event in events}) == 2
    assert {one.kind for one in kit.audit.read()} == {"cookie", "host", "storage", "tag"}


def test_each_role_has_an_account_and_something_that_waits_for_it(kit: ConsentKit) -> None:
    accounts = {one.name: one.roles for one in kit.accounts.list()}
    log = StaffLog(kit.store, kit.now).read()

    assert accounts == {role.value: {role} for role in staff.Role}
    assert [one.by for one in Lifting(kit.afgemeld, kit.store, kit.now).waiting()] == ["beheer"]
    assert {"mailing.release", "person.read", "afgemeld.add", "afgemeld.lift_ask"} <= {entry.act for entry in log}
    assert [entry.at for entry in log] == sorted((entry.at for entry in log), reverse=True)


def test_a_next_start_adds_nothing_nor_does_one_after_a_first_that_was_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> tuple[object, ...]:
        kit = ConsentKit(own(folder))
        found = kit.newsletter.counts(), len(kit.mailings.all()), len(kit.drafts.open()), kit.evidence.verify().events
        kit.close()
        return found

    before = count()
    told: list[str] = []
    past.settle(own(folder), tell=lambda: told.append("again"))
    after = count()
    monkeypatch.setattr(staff, "is_at_work", lambda kit: False)
    past.settle(own(folder), tell=lambda: told.append("again"))

    assert before == after == count()
    assert told == ["again"]


def letters(folder: Path) -> Counter[str]:
    """How many mails of the mailing each address got, by what the mail server of the demo answered for."""
    lines = (folder / "demo-post.jsonl").read_text("ascii").splitlines()
    return Counter(one["to"][0] for one in map(json.loads, lines) if "Message-ID: <2." in one["raw"])


def arrived(folder: Path) -> int:
    """How many mails of the mailing there are by now."""
    file = folder / "demo-post.jsonl"
    return file.read_bytes().count(b"Message-ID: <2.") if file.exists() else 0


def until(sign: Callable[[], bool]) -> None:
    """Wait until something is true."""
    for _ in range(600):
        if sign():
            return
        time.sleep(0.05)
    raise TimeoutError


def test_sent_paused_left_in_the_middle_killed_and_started_again_and_nobody_gets_it_twice(folder: Path) -> None:
    port = free_ports()
    base = f"http://127.0.0.1:{port}"
    browser = httpx2.Client(base_url=base)
    process = launch(folder / CONFIG.name, port)
    try:
        verzenden = log_in(browser, "verzenden")
        verzenden.submit("mailings/2/release", "mailings/2/release")
        until(lambda: arrived(folder) > 20)
        left = httpx2.post(f"{base}/post/lezers/vertrek", follow_redirects=True).text
        paused = verzenden.follow(verzenden.submit("mailings/2", "mailings/2/pause")).text
        time.sleep(0.7)
        then = arrived(folder)
        time.sleep(0.3)
        still = arrived(folder)
        verzenden.submit("mailings/2", "mailings/2/resume")
        until(lambda: arrived(folder) > still + 50)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = launch(folder / CONFIG.name, port)
        kit = ConsentKit(own(folder, port))
        until(lambda: kit.mailings.get(2).state == "done")
        told = httpx2.get(f"{base}/post/lezers").text
        ended = verzenden.get("mailings/2").text
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        browser.close()
    got = letters(folder)
    leaver = re.search(r"<li><b>([^<]+)</b> om", left)
    status = kit.mailings.status(2)
    kit.close()

    assert "gepauzeerd" in paused
    assert then == still
    assert leaver
    assert got[leaver[1]] == 0
    assert set(got.values()) == {1}
    assert status.counts["suppressed"] == 1
    assert len(status.in_doubt) <= 3
    assert 0 <= sum(got.values()) - status.counts["sent"] <= len(status.in_doubt)
    assert status.counts["sent"] + 1 + len(status.in_doubt) == GET_IT
    assert f"<b>In de brievenbussen:</b> {sum(got.values())} brieven" in told
    assert "Niemand kreeg er twee." in told
    assert "Soepweek, Sinterklaas en het kerstdiner</h1>" in ended


def test_only_a_page_of_its_own_plays_the_readers(folder: Path) -> None:
    kit = ConsentKit(own(folder))
    site, _ = build(port=PORT, post=Post(), kit=kit)
    visitor = TestClient(site, base_url=f"http://127.0.0.1:{PORT}")

    elsewhere = visitor.post("/post/lezers/vertrek", headers={"Sec-Fetch-Site": "cross-site"})
    nobody = visitor.post("/post/lezers/vertrek")
    kit.close()

    assert elsewhere.status_code == 403
    assert "Er gaat nu geen mailing uit" in nobody.text
    assert kit.settings.console.four_eyes


@pytest.mark.browser
def test_the_page_of_the_readers_fits_a_phone_and_axe_finds_nothing(
    folder: Path, serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    kit = ConsentKit(own(folder))
    site, _ = build(port=PORT, post=Post(), kit=kit)
    base = serve(site)
    page = new_page(viewport={"width": 320, "height": 640})

    page.goto(f"{base}/post/lezers")
    found = wrong(page)
    kit.mailings.send(2, dns=False)
    page.goto(f"{base}/post/lezers")
    page.get_by_role("button", name="Laat een lezer zich nu afmelden").press("Enter")
    page.get_by_role("status").wait_for()
    found += wrong(page)
    kit.close()

    assert found == []


def wrong(page: Page) -> list[str]:
    """What axe finds, and whether one has to scroll sideways."""
    page.evaluate(Axe().axe_script)
    result = page.evaluate("axe.run({resultTypes: ['violations'], iframes: false})")
    found = [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in result["violations"]]
    return found + ["scrolls sideways"] * page.evaluate("document.documentElement.scrollWidth > innerWidth")

"""What people come to the console for, in a real browser and in Dutch: by keyboard, on a phone, in few clicks."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.mail import MemoryMailer
from consentkit.mailing import Sketch
from consentkit.render.console import texts
from consentkit.staff import Role
from tests.browser_fixtures import forget_loop, resume_loop, serving
from tests.console.filled import CHEAP, PASSWORD, consented
from tests.console.office import Office, join_by_import
from tests.fixtures_smtp import Mailbox
from tests.front.harness import until
from tests.journeys.school import Clock, app
from tests.newsletter import desk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PHONE = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 800}
STAFF = {
    "Anna": {Role.REDACTIE, Role.VERZENDEN},
    "Sjoerd": {Role.REDACTIE, Role.VERZENDEN},
    "Petra": {Role.PRIVACY},
    "Tom": {Role.REDACTIE},
}
MAIL = {"sender": "De Linde <nieuws@school.test>", "unsubscribe": "afmelden@school.test"}
READERS = [f"lezer{number}@voorbeeld.nl" for number in range(1, 9)]
t = texts("nl")


@dataclass
class School:
    """A school whose console is served, and the mail server that it sends through."""

    kit: ConsentKit
    base: str
    mailbox: Mailbox


@pytest.fixture(scope="module")
def post() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running


def opened(folder: Path, post: Mailbox, **tables: Any) -> ConsentKit:
    """A kit of whose staff four have an account, and which sends a few mails a second."""
    mail, sending = {**MAIL, "smtp": post.url}, {"connections": 1, "per_second": 3}
    kit = ConsentKit(desk.settings(folder, mail=mail, mailing=sending, **tables))
    kit.accounts.cost = CHEAP
    for name, roles in STAFF.items():
        kit.accounts.add(name, frozenset(roles), PASSWORD, by="test")
    join_by_import(kit, "nieuwsbrief", "email\n" + "".join(f"{address}\n" for address in READERS))
    return kit


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory, post: Mailbox) -> Iterator[School]:
    kit = opened(tmp_path_factory.mktemp("school"), post)
    with serving() as serve:
        yield School(kit, serve(kit.wrap(app())), post)
    kit.close()


@pytest.fixture
def at(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the console in a browser of somebody's own, and logs them in."""
    contexts: list[BrowserContext] = []

    def open_for(school: School, name: str, **options: Any) -> Page:
        resume_loop()
        context = chromium.new_context(base_url=school.base, locale="nl-NL", **({"viewport": DESK} | options))
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.goto("/privacy/console")
        page.get_by_label(t("entry.name")).fill(name)
        page.get_by_label(t("entry.password")).fill(PASSWORD)
        page.get_by_role("button", name=t("entry.log_in_button")).click()
        return page

    yield open_for
    for context in contexts:
        context.close()
    forget_loop()


class Keyboard:
    """Somebody who has a keyboard, and nothing to point with."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def to(self, target: Locator) -> None:
        """Press Tab until the focus is there, where it can be seen."""
        expect(target).to_be_visible()
        for _ in range(90):
            self.page.keyboard.press("Tab")
            if target.evaluate("one => one === document.activeElement"):
                break
        else:
            raise AssertionError(f"Tab never comes to {target}")
        assert target.evaluate("one => one.matches(':focus-visible') && getComputedStyle(one).outlineStyle !== 'none'")
        expect(target).to_be_in_viewport()

    def press(self, target: Locator) -> None:
        self.to(target)
        self.page.keyboard.press("Enter")

    def type(self, target: Locator, text: str) -> None:
        self.to(target)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)


def fits(page: Page) -> None:
    """Nothing has to be scrolled sideways."""
    until(page, "document.documentElement.scrollWidth <= innerWidth")


def button(page: Page, key: str, **values: Any) -> Locator:
    return page.get_by_role("button", name=t(key, **values), exact=True)


def link(page: Page, key: str) -> Locator:
    return page.get_by_role("link", name=t(key), exact=True)


def write(kit: ConsentKit, by: str, subject: str) -> int:
    """A mailing that is ready, written by somebody; gives its number."""
    draft = kit.drafts.make("Basisschool De Linde", Sketch(list="nieuwsbrief", subject=subject, body="Dag,"), by)
    return kit.drafts.ready(draft, by)


@pytest.mark.checklist("UNS-04", "ACC-02", "ACC-05")
def test_written_to_sent_by_keyboard_alone_on_a_phone_and_who_leaves_in_the_middle_gets_nothing(
    school: School, at: Callable[..., Page]
) -> None:
    page = at(school, "Anna", viewport=PHONE)
    keys = Keyboard(page)
    before = len(school.mailbox.messages)

    keys.press(link(page, "base.menu_mailings"))
    keys.press(page.get_by_role("link", name=re.compile(f"{t('sending.new')}|{t('sending.new_first')}")))
    keys.to(page.get_by_label(t("drafts.list")))
    page.keyboard.type("Nieuws")
    keys.press(button(page, "drafts.begin"))
    expect(page.get_by_label(t("drafts.body"))).to_be_visible()
    fits(page)
    keys.type(page.get_by_label(t("drafts.subject"), exact=True), "Feest op woensdag")
    keys.type(page.get_by_label(t("drafts.body")), "Dag,\n\nWoensdag is het *feest*. Kom je ook?")
    keys.press(button(page, "drafts.ready_button"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Feest op woensdag")
    expect(page.get_by_text(t("sending.audience_some", count=8, of=8))).to_be_visible()
    fits(page)
    keys.press(link(page, "sending.send_now"))
    expect(page.get_by_text(t("sending.no_way_back"))).to_be_visible()
    fits(page)
    keys.press(button(page, "sending.yes_now", count=8))

    school.mailbox.wait(before + 2)
    last = READERS[-1]
    school.kit.afgemeld.add_sync(last, scope="marketing", reason=Reason.ONE_CLICK, channel="one-click")
    gone = {str(message["To"]) for message in school.mailbox.messages[before:]}
    assert last not in gone, "it went so fast that nobody can leave in the middle"
    left = page.get_by_role("row", name=re.compile(f"{t('report.suppressed')} .*1"))
    expect(left).to_be_visible(timeout=30_000)  # the page counts along, and then is the report
    fits(page)
    got = [str(message["To"]) for message in school.mailbox.messages[before:]]
    assert sorted(got) == sorted(READERS[:-1])
    assert {str(message["Subject"]) for message in school.mailbox.messages[before:]} == {"Feest op woensdag"}


@pytest.mark.checklist("EVI-02")
def test_a_consent_is_proved_in_under_six_clicks(school: School, at: Callable[..., Page]) -> None:
    record, clicks = secrets.token_hex(16), 0
    consented(
        Office(school.kit, Clock(school.kit.now()), MemoryMailer()), record, "given", school.kit.now(), analytics=True
    )
    page = at(school, "Petra")

    def click(target: Locator) -> None:
        nonlocal clicks
        clicks += 1
        target.click()

    click(link(page, "home.to_person"))
    page.get_by_label(t("persons.address")).fill("Lezer3@Voorbeeld.nl")
    click(button(page, "persons.find"))

    expect(page.get_by_role("heading", level=1)).to_contain_text("lezer3@voorbeeld.nl")
    for said in (t("lists.ground_consent"), "papieren formulier, open dag"):
        expect(page.get_by_text(said).first).to_be_visible()
    assert "@" not in page.url

    click(link(page, "base.menu_consent"))
    click(link(page, "consent.menu_find"))
    page.get_by_label(t("consent.receipt")).fill(f"Nummer: {record[:8]} {record[8:]}")
    click(button(page, "consent.find"))
    expect(page.get_by_text(record).first).to_be_visible()
    expect(page.get_by_text(t("consent.state_given")).first).to_be_visible()
    assert clicks < 6


@pytest.mark.checklist("UNS-08", "SUP-02")
def test_who_phones_is_added_to_afgemeld_and_can_t_be_mailed_any_more(
    school: School, at: Callable[..., Page], tmp_path: Path
) -> None:
    page, before = at(school, "Petra", viewport=PHONE), len(school.mailbox.messages)
    link(page, "base.menu_afgemeld").click()
    link(page, "afgemeld.add").click()
    page.get_by_label(t("afgemeld.address")).fill(READERS[0])
    page.get_by_label(t("afgemeld.how_phone")).check()
    fits(page)
    button(page, "afgemeld.add_button").click()
    expect(page.get_by_role("status").first).to_be_visible()
    fits(page)
    page.get_by_label(t("afgemeld.address")).first.fill(READERS[0])
    button(page, "afgemeld.look_up_button").click()
    expect(page.get_by_text(t("afgemeld.found", address=READERS[0]))).to_be_visible()
    fits(page)
    page.context.close()

    sender = at(school, "Sjoerd")
    sender.goto(f"/privacy/console/mailings/{write(school.kit, 'Anna', 'Nog een keer')}")
    sender.get_by_label(t("sending.test_to")).fill(READERS[0])
    button(sender, "sending.test_button").click()

    expect(sender.get_by_text(t("sending.test_left"))).to_be_visible()
    expect(sender.get_by_text(t("report.reason_afgemeld"), exact=True).first).to_be_visible()
    assert school.mailbox.messages[before:] == []


@pytest.mark.checklist("ACC-02")
def test_a_second_step_is_turned_on_and_asked_for_at_the_next_log_in_by_keyboard_alone(
    school: School, at: Callable[..., Page]
) -> None:
    page = at(school, "Tom", viewport=PHONE)
    keys = Keyboard(page)
    keys.press(page.get_by_role("link", name="Tom", exact=True))
    keys.press(button(page, "entry.second_factor_start"))
    phone = pyotp.TOTP(page.locator("code").inner_text().replace(" ", ""))
    fits(page)
    spent = phone.now()
    keys.type(page.get_by_label(t("entry.enrol_code")), spent)
    keys.type(page.get_by_label(t("entry.password")), PASSWORD)
    keys.press(button(page, "entry.enrol_button"))
    expect(page.get_by_text(t("entry.second_factor_is_on"))).to_be_visible()
    keys.press(button(page, "base.log_out"))

    keys.type(page.get_by_label(t("entry.name")), "Tom")
    keys.type(page.get_by_label(t("entry.password")), PASSWORD)
    keys.press(button(page, "entry.log_in_button"))
    keys.type(page.get_by_label(t("entry.code")), spent)
    keys.press(button(page, "entry.log_in_button"))
    expect(page.get_by_text(t("entry.wrong_code"))).to_be_visible()
    keys.type(page.get_by_label(t("entry.code")), phone.at(int(time.time()) + 30))
    keys.press(button(page, "entry.log_in_button"))

    expect(page.get_by_role("heading", level=1)).to_contain_text("Tom")
    fits(page)


def test_with_four_eyes_who_wrote_it_may_not_let_it_go_and_somebody_else_may(
    tmp_path: Path, post: Mailbox, at: Callable[..., Page]
) -> None:
    kit = opened(tmp_path, post, console={"four_eyes": True})
    with serving() as serve:
        school, before = School(kit, serve(kit.wrap(app())), post), len(post.messages)
        mailing = f"/privacy/console/mailings/{write(kit, 'Anna', 'Vier ogen')}"

        mine = at(school, "Anna")
        mine.goto(mailing)
        expect(link(mine, "sending.send_now")).to_have_count(0)
        mine.goto(f"{mailing}/release")
        expect(mine.get_by_role("button", name=re.compile(t("sending.yes_now", count=8)))).to_have_count(0)
        theirs = at(school, "Sjoerd")
        theirs.goto(mailing)
        link(theirs, "sending.send_now").click()
        button(theirs, "sending.yes_now", count=8).click()

        expect(theirs.get_by_text(t("sending.told_released"))).to_be_visible()
        assert len(post.wait(before + 1)) > before
    kit.close()

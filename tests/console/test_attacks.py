"""What a stranger tries at the door of the console, and what a colleague tries who is in."""

from __future__ import annotations

import base64
import csv
import hashlib
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from consentkit import ConsentKit
from consentkit.address import canonical
from consentkit.afgemeld import Lifting, Reason
from consentkit.errors import AddressError
from consentkit.mailing import MailingState
from consentkit.mailing.drafts import Sketch
from consentkit.staff import Member, Outcome, Posts, Progress, Role
from consentkit.staff.tables import posts
from consentkit.web.console.carry import Carried, uncarried
from consentkit.web.console.download import sheet
from consentkit.web.console.figures import Figures
from tests.console.office import Office, Visitor, forms, open_office
from tests.console.test_entry import PASSWORD, open_kit, visitor

LOGIN = "/privacy/console/login"
PLACE = "/privacy/console/mailings/drafts/1"
MULTIPART = "multipart/form-data; boundary=rand"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentKit]:
    """A console with an account of its own."""
    kit = open_kit(tmp_path_factory.mktemp("door"))
    kit.accounts.add("Anna", frozenset({Role.BEHEER}), PASSWORD, by="test")
    yield kit
    kit.close()


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office where who writes does not release."""
    with open_office(tmp_path_factory.mktemp("careful"), console={"four_eyes": True}) as opened:
        opened.join("an@example.org")
        yield opened


def parts(*fields: tuple[str, bytes]) -> bytes:
    each = [b'--rand\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join(each) + b"--rand--\r\n"


@contextmanager
def known_as(office: Office, name: object, *roles: str) -> Iterator[Visitor]:
    """Somebody whom the host app's own log-in calls so."""
    console = office.kit.console
    before, console._user = console._user, lambda request: (name, [*roles])
    try:
        yield office.client("beheer")
    finally:
        console._user = before


def token(of: Visitor) -> str:
    """The token of some form that stands on a page."""
    return next(value for form in forms(of.get("afgemeld/add").text) for name, value in form.fields if name == "form")


# -- strangers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["name", "password"])
def test_a_name_or_password_of_a_great_many_accents_does_not_stop_the_server(door: ConsentKit, field: str) -> None:
    stranger = visitor(door).browser
    typed = {"name": "Anna", "password": "fout"} | {field: "a" + "\u0301\u0316" * 20_000}

    began = time.perf_counter()
    response = stranger.post(LOGIN, data=typed)

    assert response.status_code == 401
    assert time.perf_counter() - began < 2  # putting so many in order takes more than three


def test_an_address_of_a_great_many_accents_is_none_at_once() -> None:
    began = time.perf_counter()

    with pytest.raises(AddressError, match="too long"):
        canonical("a" + "\u0301\u0316" * 20_000 + "@example.org")

    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "unicode_escape"])
def test_a_form_in_a_charset_that_no_browser_sends_is_refused(door: ConsentKit, charset: str) -> None:
    headers = {"Content-Type": f"{MULTIPART}; charset={charset}"}

    codes = [
        visitor(door).browser.post(path, content=parts(("name", b"+2AA-\\ud800")), headers=headers).status_code
        for path in (LOGIN, PLACE)
    ]

    assert codes == [415, 415]


def test_the_fields_of_a_form_are_bounded_together_and_not_each(door: ConsentKit) -> None:
    body = parts(*[("body", b"x" * 1_000_000)] * 3)

    response = visitor(door).browser.post(PLACE, content=body, headers={"Content-Type": MULTIPART})

    assert response.status_code == 413


def test_few_strangers_at_once_may_fill_the_disk(door: ConsentKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.console, "_strangers", 4)
    file = (
        b'--rand\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * 3_000_000 + b"\r\n--rand--"
    )
    stranger, headers = visitor(door).browser, {"Content-Type": MULTIPART}

    large = stranger.post(PLACE, content=file, headers=headers)
    small = stranger.post(PLACE, content=parts(("body", b"De tekst van Anna")), headers=headers)

    assert (large.status_code, small.status_code) == (429, 401)
    assert door.console._strangers == 4


def test_who_has_a_network_of_addresses_is_one_stranger(door: ConsentKit) -> None:
    form = visitor(door).form("login", "login")

    codes = [
        visitor(door, host=f"2001:db8:0:7::{number:x}").send(form, name="Cas", password="fout").status_code
        for number in range(1, 10)
    ]

    assert codes == [401] * 8 + [429]


def test_what_is_carried_too_deep_is_nothing() -> None:
    deep = base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode()

    assert uncarried(deep) == Carried()


# -- addresses that no page has ---------------------------------------------------------------------------------------


def test_no_number_and_no_nul_in_an_address_breaks_a_page(database_url: str, tmp_path: Path) -> None:
    with open_office(tmp_path, database=database_url) as office:
        boss = office.client("beheer")
        paths = [
            *(
                f"{one}/{number}"
                for one in ("mailings", "mailings/drafts", "persons")
                for number in (2**63, "9" * 5000)
            ),
            *("jobs/a%00b", "afgemeld/lift/a%00b", "consent/chain/a%00b", "lists/a%00b/import/a%00b/lines"),
            *("mailings?q=%00", "mailings?drafts-q=%00", "mailings/new?q=%00", "log?staff=%00", "log?act=%00"),
        ]

        codes = {path: boss.get(path).status_code for path in paths}

    assert codes == dict.fromkeys(paths, 404)


# -- colleagues -------------------------------------------------------------------------------------------------------


SPELLINGS = ("anna", " Anna ", "ANNA", "An\u200bna", "\uff21nna", "Anna\u00a0")


def test_with_four_eyes_another_spelling_of_who_wrote_it_is_nobody_else(careful: Office) -> None:
    sketch = Sketch(list="nieuwsbrief", subject="Feest", body="Woensdag is het feest.")
    mailing = careful.kit.drafts.ready(careful.kit.drafts.make("Basisschool De Linde", sketch, "Anna"), "Anna")

    codes = []
    for name in SPELLINGS:
        with known_as(careful, name, "beheer") as anna:
            form = {"form": token(anna)}
            codes.append(anna.browser.post(f"{anna.base}/mailings/{mailing}/release", data=form).status_code)

    assert codes == [403] * len(SPELLINGS)
    assert careful.kit.mailings.get(mailing).state is MailingState.DRAFT


@pytest.mark.checklist("SUP-04")
def test_another_spelling_of_who_asked_to_lift_is_no_second_person(careful: Office) -> None:
    ledger = careful.kit.afgemeld
    ledger.add_sync("zoe@example.org", scope="marketing", reason=Reason.PHONE, channel="phone")
    lifting = Lifting(ledger, careful.kit.store, careful.kit.now)
    id = lifting.ask(ledger.keys.digests("zoe@example.org"), "marketing", "een tikfout", "Anna")

    codes = []
    for name in SPELLINGS:
        with known_as(careful, name, "privacy") as anna:
            form = {"form": token(anna)}
            codes.append(anna.browser.post(f"{anna.base}/afgemeld/lift/{id}/agree", data=form).status_code)

    assert codes == [403] * len(SPELLINGS)
    assert [one.id for one in lifting.waiting()] == [id]


@pytest.mark.parametrize(
    ("name", "roles"), [("", ["beheer"]), (" \u200b", ["beheer"]), (None, ["beheer"]), ("X", None)]
)
def test_whom_the_host_does_not_name_is_nobody(careful: Office, name: object, roles: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(careful.kit.console, "_user", lambda request: (name, roles))

    assert careful.client("beheer").get("staff").status_code == 403


def test_no_colleague_fills_the_memory_with_files_that_wait(careful: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.staff.jobs._MOST", 1)
    jobs, go, going = careful.kit.console._rooms.jobs, threading.Event(), threading.Event()
    file = {"file": ("lijst.csv", b"email\nzoe@example.org\n", "text/csv")}
    piet = careful.client("privacy")

    def work(progress: Progress) -> Outcome:
        going.set()
        go.wait(5)
        return Outcome({})

    jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", work)
    going.wait(5)
    form = piet.form("afgemeld/scrub", "afgemeld/scrub")
    busy = piet.send(form, files=file, column="")
    go.set()
    while jobs._running:
        time.sleep(0.01)
    after = piet.send(form, files=file, column="")

    assert (busy.status_code, "Er loopt al zo veel lang werk" in busy.text) == (429, True)
    assert after.status_code == 303


# -- forms that count once --------------------------------------------------------------------------------------------


def test_what_a_form_said_is_kept_so_that_the_database_alone_lets_nobody_guess_it(careful: Office) -> None:
    kit, told = careful.kit, "account/password\n([('password_old', 'geheim')], [])"
    forms_ = Posts(kit.store, kit.tokens, kit.now)

    def kept() -> str:
        nonce = forms_.read(forms_.issue(Member("Anna", frozenset())), Member("Anna", frozenset()))
        assert forms_.spend(nonce, told) is None
        assert forms_.spend(nonce, told).same  # type: ignore[union-attr]
        with kit.store.read() as connection:
            return str(connection.execute(select(posts.c.said).where(posts.c.nonce == nonce)).scalar_one())

    first, second = kept(), kept()

    assert first != second
    assert hashlib.sha256(told.encode()).hexdigest() not in (first, second)


def test_a_second_click_waits_where_the_first_one_gives_its_work_back_at_that_moment(careful: Office) -> None:
    kit, anna = careful.kit, Member("Anna", frozenset())
    forms_ = Posts(kit.store, kit.tokens, kit.now)
    nonce = forms_.read(forms_.issue(anna), anna)
    assert forms_.spend(nonce, "x") is None

    def give_back(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT staff_post"):
            cursor.execute("DELETE FROM staff_post")

    event.listen(kit.store.engine, "before_cursor_execute", give_back)
    second = forms_.spend(nonce, "x")
    event.remove(kit.store.engine, "before_cursor_execute", give_back)

    assert second is not None
    assert (second.same, second.leads_to) == (True, "")
    assert forms_.spend(nonce, "x") is None


# -- files to take along ----------------------------------------------------------------------------------------------


def test_a_spreadsheet_computes_no_cell_of_ours_however_a_formula_begins() -> None:
    cells = ["=1", "+1", "-1", "@A1", "\t=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "een = twee"]

    (header, body) = sheet(("cell",), [[(cell,) for cell in cells]])

    told = [row["cell"] for row in csv.DictReader(StringIO((header + body).decode(), newline=""))]
    assert told == [*(f"'{cell}" for cell in cells[:-1]), "een = twee"]


# -- figures ----------------------------------------------------------------------------------------------------------


def test_a_count_that_began_before_something_changed_is_not_shown_after_it() -> None:
    figures, going, changed = Figures(lambda: datetime.now(UTC)), threading.Event(), threading.Event()

    def slow() -> str:
        going.set()
        changed.wait(5)
        return "before"

    assert figures.get("count", slow, wait=0) is None
    going.wait(5)
    figures.forget("count")
    after = figures.get("count", lambda: "after", wait=5)
    changed.set()
    figures.close()
    figures._pool.shutdown(wait=True)

    shown = figures.get("count", lambda: "never")
    assert after is not None
    assert shown is not None
    assert (after.value, shown.value) == ("after", "after")


def test_so_many_counts_may_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.web.console.figures._MOST_AT_ONCE", 3)
    figures, go = Figures(lambda: datetime.now(UTC)), threading.Event()

    asked = [figures.get(number, lambda: go.wait(5), wait=0) for number in range(5)]
    waiting = [*figures._counting]
    go.set()
    figures.close()

    assert asked == [None] * 5
    assert waiting == [0, 1, 2]

"""A console with everything in it, and every page that it can show: what the checks over all pages look at.

`filled` opens a school whose staff has accounts of the console's own; `walk` gives each page as it was sent, by name.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyotp
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.afgemeld.ledger import MARKETING
from consentkit.evidence import ConsentEvent
from consentkit.mail import MemoryMailer
from consentkit.mailing import File, Sketch
from consentkit.mailing.tables import deliveries, events
from consentkit.render.console import ConsoleRenderer
from consentkit.staff import Role
from tests.console.office import Office, Visitor, forms
from tests.console.test_lists import desk_of
from tests.journeys.school import Clock, app
from tests.mailing import hall
from tests.mailing.school import draft
from tests.newsletter import desk

SITE = "Basisschool De Linde"
PASSWORD = "vier losse woorden samen"
CHEAP = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
STAFF = {"Anna": Role.REDACTIE, "Sjoerd": Role.VERZENDEN, "Petra": Role.PRIVACY, "Bea": Role.BEHEER}
SERVICES: dict[str, Any] = {"google-analytics": {}, "youtube": {}}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "e221bc330000000049454e44ae426082"
)
BODY = """# Feest op woensdag

Dag {{ name }},

Woensdag is het feest. Kom je ook? [Lees wat er te doen is](https://delinde.example/agenda).

![Ballonnen](ballon.png)

*De juffen en meesters*
"""
SKETCH = Sketch(
    list="nieuwsbrief",
    subject="Feest op woensdag",
    preheader="Met taart, en met een springkussen",
    body=BODY,
    fields=("name",),
    defaults={"name": "lezer"},
    where={"groep": ("7", "8")},
    measured=True,
)
PROMOTION = "<p>{{ name }}, nu 50% korting! Bestel vandaag met code LENTE en profiteer van deze aanbieding.</p>"
ROWS = {
    ("sent", "", True): 30, ("sent", "", False): 12, ("excluded", "afgemeld", False): 4,
    ("excluded", "field:name", False): 1, ("suppressed", "afgemeld", False): 1, ("failed", "bounced 5.1.1", False): 2,
}  # fmt: skip
"""How messages of a mailing ended: state, reason, whether measured; and how many."""

hosts = (f"198.51.100.{number}" for number in count(1))


@dataclass
class Filled:
    """The office, and who of its staff is at which browser. `at` names pages: `at["draft"]` is a path."""

    office: Office
    people: dict[str, Visitor] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    phones: dict[str, pyotp.TOTP] = field(default_factory=dict)

    def stranger(self, lang: str = "nl") -> Visitor:
        """Somebody who is not logged in, at a computer of their own."""
        browser = TestClient(self.office.kit.wrap(app()), base_url="http://school.test", client=(next(hosts), 50000))
        browser.headers["accept-language"] = lang
        return Visitor(browser)

    def log_in(self, name: str, lang: str = "nl") -> Visitor:
        """Somebody with an account."""
        visitor = self.stranger(lang)
        answer = visitor.submit("login", "login", name=name, password=PASSWORD)
        assert answer.status_code == 303, answer.text[-1500:]
        return visitor


def done(visitor: Visitor, response: Any) -> Any:
    """The page that a form leads to, once the work that it began is done."""
    end = time.monotonic() + 60
    while "data-ck-again" in (page := visitor.follow(response)).text:
        assert time.monotonic() < end, page.text[-1500:]
        time.sleep(0.02)
    return page


def path_of(response: Any) -> str:
    """Where a form leads, as the console writes paths: without what was told."""
    return str(response.headers["location"]).partition("/console/")[2].partition("?")[0]


@contextmanager
def opened(folder: Path, **tables: Any) -> Iterator[Filled]:
    """A console of which four people have an account, and nothing else is in it."""
    clock, mailer = Clock(), MemoryMailer()
    kit = ConsentKit(desk.settings(folder, services=SERVICES, **tables), clock=clock, mailer=mailer)
    kit.accounts.cost = CHEAP
    try:
        for name, role in STAFF.items():
            kit.accounts.add(name, frozenset({role}), PASSWORD, by="test")
        made = Filled(Office(kit, clock, mailer))
        made.people = {name: made.log_in(name) for name in STAFF}
        yield made
    finally:
        kit.close()


@contextmanager
def filled(folder: Path) -> Iterator[Filled]:
    """A console in which every page has something to show."""
    with opened(folder) as made:
        _readers(made)
        _mailings(made)
        _consents(made)
        _afgemeld(made)
        _accounts(made)
        yield made


# -- what is in it --------------------------------------------------------------------------------------------------


def _readers(made: Filled) -> None:
    """Sixty readers on paper; one who confirmed, one who left and one who waits."""
    office, petra = made.office, made.people["Petra"]
    hall.seats(
        office.kit,
        [
            (number, {"name": f"Lezer {number}", "groep": str(number % 8 + 1)}, {"measuring": number % 2 == 0})
            for number in range(1, 61)
        ],
    )
    visitor = desk_of(office)
    for address in ("jan@voorbeeld.nl", "weg@voorbeeld.nl"):
        visitor.subscribe(address)
    visitor.post(visitor.link("afmelden"))
    visitor.ask("wacht@voorbeeld.nl")
    found = petra.submit("persons", "persons", address="jan@voorbeeld.nl")
    made.at["person"] = path_of(found)
    made.at["left"] = path_of(petra.submit("persons", "persons", address="weg@voorbeeld.nl"))


def _mailings(made: Filled) -> None:
    """A mailing in each state, and drafts."""
    kit, clock = made.office.kit, made.office.clock
    picture = File("ballon.png", "image/png", True, PNG)
    paper = File("programma.pdf", "application/pdf", False, b"%PDF-1.4")
    drafts = {
        "draft": kit.drafts.make(SITE, SKETCH, "Anna", [picture, paper]),
        "empty draft": kit.drafts.make(SITE, Sketch(list="nieuwsbrief"), "Bea"),
        "thrown": kit.drafts.make(SITE, SKETCH, "Anna", [picture]),
        "conflict": kit.drafts.make(SITE, SKETCH, "Anna", [picture]),
    }
    kit.drafts.throw_away(drafts["thrown"], "Anna")
    made.at |= {name: f"mailings/drafts/{id}" for name, id in drafts.items()}
    now = clock()
    under_way: dict[str, Any] = {"frozen_at": now, "started_at": now - timedelta(minutes=5)}
    ended = {**under_way, "ended_at": now, "content": draft().to_json(), "measured": True}
    mailings = {
        "ready": kit.mailings.new(draft(subject="Nieuws van maart")),
        "barred": kit.mailings.new(draft(subject="Korting", purpose="service", html=PROMOTION)),
        "scheduled": hall.mailing(kit, subject="Later", frozen_at=now, start_at=now + timedelta(days=2)),
        "sending": hall.mailing(kit, subject="Onderweg", **under_way),
        "paused": hall.mailing(kit, subject="Halverwege", state="paused", **under_way),
        "stopped": hall.mailing(kit, subject="Vast", state="stopped", note="535 at auth", **under_way),
        "cancelled": hall.mailing(kit, subject="Toch niet", state="cancelled", **ended),
        "sent": hall.mailing(kit, subject="Nieuws van februari", state="done", **ended),
    }
    put(made, mailings["sending"], {**ROWS, ("queued", "", False): 20, ("in_doubt", "its sender died", False): 1})
    put(made, mailings["paused"], {**ROWS, ("queued", "", False): 20})
    put(made, mailings["cancelled"], {("sent", "", False): 3, ("cancelled", "", False): 9})
    put(made, mailings["sent"], {**ROWS, ("in_doubt", "its sender died", False): 1})
    made.at |= {name: f"mailings/{id}" for name, id in mailings.items()}


def put(made: Filled, mailing: int, rows: dict[tuple[str, str, bool], int]) -> None:
    """Messages of a mailing; nobody in particular gets them, and some of those who are measured opened theirs."""
    now = made.office.clock()
    with made.office.kit.store.begin() as connection:
        for (state, reason, measured), many in rows.items():
            for number in range(many):
                values = {
                    "mailing_id": mailing, "state": state, "reason": reason, "tries": 1, "measured": measured,
                    "at": now, "holder": "gone" if state == "in_doubt" else None,
                }  # fmt: skip
                new = connection.execute(deliveries.insert().returning(deliveries.c.id), values).scalar_one()
                if measured and number % 3:
                    seen = {"mailing_id": mailing, "delivery_id": new, "kind": "open", "link": -1, "machine": False}
                    connection.execute(events.insert().values(at=now + timedelta(hours=number % 7), **seen))


def _consents(made: Filled) -> None:
    """Somebody who agreed, chose again and took it back; who refused; what was seen and is not declared."""
    record, at = secrets.token_hex(16), made.office.clock() - timedelta(days=10)
    consented(made.office, record, "given", at, analytics=True, youtube=True)
    consented(made.office, record, "renewed", at + timedelta(days=2), "settings.save", analytics=True, youtube=False)
    consented(
        made.office, record, "withdrawn", at + timedelta(days=4), "footer.withdraw", analytics=False, youtube=False
    )
    for back in range(40):
        day = at - timedelta(days=back)
        for number in range(1 + back * back % 4):
            consented(made.office, secrets.token_hex(16), "given", day, analytics=True, youtube=number % 2 == 0)
        site = made.office.kit.sites[0]
        notice = site.notices["nl"]
        refused = made.office.kit.evidence.count(SITE, day, "banner.refuse", notice.hash, None, notice=notice)
        asyncio.run(refused)
    made.at["record"] = f"consent/records/{record}"
    made.at["notice"] = f"consent/notices/{made.office.kit.sites[0].notices['nl'].hash}"
    seen = made.office.kit.sites[0].flow.seen
    seen.note("host", "player.vimeo.com", "/film")
    seen.note("cookie", "_teller", "/")
    seen.note("storage", "bezoek", "/ouders/brief")
    made.office.kit.audit.flush()
    verified = made.people["Petra"].submit("consent/chain", "consent/chain")
    done(made.people["Petra"], verified)
    made.at["verified"] = path_of(verified)


def consented(
    office: Office, record: str, state: str, at: Any, method: str = "banner.accept", **purposes: bool
) -> None:
    """One event of a record, kept."""
    site = office.kit.sites[0]
    notice, ended = site.notices["nl"], state == "withdrawn"
    event = ConsentEvent(
        site=SITE,
        record_id=record,
        state=state,
        at=at,
        purposes=purposes,
        notice_hash=notice.hash,
        language="nl",
        ui_build=site.renderer.ui_build,
        method=method,
        policy=site.policy.fingerprint,
        valid_until=None if ended else at + timedelta(days=182),
        controller="Stichting De Linde",
        nonce=None if ended else secrets.token_hex(16),
    )
    office.kit.evidence.record_sync(event, notice)


def _afgemeld(made: Filled) -> None:
    """Who left, by phone and by letter; two requests to lift that, of Petra's and of Bea's; files that were read."""
    ledger, petra, bea = made.office.kit.afgemeld, made.people["Petra"], made.people["Bea"]
    ledger.add_sync("boos@voorbeeld.nl", scope=MARKETING, reason=Reason.PHONE, channel="phone")
    ledger.add_sync("brief@voorbeeld.nl", scope=MARKETING, reason=Reason.LETTER, channel="letter")
    for name, who, address in (("lift", bea, "boos@voorbeeld.nl"), ("own lift", petra, "brief@voorbeeld.nl")):
        asked = who.submit(
            "afgemeld/lift/new", "afgemeld/lift/new", address=address, reason="Belde: het was een vergissing"
        )
        made.at[name] = path_of(asked)
    addresses = ("lijst.csv", b"email\nboos@voorbeeld.nl\nnieuw@voorbeeld.nl\nkapot\n", "text/csv")
    people = ("mensen.csv", b"email,name\nnieuw@voorbeeld.nl,Nieuw\njan@voorbeeld.nl,Jan\nkapot,Niemand\n", "text/csv")
    for name, page, typed in (
        ("scrubbed", "afgemeld/scrub", {}),
        ("tried", "afgemeld/import", {}),
        ("checked", "lists/nieuwsbrief/import", {"route": "consent", "proof": "papieren formulier"}),
    ):
        file = people if name == "checked" else addresses
        begun = petra.submit(page, page, files={"file": file}, **typed)
        assert "data-ck-again" not in done(petra, begun).text
        made.at[name] = path_of(begun)


def _accounts(made: Filled) -> None:
    """Somebody with a second factor, somebody who begins one, and somebody who left the school."""
    accounts, clock = made.office.kit.accounts, made.office.clock
    for name in ("Tom", "Teun", "Weg"):
        accounts.add(name, frozenset({Role.REDACTIE}), PASSWORD, by="test")
    for name in ("Teun", "Weg"):
        made.people[name] = made.log_in(name)
    accounts.disable("Weg", by="Bea")
    accounts.begin_second_factor("Tom")
    enrolment = accounts.enrolment("Tom", issuer=SITE)
    assert enrolment is not None
    made.phones["Tom"] = pyotp.TOTP(enrolment.secret)
    made.people["Tom"] = made.log_in("Tom")
    assert accounts.confirm_second_factor("Tom", made.phones["Tom"].at(clock.now))
    accounts.begin_second_factor("Teun")


# -- every page -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A page as it was sent. `template` made it."""

    name: str
    template: str
    html: str
    headers: dict[str, str]


PLAIN = {
    "home": ("Bea", ""),
    "home of who writes": ("Anna", ""),
    "mailings": ("Anna", "mailings"),
    "mailings searched": ("Anna", "mailings?q=nieuws"),
    "mailings not found": ("Anna", "mailings?q=bestaatniet"),
    "mailing new": ("Anna", "mailings/new"),
    "draft": ("Anna", "{draft}"),
    "draft empty": ("Anna", "{empty draft}"),
    "draft without images": ("Anna", "{draft}?images=off"),
    "draft to look at": ("Sjoerd", "{draft}"),
    "draft frame": ("Anna", "{draft}/preview"),
    "draft thrown away": ("Anna", "{thrown}"),
    "mailing preview": ("Sjoerd", "{ready}/preview"),
    "mailing ready": ("Bea", "{ready}"),
    "mailing ready to who writes": ("Anna", "{ready}"),
    "mailing barred": ("Bea", "{barred}"),
    "mailing schedule": ("Sjoerd", "{ready}/schedule"),
    "mailing release": ("Sjoerd", "{ready}/release"),
    "mailing sending": ("Sjoerd", "{sending}"),
    "mailing scheduled": ("Sjoerd", "{scheduled}"),
    "mailing paused": ("Sjoerd", "{paused}"),
    "mailing stopped": ("Sjoerd", "{stopped}"),
    "mailing cancel": ("Sjoerd", "{sending}/cancel"),
    "mailing sent": ("Anna", "{sent}"),
    "mailing cancelled": ("Sjoerd", "{cancelled}"),
    "lists": ("Petra", "lists"),
    "list": ("Petra", "lists/nieuwsbrief"),
    "list by week": ("Anna", "lists/nieuwsbrief?per=week"),
    "subscribers": ("Petra", "lists/nieuwsbrief/subscribers"),
    "list import": ("Petra", "lists/nieuwsbrief/import"),
    "list import checked": ("Petra", "{checked}"),
    "persons": ("Petra", "persons"),
    "person": ("Petra", "{person}"),
    "person who left": ("Petra", "{left}"),
    "person erase": ("Petra", "{person}/erase"),
    "person leave": ("Petra", "{person}/leave"),
    "afgemeld": ("Petra", "afgemeld"),
    "afgemeld add": ("Petra", "afgemeld/add"),
    "afgemeld import": ("Petra", "afgemeld/import"),
    "afgemeld import tried": ("Petra", "{tried}"),
    "afgemeld export": ("Petra", "afgemeld/export"),
    "afgemeld scrub": ("Petra", "afgemeld/scrub"),
    "afgemeld scrubbed": ("Petra", "{scrubbed}"),
    "afgemeld lifts": ("Petra", "afgemeld/lift"),
    "afgemeld lift": ("Petra", "{lift}"),
    "afgemeld own lift": ("Petra", "{own lift}"),
    "afgemeld lift new": ("Petra", "afgemeld/lift/new"),
    "consent": ("Petra", "consent"),
    "consent by week": ("Petra", "consent?since=2025-11-01&until=2026-03-02"),
    "consent find": ("Petra", "consent/find"),
    "consent record": ("Petra", "{record}"),
    "consent shown": ("Petra", "consent/shown"),
    "consent shown on a day": ("Petra", "consent/shown?day=2026-02-01"),
    "consent notice": ("Petra", "{notice}"),
    "consent chain": ("Petra", "consent/chain"),
    "consent verified": ("Petra", "{verified}"),
    "consent export": ("Petra", "consent/export"),
    "consent services": ("Petra", "consent/services"),
    "consent undeclared": ("Petra", "consent/undeclared"),
    "log": ("Petra", "log"),
    "log person": ("Petra", "log/person"),
    "jobs": ("Petra", "jobs"),
    "staff": ("Bea", "staff"),
    "staff account": ("Bea", "staff/account/Anna"),
    "staff account disabled": ("Bea", "staff/account/Weg"),
    "staff disable": ("Bea", "staff/account/Anna/disable"),
    "staff reset": ("Bea", "staff/account/Anna/reset"),
    "staff add": ("Bea", "staff/add"),
    "account": ("Anna", "account"),
    "account with a code": ("Tom", "account"),
    "account code": ("Teun", "account/code"),
    "account code off": ("Tom", "account/code/off"),
}
"""Pages that are only looked at: by name who looks, and where."""

EMPTY = {
    "empty home": ("Anna", ""),
    "empty mailings": ("Anna", "mailings"),
    "empty lists": ("Petra", "lists/nieuwsbrief"),
    "empty subscribers": ("Petra", "lists/nieuwsbrief/subscribers"),
    "empty afgemeld": ("Petra", "afgemeld"),
    "empty lifts": ("Petra", "afgemeld/lift"),
    "empty consent": ("Petra", "consent"),
    "empty shown": ("Petra", "consent/shown"),
    "empty undeclared": ("Petra", "consent/undeclared"),
    "empty jobs": ("Petra", "jobs"),
}
"""Pages of a console in which nothing happened yet."""


def walk(made: Filled, bare: Filled, lang: str) -> dict[str, Seen]:
    """Every page in one language, by name; `bare` is a console in which nothing happened."""
    found: dict[str, Seen] = {}
    used: list[str] = []
    page, people = ConsoleRenderer.page, {**made.people}

    def noted(self: ConsoleRenderer, name: str, *given: Any, **options: Any) -> bytes:
        used.append(name)
        return page(self, name, *given, **options)

    def keep(name: str, response: Any, status: int = 200) -> Any:
        assert response.status_code == status, (name, response.status_code, response.text[-1500:])
        found[name] = Seen(name, used[-1], response.text, {**response.headers})
        return response

    ConsoleRenderer.page = noted  # type: ignore[method-assign]
    try:
        for where, pages in ((made, PLAIN), (bare, EMPTY)):
            for name, (who, path) in pages.items():
                where.people[who].browser.headers["accept-language"] = lang
                keep(name, where.people[who].get(path.format_map(where.at)))
        _answers(made, keep, people, lang)
    finally:
        ConsoleRenderer.page = page  # type: ignore[method-assign]
    return found


def _answers(made: Filled, keep: Callable[..., Any], people: dict[str, Visitor], lang: str) -> None:
    """Pages that answer a form, and those that say that something can't be."""
    anna, sjoerd, petra, bea = (people[name] for name in STAFF)
    keep("forbidden", anna.get("staff"), 403)
    keep("nowhere", anna.get("nergens"), 404)
    keep("nobody", petra.get("persons/999999"), 404)
    keep("consent none", petra.get(f"consent/records/{'0' * 32}"), 404)
    conflict = made.at["conflict"]
    mine = anna.form(conflict, conflict)
    assert bea.submit(conflict, conflict, subject=f"Van Bea {lang}").status_code == 303
    keep("draft conflict", anna.send(mine, subject="Van Anna"), 409)
    keep("draft with errors", anna.submit(conflict, conflict, subject="Een\nandere", sender="x@elders.example"), 422)
    keep("mailing test refused", sjoerd.submit(made.at["ready"], f"{made.at['ready']}/test", to="kapot"), 422)
    schedule = f"{made.at['ready']}/schedule"
    keep("mailing schedule refused", sjoerd.submit(schedule, schedule, at="2001-01-01T00:00"), 422)
    preview = f"{made.at['ready']}/preview"
    keep("mailing preview refused", bea.submit(preview, preview, reader="kapot", **{"as": "person"}), 422)
    keep("person unknown", petra.submit("persons", "persons", address="vreemd@voorbeeld.nl"))
    keep("person only afgemeld", petra.submit("persons", "persons", address="boos@voorbeeld.nl"))
    keep("persons refused", petra.submit("persons", "persons", address="kapot"), 422)
    leave = f"{made.at['person']}/leave"
    keep("person leave refused", petra.submit(leave, leave, how=""), 422)
    for name, address, status in (("yes", "boos@voorbeeld.nl", 200), ("no", "jan@voorbeeld.nl", 200), ("?", "x", 422)):
        keep(f"afgemeld looked up, {name}", petra.submit("afgemeld", "afgemeld", address=address), status)
    keep("afgemeld add refused", petra.submit("afgemeld/add", "afgemeld/add", address="kapot"), 422)
    lift = "afgemeld/lift/new"
    keep("afgemeld lift refused", petra.submit(lift, lift, address="jan@voorbeeld.nl", reason=""), 422)
    for place in ("afgemeld/import", "afgemeld/scrub", "lists/nieuwsbrief/import"):
        keep(f"{place} refused", petra.submit(place, place, files={"file": ("a.png", PNG, "image/png")}), 422)
    keep("consent find refused", petra.submit("consent/find", "consent/find", receipt="12"), 422)
    keep("consent export refused", petra.submit("consent/export", "consent/export", since="9999-99-99"), 422)
    keep("consent chain refused", petra.submit("consent/chain", "consent/chain", anchor="12"), 422)
    keep("consent shown refused", petra.get("consent/shown?day=gisteren"), 422)
    keep("log of a person", petra.submit("log/person", "log/person", address="jan@voorbeeld.nl"))
    keep("log person refused", petra.submit("log/person", "log/person", address="kapot"), 422)
    keep("staff add refused", bea.submit("staff/add", "staff/add", name="", role="redactie"), 422)
    roles = "staff/account/Bea"
    keep("staff roles refused", bea.submit(roles, f"{roles}/roles", role=None), 422)
    given = bea.submit("staff/add", "staff/add", name=f"Nieuw {lang}", role="redactie")
    keep("staff given", bea.follow(given))
    keep(
        "account password refused",
        anna.submit("account", "account/password", password_old="x", password_new="y", password_again="z"),
        422,
    )
    keep("account told", anna.get("account?told=entry.told_password"))
    form = anna.form("mailings/new", "mailings/new")
    keep("continue", bea.send(form, list="nieuwsbrief"), 409)
    stranger = made.stranger(lang)
    keep("login", stranger.get("login"))
    keep("login asked", stranger.get("mailings"), 401)
    keep("login refused", stranger.submit("login", "login", name="Anna", password="fout"), 401)
    keep("login carried", stranger.send(form, list="nieuwsbrief"), 401)
    code = stranger.submit("login", "login", name="Tom", password=PASSWORD)
    keep("login code", code, 200)
    keep("login code refused", stranger.send(forms(code.text)[0], code="000000"), 401)

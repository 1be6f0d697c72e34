"""What holds for every page of the console: who may see it, what a form may do, its headers, its HTML, how it looks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import turbohtml
from playwright.sync_api import Browser, ConsoleMessage, Page
from sqlalchemy.engine import make_url
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consentkit.afgemeld.tables import lift_requests
from consentkit.errors import ConsentKitError
from consentkit.mailing import File, Sketch
from consentkit.staff import Outcome
from consentkit.web.console import figures
from consentkit.web.console.ask import Route
from tests.browser_fixtures import forget_loop, resume_loop, serving
from tests.console.filled import (
    PASSWORD,
    PLAIN,
    PNG,
    SITE,
    STAFF,
    Filled,
    Seen,
    done,
    filled,
    opened,
    put,
    walk,
)
from tests.console.office import Form, Visitor, forms
from tests.front.harness import AXE, axe
from tests.front.test_xss import PAYLOADS
from tests.journeys.school import app
from tests.mailing import hall
from tests.mailing.school import draft

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates" / "console"
FRAMES = {"draft frame"}
"""Documents that are no pages of ours: a mail, as it is framed."""

PIECES = {"afgemeld_macros", "base", "consent_macros", "draft_preview", "macros", "mailing_parts", "person_suppressed"}
"""Templates that are part of others."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A console with everything in it, whose pages wait for what they count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "WAIT", 20.0)
        with filled(tmp_path_factory.mktemp("filled")) as opened:
            yield opened


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A console in which nothing happened yet."""
    with opened(tmp_path_factory.mktemp("bare")) as made:
        yield made


@dataclass
class Walked:
    """Every page as it was sent, by language and name, and what was logged meanwhile."""

    pages: dict[str, dict[str, Seen]]
    log: list[str]

    def __iter__(self) -> Iterator[Seen]:
        for found in self.pages.values():
            yield from found.values()


@pytest.fixture(scope="module")
def walked(made: Filled, bare: Filled) -> Walked:
    """Every page, in Dutch and in English."""
    with logging_to([]) as lines:
        return Walked({lang: walk(made, bare, lang) for lang in ("nl", "en")}, lines)


@contextmanager
def logging_to(lines: list[str]) -> Iterator[list[str]]:
    """Everything that is logged while the block runs, at any level."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.exc_info or ''}")

    handler, root = Keep(logging.DEBUG), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def kept(made: Filled) -> str:
    """All that the database holds, but what only says that somebody looked: the last use of a log-in."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(str(make_url(made.office.kit.settings.database.url).database))) as connection:
        for line in connection.iterdump():
            digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def test_every_template_is_seen_in_both_languages(walked: Walked) -> None:
    every = {path.stem for path in TEMPLATES.glob("*.html")}

    assert walked.pages["nl"].keys() == walked.pages["en"].keys()
    assert every - {page.template for page in walked} == PIECES
    for lang, found in walked.pages.items():
        wrong = {name for name, page in found.items() if f'<html lang="{lang}"' not in page.html}
        assert wrong == (FRAMES if lang == "en" else set())


# -- who may do what ------------------------------------------------------------------------------------------------

MATRIX = """
account                            rvpb  -
account/password                   rvpb  rvpb
account/elsewhere                  rvpb  rvpb
account/code                       rvpb  rvpb
account/code/begin                 rvpb  rvpb
account/code/off                   rvpb  rvpb
/                                  rvpb  -
mailings                           rvb   -
mailings/{id:int}                  rvb   -
mailings/{id:int}/live             rvb   -
mailings/{id:int}/test             -     rvb
mailings/{id:int}/schedule         vb    vb
mailings/{id:int}/release          vb    vb
mailings/{id:int}/pause            -     vb
mailings/{id:int}/resume           -     vb
mailings/{id:int}/cancel           vb    vb
mailings/{id:int}/reopen           -     rb
mailings/{id:int}/report.csv       rvb   -
mailings/{id:int}/report.json      rvb   -
mailings/new                       rb    rb
mailings/drafts/{id:int}           rvb   rb
mailings/drafts/{id:int}/preview   rvb   -
mailings/drafts/{id:int}/test      -     rvb
mailings/drafts/{id:int}/ready     -     rb
mailings/drafts/{id:int}/throw     -     rb
mailings/drafts/{id:int}/back      -     rb
mailings/{id:int}/preview          rvb   rvb
mailings/{id:int}/preview/frame    rvb   -
lists                              rvpb  -
lists/{list}                       rvpb  -
lists/{list}/subscribers           pb    -
lists/{list}/import                pb    pb
lists/{list}/import/{job}          -     pb
lists/{list}/import/{job}/lines    pb    -
persons                            pb    pb
persons/notices/{hash}             pb    -
persons/{id:int}                   pb    -
persons/{id:int}/data              pb    -
persons/{id:int}/erase             pb    pb
persons/{id:int}/leave             pb    pb
afgemeld                           pb    pb
afgemeld/add                       pb    pb
afgemeld/import                    pb    pb
afgemeld/import/{id}               -     pb
afgemeld/export                    pb    -
afgemeld/export/file               pb    -
afgemeld/scrub                     pb    pb
afgemeld/lift                      pb    -
afgemeld/lift/new                  pb    pb
afgemeld/lift/{id}                 pb    -
afgemeld/lift/{id}/agree           -     pb
afgemeld/lift/{id}/refuse          -     pb
consent                            pb    -
consent/rates                      pb    -
consent/chain                      pb    pb
consent/chain/{id}                 pb    -
consent/export                     pb    pb
consent/services                   pb    -
consent/undeclared                 pb    -
consent/find                       pb    pb
consent/records/{record}           pb    -
consent/records/{record}/file      pb    -
consent/shown                      pb    -
consent/notices/{digest}           pb    -
consent/notices/{digest}/shown     pb    -
consent/notices/{digest}/text      pb    -
log                                pb    -
log/person                         pb    pb
log/export                         -     pb
jobs                               rvpb  -
jobs/{id}                          rvpb  -
jobs/{id}/file                     rvpb  -
jobs/{id}/drop                     -     rvpb
staff                              b     -
staff/add                          b     b
staff/account/{name}               b     -
staff/account/{name}/roles         b     b
staff/account/{name}/disable       b     b
staff/account/{name}/enable        b     b
staff/account/{name}/reset         b     b
staff/account/{name}/password      b     -
"""
"""Who may look at each path and who may send it a form: redactie, verzenden, privacy, beheer; - where nobody can."""

CELLS = {"/" if path == "/" else path: (get, post) for path, get, post in map(str.split, MATRIX.strip().splitlines())}
INITIALS = {role.value[0]: name for name, role in STAFF.items()}


def at(route: Route) -> str:
    """A path of a route, of something that is not there."""
    return re.sub(r"\{\w+(:int)?\}", lambda found: "987654" if found[1] else "niets", route.path)


def ask(who: Visitor, method: str, path: str) -> Any:
    """A page, or an answer to a form that is not of ours."""
    if method == "GET":
        return who.get(path)
    return who.browser.post(f"/privacy/console/{path}".rstrip("/"), data={"x": "1"}, follow_redirects=False)


@pytest.mark.checklist("SEC-06")
def test_each_role_sees_and_sends_what_the_matrix_says_and_nothing_else(bare: Filled) -> None:
    found: dict[str, tuple[str, str]] = {}
    for route in bare.office.kit.console.routes:
        cells = []
        for method in ("GET", "POST"):
            answers = {
                initial: ask(bare.people[name], method, at(route)).status_code for initial, name in INITIALS.items()
            }
            wanted = {403, 409} if method == "POST" else {403, 200, 303, 404}
            if set(answers.values()) == {405}:
                cells.append("-")
                continue
            assert set(answers.values()) <= wanted, (route.path, method, answers)
            cells.append("".join(initial for initial, status in answers.items() if status != 403))
        found[route.path or "/"] = (cells[0], cells[1])

    assert found == CELLS


@pytest.mark.checklist("SEC-06")
def test_who_is_not_logged_in_sees_nothing(bare: Filled) -> None:
    stranger = bare.stranger()

    for route in bare.office.kit.console.routes:
        asked = [ask(stranger, method, at(route)) for method in ("GET", "POST")]
        assert [(one.status_code, "ck-menu" in one.text) for one in asked] == [(401, False)] * 2, route.path


# -- what a form may do ---------------------------------------------------------------------------------------------

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://school.test"},
    {"Origin": "https://boef.example"},
    {"Origin": "null"},
    {"Origin": "http://school.test.boef.example"},
]


def senders(made: Filled) -> list[str]:
    """Every path that takes forms."""
    return [f"/privacy/console/{at(route)}" for route in made.office.kit.console.routes if route.post is not None]


@pytest.mark.checklist("SEC-03")
def test_what_a_page_of_another_site_sends_is_refused_whatever_it_says_and_changes_nothing(bare: Filled) -> None:
    bea, before = bare.people["Bea"], kept(bare)
    token = dict(bea.form("mailings/new", "mailings/new").fields)["form"]

    answers = {
        bea.browser.post(path, data={"form": token, "address": "jan@voorbeeld.nl"}, headers=headers).status_code
        for path in senders(bare)
        for headers in FOREIGN
    }

    assert answers == {403}
    assert kept(bare) == before


@pytest.mark.checklist("SEC-03")
def test_a_form_that_was_not_shown_to_whoever_sends_it_does_nothing(bare: Filled) -> None:
    bea, before = bare.people["Bea"], kept(bare)
    token = dict(bea.form("mailings/new", "mailings/new").fields)["form"]
    others = dict(bare.people["Anna"].form("mailings/new", "mailings/new").fields)["form"]

    answers = {
        bea.browser.post(path, data=sent | {"address": "jan@voorbeeld.nl"}).status_code
        for path in senders(bare)
        for sent in ({}, {"form": ""}, {"form": token[:-4] + "AAAA"}, {"form": others}, {"form": token + "="})
    }

    assert answers == {409}
    assert kept(bare) == before


TYPED = {
    "address": "piet@voorbeeld.nl", "name": "Nieuw", "reason": "Belde: het was een vergissing", "how": "phone",
    "at": "2026-03-05T10:00", "not_after": "2026-03-09T10:00", "proof": "papieren formulier", "role": "redactie",
    "receipt": "0" * 32, "to": "ik@school.test", "subject": "Feest", "body": "Dag", "reader": "jan@voorbeeld.nl",
    "list": "nieuwsbrief", "route": "consent", "password_old": "vier losse woorden samen",
    "password_new": "vijf losse woorden samen", "password_again": "vijf losse woorden samen", "roles": "redactie",
}  # fmt: skip
CSV = b"email,name\nnieuw@voorbeeld.nl,Nieuw\nkapot,Niemand\n"
APART = {"logout", "account/elsewhere", "account/password"}
"""Forms that end a log-in: they come last, and elsewhere."""


@pytest.mark.checklist("SEC-03")
def test_a_form_that_is_sent_again_leads_where_it_led_and_does_nothing_more(tmp_path: Path) -> None:
    sent: dict[str, str] = {}
    with filled(tmp_path) as made:
        bea = made.people["Bea"]
        for form, files in every_form(made, bea):
            first = bea.send(form, files=files)
            if first.status_code != 303:
                continue  # it refused, or showed something
            if re.search(r"/(jobs|chain)/", first.headers["location"]):
                done(bea, first)
            before = kept(made)
            again = bea.send(form, files=files)
            assert (again.status_code, again.headers.get("location")) == (303, first.headers["location"]), form.action
            assert kept(made) == before, form.action
            sent[form.action] = first.headers["location"]

    assert len(sent) > 24, sorted(sent)


def every_form(made: Filled, visitor: Visitor) -> Iterator[tuple[Form, dict[str, Any] | None]]:
    """Each form of the console once, filled in as somebody would, with the file that it asks for."""
    tried: set[str] = set()
    for _, path in PLAIN.values():
        page = visitor.get(path.format_map(made.at))
        for form in forms(page.text) if page.status_code == 200 else ():
            action = form.action.partition("/console/")[2].partition("?")[0]
            if form.method != "post" or action in tried | APART:
                continue
            tried.add(action)
            kinds = fields_of(page.text, form.action)
            values = {name: value for name, value in TYPED.items() if name in kinds}
            form.fields = [field for field in form.fields if field[0] not in values] + [*values.items()]
            yield form, {"file": ("lijst.csv", CSV, "text/csv")} if "file" in kinds else None


def fields_of(html: str, action: str) -> dict[str, str]:
    """The fields of the form that goes to `action`, each with its kind."""
    return {
        str(one.attrs["name"]): str(one.attrs.get("type", one.tag))
        for form in turbohtml.parse(html).find_all("form")
        if form.attrs.get("action") == action
        for one in form.iter_elements()
        if one.tag in ("input", "textarea", "select") and "name" in one.attrs
    }


# -- what is sent with each page ------------------------------------------------------------------------------------


@pytest.mark.checklist("SEC-05")
def test_no_page_may_be_kept_framed_indexed_or_told_on_and_nothing_in_it_runs_but_our_own_script(
    walked: Walked,
) -> None:
    for page in walked:
        headers = page.headers
        policy = {
            name: values.split()
            for name, _, values in (
                part.strip().partition(" ") for part in headers["content-security-policy"].split(";")
            )
        }
        assert headers["cache-control"] == "no-store", page.name
        assert "noindex" in headers["x-robots-tag"], page.name
        assert headers["referrer-policy"] in ("no-referrer", "same-origin"), page.name
        assert headers["x-content-type-options"] == "nosniff", page.name
        assert policy["default-src"] == ["'none'"], page.name
        if page.name in FRAMES:  # a mail has styles of its own; nothing else of it works, and only we may frame it
            assert (policy["sandbox"], policy["frame-ancestors"], policy.get("script-src")) == ([], ["'self'"], None)
            continue
        assert "'unsafe-inline'" not in headers["content-security-policy"], page.name
        assert (policy["script-src"], policy["style-src"]) == (["'self'"], ["'self'"]), page.name
        assert (policy["trusted-types"], policy["frame-ancestors"]) == (["'none'"], ["'none'"]), page.name
        assert headers["x-frame-options"] == "DENY", page.name


@pytest.mark.checklist("SEC-05")
def test_no_address_stands_in_any_link_in_any_place_a_form_leads_to_or_in_a_log_line(
    walked: Walked,
) -> None:
    links = {
        str(one.attrs[name])
        for page in walked
        for one in turbohtml.parse(page.html).iter_elements()
        for name in ("href", "src", "action", "formaction", "data-ck-live")
        if name in one.attrs
    }

    assert len(links) > 100
    assert [link for link in links if re.search(r"@|%40|voorbeeld", link) and not link.startswith("mailto:")] == []
    assert len(walked.log) > 100
    assert [line for line in walked.log if re.search(r"(jan|boos|vreemd|wacht|weg|nieuw)(@|%40)voorbeeld", line)] == []
    assert [line for line in walked.log if PASSWORD in line] == []


# -- how it looks --------------------------------------------------------------------------------------------------


PICTURES = os.environ.get("CONSENTKIT_SCREENSHOTS", "")
PHONE = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 800}


class Shown:
    """Serves pages as they were sent, each at a number, and behind them the console with all that they load from it."""

    def __init__(self, made: Filled, pages: list[Seen]) -> None:
        self._pages = pages
        self._console = made.office.kit.wrap(app())
        jar = made.people["Bea"].browser.cookies
        self._cookie = "; ".join(f"{name}={value}" for name, value in jar.items()).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = scope["path"].removeprefix("/seen/")
        if number.isdigit():
            page = self._pages[int(number)]
            headers = {
                name: value for name, value in page.headers.items() if name not in ("content-length", "set-cookie")
            }
            await Response(page.html, headers=headers)(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"cookie", b"host")]
        own = [(b"host", b"school.test"), (b"cookie", self._cookie)]
        await self._console({**scope, "headers": headers + own}, receive, send)


def trouble(told: ConsoleMessage) -> bool:
    """Whether the browser complains; that nothing runs in what is framed is what its frame is for."""
    return told.type == "error" and "frame is sandboxed and the 'allow-scripts'" not in told.text


@contextmanager
def looking(chromium: Browser, made: Filled, pages: list[Seen]) -> Iterator[tuple[Page, list[str]]]:
    """A browser page on which to look at them, and what goes wrong there: errors, violations of the policy, dialogs."""
    wrong: list[str] = []
    with serving() as serve:
        resume_loop()
        context = chromium.new_context(base_url=serve(Shown(made, pages)), viewport=PHONE, locale="nl-NL")
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", lambda told: wrong.append(f"{page.url} {told.text}") if trouble(told) else None)
        page.on("pageerror", lambda error: wrong.append(f"{page.url} {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"{page.url} {dialog.message}"), dialog.dismiss()))
        try:
            yield page, wrong
        finally:
            context.close()
            forget_loop()


@pytest.mark.browser
@pytest.mark.timeout(240)
@pytest.mark.checklist("ACC-03", "ACC-04", "ACC-05")
def test_every_page_is_fine_for_everybody_in_light_dark_and_forced_colours_and_fits_a_phone(
    walked: Walked, made: Filled, chromium: Browser
) -> None:
    """With CONSENTKIT_SCREENSHOTS, a folder, each is kept there as it looked."""
    pages = [page for page in walked.pages["nl"].values() if page.name not in FRAMES]
    found: dict[str, list[str]] = {}
    coloured: set[Kind] = set()
    looked = set[str]()
    with looking(chromium, made, pages) as (page, wrong):
        page.add_init_script(AXE)
        for number, seen in enumerate(pages):
            page.goto(f"/seen/{number}")
            new = kinds(seen.html) - coloured
            coloured |= new
            found[seen.name] = look_at(page, whole=bool(new) or seen.template not in looked, colours=bool(new))
            if PICTURES and seen.template not in looked:
                picture(page, ROOT / PICTURES / seen.template)
            looked.add(seen.template)

    assert {name: seen for name, seen in found.items() if seen} == {}
    assert wrong == []


Kind = tuple[str, str, str]


def kinds(html: str) -> set[Kind]:
    """What elements a page has, as far as a stylesheet can tell them apart: name, classes and parent.

    A page that has none but what was seen in all colours on other pages has no colours of its own.
    """
    return {
        (one.tag, str(one.attrs.get("class")), getattr(one.parent, "tag", ""))
        for one in turbohtml.parse(html).iter_elements()
    }


def look_at(page: Page, *, whole: bool, colours: bool) -> list[str]:
    """What is wrong with a page. One that is made as another and has nothing which that hasn't only has to fit."""
    found = [f"light: {one}" for one in axe(page, "targets")] if whole else []
    if wide := page.evaluate("document.documentElement.scrollWidth - innerWidth"):
        found.append(f"{wide} px do not fit a phone")
    if colours:
        page.emulate_media(color_scheme="dark")
        found += [f"dark: {one}" for one in axe(page, "colours")]
        page.emulate_media(color_scheme="light", forced_colors="active")
        found += [f"forced colours: {one}" for one in axe(page, "colours")]
        page.emulate_media(forced_colors="none")
    return found


def picture(page: Page, path: Path) -> None:
    """Keep how a page looks on a phone and on a desk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path.with_name(f"{path.name}-phone.png"))
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.screenshot(path=path.with_name(f"{path.name}.png"))
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]


def test_the_documentation_shows_every_page_as_the_tests_saw_it(walked: Walked) -> None:
    shown = re.findall(r"\(console/([\w-]+)\.png\)", (ROOT / "docs" / "console.md").read_text("utf-8"))
    every = {page.template for page in walked if page.name not in FRAMES}

    assert {name.removesuffix("-phone") for name in shown} == every
    assert [name for name in shown if not (ROOT / "docs" / "console" / f"{name}.png").exists()] == []


# -- its HTML -------------------------------------------------------------------------------------------------------

NU = ROOT / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"


def test_the_checker_of_the_html_standard_finds_no_error_on_any_page(walked: Walked, tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("there is no java: `scripts/needs java` installs it")
    if not NU.exists():
        pytest.skip("the checker is not here: `npm install` brings it")
    for lang, found in walked.pages.items():
        for name, page in found.items():
            if name not in FRAMES:
                (tmp_path / f"{lang} {name.replace('/', ' ')}.html").write_text(page.html, "utf-8")

    words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss2m", "-jar", str(NU), "--format", "json"]
    checked = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    said = json.loads(checked.stderr)["messages"]

    assert len([*tmp_path.iterdir()]) > 200
    assert [f"{one.get('url')}:{one.get('lastLine')}: {one['message']} {one.get('extract')}" for one in said] == []


# -- hostile texts --------------------------------------------------------------------------------------------------

TEXTS = [payload.replace("\x00", "\ufffd") for payload in PAYLOADS]
STATES = ("draft", "sending", "paused", "stopped", "done", "cancelled")
LINKS = {"src", "href", "action", "formaction", "xlink:href", "data", "srcdoc", "poster"}
OURS = re.compile(r"/privacy/|\?|#|https?://(?:delinde\.example|school\.test)/|mailto:")
QUERIES = {
    "mailings": ("q", "drafts-q", "sort", "before", "told", "lang"),
    "mailings/drafts/1": ("as", "images", "told"),
    "lists/nieuwsbrief": ("per", "told"),
    "lists/nieuwsbrief/subscribers": ("q", "state", "sort", "order", "before", "after", "page"),
    "afgemeld": ("q", "sort", "order", "page", "told"),
    "afgemeld/add": ("how",),
    "afgemeld/lift": ("q", "sort", "page"),
    "consent": ("since", "until", "purpose"),
    "consent/shown": ("day", "sort"),
    "consent/services": ("q", "sort"),
    "consent/undeclared": ("q", "sort"),
    "consent/find": ("receipt",),
    "log": ("staff", "act", "before", "after"),
    "jobs": ("q", "sort"),
    "staff": ("q", "sort"),
    "nergens": ("next",),
}
"""What each page reads of its address."""


@dataclass
class Hostile:
    """A console in which everything that anybody can name is called as each payload is; `at` are pages that show it."""

    made: Filled
    at: list[str]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "WAIT", 20.0)
        with filled(tmp_path_factory.mktemp("hostile")) as made:
            kit = made.office.kit
            shown = [page for number, text in enumerate(TEXTS) for page in poisoned(made, number, text)]
            fields = {text: text for text in TEXTS}
            hall.seats(kit, [(9000, fields, {"proof": json.dumps(fields), "route": "customer", "record_id": None})])
            kit.audit.flush()
            listed = ["mailings", "mailings?before=40", "mailings?drafts-before=40", "log", "afgemeld/lift", "jobs"]
            listed += ["consent/undeclared", "afgemeld/lift?page=2", "consent/undeclared?page=2", "persons/9000"]
            yield Hostile(made, [*listed, *shown])


def poisoned(made: Filled, number: int, text: str) -> Iterator[str]:
    """One payload in all that is kept; gives the pages that show it."""
    kit, rooms, now = made.office.kit, made.office.kit.console._rooms, made.office.clock()
    sketch = Sketch(
        list=text, subject=text, preheader=text, body=text, text=text, sender=text, reply_to=text, language=text,
        fields=(text,), defaults={text: text}, where={text: (text,)}, markup=("md", "html", "mjml")[number % 3],
    )  # fmt: skip
    yield f"mailings/drafts/{kit.drafts.make(SITE, sketch, text, [File(text, 'image/png', True, PNG)])}"
    state = STATES[number % len(STATES)]
    row = {"subject": text, "note": text, "sender": text, "preheader": text, "content": draft().to_json()}
    begun = {} if state == "draft" else {"frozen_at": now, "list": text}
    mailing = hall.mailing(kit, **row, **begun, state=state)
    put(made, mailing, {("failed", text, False): 1, ("excluded", text, False): 1, ("sent", "", True): 6})
    yield f"mailings/{mailing}"
    asked = {"id": f"lift{number}", "digest": text.encode(), "scope": f"list:{text}", "key_id": "k", "reason": text}
    with kit.store.begin() as connection:
        connection.execute(lift_requests.insert(), asked | {"by": text, "at": now})
    yield f"afgemeld/lift/lift{number}"
    rooms.log.note(text, text, text)
    for kind in ("host", "cookie", "storage"):
        kit.sites[0].flow.seen.note(kind, text, text)

    def fail(_: Any) -> Outcome:
        raise ConsentKitError(text)

    yield f"jobs/{rooms.jobs.start('Bea', 'afgemeld_scrub', text, fail)}"


def vocabulary(walked: Walked) -> set[tuple[str, str]]:
    """Every element and every attribute of one, as the templates write them."""
    return {
        (one.tag, name)
        for page in walked
        for one in turbohtml.parse(page.html).iter_elements()
        for name in ("", *one.attrs)
    }


def alive(html: str, known: set[tuple[str, str]]) -> list[str]:
    """What of a page no template wrote: elements, attributes, scripts and links."""
    found = []
    for one in turbohtml.parse(html).iter_elements():
        found += [f"<{one.tag} {name}>" for name in ("", *one.attrs) if (one.tag, name) not in known]
        found += [f"{name}={one.attrs[name]}" for name in LINKS & {*one.attrs} if not OURS.match(str(one.attrs[name]))]
        if one.tag == "script" and (one.text or not str(one.attrs.get("src")).startswith("/privacy/static/")):
            found.append(one.text)
    return found


def words(html: str) -> str:
    """The text of a page with all that its fields hold, spaces made one."""
    document = turbohtml.parse(html)
    held = [str(one.attrs.get("value", "")) for one in document.find_all("input")]
    return " ".join(" ".join([document.text, *held]).split())


@pytest.mark.checklist("SEC-02")
def test_what_anybody_calls_anything_is_text_on_every_page_that_shows_it(walked: Walked, hostile: Hostile) -> None:
    known, said = vocabulary(walked), ""
    for path in hostile.at:
        page = hostile.made.people["Bea"].get(path)
        assert page.status_code == 200, (path, page.status_code)
        assert alive(page.text, known) == [], path
        said += words(page.text)

    assert [text for text in TEXTS if " ".join(text.split()) not in said] == []


@pytest.mark.checklist("SEC-02")
def test_what_is_typed_in_any_field_or_address_comes_back_as_text(walked: Walked, made: Filled) -> None:
    bea, known, seen = made.people["Bea"], vocabulary(walked), 0
    sheets = [(form, files) for form, files in every_form(made, bea) if files or asks(form)]
    for some in batched(TEXTS):
        text = " ".join(some)
        answers = {path: bea.get(f"{path}?{urlencode(dict.fromkeys(of, text))}") for path, of in QUERIES.items()}
        for form, files in sheets:
            typed = {name: text for name, _ in form.fields if name not in ("form", "version")}
            named = {name: (text, data, kind) for name, (_, data, kind) in (files or {}).items()}
            answers[form.action] = bea.send(form, files=named or None, **typed)
        for place, answer in answers.items():
            assert answer.status_code < 500, (place, text)
            assert alive(answer.text, known) == [], (place, text)
            seen += text in unescape(answer.text)

    assert seen > 100


def asks(form: Form) -> bool:
    """Whether there is anything to type or choose in a form."""
    return any(name not in ("form", "version") for name, _ in form.fields)


def batched(texts: Sequence[str], size: int = 4) -> Iterator[Sequence[str]]:
    """So few at a time that no field is too short for them."""
    for at in range(0, len(texts), size):
        yield texts[at : at + size]


@pytest.mark.browser
@pytest.mark.checklist("SEC-02")
def test_no_hostile_text_runs_in_a_browser(hostile: Hostile, chromium: Browser) -> None:
    ran = []
    with looking(chromium, hostile.made, []) as (page, wrong):
        for path in hostile.at[:40]:
            page.goto(f"/privacy/console/{path}")
            ran += [path for frame in page.frames if frame.evaluate("window.owned")]

    assert ran == []
    assert wrong == []

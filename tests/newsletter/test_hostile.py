"""Whatever somebody sends: a clear page, nothing changed, nothing told, and nothing of it in a log."""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import string
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from consentkit import ConsentKit
from consentkit.address import AddressKeys
from consentkit.afgemeld import Links
from consentkit.errors import AfgemeldUnavailable
from consentkit.mail import MemoryMailer
from consentkit.store import Store
from consentkit.tokens import Tokens, Use
from consentkit.web import notices
from tests.hosts.driver import exchange, scope_of
from tests.journeys.school import KEY, app
from tests.newsletter import desk as desks
from tests.newsletter.desk import AFGEMELD_KEY, JAN, LISTS, Desk
from tests.newsletter.test_scanners import dump
from tests.newsletter.test_storm import serving
from tests.web.minikit import Answer

SITE = "Basisschool De Linde"
OTHER_KEY = "W9xRt4Vb6Np1Qz8Ls3Kd7Hf2Jg5Yc0Ma"
FORM = b"application/x-www-form-urlencoded"
SECRET_ROUTES = ("afmelden", "confirm", "voorkeuren")
ALPHABET = string.ascii_letters + string.digits + "-_"


class Client:
    """A client that logs nothing itself, and sends nothing but what it is told to."""

    def __init__(self, kit: ConsentKit) -> None:
        self.kit, self.app = kit, kit.wrap(app())

    def ask(self, path: str, method: str = "GET", body: bytes = b"", kind: bytes = b"", **headers: str) -> Answer:
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if kind:
            sent += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        raw, _, query = path.partition("?")
        scope = scope_of("/", method, sent)
        scope |= {"path": raw, "raw_path": quote(raw, errors="replace").encode(), "query_string": query.encode()}
        scope["headers"][0] = (b"host", b"school.test")
        return asyncio.run(exchange(self.app, scope, body))

    def post(self, path: str, _headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        return self.ask(path, "POST", urlencode(fields, doseq=True).encode(), FORM, **(_headers or {}))

    def sign_up(self, address: str, list: str = "nieuwsbrief", **fields: Any) -> Answer:
        return self.post(f"/privacy/newsletter/{list}", email=address, **fields)


@pytest.fixture
def client(desk: Desk) -> Client:
    return Client(desk.kit)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def state(desk: Desk) -> tuple[str, bytes]:
    """Everything that is kept, in the database and beside it."""
    folder = desk.kit.settings.folder
    return dump(folder / "consentkit.db"), (folder / "consentkit-tombstones").read_bytes()


def assert_secret(answer: Answer) -> None:
    """The page is told to nobody, kept by nobody, found by nobody (checklist SEC-05)."""
    assert answer.header(b"referrer-policy") == b"no-referrer"
    assert answer.header(b"cache-control") == b"no-store"
    assert answer.header(b"x-robots-tag") == b"noindex"
    assert answer.header(b"set-cookie") is None


def assert_page(answer: Answer) -> str:
    """A page of ours with something to read, and no technical word in it."""
    assert (answer.header(b"content-type") or b"").startswith(b"text/html")
    main = answer.body.decode().partition("<main")[2].partition("</main>")[0]
    assert "<h1" in main
    words = re.sub(r"<[^>]+>", " ", main)
    assert len(words.split()) > 8
    assert not re.search(r"\b(signup|errors|confirm|afmelden|preferences)\.[a-z_]+|Traceback|None\b", words), words
    return words


def assert_unsaid(log: pytest.LogCaptureFixture, *secrets: str) -> None:
    for secret in secrets:
        for spelled in {secret, secret.lower(), quote(secret), secret[:24]}:
            assert spelled not in log.text


# -- tokens ---------------------------------------------------------------------------------------------------------


def genuine(desk: Desk) -> dict[str, str]:
    """A token of each kind that works now."""
    welcome = desk.subscribe("piet@voorbeeld.nl")
    desk.ask(JAN)
    (asked,) = desk.mails()
    kit = desk.kit
    paper = kit.newsletter.papers[SITE]
    found = {
        "afmelden": desk.link("afmelden", welcome),
        "confirm": desk.link("confirm", asked),
        "voorkeuren": desk.link("voorkeuren", welcome),
    }
    found = {kind: urlsplit(path).path.rpartition("/")[2] for kind, path in found.items()}
    digest = kit.afgemeld.keys.digest("piet@voorbeeld.nl")
    found["own data"] = kit.newsletter.preferences_token(paper, digest, fresh=True)
    found["parent"] = kit.newsletter.parent_token(paper, "ab" * 16, digest)
    found["notice"] = notices.issue(kit.tokens, kit.sites[0].notices["nl"].hash, now=desk.clock())
    found["choice"] = kit.tokens.sign(Use.CHOICE, b"x" * 40)
    found["short"] = kit.links.short_token("piet@voorbeeld.nl", "nieuwsbrief")
    return found


def mangled(token: str) -> Iterator[str]:
    """A genuine token, made false in every way that a mail program or an attacker would."""
    payload, _, signature = token.rpartition(".")
    yield from (token[: len(token) // 2], token[:-1], token[1:], payload, f"{payload}.", f".{signature}", token + "A")
    yield from (token + "=", token + ".", f"{token}.{signature}", token.swapcase(), token.upper(), token[::-1])
    yield from (f"{payload}.{'A' * len(signature)}", f"{'A' * len(payload)}.{signature}", f"{payload}é.{signature}")
    yield from (token + "\x00", "\x00" + token, token.replace(".", "\x00.", 1), f"{token}%00", f"{token}\r\nX: y")
    yield from (
        f"{token} ",
        f" {token}",
        f"{token}>",
        f'"{token}"',
        f"{payload}..{signature}",
        f"{payload}\n.{signature}",
        f"{token}/x",
        f"{token}/../{token}",
        f"x/{token}",
    )
    yield from ("..", "...", "%2e%2e", "…", "☃.☃", "\ud800.x", "x" * 8192, f"{'A' * 8192}.{signature}", "' OR 1=1 --")


@pytest.mark.checklist("UNS-05", "SEC-05")
@pytest.mark.parametrize("route", SECRET_ROUTES)
def test_a_token_that_was_changed_opens_nothing(
    desk: Desk, client: Client, log: pytest.LogCaptureFixture, route: str
) -> None:
    token = genuine(desk)[route]
    before = state(desk)
    for wrong in mangled(token):
        for method in ("GET", "POST"):
            answer = client.ask(f"/privacy/{route}/{wrong}", method, b"action=confirm", FORM)
            assert answer.status == 404, wrong
            assert_page(answer)
            assert_secret(answer)
    assert state(desk) == before
    assert_unsaid(log, token, "piet@voorbeeld.nl", JAN)


@pytest.mark.checklist("UNS-05")
@pytest.mark.parametrize("route", SECRET_ROUTES)
def test_of_the_64_spellings_of_the_last_sign_one_is_genuine(desk: Desk, client: Client, route: str) -> None:
    token = genuine(desk)[route]
    opened = [sign for sign in ALPHABET if client.ask(f"/privacy/{route}/{token[:-1]}{sign}").status != 404]
    payload, _, signature = token.rpartition(".")
    inside = [
        sign for sign in ALPHABET if client.ask(f"/privacy/{route}/{payload[:-1]}{sign}.{signature}").status != 404
    ]

    assert opened == [token[-1]]
    assert inside == [payload[-1]]


@pytest.mark.checklist("UNS-05")
def test_a_token_for_one_thing_opens_nothing_else(desk: Desk, client: Client, log: pytest.LogCaptureFixture) -> None:
    tokens = genuine(desk)
    opens = {"afmelden": {"afmelden"}, "confirm": {"confirm", "parent"}, "voorkeuren": {"voorkeuren", "own data"}}
    before = state(desk)
    for route, own in opens.items():
        for kind, token in tokens.items():
            path = f"/privacy/{route}/{token}"
            assert (client.ask(path).status == 404) == (kind not in own), (route, kind)
            if kind not in own:
                for action in ("all", "undo", "confirm", "erase", "leave_all", "download", "link", "save"):
                    assert client.post(path, action=action).status == 404, (route, kind)
    for action in ("download", "erase"):  # these need a fresh link, mailed on request
        answer = client.post(f"/privacy/voorkeuren/{tokens['voorkeuren']}", action=action)
        assert answer.status == 404
        assert b"piet" not in answer.body
    assert state(desk) == before
    assert_unsaid(log, *tokens.values())


@pytest.mark.checklist("UNS-05")
def test_a_token_of_another_key_or_another_list_is_forged(desk: Desk, client: Client) -> None:
    tokens = genuine(desk)
    foreign = Links(AddressKeys([OTHER_KEY.encode()])).token(JAN, "nieuwsbrief")
    mixed = Tokens([OTHER_KEY.encode()]).sign(Use.CONFIRM, b"\0" * 20)
    other = desk.kit.links.token("piet@voorbeeld.nl", "agenda")
    swapped = f"{other.rpartition('.')[0]}.{tokens['afmelden'].rpartition('.')[2]}"
    signed_wrongly = desk.kit.tokens.sign(Use.UNSUBSCRIBE, b"\0" + desk.kit.afgemeld.keys.digest(JAN))
    before = state(desk)

    for token in (foreign, swapped, signed_wrongly):
        assert client.post(f"/privacy/afmelden/{token}").status == 404
    for route in ("confirm", "voorkeuren"):
        assert client.post(f"/privacy/{route}/{mixed}").status == 404

    assert state(desk) == before


# -- bodies ---------------------------------------------------------------------------------------------------------

MULTIPART = b"multipart/form-data; boundary=sjtjes"
FILE = (
    b'--sjtjes\r\nContent-Disposition: form-data; name="email"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"jan@voorbeeld.nl\r\n--sjtjes--\r\n"
)
PART = b'--sjtjes\r\nContent-Disposition: form-data; name="email"\r\n\r\njan@voorbeeld.nl\r\n'
BODIES: dict[str, tuple[bytes, bytes, int]] = {
    "too large": (FORM, b"email=jan@voorbeeld.nl&x=" + b"x" * 20_000, 413),
    "too large in parts": (MULTIPART, PART.replace(b"jan@", b"j" * 20_000 + b"@") + b"--sjtjes--\r\n", 413),
    "too many fields": (FORM, b"&".join(b"f%d=1" % number for number in range(300)), 413),
    "too many parts": (
        MULTIPART,
        b"--sjtjes\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 201 + b"--sjtjes--",
        400,
    ),
    "a file": (MULTIPART, FILE, 400),
    "no boundary": (b"multipart/form-data", PART + b"--sjtjes--\r\n", 400),
    "another boundary": (b"multipart/form-data; boundary=anders", PART + b"--sjtjes--\r\n", 400),
    "no parts": (MULTIPART, b"jan@voorbeeld.nl", 400),
    "a broken part": (MULTIPART, b"--sjtjes\r\nContent Disposition form-data\r\n\r\nx\r\n--sjtjes--\r\n", 400),
    "json": (b"application/json", b'{"email": "jan@voorbeeld.nl", "List-Unsubscribe": "One-Click"}', 415),
    "text": (b"text/plain", b"email=jan@voorbeeld.nl", 415),
    "xml": (b"application/xml", b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>", 415),
    "no real type": (b"\xff\xfe; \x00", b"email=jan@voorbeeld.nl", 415),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_form_of_ours_is_refused_and_does_nothing(
    desk: Desk, client: Client, log: pytest.LogCaptureFixture, name: str
) -> None:
    kind, body, status = BODIES[name]
    tokens = genuine(desk)
    before = state(desk)
    for path in ("newsletter/nieuwsbrief", *(f"{route}/{tokens[route]}" for route in SECRET_ROUTES)):
        answer = client.ask(f"/privacy/{path}", "POST", body, kind)
        assert answer.status == status, path
        assert_page(answer)
    assert state(desk) == before
    assert desk.mails() == []
    assert_unsaid(log, "jan@voorbeeld.nl", *tokens.values())
    assert "Traceback" not in log.text


def test_a_body_that_says_it_is_short_and_is_not_is_cut_off(desk: Desk, client: Client) -> None:
    token = genuine(desk)["afmelden"]
    before = state(desk)

    answer = client.ask(
        f"/privacy/afmelden/{token}", "POST", b"x" * 40_000, content_type=FORM.decode(), content_length="3"
    )

    assert answer.status == 413
    assert state(desk) == before


# -- addresses ------------------------------------------------------------------------------------------------------

TAKEN = {
    "jan@xn--mnchen-3ya.de": "jan@xn--mnchen-3ya.de",
    "jan@münchen.de": "jan@xn--mnchen-3ya.de",
    "josé@voorbeeld.nl": "josé@voorbeeld.nl",
    "  jan@voorbeeld.nl\r\n": "jan@voorbeeld.nl",
    "piet@voorbeeld.nl\x00": "piet@voorbeeld.nl",
    "O'Brien+school@voorbeeld.nl": "O'Brien+school@voorbeeld.nl",
    f"{'a' * 64}@voorbeeld.nl": f"{'a' * 64}@voorbeeld.nl",
}
REFUSED = [
    "", " ", "geen adres", "@voorbeeld.nl", "jan@", "jan@@voorbeeld.nl", "jan@voorbeeld", "jan@.nl", "jan@-a.nl",
    f"{'a' * 65}@voorbeeld.nl", f"jan@{'a' * 64}.nl", f"{'a' * 5000}@voorbeeld.nl",
    "a" * 5000, f"jan@{'a.' * 150}nl", '"jan de groot"@voorbeeld.nl', '"jan\\"x"@voorbeeld.nl', "jan@[127.0.0.1]",
    "jan@voorbeeld.nl\r\nBcc: piet@voorbeeld.nl", "jan@voorbeeld.nl\nBcc:x", "jan\x00@voorbeeld.nl",
    "jan\u202e@voorbeeld.nl", "jan\u200b@voorbeeld.nl", "jan@voorbeeld.nl,piet@voorbeeld.nl",
    "jan@voorbeeld.nl;piet@voorbeeld.nl", "Jan <jan@voorbeeld.nl>", "<script>alert(1)</script>@voorbeeld.nl",
    "jan@localhost", "jan@school.local", "jan@voorbeeld.invalid", "jan..groot@voorbeeld.nl", ".jan@voorbeeld.nl",
    "\ud83d", "jan@voor beeld.nl", "mailto:jan@voorbeeld.nl", "jan@voorbeeld.nl%0d%0aBcc: x@y.nl",
]  # fmt: skip


@pytest.mark.checklist("SEC-05")
def test_an_address_is_taken_as_mail_needs_it_and_anything_else_is_explained_at_its_field(
    desk: Desk, client: Client, log: pytest.LogCaptureFixture
) -> None:
    assert desk.kit.afgemeld.healthy()
    before = state(desk)
    for number, text in enumerate(REFUSED):
        answer = client.ask(
            "/privacy/newsletter/nieuwsbrief", "POST",
            urlencode({"email": text}, errors="replace" if text == "\ud83d" else "strict").encode(), FORM,
        )  # fmt: skip
        assert answer.status == 422, (number, text)
        page = answer.body.decode()
        assert 'aria-invalid="true"' in page
        assert "<script>alert" not in page
        assert answer.header(b"cache-control") == b"no-store"
    assert state(desk) == before
    assert desk.mails() == []
    for text, to in TAKEN.items():
        desk.clock.later(hours=25)
        assert client.sign_up(text).status == 303, text
        assert [mail.to for mail in desk.mails()] == [to]
    assert_unsaid(log, *(text.strip() for text in (*TAKEN, *REFUSED) if len(text) > 10 and text != "geen adres"))


def test_a_local_part_of_66_octets_in_33_signs_is_too_long(client: Client) -> None:
    assert client.sign_up(f"{'é' * 33}@voorbeeld.nl").status == 422


# -- other sites ----------------------------------------------------------------------------------------------------

FOREIGN = [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "cross-site", "origin": "http://school.test"},
    {"origin": "https://evil.example"},
    {"origin": "http://school.test.evil.example"},
    {"origin": "http://school.test:8080"},
    {"origin": "http://sub.school.test"},
]
OWN = [{}, {"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}, {"origin": "http://school.test"}]


@pytest.mark.checklist("SEC-03")
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_form_on_another_site_signs_nobody_up_confirms_nothing_and_changes_no_preference(
    desk: Desk, client: Client, headers: dict[str, str]
) -> None:
    tokens = genuine(desk)
    before = state(desk)
    paths = ("newsletter/nieuwsbrief", f"confirm/{tokens['confirm']}", f"confirm/{tokens['parent']}")
    paths += (f"voorkeuren/{tokens['voorkeuren']}", f"voorkeuren/{tokens['own data']}")
    for path in paths:
        answer = client.post(f"/privacy/{path}", headers, email="kees@voorbeeld.nl", action="erase")
        assert answer.status == 403, path
        assert_page(answer)
        if not path.startswith("newsletter"):
            assert_secret(answer)
    assert client.post("/privacy/newsletter/nieuwsbrief", {"origin": "null"}, email=JAN).status == 403
    assert state(desk) == before

    assert (
        client.post(f"/privacy/afmelden/{tokens['afmelden']}", headers, **{"List-Unsubscribe": "One-Click"}).status
        == 200
    )
    assert desk.suppressed("piet@voorbeeld.nl")


@pytest.mark.parametrize("headers", [*OWN, {"origin": "null"}], ids=str)
def test_the_site_s_own_forms_are_taken_whatever_the_browser_says_of_them(
    desk: Desk, client: Client, headers: dict[str, str]
) -> None:
    tokens = genuine(desk)
    assert client.post(f"/privacy/confirm/{tokens['confirm']}", headers).status == 200
    assert client.post(f"/privacy/voorkeuren/{tokens['voorkeuren']}", headers, action="save").status == 200
    if headers in OWN:
        assert client.post("/privacy/newsletter/agenda", headers, email=JAN).status == 303


# -- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SEC-05")
def test_every_page_behind_a_token_is_told_to_nobody(desk: Desk, client: Client) -> None:
    tokens = genuine(desk)
    asked: list[tuple[str, str, dict[str, str]]] = [
        (f"{route}/{tokens[kind]}", method, {})
        for route, kind in [
            *((route, route) for route in SECRET_ROUTES), ("voorkeuren", "own data"), ("confirm", "parent"),
            *((route, "notice") for route in SECRET_ROUTES),
        ]
        for method in ("GET", "HEAD", "OPTIONS", "DELETE")
    ]  # fmt: skip
    asked += [
        (f"voorkeuren/{tokens['voorkeuren']}", "POST", {"action": action}) for action in ("save", "link", "leave_all")
    ]
    asked += [
        (f"voorkeuren/{tokens['own data']}", "POST", {"action": action}) for action in ("download", "erase", "save")
    ]
    asked += [(f"voorkeuren/{tokens['own data']}", "GET", {})]
    asked += [(f"confirm/{tokens['confirm']}", method, {}) for method in ("POST", "POST", "GET")]
    asked += [(f"confirm/{tokens['parent']}", "POST", {"action": action}) for action in ("confirm", "erase")]
    asked += [(f"afmelden/{tokens['afmelden']}", "POST", {"action": action}) for action in ("", "all", "undo")]
    seen = set()
    for path, method, fields in asked:
        answer = client.ask(f"/privacy/{path}", method, urlencode(fields).encode(), FORM if method == "POST" else b"")
        assert_secret(answer)
        seen.add(answer.status)
        body = answer.body.decode()
        assert not re.search(r"""(src|href)=["']?(?:https?:)?//""", body), path
    assert seen == {200, 404, 405, 409}
    desk.clock.later(days=40)
    for kind, route in (("confirm", "confirm"), ("voorkeuren", "voorkeuren"), ("own data", "voorkeuren")):
        answer = client.ask(f"/privacy/{route}/{tokens[kind]}")
        assert answer.status == 410
        assert_secret(answer)


@pytest.mark.checklist("SEC-05")
def test_the_access_log_of_a_real_server_shows_no_token(tmp_path: Path) -> None:
    with desks.desk(tmp_path, database={"url": f"sqlite:///{tmp_path / 'consentkit.db'}"}) as desk:
        tokens = genuine(desk)
    with serving(f"sqlite:///{tmp_path / 'consentkit.db'}", tmp_path) as server:
        for route in SECRET_ROUTES:
            for kind in (route, "own data", "parent", "short"):
                for tail in ("", "/", "?lang=en", "/x", "//", "/?a=1", ".", "%20", "%2Fx"):
                    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
                        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
                        connection.request(
                            method, f"/privacy/{route}/{tokens[kind]}{tail}", headers={"Host": "school.test"}
                        )
                        connection.getresponse().read()
                        connection.close()
        said = server.log.read_text()

    assert len(re.findall(r'"(?:GET|POST|HEAD|OPTIONS|PUT) /privacy/', said)) == 3 * 4 * 9 * 5
    shown = {kind for kind, token in tokens.items() if token in said or token[:40] in said}
    assert shown == set()


@pytest.mark.checklist("SEC-03")
def test_the_answer_to_a_sign_up_does_not_tell_whether_an_address_is_known(both: Desk) -> None:
    client, kit = Client(both.kit), both.kit
    both.subscribe("bekend@voorbeeld.nl")
    both.subscribe("weg@voorbeeld.nl")
    assert kit.newsletter.erase_address("weg@voorbeeld.nl")
    both.ask("wacht@voorbeeld.nl")
    assert len(both.mails()) == 1
    for scope in ("list:nieuwsbrief", "marketing", "mail"):
        address = f"{scope.partition(':')[0]}@voorbeeld.nl"
        kit.afgemeld.add_sync(address, scope=scope, reason="staff", channel="host")
    both.subscribe("afgemeld@voorbeeld.nl")
    kit.afgemeld.add_sync("afgemeld@voorbeeld.nl", scope="mail", reason="hard-bounce", channel="host")

    answers: dict[str, tuple[Any, ...]] = {}
    for who in ("nieuw", "bekend", "weg", "wacht", "wacht", "list", "marketing", "mail", "afgemeld"):
        for fields in ({}, {"lists": "agenda", "measuring": "1"}):
            started = time.monotonic()
            answer = client.sign_up(f"{who}@voorbeeld.nl", **fields)
            assert time.monotonic() - started >= 0.1
            answers[f"{who} {fields}"] = (answer.status, sorted(answer.headers), answer.body)

    assert len(set(map(str, answers.values()))) == 1
    status, headers, _ = answers["nieuw {}"]
    assert status == 303
    assert dict(headers)[b"location"] == b"/privacy/newsletter/nieuwsbrief?sent=1&lang=nl"


# -- too much -------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("SEC-03")
def test_the_61st_sign_up_of_one_client_in_an_hour_has_to_wait(
    desk: Desk, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.web.newsletter.LEAST_SECONDS", 0.0)
    statuses = [client.sign_up(f"ouder{number}@voorbeeld.nl").status for number in range(60)]
    answer = client.sign_up("ouder61@voorbeeld.nl")

    assert statuses == [303] * 60
    assert (answer.status, answer.header(b"retry-after")) == (429, b"3600")
    assert_page(answer)
    mails = desk.mails()
    assert len(mails) == 60
    assert "ouder61@voorbeeld.nl" not in {mail.to for mail in mails}
    link = urlsplit(desk.kit.unsubscribe_url(JAN)).path
    assert client.post(link).status == 200  # leaving is never limited


@pytest.mark.checklist("SEC-03")
def test_all_clients_together_can_t_sign_up_without_end(tmp_path: Path) -> None:
    mail = {"sender": "De Linde <nieuws@delinde.example>", "signups_per_hour": 3}
    with desks.desk(tmp_path, mail=mail) as desk:
        client = Client(desk.kit)
        assert [client.sign_up(f"ouder{number}@voorbeeld.nl").status for number in range(4)] == [303, 303, 303, 429]


@pytest.mark.checklist("SEC-03")
def test_who_fills_in_what_people_don_t_see_gets_the_same_answer_and_nothing_happens(
    desk: Desk, client: Client, log: pytest.LogCaptureFixture
) -> None:
    real = client.sign_up("piet@voorbeeld.nl")
    assert len(desk.mails()) == 1
    before = state(desk)
    started = time.monotonic()
    trapped = client.sign_up(JAN, website="https://spam.example")

    assert time.monotonic() - started >= 0.1
    assert (trapped.status, trapped.headers, trapped.body) == (real.status, real.headers, real.body)
    assert state(desk) == before
    assert desk.mails() == []
    assert_unsaid(log, JAN, "spam.example")


def test_whatever_is_tried_five_mails_a_day_reach_one_address(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.web.newsletter.LEAST_SECONDS", 0.0)
    welcome = desk.subscribe()
    leave, preferences = desk.link("afmelden", welcome), desk.link("voorkeuren", welcome)
    everything = urlsplit(desk.kit.unsubscribe_url(JAN)).path
    desk.clock.later(hours=25)
    mails = []
    for number in range(30):  # 22.5 hours
        for address in (JAN, "JAN@VOORBEELD.NL", " Jan@voorbeeld.nl "):
            client = Client(desk.kit)  # a client that was not seen before
            client.sign_up(address, "agenda" if number % 2 else "nieuwsbrief", measuring=number % 3 or "")
            client.sign_up(address, lists="agenda")
            mails += desk.mails()
        client.post(leave)
        for path, fields in (
            (leave, {"action": "undo"}),
            (everything, {"action": "undo"}),
            (preferences, {"action": "link"}),
            (preferences, {"lists": ["nieuwsbrief", "agenda"], "measuring": ["agenda"]}),
            (preferences, {"lists": ["agenda"]}),
        ):
            client.post(path, **fields)
            mails += desk.mails()
        desk.clock.later(minutes=45)

    assert len([mail for mail in mails if mail.to.lower() == JAN]) == 5


def test_a_parent_s_address_gets_five_mails_a_day_too_whichever_process_is_asked(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.web.newsletter.LEAST_SECONDS", 0.0)
    lists = {"jeugd": {**LISTS["agenda"], "form": "jeugd"}}
    forms = {"jeugd": {"title": {"nl": "Jeugd", "en": "Youth"}, "children": True}}
    tables: dict[str, Any] = {"lists": lists, "forms": forms, "database": {"url": database_url}}
    mails = []
    for number in range(7):
        with desks.desk(tmp_path, **tables) as desk:  # a process of its own
            desk.clock.later(minutes=number)
            parent = (JAN, JAN.upper())[number % 2]
            answer = Client(desk.kit).sign_up(f"kind{number}@voorbeeld.nl", "jeugd", age="under16", parent_email=parent)
            assert answer.status == 303
            mails += desk.mails()
    assert [mail.to.lower() for mail in mails] == [JAN] * 5
    with desks.desk(tmp_path, **tables) as desk:
        desk.clock.later(hours=25)
        Client(desk.kit).sign_up("kind@voorbeeld.nl", "jeugd", age="under16", parent_email=JAN)
        assert len(desk.mails()) == 1


def test_sign_ups_at_the_very_same_moment_send_one_mail(both: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    both.subscribe()
    both.clock.later(hours=25)
    newsletter, outbox = both.kit.newsletter, both.kit.outbox
    paper = newsletter.papers[SITE]
    answer = paper.form("agenda").read([("email", JAN)])  # type: ignore[union-attr]
    put, together = outbox.put, threading.Barrier(4)

    def slowly(*args: Any, **more: Any) -> None:
        time.sleep(0.3)  # the others have begun by then
        put(*args, **more)

    def sign_up(_: int) -> None:
        together.wait()
        newsletter.sign_up(paper, answer, "nl")

    monkeypatch.setattr(outbox, "put", slowly)
    with ThreadPoolExecutor(4) as threads:
        assert len([*threads.map(sign_up, range(4))]) == 4

    assert outbox.waiting() == 1


# -- the database is away ---------------------------------------------------------------------------------------------

NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


def assert_away(answer: Answer) -> None:
    assert (answer.status, answer.header(b"retry-after")) == (503, b"300")
    assert_page(answer)
    assert_secret(answer)


@pytest.mark.parametrize("since", ["the start", "a moment"])
def test_while_the_database_is_away_it_is_said_and_nothing_is_half_done(
    desk: Desk, log: pytest.LogCaptureFixture, since: str
) -> None:
    tokens = genuine(desk)
    before = state(desk)
    kit = desk.kit
    if since == "the start":
        kit = ConsentKit(
            desks.settings(kit.settings.folder, database={"url": NOWHERE}), clock=desk.clock, mailer=desk.mailer
        )
        kit.outbox.wake = lambda: None  # type: ignore[method-assign]
    else:
        here, kit.store.engine = kit.store.engine, Store(NOWHERE).engine
        kit.store.sqlite = False
    client = Client(kit)

    assert client.ask("/").status == 200
    assert client.ask("/privacy/newsletter/nieuwsbrief").status == 200
    assert client.ask(f"/privacy/afmelden/{tokens['afmelden']}").status == 200
    assert_away(client.sign_up("kees@voorbeeld.nl"))
    for path in (f"confirm/{tokens['confirm']}", f"voorkeuren/{tokens['voorkeuren']}", f"confirm/{tokens['parent']}"):
        assert_away(client.ask(f"/privacy/{path}"))
        for action in ("", "confirm", "link", "leave_all", "erase", "save"):
            if (action, "voorkeuren" in path) != ("erase", True):  # it needs a fresh link
                assert_away(client.post(f"/privacy/{path}", action=action))
    for action in ("erase", "download"):
        assert_away(client.post(f"/privacy/voorkeuren/{tokens['own data']}", action=action))
    for fields in ({"List-Unsubscribe": "One-Click"}, {"action": "all"}, {"action": "undo"}, {}):
        assert_away(client.post(f"/privacy/afmelden/{tokens['afmelden']}", **fields))
    assert state(desk) == before
    assert_unsaid(log, "kees@voorbeeld.nl", *tokens.values())
    if since == "the start":
        kit.close()
    else:
        kit.store.engine.dispose()
        kit.store.engine, kit.store.sqlite = here, True
    assert desk.mails() == []

    client = Client(desk.kit)
    assert client.post(f"/privacy/confirm/{tokens['confirm']}").status == 200
    assert client.post(f"/privacy/afmelden/{tokens['afmelden']}").status == 200
    assert desk.why_not() is None
    assert desk.suppressed("piet@voorbeeld.nl")


def test_a_confirmation_whose_commit_fails_takes_nobody_out_of_afgemeld(desk: Desk, client: Client) -> None:
    welcome = desk.subscribe()
    desk.post(desk.link("afmelden", welcome))
    desk.ask()
    desk.mails()
    link = desk.link("confirm")

    def fail(connection: Any) -> None:
        raise OperationalError("COMMIT", None, Exception("disk full"))

    event.listen(desk.kit.store.engine, "commit", fail)
    assert_away(client.post(link))
    event.remove(desk.kit.store.engine, "commit", fail)

    desk.kit.afgemeld.add_sync("piet@voorbeeld.nl", scope="marketing", reason="staff", channel="host")
    assert desk.suppressed()
    assert client.post(link).status == 200
    assert not desk.suppressed()


# -- the afgemeld key is away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [[], [OTHER_KEY]], ids=["missing", "wrong"])
def test_without_the_right_afgemeld_key_pages_go_on_and_nothing_is_taken_or_sent(
    desk: Desk, log: pytest.LogCaptureFixture, keys: list[str]
) -> None:
    tokens = genuine(desk)
    before = state(desk)
    kit = ConsentKit(
        desks.settings(desk.kit.settings.folder, afgemeld_keys=keys), clock=desk.clock, mailer=MemoryMailer()
    )
    kit.outbox.wake = lambda: None  # type: ignore[method-assign]
    client = Client(kit)

    page = client.ask("/", accept="text/html")
    assert page.status == 200
    assert b"Welkom" in page.body
    assert_away(client.sign_up(JAN))
    assert_away(client.post(f"/privacy/confirm/{tokens['confirm']}"))
    for action in ("leave_all", "link"):
        assert_away(client.post(f"/privacy/voorkeuren/{tokens['voorkeuren']}", action=action))
    link = f"/privacy/afmelden/{tokens['afmelden']}"
    if keys:
        link = urlsplit(kit.unsubscribe_url(JAN, list="nieuwsbrief")).path
    assert_away(client.post(link, **{"List-Unsubscribe": "One-Click"}))

    async def ask_all() -> None:
        with pytest.raises(AfgemeldUnavailable):
            await kit.afgemeld.is_suppressed(JAN)
        with pytest.raises(AfgemeldUnavailable):
            await kit.afgemeld.sendable([JAN])
        with pytest.raises(AfgemeldUnavailable):
            _ = [address async for address in kit.afgemeld.sendable([JAN])]
        with pytest.raises(AfgemeldUnavailable):
            await kit.afgemeld.add(JAN)

    asyncio.run(ask_all())
    assert kit.healthy()["afgemeld"] is False
    kit.close()
    assert state(desk) == before
    assert_unsaid(log, JAN, *tokens.values(), AFGEMELD_KEY, KEY, OTHER_KEY)


@pytest.mark.parametrize("keys", [[], [OTHER_KEY]], ids=["missing", "wrong"])
def test_mails_that_wait_go_out_when_the_right_afgemeld_key_is_back_and_not_before(
    tmp_path: Path, log: pytest.LogCaptureFixture, keys: list[str]
) -> None:
    lists = {**LISTS, "jeugd": {**LISTS["agenda"], "form": "jeugd"}}
    forms = {"jeugd": {"title": {"nl": "Jeugd", "en": "Youth"}, "children": True}}
    with desks.desk(tmp_path, lists=lists, forms=forms) as desk:
        preferences = desk.link("voorkeuren", desk.subscribe(JAN))
        desk.clock.later(hours=25)
        desk.ask("nieuw@voorbeeld.nl")
        (asked,) = desk.mails()
        desk.post(desk.link("confirm", asked))  # welcome
        desk.ask("anders@voorbeeld.nl")  # confirm
        desk.ask(JAN)  # already
        desk.post(preferences, action="link")  # own data
        desk.ask("kind@voorbeeld.nl", "jeugd", age="under16", parent_email="moeder@voorbeeld.nl")  # parent
        sent = len(desk.mailer.sent)
    away = desks.settings(tmp_path, lists=lists, forms=forms, afgemeld_keys=keys)
    with closing(ConsentKit(away, clock=desk.clock, mailer=desk.mailer)) as kit:
        asyncio.run(kit.outbox.drain())
        assert len(desk.mailer.sent) == sent
        assert kit.outbox.waiting() == 5
    assert "CONSENTKIT_AFGEMELD_KEYS" in log.text
    with desks.desk(tmp_path, lists=lists, forms=forms) as back:
        back.clock.now = desk.clock() + timedelta(minutes=2)
        assert sorted(mail.to.partition("@")[0] for mail in back.mails()) == ["anders", "jan", "jan", "moeder", "nieuw"]
    assert_unsaid(log, JAN, "moeder@voorbeeld.nl", "anders@voorbeeld.nl")


def test_a_genuine_link_asks_to_come_back_later_where_its_key_is_not_among_the_keys(desk: Desk) -> None:
    tokens = genuine(desk)
    kit = ConsentKit(desks.settings(desk.kit.settings.folder, afgemeld_keys=[OTHER_KEY]), clock=desk.clock)
    try:
        link = f"/privacy/afmelden/{tokens['afmelden']}"
        assert_away(Client(kit).post(link, **{"List-Unsubscribe": "One-Click"}))
    finally:
        kit.close()

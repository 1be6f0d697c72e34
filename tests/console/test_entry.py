"""Logging in to the console, one's own account, and the accounts of others, in a browser without scripts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any

import pyotp
import pytest
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.mail import MemoryMailer
from consentkit.staff import Role, StaffLog
from consentkit.web.console.ask import Route, Sent, Upload
from consentkit.web.console.carry import Carried, carried, uncarried
from tests.console.office import Office, Visitor, console_user, forms
from tests.journeys.school import Clock, app
from tests.newsletter import desk

CHEAP = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
PASSWORD = "vier losse woorden samen"
hosts = (f"192.0.2.{number}" for number in count(1))
numbers = count(1)


def open_kit(folder: Path, **options: Any) -> ConsentKit:
    tables = options.pop("tables", {})
    kit = ConsentKit(desk.settings(folder, **tables), clock=Clock(), mailer=MemoryMailer(), **options)
    kit.accounts.cost = CHEAP
    return kit


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A console with accounts of its own, of which Anna's has the role beheer."""
    kit = open_kit(tmp_path_factory.mktemp("door"))
    kit.accounts.add("Anna", frozenset({Role.BEHEER}), PASSWORD, by="test")
    yield Office(kit, kit.now, MemoryMailer())  # type: ignore[arg-type]
    kit.close()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentKit]:
    """A console over https, of which nobody has an account yet."""
    folder = tmp_path_factory.mktemp("secure")
    site = desk.settings(folder).all_sites[0].model_dump(exclude_unset=True)
    kit = open_kit(folder, tables={"site": site | {"base_url": "https://school.test"}})
    yield kit
    kit.close()


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentKit]:
    """A console whose staff logs in at the site itself."""
    tables = {"console": {"login": "/inloggen"}}
    kit = open_kit(tmp_path_factory.mktemp("hosted"), console_user=console_user, tables=tables)
    yield kit
    kit.close()


@pytest.fixture
def name(office: Office) -> str:
    """Somebody who writes, with a password of their own."""
    name = f"Schrijver {next(numbers)}"
    office.kit.accounts.add(name, frozenset({Role.REDACTIE}), PASSWORD, by="test")
    return name


def visitor(kit: ConsentKit, *, base: str = "http://school.test", host: str = "") -> Visitor:
    return Visitor(TestClient(kit.wrap(app()), base_url=base, client=(host or next(hosts), 50000)))


def log_in(office: Office, name: str, password: str = PASSWORD) -> Visitor:
    browser = visitor(office.kit)
    response = browser.submit("login", "login", name=name, password=password)
    assert response.status_code == 303, response.text[-1500:]
    return browser


def said(response: Any) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def phone_of(office: Office, name: str) -> pyotp.TOTP:
    office.kit.accounts.begin_second_factor(name)
    enrolment = office.kit.accounts.enrolment(name, issuer="De Linde")
    assert enrolment is not None
    phone = pyotp.TOTP(enrolment.secret)
    assert office.kit.accounts.confirm_second_factor(name, phone.at(office.clock.now))
    office.clock.later(seconds=30)
    return phone


# -- getting in


def test_who_is_not_logged_in_sees_where_to_log_in_and_then_the_page_that_was_asked_for(
    office: Office, name: str
) -> None:
    browser = visitor(office.kit)

    asked = browser.get("account?told=entry.told_password&x=1")
    led = browser.send(forms(asked.text)[0], name=name, password=PASSWORD)

    assert (asked.status_code, asked.headers["cache-control"]) == (401, "no-store")
    assert led.headers["location"] == "/privacy/console/account?x=1"
    assert browser.follow(led).status_code == 200


def test_with_no_account_at_all_the_page_says_how_to_make_the_first(secure: ConsentKit) -> None:
    before = said(visitor(secure, base="https://school.test").get())
    secure.accounts.add("Anna", frozenset({Role.BEHEER}), PASSWORD, by="test")
    after = said(visitor(secure, base="https://school.test").get())

    assert "consentkit staff add NAAM --role beheer" in before
    assert "consentkit staff add" not in after


def test_the_cookie_is_for_the_server_alone_and_of_this_host_alone_over_https(secure: ConsentKit) -> None:
    name = f"Nieuw {next(numbers)}"
    secure.accounts.add(name, frozenset({Role.REDACTIE}), PASSWORD, by="test")
    browser = visitor(secure, base="https://school.test")

    sent = browser.submit("login", "login", name=name, password=PASSWORD).headers["set-cookie"]

    cookie, _, rest = sent.partition("=")
    assert cookie == "__Host-consentkit-console"
    assert rest.partition("; ")[2] == "Path=/; Secure; HttpOnly; SameSite=Lax"
    assert browser.get().status_code == 200


def test_on_plain_http_the_cookie_goes_to_the_console_alone(office: Office) -> None:
    cookie = visitor(office.kit).submit("login", "login", name="Anna", password=PASSWORD).headers["set-cookie"]

    assert re.fullmatch(r"consentkit-console=[\w.-]+; Path=/privacy/console; HttpOnly; SameSite=Lax", cookie)


@pytest.mark.checklist("SEC-03")
def test_a_name_that_nobody_has_is_answered_as_a_wrong_password_is(office: Office, name: str) -> None:
    office.kit.accounts.disable(name, by="test")

    unknown = visitor(office.kit).submit("login", "login", name="Wie dan ook", password="fout")
    wrong = visitor(office.kit).submit("login", "login", name="Anna", password="fout")
    disabled = visitor(office.kit).submit("login", "login", name=name, password=PASSWORD)

    told = {
        (response.status_code, response.text.replace(typed, ""))
        for response, typed in ((unknown, "Wie dan ook"), (wrong, "Anna"), (disabled, name))
    }
    assert len(told) == 1
    assert unknown.status_code == 401
    assert "De naam of het wachtwoord klopt niet." in said(unknown)


@pytest.mark.checklist("SEC-03")
def test_a_name_that_nobody_has_takes_as_long_as_a_wrong_password(office: Office, name: str) -> None:
    accounts = office.kit.accounts
    accounts.cost = CHEAP | {"memory_cost": 8192}
    accounts.add(f"{name} lang", frozenset({Role.REDACTIE}), PASSWORD, by="test")

    def quickest(who: str) -> float:
        taken = []
        for _ in range(7):
            began = time.thread_time()  # of the processor, whatever else the machine does
            accounts.log_in(who, "fout")
            taken.append(time.thread_time() - began)
        return min(taken)

    known, unknown = quickest(f"{name} lang"), quickest("wie dan ook")
    accounts.cost = CHEAP

    assert 0.5 < unknown / known < 2


def test_ten_wrong_passwords_from_one_address_wait_and_lock_nobody_out_elsewhere(office: Office, name: str) -> None:
    stranger = visitor(office.kit)

    tries = [stranger.submit("login", "login", name=name, password="fout") for _ in range(9)]
    variant = stranger.submit("login", "login", name=f" {name.upper()} ", password=PASSWORD)

    assert [each.status_code for each in tries] == [401] * 8 + [429]
    assert 0 < int(tries[-1].headers["retry-after"]) <= 600
    assert "Dat is te vaak geprobeerd." in said(tries[-1])
    assert variant.status_code == 429
    assert log_in(office, name).get().status_code == 200


def test_one_address_can_t_try_name_after_name(office: Office) -> None:
    stranger = visitor(office.kit)
    form = stranger.form("login", "login")

    codes = [stranger.send(form, name=f"iemand {number}", password="fout").status_code for number in range(41)]

    assert codes == [401] * 40 + [429]


def test_one_name_can_t_be_tried_from_address_after_address(office: Office) -> None:
    form = visitor(office.kit).form("login", "login")

    codes = [
        visitor(office.kit, host=f"198.51.100.{number}").send(form, name="Doelwit", password="fout").status_code
        for number in range(41)
    ]

    assert codes == [401] * 40 + [429]


def test_a_log_in_from_another_site_is_refused(office: Office) -> None:
    browser = visitor(office.kit)
    form = browser.form("login", "login")

    response = browser.browser.post(
        form.action, data={"name": "Anna", "password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert response.status_code == 403
    assert "set-cookie" not in response.headers


def test_logging_out_ends_the_log_in_and_takes_the_cookie_back(office: Office, name: str) -> None:
    browser = log_in(office, name)
    copied = visitor(office.kit)
    copied.browser.cookies.update(browser.browser.cookies)

    out = browser.submit("", "logout")

    assert out.headers["location"] == "/privacy/console/login?told=entry.told_logged_out"
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert "Je bent uitgelogd." in said(browser.follow(out))
    assert copied.get().status_code == 401


def test_who_is_disabled_is_out_at_the_next_click(office: Office, name: str) -> None:
    browser = log_in(office, name)
    assert browser.get().status_code == 200

    office.kit.accounts.disable(name, by="Anna")

    assert browser.get().status_code == 401


def test_a_new_role_opens_its_pages_at_the_next_click(office: Office, name: str) -> None:
    browser = log_in(office, name)
    assert browser.get("staff").status_code == 403

    office.kit.accounts.set_roles(name, frozenset({Role.BEHEER}), by="Anna")

    assert browser.get("staff").status_code == 200


# -- the second step


def test_with_a_second_factor_the_code_comes_after_the_password_and_only_then_one_is_in(
    office: Office, name: str
) -> None:
    phone = phone_of(office, name)
    browser = visitor(office.kit)

    asked = browser.submit("login?next=account", "login", name=name, password=PASSWORD)
    assert "set-cookie" not in asked.headers
    assert browser.get().status_code == 401
    (form,) = [one for one in forms(asked.text) if one.method == "post"]
    wrong = browser.send(form, code="000 000")
    right = browser.send(form, code=phone.at(office.clock.now))

    assert wrong.status_code == 401
    assert "Deze code klopt niet of is al gebruikt." in said(wrong)
    assert right.headers["location"] == "/privacy/console/account"
    assert browser.get().status_code == 200


def test_ten_codes_an_hour_are_all_that_can_be_tried_from_wherever(office: Office, name: str) -> None:
    phone_of(office, name)
    asked = visitor(office.kit).submit("login", "login", name=name, password=PASSWORD)
    (form,) = [one for one in forms(asked.text) if one.method == "post"]

    codes = [visitor(office.kit).send(form, code="000000").status_code for _ in range(11)]

    assert codes == [401] * 10 + [429]


def test_a_code_that_comes_too_late_asks_for_the_password_again(office: Office, name: str) -> None:
    phone = phone_of(office, name)
    browser = visitor(office.kit)
    asked = browser.submit("login", "login", name=name, password=PASSWORD)
    (form,) = [one for one in forms(asked.text) if one.method == "post"]

    office.clock.later(minutes=6)
    late = browser.send(form, code=phone.at(office.clock.now))

    assert late.status_code == 401
    assert "Het inloggen duurde te lang" in said(late)


def test_the_second_factor_is_turned_on_with_a_picture_or_a_text_and_off_with_the_password(
    office: Office, name: str
) -> None:
    browser = log_in(office, name)

    shown = browser.follow(browser.submit("account", "account/code/begin"))
    secret = re.search(r"<code translate=\"no\">([A-Z2-7 ]+)</code>", shown.text)
    assert secret is not None
    assert re.search(r'<path d="(M\d+ \d+h1v1h-1z)+" fill="#000"/>', shown.text)
    code = pyotp.TOTP(secret[1].replace(" ", "")).at(office.clock.now)
    wrong = browser.submit("account/code", "account/code", code="000000", password_now=PASSWORD)
    somebody = browser.submit("account/code", "account/code", code=code, password_now="fout")
    on = browser.submit("account/code", "account/code", code=code, password_now=PASSWORD)
    assert (wrong.status_code, somebody.status_code) == (422, 422)
    assert on.headers["location"] == "/privacy/console/account?told=entry.told_second_factor_on"
    assert office.kit.accounts.get(name).second_factor

    refused = browser.submit("account/code/off", "account/code/off", password_now="fout")
    off = browser.submit("account/code/off", "account/code/off", password_now=PASSWORD)
    assert (refused.status_code, off.status_code) == (422, 303)
    assert not office.kit.accounts.get(name).second_factor


# -- what was being done


@pytest.fixture
def writing(office: Office, monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """A page of the console that takes a text; gives what it took."""
    took: list[Sent] = []

    async def take(ask: Any) -> Any:
        took.append(ask.sent)
        return ask.back("", told="entry.told_password")

    async def show(ask: Any) -> Any:
        return ask.page("message", title="Schrijven", sentence=ask.rooms.posts.issue(ask.member))

    route = Route("schrijven/{id:int}", None, get=show, post=take, uploads=True)
    console = office.kit.console
    match = console._match
    monkeypatch.setattr(console, "_match", lambda path: (route, {"id": 3}) if path == "schrijven/3" else match(path))
    monkeypatch.setitem(console._areas, id(route), "home")
    return took


def token(browser: Visitor) -> str:
    found = re.search(r'ck-lead">([\w.-]+)<', browser.get("schrijven/3").text)
    assert found is not None
    return found[1]


TYPED = {"subject": "Nieuws & <b>meer</b> @@", "body": '\n<p>Één "regel"</p>\n\nen nog %41 een +\n', "tag": ["a", "b"]}
TOOK = [
    ("subject", TYPED["subject"]), ("body", TYPED["body"]), ("tag", "a"), ("tag", "b"),
]  # fmt: skip


def test_what_was_typed_while_the_log_in_ran_out_is_sent_on_after_logging_in_again(
    office: Office, name: str, writing: list[Sent]
) -> None:
    browser = log_in(office, name)
    form = token(browser)
    office.clock.later(minutes=31)

    out = browser.browser.post("/privacy/console/schrijven/3?page=2", data=TYPED | {"form": form})
    assert out.status_code == 401
    assert "Wat je had ingevuld is bewaard" in said(out)
    wrong = browser.send(forms(out.text)[0], name=name, password="fout")
    again = browser.send(forms(wrong.text)[0], name=name, password=PASSWORD)
    assert again.status_code == 200
    assert "Wat je had ingevuld is nog niet verstuurd." in said(again)
    (onward,) = [one for one in forms(again.text) if "schrijven" in one.action]
    sent = browser.send(onward)

    assert onward.action == "/privacy/console/schrijven/3?page=2"
    assert sent.status_code == 303
    (took,) = writing
    assert [pair for pair in took.fields if pair[0] != "form"] == TOOK


def test_it_is_carried_through_the_second_step_and_through_choosing_a_password_too(
    office: Office, name: str, writing: list[Sent]
) -> None:
    phone = phone_of(office, name)
    out = visitor(office.kit).browser.post("/privacy/console/schrijven/3", data=TYPED)
    coded = visitor(office.kit)
    step = coded.send(forms(out.text)[0], name=name, password=PASSWORD)
    (form,) = [one for one in forms(step.text) if one.method == "post"]
    arrived = coded.send(form, code=phone.at(office.clock.now))
    coded.send(next(one for one in forms(arrived.text) if "schrijven" in one.action))

    given = office.kit.accounts.reset(name, by="Anna")
    new = visitor(office.kit)
    account = new.send(forms(out.text)[0], name=name, password=given.password)
    assert "Kies eerst een eigen wachtwoord." in said(account)
    (form,) = [one for one in forms(account.text) if one.action.endswith("account/password")]
    chosen = new.send(
        form, password_old=given.password, password_new="vijf nieuwe woorden", password_again="vijf nieuwe woorden"
    )
    new.send(next(one for one in forms(chosen.text) if "schrijven" in one.action))

    assert [[pair for pair in took.fields if pair[0] != "form"] for took in writing] == [TOOK, TOOK]


def test_files_are_not_carried_and_the_page_says_which_to_choose_again(
    office: Office, name: str, writing: list[Sent]
) -> None:
    browser = visitor(office.kit)

    out = browser.browser.post(
        "/privacy/console/schrijven/3", data={"subject": "x"}, files={"file": ("lijst.csv", b"email\n", "text/csv")}
    )
    again = browser.send(forms(out.text)[0], name=name, password=PASSWORD)

    assert "Kies straks opnieuw: lijst.csv." in said(again)


def test_a_form_that_lay_open_for_too_long_can_be_sent_after_all(
    office: Office, name: str, writing: list[Sent]
) -> None:
    browser = log_in(office, name)

    stale = browser.browser.post("/privacy/console/schrijven/3", data=TYPED | {"form": "oud"})
    assert (stale.status_code, writing) == (409, [])
    (form,) = [one for one in forms(stale.text) if "schrijven" in one.action]
    browser.send(form)

    assert [pair for pair in writing[0].fields if pair[0] != "form"] == TOOK


def test_a_long_mailing_survives_the_log_in(office: Office, name: str, writing: list[Sent]) -> None:
    browser = visitor(office.kit)
    text = '<p class="a">één & twee</p>\n' * 12_000

    out = browser.browser.post("/privacy/console/schrijven/3", data={"body": text})
    again = browser.send(forms(out.text)[0], name=name, password=PASSWORD)
    browser.send(next(one for one in forms(again.text) if "schrijven" in one.action))

    assert writing[0].raw("body") == text


def test_passwords_are_never_carried() -> None:
    sent = Sent((("form", "x"), ("password_old", "geheim"), ("format", "html")), (("file", _upload("a.csv")),))

    assert uncarried(carried(sent)) == Carried((("format", "html"),), ("a.csv",))


@pytest.mark.parametrize("changed", ["", "x", "eJw=", "é", "eJxLBAAAYgBi", "eJyrrgUAAXUA+Q=="])
def test_what_somebody_made_up_carries_nothing(changed: str) -> None:
    assert uncarried(changed) == Carried()


def _upload(name: str) -> Upload:
    from io import BytesIO

    return Upload(name, 0, BytesIO())


@pytest.mark.parametrize(
    "next",
    [
        "//elders.example", "https://elders.example", "/\\elders.example", "\\\\elders", "../../weg", "a/../../weg",
        "%2e%2e/%2e%2e/weg", "a/%2E%2E/%2e./weg", "javascript:alert(1)//", "logout", "login", "a\nb", "x y", '"><b>',
        "a#b", "a//b",
    ],
)  # fmt: skip
def test_one_is_led_nowhere_but_into_the_console(office: Office, next: str) -> None:
    browser = visitor(office.kit)

    response = browser.submit("login", "login", name="Anna", password=PASSWORD, next=next)

    assert response.headers["location"] == "/privacy/console"


# -- one's own account


def test_a_password_of_somebody_elses_making_is_changed_before_anything_else(office: Office) -> None:
    given = office.kit.accounts.add(f"Nieuw {next(numbers)}", frozenset({Role.BEHEER}), by="Anna")
    browser = visitor(office.kit)
    browser.submit("login", "login", name=given.name, password=given.password)

    led = browser.get("staff")
    short = browser.submit("account", "account/password", password_old=given.password, password_new="kort",
                           password_again="kort")  # fmt: skip
    unlike = browser.submit("account", "account/password", password_old=given.password, password_new=PASSWORD,
                            password_again="iets anders")  # fmt: skip
    wrong = browser.submit("account", "account/password", password_old="fout", password_new=PASSWORD,
                           password_again=PASSWORD)  # fmt: skip
    done = browser.submit("account", "account/password", password_old=given.password, password_new=PASSWORD,
                          password_again=PASSWORD)  # fmt: skip

    assert led.headers["location"] == "/privacy/console/account?told=entry.told_must_change"
    assert [short.status_code, unlike.status_code, wrong.status_code, done.status_code] == [422, 422, 422, 303]
    assert "Dit is te kort." in said(short)
    assert "Dit is niet hetzelfde" in said(unlike)
    assert "Dit wachtwoord klopt niet." in said(wrong)
    assert browser.get("staff").status_code == 200


def test_somebody_who_found_an_open_browser_can_t_guess_the_password(office: Office, name: str) -> None:
    browser = log_in(office, name)
    form = browser.form("account", "account/password")

    codes = [
        browser.send(form, password_old="fout", password_new=PASSWORD, password_again=PASSWORD).status_code
        for _ in range(11)
    ]

    assert codes == [422] * 10 + [429]


def test_one_logs_out_everywhere_else(office: Office, name: str) -> None:
    here, there = log_in(office, name), log_in(office, name)

    done = here.submit("account", "account/elsewhere")

    assert "Je bent overal anders uitgelogd." in said(here.follow(done))
    assert there.get().status_code == 401
    assert said(here.get("account")).count("2 maart 2026") == 4  # of one log-in, begun and used, and of the last two


# -- the accounts of others


def test_somebody_is_added_with_a_password_that_is_shown_to_pass_on(office: Office) -> None:
    anna, name = log_in(office, "Anna"), f"Bert {next(numbers)}"

    form = anna.form("staff/add", "staff/add")
    led = anna.send(form, name=name, role=["verzenden", "privacy"])
    twice = anna.send(form, name=name, role=["verzenden", "privacy"])
    shown = anna.follow(led)

    assert twice.headers["location"] == led.headers["location"]
    password = re.search(r'id="given" translate="no">([a-z0-9-]{19})<', shown.text)
    assert password is not None
    assert password[1] not in led.headers["location"]
    assert office.kit.accounts.get(name).roles == {Role.VERZENDEN, Role.PRIVACY}
    assert office.kit.accounts.log_in(name, password[1]) is not None
    elsewhere = log_in(office, "Anna").browser.get(led.headers["location"])
    assert (elsewhere.status_code, password[1] in elsewhere.text) == (404, False)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"name": "anna", "role": "privacy"}, "Er is al een account met deze naam."),
        ({"name": "a@b.nl", "role": "privacy"}, "Een e-mailadres kan niet."),
        ({"name": "Iemand"}, "Kies minstens één rol."),
        ({"name": "Iemand", "role": "directeur"}, "Kies minstens één rol."),
    ],
)
def test_what_can_t_be_an_account_is_said_at_the_field_and_stays(
    office: Office, typed: dict[str, str], sentence: str
) -> None:
    response = log_in(office, "Anna").submit("staff/add", "staff/add", **typed)

    assert response.status_code == 422
    assert sentence in said(response)
    assert f'value="{typed["name"]}"' in response.text


def test_an_account_is_disabled_and_enabled_and_its_roles_changed(office: Office, name: str) -> None:
    anna, page = log_in(office, "Anna"), f"staff/account/{name}"

    asked = anna.get(f"{page}/disable")
    assert "kan niet meer inloggen" in said(asked)
    assert not office.kit.accounts.get(name).disabled
    anna.submit(f"{page}/disable", f"/privacy/console/{page}/disable".replace(" ", "%20"))
    assert office.kit.accounts.get(name).disabled
    anna.submit(page, f"/privacy/console/{page}/enable".replace(" ", "%20"))
    assert not office.kit.accounts.get(name).disabled
    anna.submit(page, f"/privacy/console/{page}/roles".replace(" ", "%20"), role="privacy")
    assert office.kit.accounts.get(name).roles == {Role.PRIVACY}
    none = anna.submit(page, f"/privacy/console/{page}/roles".replace(" ", "%20"), role=None)
    assert (none.status_code, office.kit.accounts.get(name).roles) == (422, {Role.PRIVACY})


def test_a_reset_shows_a_new_password_and_ends_every_log_in(office: Office, name: str) -> None:
    anna, writer, page = log_in(office, "Anna"), log_in(office, name), f"staff/account/{name}"

    shown = anna.follow(anna.submit(f"{page}/reset", f"/privacy/console/{page}/reset".replace(" ", "%20")))

    assert f"Wachtwoord voor {name}" in said(shown)
    assert writer.get().status_code == 401


def test_nobody_takes_the_last_role_beheer_away_or_disables_themselves(office: Office) -> None:
    for account in office.kit.accounts.list():
        if account.name != "Anna" and Role.BEHEER in account.roles:
            office.kit.accounts.set_roles(account.name, frozenset({Role.PRIVACY}), by="test")
    anna = log_in(office, "Anna")

    roles = anna.submit("staff/account/Anna", "staff/account/Anna/roles", role="privacy")
    own = anna.submit("staff/account/Anna/disable", "staff/account/Anna/disable")

    assert (roles.status_code, own.status_code) == (422, 409)
    assert "Dit is het laatste account met de rol beheer." in said(roles)
    assert "Je kunt je eigen account niet uitzetten" in said(own)
    assert anna.get().status_code == 200


def test_the_list_is_searched_and_sorted_and_names_are_text(office: Office) -> None:
    anna = log_in(office, "Anna")

    assert "Anna" in said(anna.get("staff?q=beheer&sort=seen&order=desc"))
    assert "Niets gevonden voor “&lt;script&gt;”." in anna.get("staff?q=%3Cscript%3E").text
    assert anna.get("staff/account/Niemand").status_code == 404


# -- the host's own log-in


@pytest.mark.parametrize(("login", "status"), [("/inloggen", 303), ("/inloggen?van=console", 303), (None, 403)])
def test_with_the_hosts_log_in_one_is_sent_there_and_back_again(
    hosted: ConsentKit, monkeypatch: pytest.MonkeyPatch, login: str | None, status: int
) -> None:
    console = hosted.settings.console.model_copy(update={"login": login})
    monkeypatch.setattr(hosted, "settings", hosted.settings.model_copy(update={"console": console}))

    response = visitor(hosted).get("account?x=1")

    assert response.status_code == status
    if login:
        back = "next=%2Fprivacy%2Fconsole%2Faccount%3Fx%3D1"
        assert response.headers["location"] == f"{login}{'&' if '?' in login else '?'}{back}"
    else:
        assert "als je in de site zelf bent ingelogd" in said(response)


def test_with_the_hosts_log_in_nothing_that_was_typed_is_lost_either(hosted: ConsentKit) -> None:
    browser = visitor(hosted)

    out = browser.browser.post("/privacy/console/account/elsewhere", data={"body": "een stuk tekst"})
    browser.browser.cookies.set("wie", "Anna:beheer")
    again = browser.send(forms(out.text)[0])

    assert (out.status_code, again.status_code) == (401, 409)
    assert 'href="/inloggen?next=%2Fprivacy%2Fconsole" target="_blank"' in out.text
    assert dict(forms(again.text)[0].fields)["body"] == "een stuk tekst"


def test_with_the_hosts_log_in_there_are_no_accounts_here(hosted: ConsentKit) -> None:
    browser = visitor(hosted)
    browser.browser.cookies.set("wie", "Anna:beheer")

    assert "Daar verander je ook je wachtwoord." in said(browser.get("account"))
    assert "Je site regelt zelf wie hier mag inloggen" in said(browser.get("staff"))


def test_log_ins_are_in_the_log_of_the_console(office: Office, name: str) -> None:
    browser = log_in(office, name)
    visitor(office.kit).submit("login", "login", name=name, password="fout")
    browser.submit("", "logout")

    lines = StaffLog(office.kit.store, office.clock).read(most=3)

    assert [(line.staff, line.act, line.about) for line in lines] == [
        (name, "staff.log_out", ""),
        ("", "staff.log_in_failed", name),
        (name, "staff.log_in", ""),
    ]

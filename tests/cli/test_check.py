"""`consentkit check` and `consentkit.testing`: what gets past the gate is named, in each state of consent."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit, Settings
from consentkit.audit import ledger
from consentkit.cli import check, main
from consentkit.probe import PageUnreachable, Report, annotation, as_github, browser
from consentkit.testing import Finding, assert_no_leaks, leaks
from consentkit.web.middleware import ConsentMiddleware
from tests.journeys.school import KEY, school

CONFIG = """
[site]
name = "Basisschool De Linde"
base_url = "http://school.test"
privacy_statement = "/privacyverklaring"
{site}
[site.controller]
name = "Stichting De Linde"
address = "Lindelaan 1, 1234 AB Utrecht"
email = "privacy@delinde.example"

[services.google-analytics]
{services}
"""
GA = '<script src="https://www.googletagmanager.com/gtag/js?id=G-X"></script>'
STRANGE = '<script src="https://cdn.vreemd.example/x.js"></script>'
Run = Callable[..., tuple[int, str, str]]


def page(*lines: str) -> str:
    return "\n".join(
        ['<!doctype html><html lang="nl"><head><title>De Linde</title></head><body>', *lines, "</body></html>"]
    )


def app(*lines: str, cookie: str = "") -> Starlette:
    """A site of one page, and some that are none."""

    async def show(request: Request) -> Response:
        response = HTMLResponse(page(*lines))
        if cookie:
            response.set_cookie(cookie, "1")
        return response

    async def away(request: Request) -> Response:
        return RedirectResponse("/")

    async def broken(request: Request) -> Response:
        return PlainTextResponse("no", 500)

    return Starlette(routes=[Route("/", show), Route("/weg", away), Route("/stuk", broken)])


def outside(wrapped: Any, line: str) -> Any:
    """Something in front of consentkit that adds a line to each page: the gate never sees it."""

    async def add(scope: Any, receive: Any, send: Any) -> None:
        async def change(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [one for one in message["headers"] if one[0] != b"content-length"]}
            elif b"</body>" in message.get("body", b""):
                message = {**message, "body": message["body"].replace(b"</body>", f"\n{line}</body>".encode())}
            await send(message)

        await wrapped(scope, receive, change)

    return add


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Types `consentkit check` in a folder with a configuration; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONSENTKIT_CONFIG", "CONSENTKIT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", KEY)
    monkeypatch.setattr(sys, "path", [*sys.path])
    configure(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["consentkit", "check", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    yield typed
    sys.modules.pop("vreemd", None)


def configure(folder: Path, site: str = "", services: str = "") -> None:
    (folder / "consentkit.toml").write_text(CONFIG.format(site=site, services=services), "utf-8")


def module(folder: Path, *lines: str, cookie: str = "", wrapped: bool = True) -> str:
    """An app in a module of its own; gives its `module:app`."""
    text = "from consentkit import ConsentKit\nfrom tests.cli.test_check import app\n"
    text += f"app = app(*{lines!r}, cookie={cookie!r})\n"
    text += 'app = ConsentKit("consentkit.toml").wrap(app)\n' if wrapped else ""
    (folder / "vreemd.py").write_text(text, "utf-8")
    sys.modules.pop("vreemd", None)
    return "vreemd:app"


def found(out: str) -> list[tuple[str, str]]:
    return [(one["kind"], one["name"]) for one in json.loads(out)["findings"]]


# -- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.checklist("GAT-04")
@pytest.mark.parametrize("strict", [False, True])
def test_an_undeclared_cookie_and_an_undeclared_host_fail_the_check_and_both_are_named(
    run: Run, tmp_path: Path, strict: bool
) -> None:
    configure(tmp_path, site=f"strict = {str(strict).lower()}")
    target = module(tmp_path, STRANGE, cookie="foo")

    code, out, _ = run(target)

    assert code == 1
    assert 'cookie "foo" is set and nobody declared it' in out
    assert "cdn.vreemd.example" in out


@pytest.mark.checklist("GAT-04")
@pytest.mark.parametrize("decision", ["", "refuse", "accept"])
def test_in_strict_mode_an_undeclared_host_is_blocked_whatever_the_visitor_chose(tmp_path: Path, decision: str) -> None:
    with school(tmp_path, strict=True) as site:
        site.browser._transport.app = site.kit.wrap(app(STRANGE, cookie="foo"))  # type: ignore[attr-defined]
        if decision:
            site.choose(decision)

        answer = site.browser.get("/")

    assert 'data-consentkit-needs="-" data-consentkit-src="https://cdn.vreemd.example/x.js"' in answer.text
    assert ' src="https://cdn.vreemd.example' not in answer.text
    assert answer.cookies["foo"] == "1"  # the site's own log-in may be such a cookie: it is reported, and stays


def test_each_state_of_consent_is_looked_at_with_choices_that_the_site_takes(tmp_path: Path) -> None:
    with school(tmp_path) as site:
        wrapped = outside(site.kit.wrap(app(GA)), GA)

        assert leaks(wrapped, "/", kit=site.kit) == [
            Finding(
                "leak", "/:4", "<script> loads Google Analytics before consent",
                "It gets past the gate: mark it with data-consent, or report the tag as a bug of consentkit.",
                "google-analytics", ("no choice",),
            ),
            Finding(
                "leak", "/:4", "<script> loads Google Analytics after a refusal",
                "It gets past the gate: mark it with data-consent, or report the tag as a bug of consentkit.",
                "google-analytics", ("refused",),
            ),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "cookie", "expected"),
    [
        ((GA,), "", []),
        ((), "_ga_X", []),  # the gate takes it out
        ((), "foo", [("undeclared", "foo")]),
        ((STRANGE,), "", [("undeclared", "cdn.vreemd.example")]),
        (('<iframe src="https://player.vimeo.com/video/1"></iframe>',), "", [("parked", "vimeo")]),
        (('<script data-consent="reclame" src="/x.js"></script>',), "", [("parked", "unknown"), ("parked", "/x.js")]),
        (('<img src="https://www.school.test/a.png">',), "", []),
    ],
)
def test_a_wrapped_app_is_looked_at_with_its_own_kit(
    tmp_path: Path, lines: tuple[str, ...], cookie: str, expected: list[tuple[str, str]]
) -> None:
    with school(tmp_path) as site:
        seen = {(one.kind, one.name) for one in leaks(site.kit.wrap(app(*lines, cookie=cookie)))}

    assert seen <= set(expected)
    assert bool(seen) is bool(expected)


def test_an_app_that_added_the_middleware_itself_is_known_too(tmp_path: Path) -> None:
    with school(tmp_path, base_url="https://school.test") as site:
        inner = app(GA)
        inner.add_middleware(ConsentMiddleware, kit=site.kit)

        assert [one.kind for one in leaks(outside(inner, GA))] == ["leak", "leak"]


def test_pages_are_followed_from_the_first_and_redirects_are(run: Run, tmp_path: Path) -> None:
    target = module(
        tmp_path, '<a href="/weg">weg</a>', '<a href="/stuk">stuk</a>', '<a href="https://el.example/">x</a>'
    )

    code, out, _ = run(target, "--json")

    assert (code, json.loads(out)) == (0, {"findings": [], "pages": 4})  # and our own two


def test_a_page_that_is_broken_is_no_page_without_findings(tmp_path: Path) -> None:
    with school(tmp_path) as site, pytest.raises(PageUnreachable, match="/stuk answers 500"):
        leaks(site.kit.wrap(app()), "/stuk")


@pytest.mark.parametrize(
    "broken",
    ["<![foo[x]]>", "<![if IE]><b>x</b><![endif]>", "<![ >", '<a href="http://[">x</a>', '<a href="/weg" data-x="<!">'],
)
def test_markup_that_no_parser_knows_ends_neither_the_page_nor_the_check(run: Run, tmp_path: Path, broken: str) -> None:
    target = module(tmp_path, broken, '<a href="/weg">weg</a>', STRANGE)

    code, out, err = run(target, "--json")

    assert (code, found(out), err) == (1, [("undeclared", "cdn.vreemd.example")] * 2, "")
    assert json.loads(out)["pages"] == 4


def test_a_page_is_read_as_far_as_it_can_be(run: Run, tmp_path: Path) -> None:
    target = module(tmp_path, STRANGE, f'<p title="&#{"1" * 5000};">x</p>', '<a href="/weg">weg</a>')

    code, out, err = run(target, "--json")

    assert (code, found(out), err) == (1, [("undeclared", "cdn.vreemd.example")], "")


# -- sites that run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path, serve: Callable[..., str]) -> Iterator[Callable[..., str]]:
    """Serves a wrapped app with one more line in front of the gate; gives its address."""
    kits: list[ConsentKit] = []

    def start(line: str, key: str = KEY) -> str:
        settings = Settings.load(tmp_path / "consentkit.toml")
        kit = ConsentKit(settings.model_copy(update={"secret_keys": [key]}))
        kits.append(kit)
        return serve(outside(kit.wrap(app()), line))

    yield start
    for kit in kits:
        kit.close()


@pytest.mark.parametrize(
    ("key", "states", "warned"),
    [
        (KEY, {"no choice", "refused"}, False),
        ("y7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-other", {"no choice"}, True),
    ],
    ids=["ours", "other keys"],
)
def test_a_site_that_runs_is_looked_at_in_the_states_that_our_keys_open(
    run: Run, running: Callable[..., str], key: str, states: set[str], warned: bool
) -> None:
    code, out, _ = run(running(GA, key), "--json")

    told = json.loads(out)
    assert code == 1
    assert {state for one in told["findings"] for state in one["states"]} == states
    assert ("warnings" in told) is warned


def test_a_site_of_somebody_else_is_looked_at_as_a_new_visitor_only(run: Run, serve: Callable[..., str]) -> None:
    _, out, _ = run(serve(app(GA, STRANGE, cookie="foo")), "--json")

    told = json.loads(out)["findings"]
    assert [(one["kind"], one["name"], one["states"]) for one in told] == [
        ("leak", "google-analytics", ["no choice"]),
        ("undeclared", "cdn.vreemd.example", ["no choice"]),
        ("undeclared", "foo", ["no choice"]),
    ]


def test_a_redirect_to_another_site_gets_no_choice_of_this_one_and_is_not_judged_as_it(
    run: Run, tmp_path: Path, serve: Callable[..., str]
) -> None:
    asked: list[str] = []

    async def elsewhere(request: Request) -> Response:
        asked.append(request.headers.get("cookie", ""))
        return HTMLResponse(page(GA))

    away = serve(Starlette(routes=[Route("/", elsewhere)]))
    kit = ConsentKit(tmp_path / "consentkit.toml")
    base = serve(kit.wrap(Starlette(routes=[Route("/", lambda request: RedirectResponse(f"{away}/"))])))

    code, out, _ = run(base, "--json")

    kit.close()
    assert (code, json.loads(out)) == (
        0, {"findings": [], "pages": 1, "warnings": [f"/ leads to {away}/, where nothing was looked at"]},
    )  # fmt: skip
    assert asked == []


def test_redirects_within_the_site_are_followed_wherever_it_runs(serve: Callable[..., str]) -> None:
    async def show(request: Request) -> Response:
        return HTMLResponse(page(STRANGE if request.url.query == "a=1" else ""))

    async def back(request: Request) -> Response:
        return RedirectResponse("../?a=1#x" if request.url.path == "/weg/terug" else "/weg/terug")

    site = Starlette(routes=[Route("/", show), Route("/weg", back), Route("/weg/terug", back)])

    for source in (site, serve(site)):
        assert [one.name for one in leaks(source, "/weg")] == ["cdn.vreemd.example"]


# -- how it is told ---------------------------------------------------------------------------------------------------


def test_people_read_it_by_page_and_state(run: Run, tmp_path: Path) -> None:
    _, out, _ = run(module(tmp_path, STRANGE, cookie="foo"), "--pages", "1")

    assert out == (
        "/, no choice, refused, granted:\n"
        "  line 2: <script> loads from cdn.vreemd.example, which nobody declared\n"
        "      Declare it as a service (docs/services.md), mark it with data-consent, or set strict = true.\n"
        '  cookie "foo" is set and nobody declared it\n'
        "      Add it to the cookies of a service; docs/services.md shows how.\n"
        "2 finding(s) on 1 page(s)\n"
    )


def test_github_shows_it_beside_the_change(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(module(tmp_path, STRANGE), "--github")

    assert code == 1
    assert out == (
        "::error file=/,line=2,title=consentkit%3A undeclared::<script> loads from cdn.vreemd.example, which nobody "
        "declared [no choice, refused, granted]. Declare it as a service (docs/services.md), mark it with "
        "data-consent, or set strict = true.\n"
    )
    hostile = Finding("leak", "/a,b:3", "100%\r\n::error::x", "y")
    assert as_github(hostile) == "::error file=/a%2Cb,line=3,title=consentkit%3A leak::100%25%0D%0A::error::x. y"


def test_a_name_that_a_stranger_chose_is_no_line_of_its_own_and_no_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = "kar\r\n::error::x \x1b[31m\u202e ##[error]y"
    visit = browser.Visit("/", stored={browser.Stored("local", hostile, "a.example")})
    report = Report(
        [Finding("undeclared", "/\x85:3", f'key "{hostile}"', "Declare it.", hostile, ("refused",))],
        paths=("/",), requests={"refused": {"b\n.example": 1}}, stored={"refused": browser.stored_of([visit])},
        warnings=["a\n::error::b"],
    )  # fmt: skip

    check._say(report, [], {}, target="x:y", seen=False)

    shown = r"kar\r\n::error::x \x1b[31m\u202e #\x23[error]y"
    assert capfd.readouterr().out.split("\n") == [
        r"/\x85, refused:",
        f'  line 3: key "{shown}"',
        "      Declare it.",
        r"refused: the browser asked b\n.example 1",
        f"refused: it kept local {shown} (a.example)",
        r"warning: a\n::error::b",
        "1 finding(s) on 1 page(s)",
        "",
    ]
    assert str(report.findings[0]) == f'/\\x85:3: key "{shown}" (refused)\n    Declare it.'
    assert str(PageUnreachable("no\n::error::x")) == r"no\n::error::x"
    assert annotation("warning", "100%\n::error::b", title="a,b") == "::warning title=a%2Cb::100%25%0A::error::b"


def test_what_is_allowed_but_deserves_a_second_thought_is_said_and_is_no_finding(run: Run, tmp_path: Path) -> None:
    configure(tmp_path, site="choice_days = 300")

    code, out, _ = run()
    told = json.loads(run("--json")[1])

    assert code == 0
    assert "warning: Basisschool De Linde: choice_days = 300 is longer" in out
    assert len(told["warnings"]) == 1
    assert run("--github")[1].startswith("::warning title=consentkit::Basisschool De Linde: choice_days")


@pytest.mark.checklist("GAT-04")
@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_what_visitors_pages_had_is_listed_with_its_remedy_and_the_owner_s_link(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONSENTKIT_DATABASE_URL", database_url)
    kit = ConsentKit(tmp_path / "consentkit.toml")
    kit.store.upgrade()
    day = date(2026, 3, 2)
    rows = [("cookie", "foo", "/contact", day, day, 3), ("cookie", "_ga", "/", day, day, 1)]
    with kit.store.begin() as connection:
        ledger.merge(connection, "Basisschool De Linde", rows)
    kit.close()

    code, out, _ = run("--seen")
    told = json.loads(run("--seen", "--json")[1])

    assert code == 1
    assert re.search(
        r"^cookie  foo  /contact  2026-03-02  2026-03-02  3  Add this cookie to a service", out, re.MULTILINE
    )
    assert re.search(
        r"^Basisschool De Linde: http://school.test/privacy/cookies\?owner=\S+ \(for an hour\)$", out, re.M
    )
    assert told["seen"] == [
        {
            "site": "Basisschool De Linde", "kind": "cookie", "label": "cookie", "name": "foo", "where": "/contact",
            "first": "2026-03-02", "last": "2026-03-02", "count": 3,
            "remedy": "Add this cookie to a service in consentkit.toml, or let nothing set it any more.",
        }
    ]  # fmt: skip
    assert list(told["owner"]) == ["Basisschool De Linde"]
    assert "foo was seen (/contact) and nobody declared it" in run("--seen", "--github")[1]


# -- a real browser ---------------------------------------------------------------------------------------------------

SCRIPT = """
localStorage.setItem("kar", "1"); localStorage.setItem("mag", "1"); sessionStorage.setItem("tab", "1");
document.cookie = "js=1";
indexedDB.open("winkel"); caches.open("mand"); navigator.serviceWorker.register("/sw.js");
fetch("http://localhost:" + location.port + "/vreemd").catch(() => {});
"""
TELLER = """
[services.teller]
category = "analytics"
provider = "Teller BV"
country = "NL"
hosts = ["teller.localhost"]
purpose = { nl = "Bezoek tellen", en = "Counting visits" }
storage = [{ name = "mag", kind = "local", duration = "1 day", purpose = { nl = "Telt", en = "Counts" } }]
"""


def late() -> Starlette:
    """A page whose script does what no server can see."""

    async def show(request: Request) -> Response:
        return HTMLResponse(page('<link rel="stylesheet" href="/own.css">', f"<script>{SCRIPT}</script>"))

    async def style(request: Request) -> Response:
        css = f"body {{ background: url(http://teller.localhost:{request.url.port}/pixel.png) }}"
        return Response(css, media_type="text/css")

    async def worker(request: Request) -> Response:
        return Response("", media_type="text/javascript")

    return Starlette(routes=[Route("/", show), Route("/sw.js", worker), Route("/own.css", style)])


@pytest.mark.browser
@pytest.mark.checklist("GAT-04")
def test_the_browser_tells_what_scripts_load_and_keep_behind_the_server_s_back(
    run: Run, tmp_path: Path, serve: Callable[..., str]
) -> None:
    configure(tmp_path, services=TELLER)
    kit = ConsentKit(tmp_path / "consentkit.toml")
    base = serve(kit.wrap(late()))

    code, out, err = run(base, "--browser", "--pages", "1", "--json")

    kit.close()
    told = json.loads(out)
    everywhere = ["no choice", "refused", "granted"]
    assert code == 1, err
    assert {(one["kind"], one["name"], *one["states"]) for one in told["findings"]} == {
        ("leak", "teller.localhost", "no choice", "refused"),
        ("leak", "mag", "no choice", "refused"),
        *(
            ("undeclared", name, *everywhere)
            for name in ("localhost", "js", "kar", "tab", "winkel", "mand", f"{base}/")
        ),
    }
    assert told["requests"] == {state: {"localhost": 1, "teller.localhost": 1} for state in everywhere}
    assert "local kar (127.0.0.1)" in told["stored"]["refused"]
    again = json.loads(run("--seen", "--json")[1])["seen"]
    assert {(one["kind"], one["name"]) for one in again} >= {("cookie", "js"), ("storage", "kar")}


@pytest.mark.parametrize(
    ("missing", "said"),
    [("chromium", "CONSENTKIT_CHROMIUM names /nowhere, which is not there"), ("playwright", "consentkit[check]")],
)
def test_a_missing_browser_is_told_in_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    if missing == "chromium":
        monkeypatch.setenv("CONSENTKIT_CHROMIUM", "/nowhere")
    else:
        monkeypatch.setitem(sys.modules, "playwright.sync_api", None)

    code, _, err = run(module(tmp_path), "--browser")

    assert code == 2
    assert said in err
    assert "Traceback" not in err


# -- for the tests of an app ------------------------------------------------------------------------------------------


def test_an_app_s_own_test_fails_with_what_to_do(tmp_path: Path) -> None:
    with school(tmp_path) as site:
        assert_no_leaks(site.kit.wrap(app(GA)), "/", "/weg")

        with pytest.raises(AssertionError) as failed:
            assert_no_leaks(site.kit.wrap(app(STRANGE, cookie="foo")), "/")

    assert str(failed.value) == (
        "2 findings of consentkit:\n"
        "/:2: <script> loads from cdn.vreemd.example, which nobody declared (no choice, refused, granted)\n"
        "    Declare it as a service (docs/services.md), mark it with data-consent, or set strict = true.\n"
        '/: cookie "foo" is set and nobody declared it (no choice, refused, granted)\n'
        "    Add it to the cookies of a service; docs/services.md shows how."
    )


def test_it_runs_the_app_s_lifespan_and_works_within_a_running_event_loop(tmp_path: Path) -> None:
    told: list[str] = []

    async def lived(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            told.append((await receive())["type"])
            scope["state"]["page"] = page(GA)
            await send({"type": "lifespan.startup.complete"})
            told.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        await HTMLResponse(scope["state"]["page"])(scope, receive, send)

    async def test() -> None:
        with school(tmp_path) as site:
            assert_no_leaks(site.kit.wrap(lived))

    asyncio.run(test())

    assert told == ["lifespan.startup", "lifespan.shutdown"]


def test_an_app_that_does_not_start_says_why(tmp_path: Path) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(PageUnreachable, match="the app did not start: no database"):
        leaks(failing)


def test_an_app_that_is_not_wrapped_leaks(tmp_path: Path) -> None:
    assert [one.what for one in leaks(app(GA))] == ["<script> loads Google Analytics before consent"]

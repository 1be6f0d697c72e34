"""One-click unsubscribing (RFC 8058) through every host: a bare POST, no cookie, no redirect, whatever it minds."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consentkit import ConsentKit
from tests.hosts.driver import exchange, scope_of
from tests.hosts.test_hosts import load
from tests.journeys.school import KEY
from tests.newsletter.desk import AFGEMELD_KEY, JAN, LISTS, settings
from tests.web.minikit import Answer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Litestar, of its own

BODY = b"List-Unsubscribe=One-Click"
URLENCODED = (b"application/x-www-form-urlencoded", BODY)
MULTIPART = (
    b"multipart/form-data; boundary=sjtjes",
    b'--sjtjes\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--sjtjes--\r\n',
)
SITE = {
    "name": "Basisschool De Linde",
    "base_url": "http://delinde.test",
    "privacy_statement": "/privacyverklaring",
    "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
}
OTHER_KEY = "W9xRt4Vb6Np1Qz8Ls3Kd7Hf2Jg5Yc0Ma"


def make_kit(folder: Path, **tables: Any) -> ConsentKit:
    return ConsentKit(settings(folder, site=SITE, **tables))


def ask(
    app: Any, url: str, method: str = "GET", kind: bytes = b"", body: bytes = b"", *, headers: Any = (), **more: Any
) -> Answer:
    """One request of a client that sends nothing but what HTTP needs: no cookie, origin, referrer or Sec-Fetch."""
    sent = [(b"content-type", kind), (b"content-length", str(len(body)).encode())] if kind else []
    return asyncio.run(exchange(app, scope_of(url, method, [*sent, *headers], **more), body))


def path_of(url: str) -> str:
    return urlsplit(url).path


def suppressed(kit: ConsentKit, address: str = JAN, list: str | None = "nieuwsbrief") -> bool:
    return asyncio.run(kit.afgemeld.is_suppressed(address, list=list))


def rows(kit: ConsentKit) -> list[tuple[Any, ...]]:
    """What the table holds, whoever it is about."""
    return [(one.digest, one.scope, one.reason, one.channel, one.at) for one in kit.afgemeld.entries()]


def assert_done(answer: Answer) -> None:
    assert answer.status == 200
    assert answer.header(b"location") is None
    assert answer.header(b"refresh") is None
    assert answer.header(b"set-cookie") is None
    assert answer.header(b"vary") is None or b"cookie" not in answer.header(b"vary").lower()


# -- hosts that refuse and redirect what they can ---------------------------------------------------------------------


def no_token(method: str, header: str | None) -> bool:
    """What a host's own protection against forged forms asks."""
    return method == "POST" and header is None


@contextmanager
def starlette(static: Path) -> Iterator[Any]:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def guard(request: Any, call_next: Any) -> Any:
        if no_token(request.method, request.headers.get("x-csrf")):
            return PlainTextResponse("no token", 403)
        return await call_next(request)

    async def form(request: Any) -> Any:
        return PlainTextResponse("ok")

    routes = [Route("/form/", form, methods=["GET", "POST"]), Mount("/x", routes=[])]
    https, csrf = Middleware(HTTPSRedirectMiddleware), Middleware(BaseHTTPMiddleware, dispatch=guard)
    yield lambda kit: kit.wrap(Starlette(routes=routes, middleware=[https, csrf]))


@contextmanager
def fastapi(static: Path) -> Iterator[Any]:
    from fastapi import FastAPI, Header, HTTPException
    from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware

    app = FastAPI()
    app.add_middleware(HTTPSRedirectMiddleware)

    @app.post("/form/")
    async def form(x_csrf: str | None = Header(None)) -> str:
        if no_token("POST", x_csrf):
            raise HTTPException(403)
        return "ok"

    yield lambda kit: kit.wrap(app)


@contextmanager
def django(static: Path, *, wsgi: bool = False) -> Iterator[Any]:
    load("django", static)  # configures it, once
    from django.conf.urls.i18n import i18n_patterns
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.test.utils import override_settings
    from django.urls import path

    urls = types.ModuleType("urls_with_languages")
    urls.urlpatterns = i18n_patterns(path("form/", lambda request: HttpResponse("ok")))  # type: ignore[attr-defined]
    middleware = [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ]
    changed = override_settings(
        MIDDLEWARE=middleware, ROOT_URLCONF=urls, APPEND_SLASH=True, PREPEND_WWW=True, SECURE_SSL_REDIRECT=True,
        LANGUAGES=[("nl", "Nederlands"), ("en", "English")], CSRF_COOKIE_SECURE=True,
    )  # fmt: skip
    with changed:
        yield (
            (lambda kit: kit.wrap_wsgi(get_wsgi_application()))
            if wsgi
            else lambda kit: kit.wrap(get_asgi_application())
        )


@contextmanager
def django_wsgi(static: Path) -> Iterator[Any]:
    with django(static, wsgi=True) as wrap:
        yield wrap


@contextmanager
def litestar(static: Path) -> Iterator[Any]:
    from litestar import Litestar, post
    from litestar.config.csrf import CSRFConfig

    @post("/form")
    async def form() -> str:
        return "ok"

    app = Litestar([form], csrf_config=CSRFConfig(secret="geheim-genoeg"), openapi_config=None, logging_config=None)
    yield lambda kit: kit.wrap(app)


@contextmanager
def quart(static: Path) -> Iterator[Any]:
    from quart import Quart, abort, redirect, request

    app = Quart(__name__)

    @app.before_request
    async def guard() -> Any:
        if request.scheme != "https":
            return redirect(request.url.replace("http:", "https:", 1), 308)
        return abort(403) if no_token(request.method, request.headers.get("x-csrf")) else None

    yield lambda kit: kit.wrap(app)


@contextmanager
def flask(static: Path) -> Iterator[Any]:
    from flask import Flask, abort, redirect, request

    app = Flask(__name__)

    @app.before_request
    def guard() -> Any:
        if not request.is_secure:
            return redirect(request.url.replace("http:", "https:", 1), 308)
        return abort(403) if no_token(request.method, request.headers.get("x-csrf")) else None

    @app.after_request
    def cookie(response: Any) -> Any:
        response.set_cookie("session", "x")
        return response

    yield lambda kit: kit.wrap_wsgi(app)


HOSTS: dict[str, Callable[[Path], Any]] = {
    "starlette": starlette, "fastapi": fastapi, "django asgi": django, "django wsgi": django_wsgi,
    "litestar": litestar, "quart": quart, "flask": flask,
}  # fmt: skip


class Subject:
    def __init__(self, kit: ConsentKit, app: Any) -> None:
        self.kit, self.app = kit, app

    def url(self, address: str = JAN, **more: Any) -> str:
        return path_of(self.kit.unsubscribe_url(address, **more))


@pytest.fixture(params=HOSTS)
def subject(request: pytest.FixtureRequest, static: Path, tmp_path: Path) -> Iterator[Subject]:
    kit = make_kit(tmp_path)
    with ExitStack() as stack:
        wrap = stack.enter_context(HOSTS[request.param](static))
        yield Subject(kit, wrap(kit))
        kit.close()


# -- the POST ---------------------------------------------------------------------------------------------------------


def test_these_hosts_do_refuse_or_redirect_such_a_post_to_a_page_of_their_own(subject: Subject) -> None:
    answer = ask(subject.app, "/form", "POST", *URLENCODED)
    secure = ask(subject.app, "/form/", "POST", *URLENCODED, scheme="https")

    assert answer.status in (301, 302, 307, 308, 403)
    assert secure.status in (301, 302, 307, 308, 403)


@pytest.mark.checklist("UNS-02")
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("form", [URLENCODED, MULTIPART], ids=["urlencoded", "multipart"])
def test_a_bare_post_suppresses_at_once(subject: Subject, form: tuple[bytes, bytes], slash: str) -> None:
    url = subject.url(list="nieuwsbrief")
    assert not suppressed(subject.kit)

    answer = ask(subject.app, url + slash, "POST", *form)

    assert_done(answer)
    assert suppressed(subject.kit)
    assert not suppressed(subject.kit, list="agenda")
    assert not suppressed(subject.kit, "piet@voorbeeld.nl")
    (kept,) = rows(subject.kit)
    assert kept[1:4] == ("list:nieuwsbrief", "one-click", "one-click")


@pytest.mark.checklist("UNS-02")
def test_again_is_as_good_as_once_and_a_link_of_no_list_leaves_everything(subject: Subject) -> None:
    url = subject.url()
    assert_done(ask(subject.app, url, "POST", *URLENCODED))
    first = rows(subject.kit)

    for form in (URLENCODED, MULTIPART):
        assert_done(ask(subject.app, url, "POST", *form))

    assert rows(subject.kit) == first
    assert suppressed(subject.kit, list=None)
    assert suppressed(subject.kit, list="agenda")


@pytest.mark.checklist("UNS-02")
def test_one_click_is_exempt_from_the_check_on_where_a_form_comes_from(subject: Subject) -> None:
    foreign = [(b"origin", b"https://mail.example"), (b"sec-fetch-site", b"cross-site"), (b"cookie", b"x=1")]

    assert_done(ask(subject.app, subject.url(list="agenda"), "POST", *URLENCODED, headers=foreign))

    assert suppressed(subject.kit, list="agenda")


@pytest.mark.checklist("UNS-03")
def test_only_a_post_changes_anything(subject: Subject) -> None:
    urls = [subject.url(), subject.url(list="nieuwsbrief"), subject.url(list="nieuwsbrief", delivery=7)]
    subject.kit.afgemeld.open()
    prefetch = [(b"sec-purpose", b"prefetch;prerender"), (b"x-http-method-override", b"POST")]
    for url in urls:
        for method in ("GET", "HEAD"):
            for query in ("", "?List-Unsubscribe=One-Click", "?action=all&_method=POST"):
                answer = ask(subject.app, url + query, method, headers=prefetch)
                assert answer.status == 200
                assert answer.header(b"location") is None
                assert answer.header(b"set-cookie") is None
        for method in ("OPTIONS", "PUT", "DELETE", "PATCH"):
            answer = ask(subject.app, url, method, *URLENCODED)
            assert (answer.status, answer.header(b"allow")) == (405, b"GET, HEAD, POST")

    assert rows(subject.kit) == []
    assert_done(ask(subject.app, urls[2], "POST", *URLENCODED))
    assert len(rows(subject.kit)) == 1


@pytest.mark.checklist("UNS-03")
def test_the_page_behind_the_link_is_one_button_and_asks_for_nothing(subject: Subject) -> None:
    page = ask(subject.app, subject.url(list="nieuwsbrief"), headers=[(b"accept", b"text/html")]).body.decode()
    main = page.partition("<main")[2].partition("</main>")[0]

    assert main.count("<button") == 1
    assert main.count("<form") == 1
    for field in ("<input", "<select", "<textarea"):
        assert main.replace('<input type="hidden"', "").count(field) == 0
    assert JAN not in page
    assert "<script" not in main


@pytest.mark.checklist("UNS-03")
def test_without_a_body_the_button_of_a_browser_without_javascript_unsubscribes_too(subject: Subject) -> None:
    assert ask(subject.app, subject.url(list="agenda"), "POST").status == 200

    assert suppressed(subject.kit, list="agenda")
    assert rows(subject.kit)[0][2:4] == ("unsubscribe", "page")


# -- under a path, after years ----------------------------------------------------------------------------------------


@pytest.mark.checklist("UNS-02")
@pytest.mark.parametrize("slash", ["", "/"])
def test_it_works_where_the_whole_app_is_mounted_under_a_path(tmp_path: Path, slash: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    kit = make_kit(tmp_path)
    inner = kit.wrap(Starlette())
    outer = Starlette(routes=[Mount("/school", inner)])
    for number, (app, url, more) in enumerate(
        [
            (outer, "/school{}", {}),
            (inner, "/school{}", {"root_path": "/school"}),  # as uvicorn --root-path says it
            (inner, "{}", {"root_path": "/school"}),  # as older servers do
        ]
    ):
        address = f"ouder{number}@voorbeeld.nl"
        path = url.format(path_of(kit.unsubscribe_url(address, list="agenda"))) + slash
        page = ask(app, path, **more)
        assert page.status == 200
        assert not suppressed(kit, address, "agenda")
        assert_done(ask(app, path, "POST", *URLENCODED, **more))
        assert suppressed(kit, address, "agenda")
    kit.close()


@pytest.mark.checklist("UNS-02", "UNS-05")
def test_it_works_after_the_person_was_erased_and_the_list_is_gone_from_the_configuration(tmp_path: Path) -> None:
    from tests.newsletter.desk import desk

    with desk(tmp_path, site=SITE | {"base_url": "http://school.test"}) as school:
        school.subscribe()
        url = path_of(school.kit.unsubscribe_url(JAN, list="nieuwsbrief"))
        stranger = path_of(school.kit.unsubscribe_url("nooit@voorbeeld.nl", list="nieuwsbrief"))
        assert school.kit.newsletter.erase_address(JAN)

    for lists in ({"agenda": LISTS["agenda"]}, {}):
        kit = make_kit(tmp_path, lists=lists)
        app = kit.wrap(load_starlette())
        for address, link in ((JAN, url), ("nooit@voorbeeld.nl", stranger)):
            assert ask(app, link).status == 200
            assert_done(ask(app, link, "POST", *URLENCODED))
            scopes = {one.scope for one in kit.afgemeld.all_of(address)}
            assert "list:nieuwsbrief" in scopes
        kit.close()


@pytest.mark.checklist("UNS-05")
def test_it_works_after_every_signing_key_was_replaced_and_a_new_afgemeld_key_put_in_front(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    old = path_of(kit.unsubscribe_url(JAN, list="nieuwsbrief"))
    kit.afgemeld.open()
    kit.close()

    kit = make_kit(tmp_path, secret_keys=[OTHER_KEY[::-1]], afgemeld_keys=[OTHER_KEY, AFGEMELD_KEY])
    app = kit.wrap(load_starlette())
    new = path_of(kit.unsubscribe_url("piet@voorbeeld.nl", list="nieuwsbrief"))
    assert KEY not in kit.settings.secret_keys
    assert ask(app, old).status == 200
    assert rows(kit) == []
    for url, address in ((old, JAN), (new, "piet@voorbeeld.nl")):
        assert_done(ask(app, url, "POST", *URLENCODED))
        assert suppressed(kit, address)
    kit.close()

    kit = make_kit(tmp_path, secret_keys=[OTHER_KEY], afgemeld_keys=[OTHER_KEY, AFGEMELD_KEY])
    assert suppressed(kit, JAN)
    kit.close()


def load_starlette() -> Any:
    from starlette.applications import Starlette

    return Starlette()

"""A small site with the banner put in by hand: the front end alone, without middleware or evidence.

The choice endpoint is the real `answer` over a signed cookie; what is posted is kept in `posts` for the tests.
"""

from __future__ import annotations

import html
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Frame, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from consentkit import catalogue, render
from consentkit.choice import Choices, Decision, Policy, answer, choice_header, signal
from consentkit.render import Renderer, SiteView
from consentkit.service import NECESSARY, Duration, Item, Service, Text
from consentkit.theme import Theme
from consentkit.tokens import Tokens

TODAY = date(2026, 11, 22)
THREE = ("google-analytics", "youtube", "google-maps")
LOREM = "".join(
    f'<h2>Nieuws {n}</h2><p>De klas ging op pad en zag van alles. <a href="/lees/{n}">Lees verder over dag {n}</a>.</p>'
    for n in range(1, 25)
)
HOST_PAGE = f"""<!DOCTYPE html>
<html lang="nl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>De Linde</title>@@HEAD@@</head>
<body>@@BANNER@@<header><a href="/">Basisschool De Linde</a></header>
<main><h1>Welkom op De Linde</h1>{LOREM}</main>
<footer><p><a id="last" href="/contact">Contact met de school</a></p></footer>@@FOOTER@@</body></html>"""


def own_cookie(controller: str = "Stichting De Linde") -> Service:
    """consentkit's own cookie, as the kit declares it."""
    words = {lang: render.load_texts(lang).own_cookie for lang in render.languages()}
    purpose = {lang: one.purpose for lang, one in words.items()}
    return Service(
        id="consentkit",
        title="consentkit",
        provider=controller,
        country="NL",
        category=NECESSARY,
        purpose=purpose,
        exempt={lang: one.exempt for lang, one in words.items()},
        items=(Item("consentkit", Duration(182, "day"), purpose),),
    )


def exempt_counter() -> Service:
    """A measurement that needs no consent and can be objected to."""
    return Service(
        id="matomo",
        title="Matomo",
        provider="Stichting De Linde",
        country="NL",
        category="analytics",
        purpose={"nl": "Telt bezoeken per pagina", "en": "Counts visits per page"},
        exempt={"nl": "Beperkt analytisch", "en": "Limited analytics"},
        items=(Item("_pk_id*", Duration(13, "month"), {"nl": "Herkent een bezoek", "en": "Recognises a visit"}),),
    )


def categories() -> Mapping[str, tuple[Text, Text]]:
    """The shipped words for the categories that ask."""
    return {
        name: (
            {lang: render.load_texts(lang).category(name).title for lang in render.languages()},
            {lang: render.load_texts(lang).category(name).about for lang in render.languages()},
        )
        for name in ("preferences", "analytics", "marketing")
    }


def make_policy(
    services: Iterable[Service] | None = None, *, site: str = "De Linde", controller: str = "Stichting De Linde"
) -> Policy:
    """A policy over catalogue services (Analytics, YouTube and Maps unless told otherwise)."""
    known = catalogue.load()
    chosen = [known[name] for name in THREE] if services is None else list(services)
    return Policy.build(
        site=site,
        controller=controller,
        days=182,
        services=[own_cookie(controller), *chosen],
        categories=categories(),
        wording={},
    )


def make_view(policy: Policy | None = None, **changes: Any) -> SiteView:
    """A school's site."""
    values: dict[str, Any] = {
        "name": "Basisschool De Linde",
        "prefix": "/privacy",
        "base_url": "https://delinde.example",
        "controller": "Stichting De Linde",
        "address": "Lindelaan 1, 1234 AB Utrecht",
        "email": "privacy@delinde.example",
        "privacy_statement": "/privacyverklaring",
        "languages": ("nl", "en"),
        "policy": policy or make_policy(),
        "version": "0.1.0",
    }
    return SiteView(**values | changes)


@dataclass
class School:
    """The site: one page per path, the routes of consentkit, and what was posted to them.

    Args:
        pages: HTML per path, with `@@HEAD@@`, `@@BANNER@@` and `@@FOOTER@@` where ours goes.
        headers: extra headers of those pages (a CSP, say); `NONCE` in a value becomes the page's nonce.
        wake: how the script may wake scripts. fail: what the choice answers instead, a status and a reason.
    """

    view: SiteView = field(default_factory=make_view)
    pages: Mapping[str, str] = field(default_factory=lambda: {"/": HOST_PAGE})
    headers: Mapping[str, str] = field(default_factory=dict)
    wake: str = "here"
    clear: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fail: tuple[int, str] | None = None
    gpc: bool = True
    posts: list[list[tuple[str, str]]] = field(default_factory=list)
    hits: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.renderer = Renderer(self.view)
        self.choices = Choices(self.view.policy, Tokens([b"k" * 32]))
        prefix = self.view.prefix
        self.app = Starlette(
            routes=[
                Route(f"{prefix}/choice", self.choice, methods=["POST"]),
                Route(f"{prefix}/notice", self.notice),
                Route(f"{prefix}/settings", self.settings),
                Route(f"{prefix}/cookies", self.cookies),
                Route(f"{prefix}/message", self.message),
                Route(f"{prefix}/static/{{name}}", self.asset),
                Route("/hit/{name:path}", self.hit),
                Route("/{path:path}", self.page),
            ]
        )

    def state(self, request: Request) -> Any:
        """What holds for this visitor."""
        sent = signal(request.scope["headers"])
        return self.choices.state(request.cookies.get(self.view.cookie), signal=sent, today=TODAY)

    def token(self) -> str:
        """A notice token that can be spent once."""
        made = secrets.token_hex(8)
        self.tokens.add(made)
        return made

    async def page(self, request: Request) -> Response:
        """A page of the host, with what the middleware would put in."""
        found = self.pages.get(request.url.path)
        if found is None:
            return HTMLResponse("<!DOCTYPE html><html lang=en><title>?</title><h1>Not found</h1></html>", 404)
        state = self.state(request)
        nonce = secrets.token_hex(8)
        shared = self.view.mode == "shared"
        lang = (re.search(r'<html lang="(\w+)"', found) or ["", "nl"])[1]
        asks = shared or state.asks
        consents = any(purpose.id in state.granted for purpose in self.view.policy.asked)
        inserts = {
            "HEAD": self.renderer.head(banner=asks) if asks or consents else "",
            "BANNER": self.renderer.banner(lang) if asks else "",
            "FOOTER": self.renderer.footer(
                lang, granted=consents and not shared, own_settings=False, signal=state.signal, asks=asks
            ),
        }
        body = re.sub(r"@@(HEAD|BANNER|FOOTER)@@", lambda mark: inserts[mark[1]], found)
        values = {
            "ROOT": "",
            "TOKEN": "" if shared else self.token(),
            "NEXT": html.escape(request.url.path),
            "NONCE": f' nonce="{nonce}"',
            "WAKE": self.wake,
        }
        for service in (service for purpose in self.view.policy.asked for service in purpose.services):
            mark = f"@@EMBED {service.id}@@"
            if mark in body:
                document = re.sub(
                    r"@@([A-Z]+)@@", lambda mark: values[mark[1]], self.renderer.placeholder(lang, service, True)
                )
                body = body.replace(mark, html.escape(document))
        body = re.sub(r"@@([A-Z]+)@@", lambda mark: values[mark[1]], body)
        headers = {name: value.replace("NONCE", nonce) for name, value in self.headers.items()}
        return HTMLResponse(body.replace("{nonce}", nonce), headers=headers)

    async def choice(self, request: Request) -> Response:
        """The choice, without evidence."""
        fields = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        self.posts.append(fields)
        plain = dict(fields)
        wants_json = "application/json" in request.headers.get("accept", "")
        lang = "nl"
        refused = self.fail
        decision = Decision(plain["decision"])
        if refused is None and decision in (Decision.ACCEPT, Decision.REFUSE, Decision.SAVE, Decision.ALLOW):
            refused = None if plain.get("notice") in self.tokens else (409, "spent")
            self.tokens.discard(plain.get("notice", ""))
        if refused:
            status, reason = refused
            if wants_json:
                return JSONResponse({"error": reason, "message": self.renderer.texts(lang).error(reason)}, status)
            return HTMLResponse(self.renderer.page("message", lang, reason=reason), status)
        value = request.cookies.get(self.view.cookie)
        before = self.state(request)
        result = answer(
            decision,
            [value for name, value in fields if name == "purposes"],
            policy=self.view.policy,
            before=before,
            choice=self.choices.read(value) if value else None,
            today=TODAY,
            new_record=lambda: secrets.token_bytes(16),
        )
        if wants_json:
            response: Response = JSONResponse(
                {
                    "granted": sorted(result.granted),
                    "decided": result.choice.decided,
                    "withdrawn": sorted(result.withdrawn),
                    "clear": dict(self.clear),
                    "reload": bool(result.withdrawn),
                    "receipt": result.record_id if result.choice.record_id else None,
                }
            )
        else:
            response = RedirectResponse(plain.get("next", "/"), 303)
        header = choice_header(
            self.view.cookie,
            self.choices.write(result.choice),
            days=182,
            secure=False,
            readable=self.view.mode == "shared",
        )
        response.raw_headers.append((b"set-cookie", header))
        return response

    async def notice(self, request: Request) -> Response:
        """A fresh token, for the script in shared mode."""
        return JSONResponse({"notice": self.token()})

    def _own(self, body: bytes) -> Response:
        policy = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        )
        return Response(body, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    async def settings(self, request: Request) -> Response:
        """The settings page."""
        lang = request.query_params.get("lang", "nl")
        saved = "saved" in request.query_params
        after = f"{self.view.prefix}/settings?saved=1&lang={lang}"
        state = self.state(request)
        return self._own(self.renderer.page("settings", lang, state=state, token=self.token(), next=after, saved=saved))

    async def cookies(self, request: Request) -> Response:
        """The cookie statement."""
        return self._own(self.renderer.page("cookies", request.query_params.get("lang", "nl"), since=TODAY))

    async def message(self, request: Request) -> Response:
        """A page that says one thing."""
        reason = request.query_params.get("reason")
        return self._own(self.renderer.page("message", request.query_params.get("lang", "nl"), reason=reason))

    async def asset(self, request: Request) -> Response:
        """Stylesheets and script."""
        found = self.renderer.asset(request.path_params["name"])
        if found is None:
            return Response("no such asset", 404)
        body, media_type = found
        return Response(body, media_type=media_type)

    async def hit(self, request: Request) -> Response:
        """A stand-in for a tracker: it counts, and answers with a script, a page or a picture."""
        name = request.path_params["name"]
        self.hits.append(name)
        if name.endswith(".js"):
            return Response(f"(window.ran ||= []).push({name!r});", media_type="text/javascript")
        if name.endswith(".svg"):
            return Response(
                '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', media_type="image/svg+xml"
            )
        return HTMLResponse(f"<!DOCTYPE html><html lang=en><title>{name}</title><h1>{name}</h1></html>")


def themed(**changes: str) -> Theme:
    """A theme of an owner."""
    return Theme.from_table(changes)


def until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression holds, a promise awaited; through the debugger, which no policy stops.

    `Page.wait_for_function` evaluates text within the page, which a policy may forbid.
    """
    deadline = time.monotonic() + 10
    while not _holds(page, condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def _holds(page: Page, condition: str) -> bool:
    try:
        return bool(page.evaluate(condition))
    except Error as error:
        if "navigation" in str(error):
            return False  # the page it was asked of is gone; the next one is asked
        raise


_COLOURS = ("color-contrast", "link-in-text-block")
_ONLY: Mapping[str, Any] = {
    "": {},
    "colours": {"runOnly": {"type": "rule", "values": _COLOURS}, "iframes": False},
    "structure": {"rules": {name: {"enabled": False} for name in _COLOURS}},
    "targets": {"rules": {"target-size": {"enabled": True}}, "iframes": False},
}


AXE = Axe().axe_script
"""For the pages of a context that axe looks at all: as its init script it costs each of them half."""


def axe(page: Page | Frame, only: str = "") -> list[str]:
    """What axe finds wrong with the page as it looks now; run through the debugger, which no policy stops.

    Args:
        only: "colours" where the rest was looked at in other colours, "structure" where the colours were; "targets"
            for everything and the size of what is clicked, but nothing in frames, which are documents of their own.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(
        "only => axe.run({resultTypes: ['violations'], ...only}).then(all => all.violations)", _ONLY[only]
    )
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]

"""The least that the middleware needs of a kit, so that it can be tested without database and templates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

from consentkit.choice import Choice, Choices, Policy, State
from consentkit.gate import Gate, Slot
from consentkit.service import Duration, Item, Service
from consentkit.tokens import Tokens
from consentkit.web.flow import Fill, PageFlow, View
from consentkit.web.middleware import ConsentMiddleware

TODAY = date(2026, 11, 22)
HOST = b"school.example"
DOCUMENT = [
    (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br"),
]
NOTE = {"nl": "Doel", "en": "Purpose"}

ANALYTICS = Service(
    id="google-analytics",
    title="Google Analytics",
    provider="Google",
    country="IE",
    category="analytics",
    purpose=NOTE,
    hosts=("googletagmanager.com", "google-analytics.com"),
    inline=("gtag(",),
    items=(Item("_ga", Duration(13, "month"), NOTE), Item("_ga_*", Duration(13, "month"), NOTE)),
)
VIDEO = Service(
    id="youtube",
    title="YouTube",
    provider="Google",
    country="IE",
    category="marketing",
    purpose=NOTE,
    hosts=("youtube.com", "youtube-nocookie.com"),
    embed=True,
    items=(Item("VISITOR_INFO1_LIVE", Duration(6, "month"), NOTE, party="third"),),
)
PIXEL = Service(
    id="meta-pixel",
    title="Meta Pixel",
    provider="Meta",
    country="IE",
    category="marketing",
    purpose=NOTE,
    hosts=("facebook.com", "facebook.net"),
    inline=("fbq(",),
    items=(Item("_fbp", Duration(3, "month"), NOTE),),
)
SESSION = Service(
    id="own-session",
    title="Log-in",
    provider="De Linde",
    country="NL",
    category="necessary",
    purpose=NOTE,
    exempt=NOTE,
    items=(Item("sessionid", Duration.parse("session"), NOTE),),
)
SERVICES = (ANALYTICS, VIDEO, PIXEL, SESSION)
CATEGORIES = {"analytics": (NOTE, NOTE), "marketing": (NOTE, NOTE)}

SCRIPT = b'<script async src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>'
PAGE = (
    b"<!doctype html>\n<html lang=nl><head><title>De Linde</title>\n"
    + SCRIPT
    + b"\n<script>window.dataLayer=window.dataLayer||[];function gtag(){dataLayer.push(arguments)}"
    b"gtag('js',new Date())</script>\n"
    b"</head>\n<body class=home><h1>Welkom</h1>\n"
    b'<iframe src="https://www.youtube.com/embed/x" title=Film></iframe>\n'
    b'<noscript><img src="https://www.facebook.com/tr?id=1" alt=""></noscript>\n'
    b"<p>caf\xc3\xa9 &amp; meer</p></body></html>\n"
)
TRACKERS = ("www.googletagmanager.com", "www.youtube.com", "www.facebook.com")


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        first = dict(reversed(attrs))  # of two attributes with one name the first holds
        self.hosts.add(urlsplit(first.get("src") or "").hostname or "")


def leaks(body: bytes) -> list[str]:
    """The trackers that a page would load, read by a parser that is not ours."""
    loads = _Loads()
    loads.feed(body.decode("utf-8", "replace"))
    return [tracker for tracker in TRACKERS if tracker in loads.hosts]


def inserts(view: View) -> Fill:
    """What the templates make, as little as shows that it is there and for whom."""

    def fill(slot: Slot) -> bytes:
        match slot.kind:
            case "frame":
                return b"&lt;p&gt;later&lt;/p&gt;"
            case "head":
                return b'<link rel=stylesheet href="/privacy/static/x.css">' if view.ask else b""
            case "banner":
                return b"<section id=consentkit>" + view.path.encode() + b"</section>" if view.ask else b""
            case _:
                return b'<a data-consentkit="settings" href="/privacy/settings">Cookie-instellingen</a>'

    return fill


@dataclass
class MiniKit:
    """A kit for one site. `broken` names what raises when it is used."""

    mode: Any = "private"
    secure: bool = False
    prefix: str = "/privacy"
    gpc: bool = True
    services: tuple[Service, ...] = SERVICES
    build: bytes = b"b1"
    inserts: Callable[[View], Fill] = inserts
    tokens: Tokens = field(default_factory=lambda: Tokens([b"k" * 32]))
    seen: list[View] = field(default_factory=list)
    started: bool = False
    stopped: bool = False

    def __post_init__(self) -> None:
        self.policy = Policy.build(
            site="De Linde", controller="De Linde", days=182, services=self.services, categories=CATEGORIES, wording={}
        )
        self.choices = Choices(self.policy, self.tokens)
        self.gate = Gate(
            self.services,
            configured={service.id for service in self.services},
            categories={purpose.id for purpose in self.policy.purposes},
            own_hosts=("school.example",),
        )
        self.closed = Gate(self.services, configured=(), categories=())
        self.flow = PageFlow(
            gate=self.gate,
            choices=self.choices,
            policy=self.policy,
            prefix=self.prefix,
            mode=self.mode,
            gpc=self.gpc,
            secure=self.secure,
            shared_domain=False,
            html_etag=self.build,
            inserts=self._inserts,
        )

    def _inserts(self, view: View) -> Fill:
        self.seen.append(view)
        return self.inserts(view)

    def site(self, host: str, /) -> PageFlow | None:
        return None if host.startswith("unknown.") else self.flow

    def today(self) -> date:
        return TODAY

    def now(self) -> datetime:
        return datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True

    async def pages(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"ours " + scope["path"].encode()})

    def wrap(self, app: Any) -> ConsentMiddleware:
        return ConsentMiddleware(app, kit=self)

    def cookie(self, *granted: str, day: date = TODAY, record: bytes | None = b"r" * 16) -> bytes:
        """The choice cookie of a visitor who granted these purposes, and refused the others."""
        answered = {purpose.fingerprint: purpose.id in granted for purpose in self.policy.purposes}
        value = self.choices.write(Choice(day, True, answered, record if granted else None))
        return f"{self.flow.cookie}={value}".encode()

    def state(self, cookie: bytes) -> State:
        return self.flow.visitor(cookie, signal=None, today=TODAY).state


@dataclass
class Answer:
    """What left for the visitor: the messages as they were sent, and what they amount to."""

    messages: list[dict[str, Any]]
    scope: dict[str, Any]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.lower(), value) for name, value in self.messages[0]["headers"]]

    def header(self, name: bytes) -> bytes | None:
        found = self.all(name)
        return b", ".join(found) if found else None

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages if message["type"].endswith("body"))


def scope_of(
    path: str = "/",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    method: str = "GET",
    query: bytes = b"",
    **more: Any,
) -> dict[str, Any]:
    """An HTTP scope as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", HOST), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("school.example", 80),
        **more,
    }


async def call(app: Any, scope: dict[str, Any]) -> Answer:
    """One request through `app`."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(sent, scope)


def visit(
    app: Any, path: str = "/", *, cookie: bytes = b"", headers: Any = (), page: bool = True, **more: Any
) -> Answer:
    """One request as a browser sends it: for a page, unless `page` says otherwise."""
    sent = [*(DOCUMENT if page else ()), *headers, *([(b"cookie", cookie)] if cookie else ())]
    return asyncio.run(call(app, scope_of(path, headers=sent, **more)))


def answering(
    *bodies: bytes,
    status: int = 200,
    type: bytes | None = b"text/html; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
    length: bool = True,
    trailing: bool = False,
) -> Callable[..., Awaitable[None]]:
    """An app that always sends these bodies. `trailing`: an empty message ends the response, as Quart and Flask do."""
    start: list[tuple[bytes, bytes]] = [] if type is None else [(b"Content-Type", type)]
    start += list(headers)
    if length:
        start.append((b"Content-Length", str(sum(map(len, bodies))).encode()))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        app.scope = scope  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": status, "headers": list(start)})
        for at, body in enumerate(bodies):
            more = trailing or at < len(bodies) - 1
            await send({"type": "http.response.body", "body": body, "more_body": more})
        if trailing or not bodies:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app

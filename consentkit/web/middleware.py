"""The page flow: what comes in from the server, what goes to the app, what leaves for the visitor.

A response that is no page leaves exactly as it came, but for the cookies nobody agreed to. A page is gated as it
streams: one message out for each message in. Whatever fails here, the page is served, and gated.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consentkit.choice import expiring, once_header
from consentkit.gate import Gate, Rewriter, Seen, Slot, fallback
from consentkit.gate.csp import CLOSED_CSP, ENFORCE
from consentkit.gate.headers import FETCHING, filter_fetches, filter_set_cookie, without_fetches
from consentkit.gate.urls import without_port
from consentkit.web.body import Charset, Decoder, Gzip, accepts_gzip, charset_of, decoders, plain, readable
from consentkit.web.consent import KEY, Consent
from consentkit.web.flow import NOTHING, Fill, Kit, PageFlow, View
from consentkit.web.headers import (
    FALLBACK_CSP,
    Header,
    content_policy,
    page_headers,
    plain_condition,
    recoded,
    unmark,
)
from consentkit.web.lifespan import live

log = logging.getLogger("consentkit")

READ_BYTES = 64 * 1024
"""How much of a file is gated at a time where the app leaves its sending to the server."""

_MEMO = 256
_SAFE = ("GET", "HEAD")
_GPC = "/.well-known/gpc.json"
_UNSNIFFED = frozenset({b"", b"*/*", b"unknown/unknown", b"application/unknown"})
_NEVER_KEPT = frozenset(
    {b"content-length", b"etag", b"last-modified", b"accept-ranges", b"cache-control"}
    | {b"set-cookie", b"content-md5", b"digest", b"repr-digest", b"content-digest"}
)
_URL = re.compile(rb"[A-Za-z0-9/%:@!$&()*+,;=~._?-]*")
_DRAWINGS = (b"image/svg+xml", b"text/xml", b"application/xml")
"""Documents of their own that no gate reads: where the browser is to enforce, they load from the own origin only."""
_CONDITIONS = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since"})


class ConsentMiddleware:
    """Puts the consent layer around an ASGI app.

    Args:
        app: any ASGI application.
        kit: the `ConsentKit` that knows the sites.
    """

    def __init__(self, app: ASGIApp, *, kit: Kit) -> None:
        self.app = app
        self._kit = kit
        self._flows: dict[bytes, tuple[PageFlow | None, str]] = {}

    @property
    def kit(self) -> Kit:
        """The kit that knows the sites."""
        return self._kit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: HTTP is gated, all else goes straight through."""
        kind = scope["type"]
        if kind not in ("http", "websocket") or KEY in scope:  # there already: two of us around one app
            if kind == "lifespan":
                await live(self._kit, self.app, scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        response = self._open(scope, send)
        if response is not None:
            await self.app(response.scope, receive, response.send)
            if response.held is not None:
                await response.finish()
        elif kind == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._kit.pages(scope, receive, send)

    def _open(self, scope: Scope, send: Send) -> _Response | None:
        """What stands in for `send`; None for one of our own routes and for a WebSocket."""
        raw: list[Header] = scope["headers"]
        headers: dict[bytes, bytes] = {}
        flow: PageFlow | None = None
        try:
            headers = dict(raw)
            if len(headers) != len(raw):
                headers = _joined(raw)
            host = headers.get(b"host", b"")
            flow, prefix = self._flows.get(host) or self._flow(host)
            scope[KEY] = consent = Consent(flow, headers, raw, self._kit.today)
            if scope["type"] == "websocket":
                return None
            if flow is not None:
                path = route_path(scope)
                if (path.startswith(prefix) and len(path) > len(prefix)) or (flow.gpc and path == _GPC):
                    return None
            response = _Response(scope, send, flow.gate if flow else self._kit.closed, consent, headers)
            response.prepare(self._kit.now)
            return response
        except Exception:
            log.exception("a request could not be read: its page is gated with nothing granted")
            scope[KEY] = consent = Consent(None, {}, (), self._kit.today)
            if scope["type"] == "websocket":
                return None
            kept = [header for header in raw if header[0] not in _CONDITIONS]
            return _Response({**scope, "headers": kept}, send, self._kit.closed, consent, {})

    def _flow(self, host: bytes) -> tuple[PageFlow | None, str]:
        flow = self._kit.site(host.decode("latin-1"))
        found = flow, f"{flow.prefix}/" if flow else ""
        if len(self._flows) >= _MEMO:
            self._flows.clear()
        self._flows[host] = found
        return found


def _joined(raw: list[Header]) -> dict[bytes, bytes]:
    """Headers that came more than once as one: HTTP/2 may cut cookies in pieces (RFC 9113 section 8.2.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        before = headers.get(name)
        headers[name] = value if before is None else before + (b"; " if name == b"cookie" else b", ") + value
    return headers


def route_path(scope: Scope) -> str:
    """The path as the app routes it. Servers differ in whether `path` has the root path in front."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def seen_path(scope: Scope) -> str:
    """Path and query as they stand in the visitor's address bar, percent-encoded."""
    root: str = scope.get("root_path", "")
    raw: bytes | None = scope.get("raw_path")
    path = _quoted(raw.partition(b"?")[0] if raw else scope["path"].encode())
    if root and route_path(scope) is scope["path"]:
        path = quote(root) + path
    query = scope.get("query_string", b"")
    return f"{path}?{_quoted(query)}" if query else path


def _quoted(url: bytes) -> str:
    return url.decode("ascii") if _URL.fullmatch(url) else quote(url, safe="/%:@!$&()*+,;=~-._?")


def as_page(headers: dict[bytes, bytes]) -> bool | None:
    """Whether the answer is shown as a page (True), put into one (False), or told apart by its content (None).

    The last also for what will become the page: bodies that a script swaps in whole, and prefetched pages.
    """
    destination = headers.get(b"sec-fetch-dest")
    if destination == b"document":
        return True
    if (
        headers.get(b"hx-boosted") == b"true"
        or headers.get(b"hx-history-restore-request") == b"true"
        or (b"x-turbo-request-id" in headers and b"turbo-frame" not in headers)
        or (destination == b"empty" and b"prefetch" in headers.get(b"sec-purpose", b""))
    ):
        return None
    if (
        b"hx-request" in headers
        or b"turbo-frame" in headers
        or headers.get(b"x-requested-with", b"").lower() == b"xmlhttprequest"
    ):
        return False
    return None if destination is None else False


def _may_be_page(headers: dict[bytes, bytes]) -> bool:
    """Whether a page may be the answer: what decides if the app is asked for it unencoded and unconditionally."""
    return (
        b"text/html" in headers.get(b"accept", b"")
        or headers.get(b"sec-fetch-dest") in (b"document", b"iframe", b"frame")
        or b"hx-request" in headers
        or b"turbo-frame" in headers
    )


@lru_cache(maxsize=_MEMO)
def _media(content_type: bytes) -> str:
    """`html`, `xhtml`, `sniff` (browsers look at the content) or empty: nothing of ours."""
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"text/html":
        return "html"
    if media == b"application/xhtml+xml":
        return "xhtml"
    return "sniff" if media in _UNSNIFFED else ""


def _own(named: dict[bytes, bytes]) -> bool:
    """Whether the app itself keeps this response out of shared caches."""
    kept = named.get(b"cache-control", b"").lower()
    return b"private" in kept or b"no-store" in kept


class _Response:
    """Stands in for `send` during one request."""

    held: Message | None = None  # a start that waits for the first bytes
    _page: _Page | None = None
    _declared = -1
    _complete = False
    _sniffing = False
    _translated = False
    _complained = False
    _once = False  # something was let in for this load only

    def __init__(self, scope: Scope, send: Send, gate: Gate, consent: Consent, headers: dict[bytes, bytes]) -> None:
        self.scope = scope
        self._send = send
        self._gate = gate
        self._consent = consent
        self._request = headers
        self._private = consent.flow is None or consent.flow.mode == "private"

    def prepare(self, now: Callable[[], datetime]) -> None:
        """Leave out of the request what would get us a page that can't be read, or none at all.

        Args:
            now: tells the time, aware; asked only of a visitor who lets something in once.
        """
        headers, scope = self._request, self.scope
        page = _may_be_page(headers)
        if not page and b"if-none-match" not in headers and b"if-match" not in headers:
            return
        safe = scope["method"] in _SAFE
        if page and self._private and self._consent.visitor.once is not None:
            self._load_once(now)
        changed: dict[bytes, bytes | None] = {}
        if page:
            changed[b"accept-encoding"] = None
            if safe:
                changed[b"if-modified-since"] = None
        if safe and b"if-none-match" in headers:
            condition, self._translated = unmark(headers[b"if-none-match"], self._tag(), page=page)
            changed[b"if-none-match"] = condition
        if b"if-match" in headers:
            changed[b"if-match"] = plain_condition(headers[b"if-match"])
        if not changed.keys().isdisjoint(headers):
            kept = [header for header in scope["headers"] if header[0] not in changed]
            kept += [(name, value) for name, value in changed.items() if value is not None]
            self.scope = {**scope, "headers": kept}

    def _load_once(self, now: Callable[[], datetime]) -> None:
        """Let in what this load alone may use: of a page that is being opened, not fetched, framed or foretold."""
        headers = self._request
        if self.scope["method"] == "GET" and as_page(headers) is not False and b"sec-purpose" not in headers:
            self._once = self._consent.load_once(seen_path(self.scope), now())

    @property
    def _document(self) -> bool | None:
        """See `as_page`; what everybody gets can't depend on how one browser asked."""
        return as_page(self._request) if self._private else None

    def _tag(self) -> bytes | None:
        """What this variant's entity tag is marked with; a page that asks is never the same twice and has none.

        Nor has a page with something that was let in for this load only.
        """
        flow = self._consent.flow
        if flow is None or self._once:
            return None
        if flow.mode == "shared":
            return flow.tag(None, document=None)
        visitor, state = self._consent.visitor, self._consent.state
        if state.asks or visitor.old:
            return None
        return flow.tag(state, document=self._document, today=self._consent.today())

    async def send(self, message: Message) -> None:
        """Take one message of the app and pass on what becomes of it."""
        kind = message["type"]
        if kind == "http.response.start":
            start = self._start(message)
            if start is not None:
                await self._send(start)
        elif self._page is None and not self._sniffing:
            await self._send(self._hinted(message) if kind == "http.response.early_hint" else message)
        elif kind == "http.response.body":
            for out in self._body(message):
                await self._send(out)
        elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
            async for piece in _file(message):
                for out in self._body(piece):
                    await self._send(out)
        else:
            await self._send(message)

    async def finish(self) -> None:
        """Let go of a start whose body never came: what is wrong with that is between the app and its server."""
        if self.held is not None:
            held, self.held = self.held, None
            if self._sniffing:
                held = self._passing(held, held["headers"], {name.lower(): value for name, value in held["headers"]})
            await self._send(held)

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.exception("%s", what)

    # The start: is this a page?

    def _start(self, message: Message) -> Message | None:
        headers = message.get("headers", ())
        if type(headers) is not list:
            headers = list(headers)
            message = {**message, "headers": headers}
        try:
            return self._decide(message, headers)
        except Exception:
            self._complain("a response could not be judged: it is gated with nothing granted, and kept by no cache")
            return self._closed(message, headers)

    def _decide(self, message: Message, headers: list[Header]) -> Message | None:
        named = {name.lower(): value for name, value in headers}
        media = _media(named.get(b"content-type", b""))
        status: int = message["status"]
        if (
            not media
            or status in (204, 205, 206, 304)
            or status < 200
            or (b"location" in named and 300 <= status < 400)
            or named.get(b"content-disposition", b"").lstrip()[:10].lower() == b"attachment"
            or (media == "sniff" and b"nosniff" in named.get(b"x-content-type-options", b"").lower())
        ):
            if status == 304 and self._translated:
                headers = page_headers(headers, tag=self._tag(), private=self._private)
                # What a 304 says again replaces what was stored of that name (RFC 9111 section 3.2): ours goes with it.
                headers += [header for header in self._policy(headers) if header[0] in named]
                return self._passing({**message, "headers": headers}, headers, named, self._granted)
            return self._passing(message, headers, named)
        if media == "sniff":
            self._sniffing = True
            self.held = message
            return None
        return self._begin(message, headers, named, media)

    @property
    def _granted(self) -> frozenset[str]:
        """What the page's HTML may be released for; in shared mode nothing, for it is everybody's."""
        return self._consent.state.granted if self._private else NOTHING

    def _passing(
        self,
        message: Message,
        headers: list[Header],
        named: dict[bytes, bytes],
        granted: frozenset[str] | None = None,
    ) -> Message:
        """The start of what has no page with it: as it came, but for cookies and fetches that nobody agreed to.

        The latter are released for `granted`; without it only where no shared cache may keep the response.
        """
        if not FETCHING.isdisjoint(named):
            if granted is None:
                granted = self._consent.state.granted if _own(named) else NOTHING
            headers = self._fetches(headers, named, granted)
            message = {**message, "headers": headers}
        if b"set-cookie" in named:
            headers = self._cookies(headers, self._consent.state.granted)
            message = {**message, "headers": headers}
        flow = self._consent.flow
        if flow is not None and flow.csp is not None and named.get(b"content-type", b"").startswith(_DRAWINGS):
            message = {**message, "headers": [*headers, (flow.csp.name, CLOSED_CSP)]}
        return message

    def _fetches(self, headers: list[Header], named: dict[bytes, bytes], granted: frozenset[str]) -> list[Header]:
        """Without what would make the browser fetch from, or report to, what has no consent."""
        if FETCHING.isdisjoint(named):
            return headers
        try:
            return filter_fetches(headers, self._gate, granted)
        except Exception:
            self._complain("what the headers of a response fetch could not be judged: it is left out")
            return without_fetches(headers)

    def _cookies(self, headers: list[Header], granted: frozenset[str]) -> list[Header]:
        try:
            self._note_cookies(headers)
            return filter_set_cookie(headers, self._gate, granted)[0]
        except Exception:
            self._complain("the cookies of a response could not be judged: they are left out")
            return [header for header in headers if header[0].lower() != b"set-cookie"]

    def _note_cookies(self, headers: list[Header]) -> None:
        """Take note of the cookies that the app sets, but for those that it removes."""
        flow = self._consent.flow
        for name, value in headers if flow else ():
            if flow and name.lower() == b"set-cookie" and b"max-age=0" not in value.lower():
                cookie = value.partition(b";")[0].partition(b"=")[0].strip().decode("latin-1")
                flow.seen.note("cookie", cookie, route_path(self.scope))

    def _begin(self, message: Message, headers: list[Header], named: dict[bytes, bytes], media: str) -> Message | None:
        """Begin a page: what its headers become, and how its body will be read."""
        charset = charset_of(named.get(b"content-type", b""))
        codings = named.get(b"content-encoding")
        undo = decoders(codings) if codings else []
        private, granted = self._private, self._granted
        own = private or _own(named)  # what a shared cache may keep is everybody's
        if undo is None or not readable(charset):
            held = granted if _own(named) else NOTHING
            headers = [*self._fetches(headers, named, held), (b"content-security-policy", FALLBACK_CSP)]
            return {**message, "headers": self._cookies(headers, held)}
        headers = self._fetches(headers, named, granted)
        policies: list[bytes] = []
        if b"content-security-policy" in named:
            policies = [value for name, value in headers if name.lower() == b"content-security-policy"]
        headers = page_headers(headers, tag=self._tag() if b"etag" in named else None, private=private)
        if b"set-cookie" in named:
            headers = self._cookies(headers, self._consent.state.granted if own else NOTHING)
        document = False if media == "xhtml" else self._document  # our markup is not well-formed XML
        if own and document is not False and self._consent.visitor.refused:
            headers += self._expired()
        if self._once:
            headers += self._spent()
        if own and document is not False and self._consent.visitor.old is not None:
            headers += self._adopted()
        headers += self._policy(headers)
        gzip = bool(undo) and accepts_gzip(self._request.get(b"accept-encoding", b""))
        if undo:
            headers = recoded(headers, gzip=gzip)
        start = {**message, "headers": headers}
        if self.scope["method"] == "HEAD":
            return start
        flow = self._consent.flow
        fill = self._filler(flow, policies) if flow is not None else _nothing
        packer = Gzip() if gzip else None
        self._page = _Page(
            self._gate, granted, fill, document, self._complain, look=self._looker(), charset=charset, undo=undo,
            gzip=packer,
        )  # fmt: skip
        length = named.get(b"content-length", b"")
        if not length.isdigit():
            return start
        self._declared = int(length)
        self.held = start
        return None

    def _looker(self) -> Look | None:
        """What takes note of the third parties that this page loads from, where it is this page's turn."""
        flow, path = self._consent.flow, route_path(self.scope)
        return partial(flow.seen.look, path=path) if flow is not None and flow.seen.due(path) else None

    def _expired(self) -> list[Header]:
        host = self._request.get(b"host", b"").decode("latin-1")
        values = expiring(self._consent.visitor.refused, host=without_port(host), path=seen_path(self.scope))
        return [(b"set-cookie", value) for value in values]

    def _adopted(self) -> list[Header]:
        """Keep the refusals that an earlier tool's cookie tells, so that it is not read again.

        Where it grants something too, all of it waits until that is recorded.
        """
        flow, old = self._consent.flow, self._consent.visitor.old
        if flow is None or old is None or old.importing:
            return []
        return [(b"set-cookie", flow.keeping(old.choice))]

    def _spent(self) -> list[Header]:
        """End the cookie that let something in once; what it opened is kept by no cache."""
        flow = self._consent.flow
        ended = [(b"set-cookie", once_header(None, secure=flow.secure))] if flow else []
        return [*ended, (b"cache-control", b"no-store")]

    def _policy(self, headers: list[Header], granted: frozenset[str] | None = None) -> tuple[Header, ...]:
        """The policy of ours that goes with this page, and where it reports to; nothing where the site has none."""
        flow = self._consent.flow
        if flow is None or flow.csp is None:
            return ()
        try:
            app = [value for name, value in headers if name.lower() == ENFORCE]
            held = self._granted if granted is None else granted
            return flow.csp.headers(held, app, root=self.scope.get("root_path", ""), secure=flow.secure)
        except Exception:
            self._complain("a page's policy could not be made: the browser may load from the own origin only")
            return ((flow.csp.name, CLOSED_CSP),)

    def _filler(self, flow: PageFlow, policies: list[bytes]) -> Fill:
        """Fills the slots; made when a slot is met after other policies, and fills nothing once it failed."""
        made: Fill | None = None
        before: tuple[str, ...] = ()

        def fill(slot: Slot) -> bytes:
            nonlocal made, before
            try:
                if made is None or (slot.policies != before and made is not _nothing):
                    made, before = self._fill(flow, policies, slot.policies), slot.policies
                return made(slot)
            except Exception:
                made = _nothing
                self._complain("nothing could be inserted: the page is served without, and gated")
                return b""

        return fill

    def _fill(self, flow: PageFlow, policies: list[bytes], metas: tuple[str, ...]) -> Fill:
        nonce, wake = content_policy(policies, metas) if policies or metas else (None, "here")
        if flow.csp is not None and flow.csp.reloads and wake != "form":
            wake = "again"
        state, old = self._consent.state, self._consent.visitor.old
        if not self._private:
            state = flow.visitor(b"", signal=None, today=self._consent.today()).state
        return flow.inserts(
            View(
                state=state,
                path=seen_path(self.scope),
                root_path=self.scope.get("root_path", ""),
                host=self._request.get(b"host", b"").decode("latin-1"),
                nonce=nonce,
                wake=wake,
                importing=self._private and old is not None and old.importing,
            )
        )

    def _closed(self, message: Message, headers: list[Header]) -> Message:
        kept = [header for header in without_fetches(headers) if header[0].lower() not in _NEVER_KEPT]
        media = next((value.lower() for name, value in headers if name.lower() == b"content-type"), b"html?")
        if b"html" in media and message["status"] not in (204, 205, 206, 304):
            codings = b", ".join(value for name, value in kept if name.lower() == b"content-encoding")
            kept = [header for header in kept if header[0].lower() != b"content-encoding"]
            undo = decoders(codings) or []
            self._page = _Page(self._gate, NOTHING, _nothing, False, self._complain, charset=None, undo=undo, gzip=None)
            kept += self._policy(kept, NOTHING)
        self._sniffing, self.held = False, None
        return {**message, "headers": [*kept, (b"cache-control", b"no-store")]}

    # The body

    def _body(self, message: Message) -> list[Message]:
        body = message.get("body", b"")
        if type(body) is not bytes:
            body = bytes(body)
        last = not message.get("more_body", False)
        if self._sniffing and self.held is not None:
            begun = self._sniffed(self.held, body, last)
            if self._page is None:
                return [begun, message] if begun else [message]
            if begun:
                return [begun, *self._body(message)]
        page = self._page
        if page is None:
            return [message]
        if self._complete:
            return [{**message, "body": page.late(body)}] if body else [message]
        held, self.held = self.held, None
        whole = last or (held is not None and len(body) == self._declared)  # Quart, Flask: an empty message follows
        body = page.feed(body, whole)
        out = {**message, "body": body}
        self._complete = whole
        if last:
            self._page = None  # it knows us and we know it: let go, rather than leave it to the garbage collector
        if held is None:
            return [out]
        if whole:
            held["headers"].append((b"content-length", b"%d" % len(body)))
        return [held, out]

    def _sniffed(self, held: Message, body: bytes, last: bool) -> Message | None:
        """Decide on a response without a type by its first bytes, as browsers do (MIME Sniffing section 7.1)."""
        self.held, self._sniffing = None, False
        text = body.lstrip(b"\t\n\x0c\r ")
        if not (text.startswith(b"<") or (not text and not last)):
            return self._passing(held, held["headers"], {name.lower(): value for name, value in held["headers"]})
        headers: list[Header] = held["headers"]
        try:
            return self._begin(held, headers, {name.lower(): value for name, value in headers}, "html")
        except Exception:
            self._complain("a response could not be judged: it is gated with nothing granted, and kept by no cache")
            return self._closed(held, headers)

    def _hinted(self, message: Message) -> Message:
        """Early hints without those that lead to what nobody agreed to (RFC 8297)."""
        links: list[bytes] = []
        try:
            kept = filter_fetches([(b"link", link) for link in message.get("links", ())], self._gate, self._granted)
            links = [value for _, value in kept]
        except Exception:
            self._complain("early hints could not be judged: they are left out")
        return {**message, "links": links}


Look = Callable[[Sequence[Seen]], None]


def _nothing(slot: Slot) -> bytes:
    return b""


class _Page:
    """The body of one page on its way through decoding, gate and encoding."""

    __slots__ = (
        "_begun",
        "_broken",
        "_charset",
        "_complain",
        "_document",
        "_fill",
        "_gate",
        "_granted",
        "_gzip",
        "_label",
        "_look",
        "_rewriter",
        "_tail",
        "_undo",
    )

    def __init__(
        self,
        gate: Gate,
        granted: frozenset[str],
        fill: Fill,
        document: bool | None,
        complain: Callable[[str], None],
        *,
        look: Look | None = None,
        charset: str | None,
        undo: list[Decoder],
        gzip: Gzip | None,
    ) -> None:
        self._gate = gate
        self._granted = granted
        self._fill = fill
        self._document = document
        self._complain = complain
        self._look = look
        self._label = charset
        self._undo = undo
        self._gzip = gzip
        self._charset: Charset | None = None
        self._rewriter: Rewriter | None = None
        self._begun = False
        self._broken = False
        self._tail = b""

    def feed(self, data: bytes, last: bool) -> bytes:
        """The next bytes from the app and what leaves for them now."""
        try:
            for decoder in self._undo:
                data = decoder.feed(data)
            if not self._begun:
                self._begun = True
                self._charset = None if plain(self._label, data) else Charset(self._label, self._gated)
            data = self._charset.feed(data, last) if self._charset else self._gated(data, last)
            return self._gzip.feed(data, last) if self._gzip else data
        except Exception:
            self._complain("a page could not be read: what can't be gated is left out")
            return b""

    def late(self, data: bytes) -> bytes:
        """Bytes after the end that the app announced: no browser asks for them, but none may pass ungated."""
        return b"" if self._undo else _crude(data)

    def _gated(self, data: bytes, last: bool) -> bytes:
        if self._broken:
            return self._roughly(data, last)
        try:
            if self._rewriter is None:
                if last:
                    return self._whole(data)
                look = self._look is not None
                self._rewriter = self._gate.rewriter(self._granted, self._fill, document=self._document, look=look)
            out = self._rewriter.feed(data)
            if not last:
                return out
            out += self._rewriter.close()
            if self._look:
                self._look(self._rewriter.seen)
            return out
        except Exception:
            self._complain("a page could not be gated exactly: the rest of it is gated roughly")
            self._broken = True
            return self._roughly(data, last)

    def _whole(self, data: bytes) -> bytes:
        if not data:
            return data
        return self._gate.rewrite(data, self._granted, self._fill, document=self._document, on_seen=self._look)

    def _roughly(self, data: bytes, last: bool) -> bytes:
        data = self._tail + data
        cut = len(data) if last else data.rfind(b"<", max(0, len(data) - 64))
        cut = len(data) if cut == -1 else cut
        self._tail = data[cut:]
        return _crude(data[:cut])


def _crude(data: bytes) -> bytes:
    try:
        return fallback(data)
    except Exception:
        return data.replace(b"<", b"&lt;")


async def _file(message: Message) -> AsyncIterator[Message]:
    """The messages that stand for a file which the app leaves to the server to send."""
    if message["type"] == "http.response.pathsend":
        descriptor: int = await run_sync(os.open, message["path"], os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            async for piece in _pieces(descriptor, None, None, more_body=False):
                yield piece
        finally:
            await run_sync(os.close, descriptor)
    else:
        file: Any = message["file"]
        descriptor = file if isinstance(file, int) else file.fileno()
        more = bool(message.get("more_body", False))
        async for piece in _pieces(descriptor, message.get("offset"), message.get("count"), more_body=more):
            yield piece


async def _pieces(descriptor: int, offset: int | None, count: int | None, *, more_body: bool) -> AsyncIterator[Message]:
    """A file's bytes as body messages, read one ahead so that the last one is known as such."""

    def read() -> bytes:
        nonlocal offset, count
        size = READ_BYTES if count is None else min(READ_BYTES, count)
        data = os.read(descriptor, size) if offset is None else os.pread(descriptor, size, offset)
        offset = offset if offset is None else offset + len(data)
        count = count if count is None else count - len(data)
        return data

    data = await run_sync(read)
    while data:
        following = await run_sync(read)
        yield {"type": "http.response.body", "body": data, "more_body": more_body or bool(following)}
        data = following
        if not following:
            return
    yield {"type": "http.response.body", "body": b"", "more_body": more_body}

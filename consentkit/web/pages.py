"""The routes under the kit's prefix: the choice, the settings, the statement, the receipt, the assets.

Everything here works as plain forms and links. Nothing is cached but the assets, nothing is framed, nothing
leaves the own origin.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

from limits import parse as parse_limit
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from consentkit.afgemeld import Afgemeld, Links
from consentkit.audit import Audit
from consentkit.choice import (
    Answer,
    Decision,
    answer,
    choice_header,
    expiring,
    find,
    once_header,
    refused,
    signal,
    single,
)
from consentkit.choice.imported import choice_of
from consentkit.choice.once import LIFETIME as ONCE_LIFETIME
from consentkit.errors import ChoiceRefused, ConsentKitError, EvidenceUnavailable
from consentkit.evidence import ConsentEvent, Evidence, Notice
from consentkit.mailing.inbox import Inbox
from consentkit.mailing.measure import Measuring
from consentkit.mailing.webhooks import Hook
from consentkit.newsletter import Newsletter
from consentkit.newsletter.recipients import Recipients
from consentkit.settings import Settings
from consentkit.tokens import Tokens
from consentkit.web import notices, owner
from consentkit.web.body import accepts_gzip
from consentkit.web.console import Console
from consentkit.web.forms import read_fields, same_origin
from consentkit.web.inbox import InboxPages
from consentkit.web.inserts import safe_next
from consentkit.web.mailings import MailingPages
from consentkit.web.newsletter import NewsletterPages, forget_key
from consentkit.web.reports import Reports
from consentkit.web.site import Site
from consentkit.web.visit import HEADERS, PAGE_HEADERS, SECRET_HEADERS, Visit

log = logging.getLogger("consentkit")

POSTS_PER_CLIENT = "600/minute"
"""A whole school can stand behind one address; this stops a script, not a class."""

_NEEDS_NOTICE = frozenset(Decision) - {Decision.WITHDRAW}
"""Taking everything back answers no question: it may come from any page, at any time (GDPR art. 7(3))."""

_SAFE = {"GET", "HEAD"}


class Kit(Protocol):
    """What the pages need of the kit."""

    tokens: Tokens
    audit: Audit
    evidence: Evidence
    afgemeld: Afgemeld
    measuring: Measuring
    inbox: Inbox
    hooks: Mapping[str, Hook]
    newsletter: Newsletter
    recipients: Recipients
    settings: Settings
    console: Console

    @property
    def links(self) -> Links: ...

    def find_site(self, host: str) -> Site | None: ...
    def now(self) -> datetime: ...
    def healthy(self) -> Mapping[str, bool]: ...


class Pages:
    """The ASGI app behind the prefix.

    Args:
        kit: sites, keys, evidence and the clock.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = parse_limit(POSTS_PER_CLIENT)
        self._started = kit.now()
        self._newsletter = NewsletterPages(kit, self._page)
        self._inbox = InboxPages(kit)
        self._mailings = MailingPages(kit, self._page)
        self._reports = Reports()
        self._routes: dict[str, tuple[set[str], Callable[[Visit], Awaitable[Response]]]] = {
            "choice": ({"POST"}, self._choice),
            "import": ({"POST"}, self._import),
            "settings": (_SAFE, self._settings),
            "cookies": (_SAFE, self._statement),
            "receipt": (_SAFE, self._receipt),
            "notice": (_SAFE, self._notice),
            "health": (_SAFE, self._health),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a failure of ours is a plain page, never a stack trace."""
        request = Request(scope, receive)
        site = self._kit.find_site(request.headers.get("host", ""))
        if site is None:
            forget_key(scope)
            await Response("Not configured for this host.", 421, HEADERS)(scope, receive, send)
            return
        visit = self._visit(request, site)
        try:
            response = await self._route(visit)
        except ChoiceRefused as error:
            log.info("choice refused: %s", error.reason)
            response = self._message(visit, error.reason, error.status)
        except Exception:
            log.exception("a page of consentkit failed")
            response = self._message(visit, "unavailable", 503)
        await response(scope, receive, send)

    def _visit(self, request: Request, site: Site) -> Visit:
        header = request.headers.get("cookie", "")
        value = find(header, site.flow.cookie) if header else None
        sent = signal(request.scope["headers"])
        known = site.flow.visitor(header.encode("latin-1"), signal=sent, today=self._kit.now().date())
        wanted = request.query_params.get("lang") or request.headers.get("accept-language", "").partition(",")[0]
        return Visit(request, site, site.inserts.language(wanted.strip().lower()), value, known.state, known.old)

    async def _route(self, visit: Visit) -> Response:
        path = visit.request.scope["path"].removeprefix(visit.root)
        method = visit.request.method
        if path == "/.well-known/gpc.json":
            return self._gpc(visit)
        name = path.removeprefix(visit.site.settings.prefix).strip("/")
        if name.startswith("static/") and method in _SAFE:
            return self._asset(visit, name.removeprefix("static/"))
        for pages in (self._kit.console, self._reports, self._inbox, self._mailings, self._newsletter):
            if (response := await pages.answer(visit, name)) is not None:
                return response
        methods, handle = self._routes.get(name, (_SAFE, None))
        if handle is None:
            return self._message(visit, "not_found", 404)
        if method not in methods:
            response = self._message(visit, "method", 405)
            response.headers["Allow"] = ", ".join(sorted(methods))
            return response
        return await handle(visit)

    # -- the choice ---------------------------------------------------------------------------------------------

    async def _choice(self, visit: Visit) -> Response:
        request, now = visit.request, self._kit.now()
        same_origin(request, secure=visit.site.flow.secure)
        if not self._limiter.hit(self._limit, visit.client):
            raise ChoiceRefused("too_many", status=429)
        fields = await read_fields(request)
        decision = _decision(fields)
        back = _back(fields, default=visit.url("settings"))
        shown, notice = self._answered_notice(visit, fields, decision, now)
        words = [word for name, value in fields if name == "purposes" for word in value.replace(",", " ").split()]
        if decision is Decision.ONCE and shown is not None:
            return await self._once(visit, words, back, shown=shown, notice=notice, now=now)
        held = visit.site.choices.read(visit.value) if visit.value else visit.old.choice if visit.old else None
        asked = _only_asked(decision, words, visit) if ("from", "banner") in fields else (decision, words)
        result = answer(
            *asked,
            policy=visit.site.policy,
            before=visit.state,
            choice=held,
            today=now.date(),
            new_record=lambda: secrets.token_bytes(16),
        )
        method = _method(fields, decision)
        await self._record(visit, result, notice=notice, shown=shown, method=method, now=now)
        response = self._answered(visit, result, back)
        if result.withdrawn:
            # Pages that the browser keeps alive to go back to would come back with what was just taken away.
            response.headers["Clear-Site-Data"] = '"cache"'
        for header in self._cookies(visit, result, back):
            response.raw_headers.append((b"set-cookie", header))
        return response

    async def _import(self, visit: Visit) -> Response:
        """Take over what an earlier consent tool's cookie says, once; a grant counts when it is recorded as imported.

        It is evidence of what stood in that cookie, not of what was read: its notice says that no text is known.
        """
        now, old, policy = self._kit.now(), visit.old, visit.site.policy
        same_origin(visit.request, secure=visit.site.flow.secure)
        if not self._limiter.hit(self._limit, visit.client):
            raise ChoiceRefused("too_many", status=429)
        if old is None:
            raise ChoiceRefused("no_old_choice", status=409)
        record = secrets.token_bytes(16) if old.importing else None
        on = visit.state.granted | {id for id, granted in old.answers.items() if granted}
        result = Answer(
            choice=choice_of(old.answers, policy, today=now.date(), record_id=record),
            granted=on,
            withdrawn=frozenset(),
            event="given" if record else None,
            record_id=record.hex() if record else None,
            purposes={purpose.id: old.answers.get(purpose.id, False) for purpose in policy.asked},
        )
        notice = Notice.build(visit.site.renderer.imported_body(visit.lang, old.tool))
        shown = notices.Shown(b"", now, secrets.token_hex(16)) if record else None
        await self._record(visit, result, notice=notice, shown=shown, method=f"import.{old.tool}", now=now)
        response = self._answered(visit, result, visit.url("settings"))
        for header in self._cookies(visit, result, "/"):
            response.raw_headers.append((b"set-cookie", header))
        return response

    def _answered_notice(
        self, visit: Visit, fields: list[tuple[str, str]], decision: Decision, now: datetime
    ) -> tuple[notices.Shown | None, Notice]:
        """The question this is an answer to. Withdrawing needs none."""
        if decision not in _NEEDS_NOTICE:
            return None, visit.site.notices[visit.lang]
        token = next((value for name, value in fields if name == "notice" and value), None)
        if token is None:
            raise ChoiceRefused("missing_notice", status=400)
        shown = notices.read(self._kit.tokens, token, now=now)
        for notice in visit.site.notices.values():
            if bytes.fromhex(notice.hash)[:16] == shown.notice:
                return shown, notice
        raise ChoiceRefused("stale_notice", status=409)

    async def _record(
        self,
        visit: Visit,
        result: Answer,
        *,
        notice: Notice,
        shown: notices.Shown | None,
        method: str,
        now: datetime,
    ) -> None:
        """Keep the evidence before the choice takes effect; a refusal takes effect even where it can't be counted."""
        evidence, site = self._kit.evidence, visit.site
        nonce = shown.nonce if shown else None
        try:
            if result.event is None or result.record_id is None:
                if nonce:
                    await evidence.count(site.settings.name, now, method, notice.hash, nonce, notice=notice)
                return
            valid = timedelta(days=site.policy.days) if result.event != "withdrawn" else None
            event = _event(
                site,
                notice,
                record_id=result.record_id,
                state=result.event,
                at=now,
                purposes=result.purposes,
                method=method,
                valid=valid,
                nonce=nonce,
            )
            await evidence.record(event, notice)
            if result.withdrawn:
                self._kit.recipients.wake()
        except EvidenceUnavailable:
            if result.event in ("given", "renewed"):
                raise ChoiceRefused("unavailable", status=503) from None
            log.exception("a refusal or withdrawal was honoured but could not be kept")

    async def _once(
        self, visit: Visit, words: list[str], back: str, *, shown: notices.Shown, notice: Notice, now: datetime
    ) -> Response:
        """Let one embed in for one load: the page that asked does it itself, or the next load of it gets a cookie.

        It is a consent of its own, with a record of its own that ends within the minute; the visitor's choice and
        its record stay as they were. Where everybody gets the same HTML only a script can let something in once.
        """
        site = visit.site
        purpose = single(words, site.policy)
        if site.settings.html == "shared" and not visit.wants_json:
            raise ChoiceRefused("unknown_decision", status=422)
        event = _event(
            site,
            notice,
            record_id=secrets.token_hex(16),
            state="given",
            at=now,
            purposes={purpose.id: True},
            method="embed.once",
            valid=ONCE_LIFETIME,
            nonce=shown.nonce,
        )
        try:
            await self._kit.evidence.record(event, notice)
        except EvidenceUnavailable:
            raise ChoiceRefused("unavailable", status=503) from None
        if visit.wants_json:
            granted = sorted(visit.state.granted | {purpose.id})
            return JSONResponse({"once": True, "granted": granted}, 200, HEADERS)
        value = site.choices.once.issue(purpose, page=back, choice=visit.value, now=now, random=secrets.token_bytes(16))
        response = RedirectResponse(back, 303, HEADERS)
        response.raw_headers.append((b"set-cookie", once_header(value, secure=site.flow.secure)))
        return response

    def _answered(self, visit: Visit, result: Answer, back: str) -> Response:
        if not visit.wants_json:
            return RedirectResponse(back, 303, HEADERS)
        policy = visit.site.policy
        withdrawn = [service for p in policy.purposes if p.id in result.withdrawn for service in p.services]
        clear: dict[str, list[str]] = {"local": [], "session": [], "indexeddb": []}
        for item in (item for service in withdrawn for item in service.items if item.kind in clear):
            clear[item.kind].append(item.name)
        body = {
            "granted": sorted(result.granted),
            "decided": result.choice.decided,
            "withdrawn": sorted(result.withdrawn),
            "clear": clear,
            "reload": bool(result.withdrawn),
            "receipt": result.record_id if result.choice.record_id else None,
        }
        return JSONResponse(body, 200, HEADERS)

    def _cookies(self, visit: Visit, result: Answer, back: str) -> list[bytes]:
        site = visit.site
        kept = choice_header(
            site.flow.cookie,
            site.choices.write(result.choice),
            days=site.policy.days,
            secure=site.flow.secure,
            readable=site.settings.html == "shared",
            domain=site.settings.cookie_domain,
        )
        header = visit.request.headers.get("cookie", "")
        gone = refused(header, site.policy, result.granted)
        if site.flow.old is not None:
            gone = (*gone, *site.flow.old.spent(header))
        host = visit.request.url.hostname or ""
        return [kept, *expiring(gone, host=host, path=back)]

    # -- pages --------------------------------------------------------------------------------------------------

    async def _settings(self, visit: Visit) -> Response:
        query = visit.request.query_params
        back = safe_next(query.get("next", "")) or f"{visit.url('settings')}?saved=1&lang={visit.lang}"
        page = self._page(visit, "settings", saved="saved" in query, next=back, token=self._token(visit))
        if visit.old is not None and not visit.old.importing:
            page.raw_headers.append((b"set-cookie", visit.site.flow.keeping(visit.old.choice)))
        return page

    async def _statement(self, visit: Visit) -> Response:
        token = visit.request.query_params.get("owner")
        if token is None:
            return self._page(visit, "cookies", since=self._started)
        visit.request.scope["query_string"] = b"owner=%E2%80%A6"  # no access log keeps it
        site = visit.site
        if not owner.is_owner(self._kit.tokens, token, site.settings, now=self._kit.now()):
            return self._page(visit, "cookies", since=self._started)
        rows: list[owner.Undeclared] = []
        away = False
        try:
            found = await asyncio.to_thread(self._kit.audit.read, site.settings.name)
            rows = owner.undeclared(found, site.flow.seen.declared, site.renderer.texts(visit.lang))
        except ConsentKitError:
            away = True
        response = self._page(visit, "cookies", since=self._started, seen=rows, away=away)
        response.headers.update(SECRET_HEADERS)
        return response

    def _page(self, visit: Visit, name: str, *, status: int = 200, **context: Any) -> Response:
        body = visit.site.renderer.page(name, visit.lang, root=visit.root, state=visit.state, **context)
        return Response(body, status, PAGE_HEADERS, "text/html; charset=utf-8")

    def _message(self, visit: Visit, reason: str, status: int) -> Response:
        texts = visit.site.renderer.texts(visit.lang)
        if visit.wants_json:
            return JSONResponse({"error": reason, "message": texts.error(reason)}, status, HEADERS)
        response = self._page(visit, "message", status=status, reason=reason)
        if status == 429:
            response.headers["Retry-After"] = "60"
        return response

    def _token(self, visit: Visit) -> str:
        return notices.issue(self._kit.tokens, visit.site.notices[visit.lang].hash, now=self._kit.now())

    async def _notice(self, visit: Visit) -> Response:
        return JSONResponse({"notice": self._token(visit)}, 200, HEADERS)

    async def _receipt(self, visit: Visit) -> Response:
        """The visitor's own record: what the cookie says, and the events that prove it."""
        state, site = visit.state, visit.site
        body: dict[str, Any] = {
            "site": site.settings.name,
            "controller": site.settings.controller.model_dump(exclude_defaults=True),
            "state": state.status,
            "granted": sorted(state.granted),
            "decided_on": state.day.isoformat() if state.day else None,
            "expires_on": state.expires.isoformat() if state.expires else None,
            "receipt": state.record_id,
            "withdraw": f"{site.settings.base_url}{site.settings.prefix}/settings",
            "events": [],
            "notices": {},
        }
        if state.record_id:
            events = await asyncio.to_thread(self._kit.evidence.history, state.record_id)
            body["events"] = [_plain(event) for event in events]
            for digest in {event.notice_hash for event in events}:
                found = await asyncio.to_thread(self._kit.evidence.notice, digest)
                body["notices"][digest] = json.loads(found.body) if found else None
        return JSONResponse(body, 200, HEADERS | {"Content-Disposition": 'inline; filename="consent-receipt.json"'})

    async def _health(self, visit: Visit) -> Response:
        checks = await asyncio.to_thread(self._kit.healthy)
        return JSONResponse(dict(checks), 200 if all(checks.values()) else 503, HEADERS)

    def _asset(self, visit: Visit, name: str) -> Response:
        found = visit.site.renderer.asset(name) or self._kit.console.asset(visit.site.settings.name, name)
        if found is None:
            return self._message(visit, "not_found", 404)
        body, media_type = found
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }
        if accepts_gzip(visit.request.headers.get("accept-encoding", "").encode("latin-1")):
            body = _gzipped(body)
            headers["Content-Encoding"] = "gzip"
        return Response(body, 200, headers, media_type)

    def _gpc(self, visit: Visit) -> Response:
        if not visit.site.settings.gpc:
            return Response("Not Found", 404, HEADERS)
        body = {"gpc": True, "lastUpdate": self._started.date().isoformat()}
        return JSONResponse(body, 200, {"Cache-Control": "public, max-age=86400"})


@lru_cache(maxsize=24)
def _gzipped(body: bytes) -> bytes:
    """An asset as it goes out; done once, since consentkit stands outside the app's own compressor."""
    return gzip.compress(body, 9, mtime=0)


def _decision(fields: list[tuple[str, str]]) -> Decision:
    try:
        return Decision(next((value for name, value in fields if name == "decision"), ""))
    except ValueError as error:
        raise ChoiceRefused("unknown_decision", status=422) from error


def _only_asked(decision: Decision, words: list[str], visit: Visit) -> tuple[Decision, list[str]]:
    """An answer to a banner that left out what is settled: that stays as it is, but a refusal is one of everything."""
    settled = visit.state.settled
    if not settled or decision not in (Decision.ACCEPT, Decision.SAVE):
        return decision, words
    if decision is Decision.ACCEPT:
        words = [purpose.id for purpose in visit.site.policy.asked if purpose.id not in settled]
    return Decision.SAVE, [*words, *sorted(settled & visit.state.granted)]


def _back(fields: list[tuple[str, str]], *, default: str) -> str:
    wanted = next((value for name, value in fields if name == "next" and value), None)
    if wanted is None:
        return default
    safe = safe_next(wanted)
    if safe is None:
        raise ChoiceRefused("foreign_next", status=400)
    return safe


def _method(fields: list[tuple[str, str]], decision: Decision) -> str:
    """Which control was used (EVI-01): the form says where it stood."""
    place = next((value for name, value in fields if name == "from"), "")
    return f"{place if place in ('banner', 'settings', 'footer', 'embed') else 'form'}.{decision}"


def _event(
    site: Site,
    notice: Notice,
    *,
    record_id: str,
    state: str,
    at: datetime,
    purposes: Mapping[str, bool],
    method: str,
    valid: timedelta | None,
    nonce: str | None,
) -> ConsentEvent:
    """The evidence of an answer to `notice` on this site; `valid` is how long it holds."""
    return ConsentEvent(
        site=site.settings.name,
        record_id=record_id,
        state=state,
        at=at,
        purposes=purposes,
        notice_hash=notice.hash,
        language=notice.language,
        ui_build=site.renderer.ui_build,
        method=method,
        policy=site.policy.fingerprint,
        valid_until=at + valid if valid else None,
        controller=site.settings.controller.name,
        nonce=nonce,
    )


def _plain(event: ConsentEvent) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(event).items()
        if name != "nonce"
    }

"""The routes of the newsletter: sign-up, confirmation, unsubscribing, preferences.

No GET or HEAD changes anything: link scanners follow every link. A path whose last part is a key is taken out of the
request as soon as it is read, so that no access log keeps it; its pages are told to nobody, cached and indexed by
nobody (checklist SEC-05). Unsubscribing needs no cookie, no origin and no redirect (RFC 8058).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from anyio.to_thread import run_sync
from limits import RateLimitItemPerHour, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from consentkit.afgemeld import Afgemeld, Leaving, Links, Reason
from consentkit.errors import (
    AfgemeldUnavailable,
    ChoiceRefused,
    FormRefused,
    NewsletterUnavailable,
    TokenError,
)
from consentkit.mailing.measure import Measuring
from consentkit.newsletter import (
    Form,
    Newsletter,
    Paper,
    ParentFirst,
    Profile,
    RequestGone,
    TextChanged,
    TokenTooOld,
)
from consentkit.service import Duration
from consentkit.settings import Settings
from consentkit.web.forms import Fields, first, read_fields, same_origin
from consentkit.web.visit import HEADERS, SECRET_HEADERS, Visit

log = logging.getLogger("consentkit")

SIGNUPS_PER_CLIENT = "60/hour"
"""A stand with one tablet at an open day stays below it; a script does not."""

LEAST_SECONDS = 0.1
"""A sign-up is never answered sooner, so that the time tells nothing about the address either."""

_SAFE = {"GET", "HEAD"}
_HERE = ("sent=1", "sent=young")
_MASK = "…"
_KEYED = re.compile(r"/(confirm|afmelden|voorkeuren|meten|o|l)/.+\Z", re.DOTALL)
_AWAY = (AfgemeldUnavailable, NewsletterUnavailable)

Page = Callable[..., Response]


class Kit(Protocol):
    """What these pages need of the kit."""

    afgemeld: Afgemeld
    measuring: Measuring
    newsletter: Newsletter
    settings: Settings

    @property
    def links(self) -> Links: ...


class NewsletterPages:
    """Answers what belongs to the newsletter.

    Args:
        kit: rooms and settings. page: renders one page of ours for a visit.
    """

    def __init__(self, kit: Kit, page: Page) -> None:
        self._kit = kit
        self._render = page
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._per_client = parse(SIGNUPS_PER_CLIENT)
        self._in_all = RateLimitItemPerHour(kit.settings.mail.signups_per_hour)
        self._routes: dict[str, Callable[[Visit, str], Awaitable[Response]]] = {
            "newsletter": self._newsletter,
            "confirm": self._confirm,
            "afmelden": self._afmelden,
            "voorkeuren": self._preferences,
        }

    async def answer(self, visit: Visit, name: str) -> Response | None:
        """The answer to `name` under the prefix, or None where it isn't ours."""
        route, _, rest = name.partition("/")
        handle = self._routes.get(route)
        if handle is None or (("/" in rest) if route == "newsletter" else not rest):
            return None
        if route != "newsletter":  # also with something behind the key, which makes it a wrong one
            forget_key(visit.request.scope)
        if visit.request.method not in {*_SAFE, "POST"}:
            response = self._told(visit, "signup.refused_title", "errors.method", 405, secret=route != "newsletter")
            response.headers["Allow"] = "GET, HEAD, POST"
            return response
        try:
            return await handle(visit, rest)
        except ChoiceRefused as error:
            log.info("a form was refused: %s", error.reason)
            key = f"signup.refused_{error.reason}"
            again = name if route == "newsletter" and error.reason != "too_many" else False
            response = self._told(
                visit, "signup.refused_title", key, error.status, secret=route != "newsletter", again=again
            )
            if error.status == 429:
                response.headers["Retry-After"] = "3600"
            return response
        except _AWAY as error:
            log.error("%s: %s", route, error)
            failed = "afmelden.failed" if route == "afmelden" else "signup.closed"
            response = self._told(visit, f"{failed}_title", failed, 503, secret=True)
            response.headers["Retry-After"] = "300"
            return response

    def _paper(self, visit: Visit) -> Paper:
        return self._kit.newsletter.papers[visit.site.settings.name]

    # -- signing up ---------------------------------------------------------------------------------------------

    async def _newsletter(self, visit: Visit, list: str) -> Response:
        paper = self._paper(visit)
        if not list:
            lists = [paper.topic_view(topic, visit.lang) for topic in paper.lists]
            return self._render(visit, "newsletters", lists=lists)
        form = paper.form(list)
        if form is None:
            return self._told(visit, "errors.not_found_title", "errors.not_found", 404, secret=False)
        if visit.request.method == "POST":
            return await self._sign_up(visit, paper, form)
        if sent := visit.request.query_params.get("sent"):
            return self._sent(visit, sent)
        return self._form(visit, paper, form)

    def _sent(self, visit: Visit, sent: str) -> Response:
        texts = visit.site.renderer.texts(visit.lang)
        sentence = "signup.sent_young" if sent == "young" else "signup.sent"
        lines = [texts("signup.sent_help")]
        return self._told(visit, "signup.sent_title", sentence, 200, secret=False, lines=lines, here=f"sent={sent}")

    def _form(
        self,
        visit: Visit,
        paper: Paper,
        form: Form,
        *,
        status: int = 200,
        fields: Fields | None = None,
        problems: Mapping[str, str] | None = None,
    ) -> Response:
        given = fields or []
        lang = first(given, "lang") or visit.lang
        return self._render(
            replace(visit, lang=visit.site.inserts.language(lang)),
            "signup",
            status=status,
            form=paper.form_view(form, lang),
            action=paper.action(form, visit.root),
            mark=paper.mark(form, lang),
            values=dict(given),
            ticked=frozenset(f"{name}:{value}" for name, value in given),
            problems=problems or {},
            headings=False,
        )

    async def _sign_up(self, visit: Visit, paper: Paper, form: Form) -> Response:
        started = time.monotonic()
        same_origin(visit.request, secure=visit.site.flow.secure)
        if not self._limiter.hit(self._per_client, visit.client) or not self._limiter.hit(self._in_all, "all"):
            raise ChoiceRefused("too_many", status=429)
        fields = await read_fields(visit.request)
        lang = visit.site.inserts.language(first(fields, "lang") or visit.lang)
        mark = first(fields, "text")
        if mark and mark not in {paper.mark(form, one) for one in visit.site.settings.languages}:
            raise ChoiceRefused("stale", status=409)
        try:
            answer = form.read(fields)
        except FormRefused as error:
            return self._form(visit, paper, form, status=422, fields=fields, problems=error.problems)
        if answer.dropped:
            log.warning("the form %s got fields that it does not declare; they were dropped", form.id)
        method = "form.newsletter" if mark else "post.newsletter"
        await asyncio.to_thread(self._kit.newsletter.sign_up, paper, answer, lang, method=method)
        await asyncio.sleep(max(0.0, LEAST_SECONDS - (time.monotonic() - started)))
        sent = "young" if answer.young else "1"
        route = f"newsletter/{form.own.id}" if form.own else "newsletter"
        return RedirectResponse(f"{visit.url(route)}?sent={sent}&lang={lang}", 303, HEADERS)

    # -- confirming ---------------------------------------------------------------------------------------------

    async def _confirm(self, visit: Visit, token: str) -> Response:
        paper, newsletter, posted = self._paper(visit), self._kit.newsletter, visit.request.method == "POST"
        if posted:
            same_origin(visit.request, secure=visit.site.flow.secure, keyed=True)
            fields = await read_fields(visit.request, untyped=True)
        try:
            if posted:
                lang, mark = first(fields, "lang") or None, first(fields, "text")
                with suppress(TextChanged):
                    done = await asyncio.to_thread(newsletter.confirm, paper, token, lang=lang, mark=mark)
                    return self._confirmed(visit, paper, done)
            request = await asyncio.to_thread(newsletter.request, paper, token)
        except ParentFirst:
            return self._told(visit, "confirm.parent_first_title", "confirm.parent_first", 409)
        except TokenTooOld:
            return self._told(visit, "confirm.expired_title", "confirm.expired", 410, again=True)
        except RequestGone as error:
            if error.used:
                return self._told(visit, "confirm.used_title", "confirm.used", 409 if posted else 200, wrong=False)
            return self._told(visit, "confirm.gone_title", "confirm.gone", 410, again=True)
        except TokenError:
            return await self._parent(visit, paper, token, first(fields, "action") if posted else "")
        agreed = paper.agreed(request.topics, visit.lang, measuring=request.measuring)
        mark = newsletter.mark(paper, request, visit.lang)
        return self._secret(visit, "confirm", status=409 if posted else 200, changed=posted, mark=mark, **agreed)

    def _confirmed(self, visit: Visit, paper: Paper, done: Any) -> Response:
        texts = visit.site.renderer.texts(visit.lang)
        titles = texts.join(visit.site.renderer.say(topic.title, visit.lang) for topic in done.topics)
        say = visit.site.renderer.say
        lines = [
            texts("confirm.done_receipt", list=say(topic.title, visit.lang), record=done.records[topic.id])
            for topic in done.topics
        ]
        lines.append(texts("confirm.leave_any_time"))
        done_text = texts("confirm.done", lists=titles)
        return self._told(visit, "confirm.done_title", done_text, 200, wrong=False, lines=lines)

    async def _parent(self, visit: Visit, paper: Paper, token: str, action: str) -> Response:
        newsletter = self._kit.newsletter
        try:
            if action == "erase":
                await asyncio.to_thread(newsletter.parent_erases, paper, token)
                return self._told(visit, "parent.erased_title", "parent.erased", 200, wrong=False)
            if action == "confirm":
                await asyncio.to_thread(newsletter.parent_agrees, paper, token)
                return self._told(visit, "parent.agreed_title", "parent.agreed", 200, wrong=False)
            request = await asyncio.to_thread(newsletter.parent_request, paper, token)
        except TokenError:
            return self._told(visit, "confirm.wrong_title", "confirm.wrong", 404)
        agreed = paper.agreed(
            request.topics if request else (), visit.lang, measuring=bool(request and request.measuring)
        )
        return self._secret(visit, "parent", asked=request is not None, **agreed)

    # -- leaving ------------------------------------------------------------------------------------------------

    async def _afmelden(self, visit: Visit, token: str) -> Response:
        paper, newsletter = self._paper(visit), self._kit.newsletter
        try:
            leaving = self._kit.links.read(token)
        except TokenError:
            await asyncio.to_thread(self._kit.afgemeld.open)  # under a wrong key any link looks forged: 503, not 404
            return self._told(visit, "afmelden.wrong_title", "afmelden.wrong", 404)
        if visit.request.method != "POST":
            return self._secret(visit, "afmelden", title=self._leaving_title(visit, paper, leaving))
        fields = await read_fields(visit.request, untyped=True)
        action = first(fields, "action")
        if action == "undo":
            await asyncio.to_thread(newsletter.undo, paper, leaving, visit.lang)
            return self._undone(visit, leaving)
        one_click = first(fields, "List-Unsubscribe") == "One-Click"
        everything = action == "all" or leaving.list is None
        mailing = None
        if leaving.delivery is not None:
            mailing = await asyncio.to_thread(self._kit.measuring.mailing_of, leaving.delivery, leaving.digest)
        leave = partial(
            newsletter.leave,
            leaving,
            reason=Reason.ONE_CLICK if one_click else Reason.UNSUBSCRIBE,
            channel="one-click" if one_click else "page",
            everything=everything,
            mailing=None if mailing is None else str(mailing),
        )
        second = action == "all" or mailing is None  # that button comes after the other, which was counted
        if await run_sync(leave) and leaving.delivery is not None and not second:
            self._kit.measuring.left(leaving.delivery)
        texts = visit.site.renderer.texts(visit.lang)
        title = self._title_of(visit, paper, leaving)
        done = "afmelden.done_all" if everything else "afmelden.done"
        words = {"site": visit.site.settings.name} if everything else {"list": title}
        return self._secret(visit, "afgemeld", sentence=texts(done, **words), list="" if everything else title)

    def _undone(self, visit: Visit, leaving: Leaving) -> Response:
        form = self._paper(visit).form(leaving.list) if leaving.list else None
        where = f"newsletter/{leaving.list}" if form else "newsletter"
        return self._told(visit, "afmelden.undone_title", "afmelden.undone", 200, wrong=False, again=where)

    def _title_of(self, visit: Visit, paper: Paper, leaving: Leaving) -> str:
        topic = paper.topics.get(leaving.list or "")
        return visit.site.renderer.say(topic.title, visit.lang) if topic else leaving.list or ""

    def _leaving_title(self, visit: Visit, paper: Paper, leaving: Leaving) -> str:
        texts = visit.site.renderer.texts(visit.lang)
        if leaving.list is None:
            return texts("afmelden.title_all")
        return texts("afmelden.title", list=self._title_of(visit, paper, leaving))

    # -- preferences --------------------------------------------------------------------------------------------

    async def _preferences(self, visit: Visit, token: str) -> Response:
        paper, newsletter = self._paper(visit), self._kit.newsletter
        texts = visit.site.renderer.texts(visit.lang)
        saved = ""
        try:
            if visit.request.method == "POST":
                same_origin(visit.request, secure=visit.site.flow.secure, keyed=True)
                fields = await read_fields(visit.request, untyped=True)
                match first(fields, "action"):
                    case "leave_all":
                        await asyncio.to_thread(newsletter.leave_all, paper, token)
                        saved = texts("afmelden.done_all", site=visit.site.settings.name)
                    case "link":
                        sent = await asyncio.to_thread(newsletter.ask_for_data, paper, token, visit.lang)
                        saved = texts("preferences.data_sent" if sent else "preferences.data_later")
                    case "download":
                        return await self._download(paper, token)
                    case "erase":
                        await asyncio.to_thread(newsletter.erase, paper, token)
                        period = texts.duration(Duration.parse(self._kit.settings.retention.newsletter))
                        told = texts("preferences.erased", period=period)
                        return self._told(visit, "preferences.erased_title", told, 200, wrong=False)
                    case "save":
                        lists = frozenset(value for name, value in fields if name == "lists")
                        measuring = frozenset(value for name, value in fields if name == "measuring")
                        shown = frozenset(value for name, value in fields if name == "shown") or None
                        save = partial(newsletter.set_preferences, paper, token, lang=visit.lang)
                        _, added = await asyncio.to_thread(save, lists=lists, measuring=measuring, shown=shown)
                        saved = texts("preferences.saved")
                        saved += f" {texts('preferences.saved_mail')}" if added else ""
            profile, fresh = await asyncio.to_thread(newsletter.profile, paper, token)
        except TokenTooOld:
            return self._told(visit, "preferences.expired_title", "preferences.expired", 410)
        except TokenError:
            return self._told(visit, "confirm.wrong_title", "confirm.wrong", 404)
        if profile is None or profile.address is None:
            return self._told(visit, "preferences.title", "preferences.nothing", 200, wrong=False)
        return self._secret(visit, "voorkeuren", saved=saved, **self._profile(visit, paper, profile, fresh=fresh))

    async def _download(self, paper: Paper, token: str) -> Response:
        data = await asyncio.to_thread(self._kit.newsletter.own_data, paper, token)
        headers = SECRET_HEADERS | {"Content-Disposition": 'attachment; filename="my-data.json"'}
        return Response(json.dumps(data, ensure_ascii=False, indent=1), 200, headers, "application/json")

    def _profile(self, visit: Visit, paper: Paper, profile: Profile, *, fresh: bool) -> dict[str, Any]:
        texts, say = visit.site.renderer.texts(visit.lang), visit.site.renderer.say
        held = [topic for topic in paper.topics.values() if topic.kind != "list" and profile.active(topic.id)]
        lists = [
            {
                **paper.topic_view(topic, visit.lang),
                "active": profile.active(topic.id),
                "measuring": profile.measuring(topic.id),
            }
            for topic in (*paper.lists, *held)
        ]
        address = profile.address if fresh else profile.masked
        shown = {
            "whom": texts("preferences.whom", address=address),
            "lists": lists,
            "fresh": fresh,
            "address": "",
            "fields": {},
            "held": [],
        }
        if fresh:
            shown["address"], shown["fields"] = profile.address, profile.fields
            shown["held"] = [
                {
                    "title": say(paper.topics[row.list].title, visit.lang) if row.list in paper.topics else row.list,
                    "state": texts(f"preferences.state_{row.state}"),
                    "date": texts.date(row.confirmed_at.date()) if row.confirmed_at else "",
                    "receipt": row.record_id or "",
                }
                for row in profile.subscriptions
            ]
        return shown

    # -- what is shown ------------------------------------------------------------------------------------------

    def _secret(self, visit: Visit, name: str, *, status: int = 200, **context: Any) -> Response:
        response = self._render(visit, name, status=status, **context)
        response.headers.update(SECRET_HEADERS)
        return response

    def _told(
        self,
        visit: Visit,
        title: str,
        sentence: str,
        status: int,
        *,
        secret: bool = True,
        wrong: bool | None = None,
        lines: list[str] | None = None,
        again: bool | str = False,
        here: str = "",
    ) -> Response:
        """A page that says one thing; `again` offers the way to sign up."""
        texts = visit.site.renderer.texts(visit.lang)
        email = visit.site.settings.controller.email or visit.site.settings.controller.name
        said = texts(sentence, email=email) if texts.has(sentence) else sentence
        where = again if isinstance(again, str) else "newsletter"
        response = self._render(
            visit,
            "told",
            status=status,
            title=texts(title),
            sentence=said,
            wrong=status >= 400 if wrong is None else wrong,
            lines=lines or [],
            href=f"{visit.url(where)}?lang={visit.lang}" if again else "",
            label=texts("signup.again"),
            here=f"{here}&" if here in _HERE else "",
        )
        if secret:
            response.headers.update(SECRET_HEADERS)
        return response


def forget_key(scope: Scope) -> None:
    """Take the key out of what a server's access log prints of this request."""
    scope["path"] = _KEYED.sub(rf"/\1/{_MASK}", scope["path"])
    scope["raw_path"] = quote(scope["path"]).encode("ascii")

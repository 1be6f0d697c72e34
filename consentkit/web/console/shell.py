"""The console's way in: who asks, what they may, what a form may do once; then the area that answers.

A page that needs a right which nobody gave answers 403. A form counts once (see `Posts`), and only from a page of this
site. What was typed while the log-in ran out is carried through it, and can be sent on. Where the database is away
nothing is shown, and the site goes on.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import compile_path

from consentkit.errors import (
    AddressError,
    AfgemeldUnavailable,
    ChoiceRefused,
    ConsentKitError,
    DatabaseUnavailable,
    MailingError,
    NewsletterUnavailable,
    SchemaOutdated,
    TokenError,
)
from consentkit.render.console import ConsoleRenderer, texts
from consentkit.staff import Jobs, JobsBusy, Member, Posts, StaffLog, read_roles
from consentkit.web.console.area import Area
from consentkit.web.console.areas import AREAS
from consentkit.web.console.ask import HEADERS, Ask, Kit, Rooms, Route, Sent
from consentkit.web.console.entry import Entry
from consentkit.web.console.figures import Figures
from consentkit.web.console.jobs import said as sentence_said
from consentkit.web.console.reading import MAX_FORM, read_sent
from consentkit.web.console.trial import said as problem_said
from consentkit.web.forms import same_origin
from consentkit.web.site import Site
from consentkit.web.visit import Visit

log = logging.getLogger("consentkit.console")

ConsoleUser = Callable[[Request], Any]
"""The host's own log-in: gives `(name, role or roles)` of who asks, or None. May be a coroutine function."""

LANGUAGE_COOKIE: Final = "consentkit-console-lang"
_PATIENCE: Final = 20
"""So many quarters of a second a second click waits for what the first one does."""

_MOST_STRANGERS: Final = 4
"""So many who are not logged in may send a large form at once: what they send lies on our disk until it is read."""

_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co", "Cn")
_MOST_NAME: Final = 200

_AWAY = (AfgemeldUnavailable, DatabaseUnavailable, NewsletterUnavailable, SchemaOutdated)


class Console:
    """Answers what is under `console/`.

    Args:
        kit: the rooms below. sites: all of them, as built. console_user: the host's own log-in, where it has one.
    """

    def __init__(self, kit: Kit, sites: Iterable[Site], *, console_user: ConsoleUser | None = None) -> None:
        self._kit = kit
        self._user = console_user
        self._strangers = 0
        self._rooms = Rooms(
            kit,
            StaffLog(kit.store, kit.now),
            Posts(kit.store, kit.tokens, kit.now),
            Figures(kit.now),
            Jobs(kit.store, kit.now),
            {
                site.settings.name: ConsoleRenderer(
                    site=site.settings.name, theme=site.settings.look, prefix=site.settings.prefix
                )
                for site in sites
            },
        )
        self._entry = Entry(self._rooms, own=console_user is None)
        areas: tuple[Area, ...] = (self._entry, *AREAS)
        self.routes = [route for area in areas for route in area.routes]
        self._areas = {id(route): area.name for area in areas for route in area.routes}
        self._compiled = [(*compile_path("/" + route.path)[::2], route) for route in self.routes]

    def close(self) -> None:
        """Count nothing more."""
        self._entry.close()
        self._rooms.figures.close()
        self._rooms.jobs.close()

    def asset(self, site: str, name: str) -> tuple[bytes, str] | None:
        """The bytes and the media type of an asset of the console."""
        return self._rooms.renderers[site].asset(name)

    async def answer(self, visit: Visit, name: str) -> Response | None:
        """The answer to `name` under the prefix, or None where it isn't ours."""
        if not self._kit.settings.console.enabled or (name != "console" and not name.startswith("console/")):
            return None
        lang = _language(visit)
        ask = Ask(visit, self._rooms, Member("", frozenset()), {}, texts(lang), "")
        try:
            response = await self._answer(ask, name.removeprefix("console").strip("/"))
        except ChoiceRefused as error:
            log.info("a form of the console was refused: %s", error.reason)
            key = f"base.refused_{error.reason}"
            most = self._kit.settings.console.upload_mb
            sentence = ask.t(key if ask.t.has(key) else "base.refused_form", most=most)
            response = ask.wrong(sentence, status=error.status)
        except _AWAY as error:
            log.error("the console: %s", error)
            response = ask.wrong(ask.t("base.away"), status=503, title=ask.t("base.away_title"))
            response.headers["Retry-After"] = "60"
        except AddressError:
            response = ask.wrong(ask.t("base.no_address"), status=422)
        except JobsBusy:
            response = ask.wrong(ask.t("jobs.busy"), status=429)
        except MailingError as error:
            response = ask.wrong(" ".join(problem_said(one, ask.t) for one in error.problems), status=409)
        except ConsentKitError as error:
            response = ask.wrong(sentence_said(ask.t, str(error)), status=409)
        except Exception:
            log.exception("a page of the console failed")
            response = ask.wrong(ask.t("base.failed"), status=500, title=ask.t("base.failed_title"))
        finally:
            ask.sent.close()
        if visit.request.query_params.get("lang") == lang:
            cookie = f"{LANGUAGE_COOKIE}={lang}; Path={visit.url('console')}; Max-Age=31536000; SameSite=Lax; HttpOnly"
            response.headers.append("Set-Cookie", cookie + ("; Secure" if visit.site.flow.secure else ""))
        return response

    async def _answer(self, ask: Ask, path: str) -> Response:
        request = ask.visit.request
        posted = request.method == "POST"
        if request.method not in ("GET", "HEAD", "POST"):
            return _refused_method(ask, "GET, HEAD, POST")
        if posted:
            same_origin(request, secure=ask.visit.site.flow.secure)
        if "\0" in path or "%00" in request.url.query:  # which no database takes
            return ask.wrong(ask.t("base.not_found"), status=404, title=ask.t("base.not_found_title"))
        member = await self._member(ask)
        if path in ("login", "logout"):
            if posted and path == "login":
                ask.sent = await read_sent(request, uploads_mb=0)
            return await self._entry.door(ask, path, member)
        if member is None:
            if posted:
                ask.sent = await self._from_a_stranger(request)
            return await self._entry.ask_to_log_in(ask, path, ask.sent)
        ask.member = member
        route, ask.params = self._match(path)
        if route is None:
            return ask.wrong(ask.t("base.not_found"), status=404, title=ask.t("base.not_found_title"))
        ask.area = self._areas[id(route)]
        handle = route.post if posted else route.get
        if handle is None:
            return _refused_method(ask, "POST" if route.get is None else "GET, HEAD")
        right = (route.post_right or route.right) if posted else route.right
        if right is not None and not member.may(right):
            return ask.page(
                "message", status=403, title=ask.t("base.forbidden_title"), sentence=ask.t("base.forbidden")
            )
        if member.must_change and not self._entry.lets_through(path):
            return ask.back("account", told="entry.told_must_change")
        return await (self._once(ask, handle, path, route) if posted else handle(ask))

    async def _from_a_stranger(self, request: Request) -> Sent:
        """What somebody sent whose log-in ended, or who never had one."""
        length = request.headers.get("content-length", "")
        large = not length.isdigit() or int(length) > MAX_FORM
        if large and self._strangers >= _MOST_STRANGERS:
            raise ChoiceRefused("too_many", status=429)
        self._strangers += large
        try:
            return await read_sent(request, uploads_mb=self._kit.settings.console.upload_mb)
        finally:
            self._strangers -= large

    async def _once(self, ask: Ask, handle: Callable[[Ask], Awaitable[Response]], path: str, route: Route) -> Response:
        """Do what a form asks for, once."""
        posts = self._rooms.posts
        ask.sent = await read_sent(
            ask.visit.request, uploads_mb=self._kit.settings.console.upload_mb if route.uploads else 0
        )
        try:
            nonce = posts.read(ask.sent.text("form"), ask.member)
        except TokenError:
            return await self._entry.offer_again(ask, path)
        if not route.once:
            return await handle(ask)
        said = f"{path}\n{ask.sent.told}"
        for _ in range(_PATIENCE):
            spent = await ask.run(posts.spend, nonce, said)
            if spent is None or spent.leads_to or not spent.same:
                break
            await asyncio.sleep(0.25)
        if spent is not None and not spent.same:  # typed after it was sent: the back button, and on
            return await self._entry.offer_again(ask, path, "entry.continue_changed")
        if spent is not None:
            to = spent.leads_to
            return RedirectResponse(to, 303, HEADERS) if to else ask.wrong(ask.t("base.being_done"), status=409)
        try:
            response = await handle(ask)
        except Exception:
            await ask.run(posts.give_back, nonce)
            raise
        if response.status_code == 303:
            await ask.run(posts.led, nonce, response.headers["location"])
        else:  # it only showed something, or refused
            await ask.run(posts.give_back, nonce)
        return response

    async def _member(self, ask: Ask) -> Member | None:
        if self._user is None:
            return await self._entry.member(ask)
        found = self._user(ask.visit.request)
        if inspect.isawaitable(found):
            found = await found
        if not found:
            return None
        given, roles = found
        name = "" if given is None else _visible(str(given))
        try:
            return Member(name, read_roles(roles)) if name else None
        except (TypeError, ValueError) as error:
            log.error("console_user gave %s", error)
            return None

    def _match(self, path: str) -> tuple[Route | None, Mapping[str, Any]]:
        for pattern, convertors, route in self._compiled:
            if found := pattern.match("/" + path):
                try:
                    return route, {name: convertors[name].convert(value) for name, value in found.groupdict().items()}
                except ValueError:  # a number of thousands of digits
                    return None, {}
        return None, {}


def _visible(name: str) -> str:
    """A name of the host app as it can be read, so that one person who can change theirs stays one for four eyes."""
    shown = unicodedata.normalize("NFKC", name[:_MOST_NAME])
    return " ".join("".join(sign for sign in shown if unicodedata.category(sign) not in _INVISIBLE).split())


def _refused_method(ask: Ask, allowed: str) -> Response:
    response = ask.wrong(ask.t("base.method"), status=405)
    response.headers["Allow"] = allowed
    return response


def _language(visit: Visit) -> str:
    wanted = visit.request.query_params.get("lang") or visit.request.cookies.get(LANGUAGE_COOKIE, "")
    if wanted in ("nl", "en"):
        return wanted
    for part in visit.request.headers.get("accept-language", "").split(","):
        if (spoken := part.strip()[:2].lower()) in ("nl", "en"):
            return spoken
    return "nl"

"""The routes that mailings lead to: the pixel, the measured links, and the page that stops the measuring.

The pixel and the links answer everybody alike, whether they measure anything or not: no cookie, no banner, nothing that
another site or an access log could know a reader by. Only the button of the page changes anything, and no HEAD does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from starlette.responses import Response

from consentkit.afgemeld import Afgemeld
from consentkit.errors import (
    AfgemeldUnavailable,
    ChoiceRefused,
    DatabaseUnavailable,
    NewsletterUnavailable,
    SchemaOutdated,
    TokenError,
)
from consentkit.mailing.measure import PIXEL, Measuring
from consentkit.newsletter import Newsletter
from consentkit.web.forms import read_fields, same_origin
from consentkit.web.newsletter import forget_key
from consentkit.web.visit import HEADERS, SECRET_HEADERS, Visit

log = logging.getLogger("consentkit")

BARE_HEADERS = HEADERS | {"Referrer-Policy": "no-referrer"}
_AWAY = (AfgemeldUnavailable, DatabaseUnavailable, NewsletterUnavailable, SchemaOutdated)
_IN_A_URL = ":/?#[]@!$&'()*+,;=%~-._"

Page = Callable[..., Response]


class Kit(Protocol):
    """What these pages need of the kit."""

    afgemeld: Afgemeld
    measuring: Measuring
    newsletter: Newsletter


class MailingPages:
    """Answers what belongs to mailings.

    Args:
        kit: the rooms. page: renders one page of ours for a visit.
    """

    def __init__(self, kit: Kit, page: Page) -> None:
        self._kit = kit
        self._render = page
        self._routes: dict[str, tuple[str, Callable[[Visit, str], Awaitable[Response]]]] = {
            "o": ("GET, HEAD", self._pixel),
            "l": ("GET, HEAD", self._link),
            "meten": ("GET, HEAD, POST", self._quiet),
        }

    async def answer(self, visit: Visit, name: str) -> Response | None:
        """The answer to `name` under the prefix, or None where it isn't ours."""
        route, _, token = name.partition("/")
        methods, handle = self._routes.get(route, ("", None))
        if handle is None or not token:
            return None
        forget_key(visit.request.scope)
        if visit.request.method not in methods.split(", "):
            response = self._told(visit, "signup.refused_title", "errors.method", 405)
            response.headers["Allow"] = methods
            return response
        try:
            return await handle(visit, token)
        except ChoiceRefused as error:
            log.info("a form was refused: %s", error.reason)
            return self._told(visit, "signup.refused_title", f"signup.refused_{error.reason}", error.status)
        except TokenError:
            return await self._forged(visit)
        except _AWAY as error:
            return self._away(visit, error)

    async def _forged(self, visit: Visit) -> Response:
        try:
            await asyncio.to_thread(self._kit.afgemeld.open)  # under a wrong key any link looks forged: 503, not 404
        except _AWAY as error:
            return self._away(visit, error)
        return self._told(visit, "confirm.wrong_title", "confirm.wrong", 404)

    def _away(self, visit: Visit, error: Exception) -> Response:
        log.error("a link of a mailing: %s", error)
        response = self._told(visit, "measure.away_title", "measure.away", 503)
        response.headers["Retry-After"] = "60"
        return response

    async def _pixel(self, visit: Visit, token: str) -> Response:
        if visit.request.method == "GET":
            self._kit.measuring.opened(token, visit.request.headers)
        return Response(PIXEL, 200, BARE_HEADERS, "image/gif")

    async def _link(self, visit: Visit, token: str) -> Response:
        headers = visit.request.headers if visit.request.method == "GET" else None
        url = await asyncio.to_thread(self._kit.measuring.clicked, token, headers)
        if url is None:
            return self._told(visit, "errors.not_found_title", "measure.gone", 404)
        return Response(None, 302, BARE_HEADERS | {"Location": quote(url, safe=_IN_A_URL)})

    async def _quiet(self, visit: Visit, token: str) -> Response:
        paper = self._kit.newsletter.papers[visit.site.settings.name]
        found = await asyncio.to_thread(self._kit.measuring.quiet, token)
        topic = paper.topics.get(found.list)
        title = visit.site.renderer.say(topic.title, visit.lang) if topic else found.list
        posted = visit.request.method == "POST"
        if posted:
            same_origin(visit.request, secure=visit.site.flow.secure, keyed=True)
            await read_fields(visit.request, untyped=True)
        if not posted and found.measured:
            return self._page(visit, "meten", list=title)
        if found.subscriber is None:
            return self._told(visit, "measure.off_title", "measure.unknown", 200, wrong=False)
        if posted:
            stop = partial(self._kit.newsletter.stop_measuring, found.subscriber, found.list, method="mail.measuring")
            await asyncio.to_thread(stop)
        texts = visit.site.renderer.texts(visit.lang)
        lines = [texts("measure.stays")] if posted else []
        return self._told(visit, "measure.off_title", texts("measure.off", list=title), 200, wrong=False, lines=lines)

    # -- what is shown ------------------------------------------------------------------------------------------

    def _page(self, visit: Visit, name: str, *, status: int = 200, **context: Any) -> Response:
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
        wrong: bool = True,
        lines: list[str] | None = None,
    ) -> Response:
        """A page that says one thing."""
        texts = visit.site.renderer.texts(visit.lang)
        said = texts(sentence) if texts.has(sentence) else sentence
        words = {"title": texts(title), "sentence": said, "lines": lines or [], "href": "", "label": "", "here": ""}
        return self._page(visit, "told", status=status, wrong=wrong, **words)

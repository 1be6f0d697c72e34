"""The route that mail providers post to: what came back, from whoever can prove who they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from starlette.responses import PlainTextResponse, Response

from consentkit.errors import AfgemeldUnavailable, ChoiceRefused
from consentkit.mailing.inbox import Inbox
from consentkit.mailing.webhooks import MAX_BODY, Hook, WebhookRefused
from consentkit.web.forms import read_body
from consentkit.web.visit import HEADERS, Visit

log = logging.getLogger("consentkit")

ROUTE = "inbox/"


class Kit(Protocol):
    """What this route needs of the kit."""

    inbox: Inbox
    hooks: Mapping[str, Hook]

    def now(self) -> datetime: ...


class InboxPages:
    """Answers `inbox/<name>` for each provider that the configuration names.

    Args:
        kit: the providers, and the inbox that takes what they say.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def answer(self, visit: Visit, name: str) -> Response | None:
        """The answer to `name` under the prefix, or None where it isn't ours."""
        if not name.startswith(ROUTE):
            return None
        hook = self._kit.hooks.get(name.removeprefix(ROUTE))
        if hook is None:
            return _plain("There is nothing here.", 404)
        if visit.request.method != "POST":
            response = _plain("This address takes what a mail provider posts.", 405)
            response.headers["Allow"] = "POST"
            return response
        source = f"webhook:{name.removeprefix(ROUTE)}"
        try:
            body = await read_body(visit.request, MAX_BODY)
            headers = {key.lower(): value for key, value in visit.request.headers.items()}
            return await asyncio.to_thread(self._take, hook, source, headers, body)
        except ChoiceRefused as error:
            return _plain("This is too large.", error.status)
        except WebhookRefused as error:
            log.warning("%s: %s", source, error)
            return _plain("Refused." if error.status == 403 else "This can't be taken.", error.status)
        except AfgemeldUnavailable as error:
            log.error("%s: %s", source, error)
            return _plain("This can't be stored now.", 503)

    def _take(self, hook: Hook, source: str, headers: Mapping[str, str], body: bytes) -> Response:
        for report in hook.read(headers, body, self._kit.now()):
            receipt = self._kit.inbox.take(report, source)
            log.log(logging.WARNING if receipt.needs_a_person else logging.INFO, "%s: %s", source, receipt)
        return _plain("Taken.", 200)


def _plain(text: str, status: int) -> Response:
    response = PlainTextResponse(text, status, HEADERS)
    if status == 503:
        response.headers["Retry-After"] = "300"
    return response

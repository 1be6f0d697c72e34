"""The school's office, where a mailing waits: look at it, send it, watch it, and let somebody leave in the middle.

What the office does it does as a host's own program would: through `kit.mailings`. What readers do they do by HTTP, as
a mail program would: the demo plays them, and asks the running site.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request as Asked
from urllib.request import urlopen

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit, assets
from consentkit.errors import ConsentKitError, MailingError
from consentkit.mailing import DeliveryState, Finding, MailingState, Status
from consentkit.mailing.measure import SOON
from consentkit.mailing.report import as_html, report
from consentkit.mailing.tables import deliveries
from consentkit.newsletter.tables import subscribers
from demo_site import readers
from demo_site.post import HEADERS, ONE_CLICK, Letter, Post, from_here, make_templates, shut_in

BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PARTS: Final = ("state", "deeds", "counts")
"""The pieces of a mailing's page that the script keeps fresh, each by itself: where somebody has the focus stays."""

READERS_AT_ONCE: Final = 120
_WAITS: Final = (DeliveryState.QUEUED.value, DeliveryState.CLAIMED.value)
_PIXEL = re.compile(r'src="(http[^"]+/o/[^"]+)"')
_CLICK = re.compile(r'href="(http[^"]+/l/[^"]+)"')


@dataclass(frozen=True, slots=True)
class Leaver:
    """Somebody who left while the mailing went out."""

    address: str
    delivery: int
    at: datetime


class Office:
    """Pages about mailings.

    Args:
        kit: of the site. post: where the mails arrive.
    """

    def __init__(self, kit: ConsentKit, post: Post) -> None:
        self._kit = kit
        self._post = post
        self._templates = make_templates()
        self._texts = kit.sites[0].renderer.texts("nl")
        self._templates.env.globals |= {"say": self._texts, "parts": PARTS}
        self._findings: dict[int, list[Finding]] = {}
        self._leavers: dict[int, list[Leaver]] = defaultdict(list)
        self._read: set[int] = set()
        self._told: dict[int, str] = {}

    @property
    def routes(self) -> list[Route]:
        """The pages, under /post."""
        here = "/post/mailing/{id:int}"
        deeds: Mapping[str, Callable[[int], Awaitable[str]]] = {
            "verstuur": self._send, "pauzeer": self._pause, "verder": self._resume, "stop": self._cancel,
            "vertrek": self._leave, "lees": self._open,
        }  # fmt: skip
        return [
            Route("/post/mailing", self._list),
            Route("/post/mailing/nieuw", self._new, methods=["POST"]),
            Route("/post/mailing/verslag.css", self._css),
            Route(here, self._show),
            Route(here + "/html", self._html),
            Route(here + "/verslag", self._report),
            *(Route(f"{here}/{name}", self._doing(deed), methods=["POST"]) for name, deed in deeds.items()),
        ]

    # -- looking --------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._kit.mailings.all)
        return self._page(request, "mailings.html", mailings=found)

    async def _show(self, request: Request) -> Response:
        id = request.path_params["id"]
        if "hx-request" not in request.headers:
            return await self._whole(request, id)
        part = request.query_params.get("part", "")
        if part not in PARTS:
            raise HTTPException(404)
        return self._page(request, f"_mailing_{part}.html", **await self._asked(self._course, id))

    async def _whole(self, request: Request, id: int, *, wrong: str = "") -> Response:
        """All of a mailing's page, with what stood in the way of what was just asked for."""
        values = await self._asked(self._course, id) | await self._asked(self._content, id)
        return self._page(request, "mailing.html", 409 if wrong else 200, **values, wrong=wrong)

    async def _asked(self, ask: Callable[[int], dict[str, Any]], id: int) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(ask, id)
        except MailingError as error:
            raise HTTPException(404) from error
        except ConsentKitError as error:
            raise HTTPException(503) from error

    def _course(self, id: int) -> dict[str, Any]:
        """How far it is, and what the mailboxes say of it, which no real sender gets to see."""
        status = self._kit.mailings.status(id)
        letters = self._letters(id)
        got = Counter(address for letter in letters for address in letter.to)
        numbers = {letter.header("Message-ID").partition("@")[0] for letter in letters}
        return {
            "status": status,
            "mailing": status.mailing,
            "audience": self._kit.mailings.audience(id),
            "rows": _rows(status),
            "open": status.total - status.settled,
            "got": got,
            "twice": sum(count > 1 for count in got.values()),
            "arrived": sum(f"<{id}.{number}" in numbers for number in status.in_doubt),
            "leavers": self._states(id),
            "told": self._told.get(id, ""),
        }

    def _content(self, id: int) -> dict[str, Any]:
        if id not in self._findings:
            self._findings[id] = self._kit.mailings.preflight(id, dns=False, lang="nl")
        return {"findings": self._findings[id], "letter": self._preview(id), "reason": self._reason}

    def _preview(self, id: int) -> Letter:
        raw = self._kit.mailings.preview(id).raw
        return Letter(0, self._kit.now(), "", (), message_from_bytes(raw, policy=policy.compat32))

    def _reason(self, reason: str) -> str:
        key = f"report.reason_{reason}"
        return self._texts(key) if self._texts.has(key) else reason

    def _letters(self, id: int) -> list[Letter]:
        # A copy: this is asked in threads, while letters arrive.
        return [one for one in tuple(self._post.letters) if one.header("Message-ID").startswith(f"<{id}.")]

    def _states(self, id: int) -> list[tuple[Leaver, str]]:
        """Who left in the middle, and how far the message to each is."""
        row = deliveries.c
        numbers = [one.delivery for one in self._leavers[id]]
        with self._kit.store.read() as connection:
            found = connection.execute(select(row.id, row.state).where(row.id.in_(numbers))).all()
        states = {number: state for number, state in found}  # noqa: C416  # rows are no pairs to a checker
        return [(one, states.get(one.delivery, "")) for one in reversed(self._leavers[id])]

    async def _html(self, request: Request) -> Response:
        made = await self._asked(lambda id: {"letter": self._preview(id)}, request.path_params["id"])
        return shut_in(made["letter"])

    async def _report(self, request: Request) -> Response:
        def told(id: int) -> dict[str, Any]:
            found = report(self._kit.store, id, self._kit.now())
            return {"piece": as_html(found, self._kit.sites[0].renderer, "nl", page=False)}

        id = request.path_params["id"]
        return self._page(request, "mailing_report.html", id=id, **await self._asked(told, id))

    async def _css(self, request: Request) -> Response:
        own = (assets.directory("static") / "consentkit-report.css").read_text("utf-8")
        css = self._kit.sites[0].renderer.pages_css_text + own
        return PlainTextResponse(css, headers=HEADERS, media_type="text/css")

    def _page(self, request: Request, name: str, code: int = 200, **values: Any) -> Response:
        return self._templates.TemplateResponse(request, name, values, status_code=code, headers=HEADERS)

    # -- doing ----------------------------------------------------------------------------------------------------

    def _doing(self, deed: Callable[[int], Awaitable[str]]) -> Callable[[Request], Awaitable[Response]]:
        async def do(request: Request) -> Response:
            from_here(request)
            id = request.path_params["id"]
            try:
                self._told[id] = await deed(id)
            except MailingError as error:
                return await self._whole(request, id, wrong=" ".join(error.problems))
            except ConsentKitError as error:
                return await self._whole(request, id, wrong=str(error))
            return RedirectResponse(f"/post/mailing/{id}", 303, HEADERS)

        return do

    async def _new(self, request: Request) -> Response:
        from_here(request)
        made = await asyncio.to_thread(readers.draft, self._kit)
        return RedirectResponse(f"/post/mailing/{made}", 303, HEADERS)

    async def _send(self, id: int) -> str:
        await asyncio.to_thread(self._kit.mailings.send, id, dns=False)
        self._kit.start()
        return ""

    async def _pause(self, id: int) -> str:
        await asyncio.to_thread(self._kit.mailings.pause, id)
        return "Gepauzeerd. Wat al onderweg was, is nog aangekomen."

    async def _resume(self, id: int) -> str:
        await asyncio.to_thread(self._kit.mailings.resume, id)
        self._kit.start()
        return ""

    async def _cancel(self, id: int) -> str:
        await asyncio.to_thread(self._kit.mailings.cancel, id)
        return "Geannuleerd. Wie nog wachtte, krijgt niets."

    async def _leave(self, id: int) -> str:
        """One click of somebody who waits, in the newsletter that she got before this one."""
        found = await asyncio.to_thread(self._somebody, id)
        if found is None:
            return "Er wacht niemand meer."
        delivery, address = found
        url = self._kit.unsubscribe_url(address, list=readers.LIST)
        if not await asyncio.to_thread(_fetch, url, ONE_CLICK):
            return "De site nam de afmelding niet aan. Probeer het nog eens."
        self._leavers[id].append(Leaver(address, delivery, datetime.now().astimezone()))
        return ""

    def _somebody(self, id: int) -> tuple[int, str] | None:
        row = deliveries.c
        whose = select(row.id, subscribers.c.address).join(subscribers, subscribers.c.id == row.subscriber_id)
        query = whose.where(row.mailing_id == id, row.state.in_(_WAITS)).order_by(row.id)
        gone = {one.delivery for one in self._leavers[id]}
        with self._kit.store.read() as connection:
            waiting = [(number, str(address)) for number, address in connection.execute(query) if number not in gone]
        later = waiting[len(waiting) // 2 :]  # who is next may have her message while she leaves
        return random.choice(later) if later else None  # noqa: S311

    async def _open(self, id: int) -> str:
        """Readers open their mail, and every third follows a link: of those only whom the mail measures."""
        ripe = datetime.now().astimezone() - timedelta(seconds=SOON)
        fresh = [one for one in self._letters(id) if one.at < ripe and one.number not in self._read]
        some = random.sample(fresh, min(READERS_AT_ONCE, len(fresh)))
        if not some:
            return "Er is nog geen mail om te lezen. Wie binnen tien seconden opent, telt als programma."
        self._read |= {one.number for one in some}
        measured = await asyncio.to_thread(_read_all, some)
        return f"{len(some)} lezers openden hun mail. {measured} van hen vinden meten goed; over hen gaat het verslag."


def _read_all(letters: list[Letter]) -> int:
    measured = 0
    for number, letter in enumerate(letters):
        if pixel := _PIXEL.search(letter.html):
            measured += 1
            _fetch(pixel[1].replace("&amp;", "&"))
            links = _CLICK.findall(letter.html)
            if links and number % 3 == 0:
                _fetch(random.choice(links).replace("&amp;", "&"))  # noqa: S311
    return measured


def _fetch(url: str, form: str = "") -> bool:
    """Ask the running site, as a mail program does; whether it answered well."""
    asked = Asked(url, form.encode() if form else None, {"User-Agent": BROWSER})  # noqa: S310  # our own http://
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


_ROWS: Final[Mapping[str, tuple[DeliveryState, ...]]] = {
    "sent": (DeliveryState.SENT,),
    "waiting": (DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.SENDING),
    "suppressed": (DeliveryState.SUPPRESSED,),
    "in_doubt": (DeliveryState.IN_DOUBT,),
    "deferred": (DeliveryState.DEFERRED,),
    "failed": (DeliveryState.FAILED,),
    "cancelled": (DeliveryState.CANCELLED,),
    "expired": (DeliveryState.EXPIRED,),
}
"""The lines of the table, by the name of their text, and the states that each counts."""

_ALWAYS: Final = ("sent", "waiting", "suppressed")


def _rows(status: Status) -> list[tuple[str, int]]:
    """What is counted, once it was sent."""
    if status.mailing.state is MailingState.DRAFT:
        return []
    counted = {name: sum(status.counts.get(state, 0) for state in states) for name, states in _ROWS.items()}
    return [(name, count) for name, count in counted.items() if count or name in _ALWAYS]

"""The readers of a mailing that goes out, played by the demo: one leaves in the middle, others open and follow links.

The school does its part in the console. What readers do they do here by HTTP, as a mail program would, and what is told
here is what only the mailboxes know: how much arrived, and whether anybody got it twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request as Asked
from urllib.request import urlopen

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from consentkit import ConsentKit
from consentkit.errors import ConsentKitError
from consentkit.mailing import DeliveryState, Mailing, MailingState
from consentkit.mailing.measure import SOON
from consentkit.mailing.tables import deliveries
from consentkit.newsletter.tables import subscribers
from demo_site.past import BROWSER, CLICK, PIXEL
from demo_site.post import HEADERS, ONE_CLICK, Letter, Post, from_here, make_templates
from demo_site.readers import LIST

AT_ONCE: Final = 120
"""So many readers open their mail at a time."""

_RUNS: Final = (MailingState.SENDING, MailingState.PAUSED, MailingState.STOPPED)
_WAITS: Final = (DeliveryState.QUEUED.value, DeliveryState.CLAIMED.value)


@dataclass(frozen=True, slots=True)
class Leaver:
    """Somebody who left while the mailing went out."""

    address: str
    delivery: int
    at: datetime


class Players:
    """The page about the readers of the mailing that was sent last.

    Args:
        kit: of the site. post: where the mails arrive.
    """

    def __init__(self, kit: ConsentKit, post: Post) -> None:
        self._kit = kit
        self._post = post
        self._templates = make_templates()
        self._leavers: dict[int, list[Leaver]] = defaultdict(list)
        self._read: set[int] = set()
        self._told = ""

    @property
    def routes(self) -> list[Route]:
        """The pages, under /post."""
        return [
            Route("/post/lezers", self._show),
            Route("/post/lezers/vertrek", self._playing(self._leave), methods=["POST"]),
            Route("/post/lezers/open", self._playing(self._open), methods=["POST"]),
        ]

    # -- looking --------------------------------------------------------------------------------------------------

    async def _show(self, request: Request) -> Response:
        try:
            values = await asyncio.to_thread(self._course)
        except ConsentKitError as error:
            raise HTTPException(503) from error
        name = "_readers.html" if "hx-request" in request.headers else "readers.html"
        return self._templates.TemplateResponse(request, name, values, headers=HEADERS)

    def _course(self) -> dict[str, Any]:
        mailing = self._mailing()
        if mailing is None:
            return {"mailing": None}
        letters = self._letters(mailing.id)
        got = Counter(address for letter in letters for address in letter.to)
        numbers = {letter.header("Message-ID").partition("@")[0] for letter in letters}
        in_doubt = self._kit.mailings.status(mailing.id).in_doubt
        return {
            "mailing": mailing,
            "runs": mailing.state in _RUNS,
            "got": got,
            "twice": sum(count > 1 for count in got.values()),
            "in_doubt": in_doubt,
            "arrived": sum(f"<{mailing.id}.{number}" in numbers for number in in_doubt),
            "leavers": self._leavers_of(mailing.id),
            "told": self._told,
            "console": f"{self._kit.sites[0].settings.prefix}/console",
        }

    def _mailing(self) -> Mailing | None:
        """The one that was sent last, while it runs or its letters are here."""
        sent = [one for one in self._kit.mailings.all() if one.frozen_at is not None]
        last = max(sent, key=lambda one: one.frozen_at or one.created_at, default=None)
        return last if last and (last.state in _RUNS or self._letters(last.id)) else None

    def _letters(self, id: int) -> list[Letter]:
        # A copy: this is asked in threads, while letters arrive.
        return [one for one in tuple(self._post.letters) if one.header("Message-ID").startswith(f"<{id}.")]

    def _leavers_of(self, id: int) -> list[tuple[Leaver, str]]:
        """Who left in the middle, and how far the message to each is."""
        row = deliveries.c
        numbers = [one.delivery for one in self._leavers[id]]
        with self._kit.store.read() as connection:
            found = connection.execute(select(row.id, row.state).where(row.id.in_(numbers))).all()
        states = {number: state for number, state in found}  # noqa: C416  # rows are no pairs to a checker
        return [(one, states.get(one.delivery, "")) for one in reversed(self._leavers[id])]

    # -- playing --------------------------------------------------------------------------------------------------

    def _playing(self, act: Callable[[int], Awaitable[str]]) -> Callable[[Request], Awaitable[Response]]:
        async def play(request: Request) -> Response:
            from_here(request)
            try:
                mailing = await asyncio.to_thread(self._mailing)
                self._told = await act(mailing.id) if mailing else ""
            except ConsentKitError as error:
                raise HTTPException(503) from error
            return RedirectResponse("/post/lezers", 303, HEADERS)

        return play

    async def _leave(self, id: int) -> str:
        """One click of somebody who waits, in the newsletter that she got before this one."""
        found = await asyncio.to_thread(self._somebody, id)
        if found is None:
            return "Er wacht niemand meer."
        delivery, address = found
        url = self._kit.unsubscribe_url(address, list=LIST)
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
        some = random.sample(fresh, min(AT_ONCE, len(fresh)))
        if not some:
            return "Er is nog geen mail om te lezen. Wie binnen tien seconden opent, telt als programma."
        self._read |= {one.number for one in some}
        measured = await asyncio.to_thread(_read_all, some)
        return f"{len(some)} lezers openden hun mail. {measured} van hen vinden meten goed: over hen gaat het rapport."


def _read_all(letters: list[Letter]) -> int:
    measured = 0
    for number, letter in enumerate(letters):
        if pixel := PIXEL.search(letter.html):
            measured += 1
            _fetch(pixel[1].replace("&amp;", "&"))
            links = CLICK.findall(letter.html)
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

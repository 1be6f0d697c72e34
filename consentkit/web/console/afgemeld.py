"""Afgemeld: look an address up, add one, and lift one with two people. No page lists who is in the table (SUP-02).

Everything that names an address is sent by POST and is in no URL and no log; the log holds its keyed digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from consentkit.afgemeld import MAIL, MARKETING, Lifting, LiftRequest, Reason, Suppression, counts
from consentkit.errors import AddressError, LiftRefused
from consentkit.staff import Right
from consentkit.web.console.afgemeld_files import AfgemeldFiles
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.figures import Figure
from consentkit.web.console.listing import Column, Listing
from consentkit.web.console.scopes import how_said, list_said, reason_said, scope_options, scope_said

HOW: Final[Mapping[str, Reason]] = {
    "phone": Reason.PHONE,
    "letter": Reason.LETTER,
    "reply": Reason.REPLY,
    "desk": Reason.STAFF,
}
"""How somebody asked, which is the channel; and the reason that the command line keeps for it."""

COUNTS: Final = "afgemeld"
"""Names the figure of how many stand in the table."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found about an address that was looked up.

    Args:
        rows: that forbid something, the oldest first. back: ids of lists that were confirmed again since.
    """

    address: str
    rows: Sequence[Suppression]
    back: Sequence[str]


class AfgemeldPages:
    """The area of those who may not be written to."""

    name = "afgemeld"

    def __init__(self) -> None:
        right = Right.AFGEMELD
        self.routes = (
            Route("afgemeld", right, get=self._start, post=self._look_up, once=False),
            Route("afgemeld/add", right, get=self._add_form, post=self._add),
            *AfgemeldFiles().routes,
            Route("afgemeld/lift", right, get=self._waiting),
            Route("afgemeld/lift/new", right, get=self._lift_form, post=self._ask_to_lift),
            Route("afgemeld/lift/{id}", right, get=self._request),
            Route("afgemeld/lift/{id}/agree", right, post=self._agree),
            Route("afgemeld/lift/{id}/refuse", right, post=self._refuse),
        )

    # -- looking up -----------------------------------------------------------------------------------------------

    async def _start(self, ask: Ask) -> Response:
        return await self._start_page(ask)

    async def _look_up(self, ask: Ask) -> Response:
        address = ask.sent.text("address")
        try:
            digest = ask.kit.afgemeld.keys.digest(address)
        except AddressError:
            return await self._start_page(ask, status=422, address=address, error=ask.t("base.no_address"))
        await ask.note("afgemeld.check", person=digest)
        found = await ask.run(ask.kit.afgemeld.all_of, address)
        rows = sorted((one for one in found if not one.is_exception), key=lambda one: one.at)
        back = sorted({one.scope.partition(":")[2] for one in found if one.is_exception})
        return await self._start_page(ask, address=address, answer=Answer(address, rows, back))

    async def _start_page(self, ask: Ask, *, status: int = 200, answer: Answer | None = None, **typed: Any) -> Response:
        figure = await ask.run(ask.rooms.figures.get, COUNTS, lambda: counts(ask.kit.store))
        waiting = await ask.run(_lifting(ask).waiting)
        return ask.page(
            "afgemeld",
            status=status,
            answer=answer,
            counted_rows=figure,
            total=sum(figure.value.values()) if figure else 0,
            list=_listed(ask, figure),
            waiting=len(waiting),
            **_words(ask),
            **{"address": "", "error": "", "how": "phone", "scope": MARKETING, "errors": {}, "reason": "", **typed},
        )

    # -- adding ---------------------------------------------------------------------------------------------------

    async def _add_form(self, ask: Ask) -> Response:
        return ask.page(
            "afgemeld_add", **_words(ask), address="", how=ask.query("how") or "phone", scope=MARKETING, errors={}
        )

    async def _add(self, ask: Ask) -> Response:
        address, how, scope = (ask.sent.text(name) for name in ("address", "how", "scope"))
        errors = {}
        if how not in HOW:
            errors["how"] = ask.t("afgemeld.how_missing")
        if scope not in dict(scope_options(ask)):
            errors["scope"] = ask.t("afgemeld.scope_missing")
        try:
            digest = ask.kit.afgemeld.keys.digest(address)
        except AddressError:
            digest, errors["address"] = b"", ask.t("base.no_address")
        if errors:
            return ask.page(
                "afgemeld_add", status=422, **_words(ask), address=address, how=how, scope=scope, errors=errors
            )
        await ask.note("afgemeld.add", f"{scope} ({how})", person=digest)
        new = await ask.run(ask.kit.afgemeld.add_sync, address, scope=scope, reason=HOW[how], channel=how)
        ask.rooms.figures.forget(COUNTS)
        kind = scope if scope in (MAIL, MARKETING) else "list"
        return ask.back("afgemeld", told=f"afgemeld.told_{'added' if new else 'known'}_{kind}")

    # -- lifting --------------------------------------------------------------------------------------------------

    async def _waiting(self, ask: Ask) -> Response:
        t = ask.t
        columns: list[Column[LiftRequest]] = [
            Column("scope", t("afgemeld.scope"), by=lambda one: scope_said(ask, one.scope)),
            Column("reason", t("afgemeld.reason"), by=lambda one: one.reason.casefold()),
            Column("by", t("afgemeld.lift_by"), by=lambda one: one.by.casefold()),
            Column("at", t("afgemeld.lift_at"), by=lambda one: one.at),
        ]
        rows = await ask.run(_lifting(ask).waiting)
        listing = Listing.of(
            rows, columns, ask.visit.request.query_params, ask.url("afgemeld/lift"),
            search=lambda one: f"{scope_said(ask, one.scope)} {one.reason} {one.by}", sort="at",
        )  # fmt: skip
        return ask.page("afgemeld_lifts", list=listing, **_words(ask))

    async def _lift_form(self, ask: Ask) -> Response:
        return ask.page("afgemeld_lift_new", **_words(ask), address="", scope=MARKETING, reason="", errors={})

    async def _ask_to_lift(self, ask: Ask) -> Response:
        address, scope, reason = ask.sent.text("address"), ask.sent.text("scope"), ask.sent.text("reason")
        errors = {}
        if scope not in dict(scope_options(ask, also=scope)):
            errors["scope"] = ask.t("afgemeld.scope_missing")
        try:
            digests = ask.kit.afgemeld.keys.digests(address)
        except AddressError:
            digests, errors["address"] = [], ask.t("base.no_address")
        if not errors:
            await ask.note("afgemeld.lift_ask", scope, person=digests[0])
            try:
                id = await ask.run(_lifting(ask).ask, digests, scope, reason, ask.member.name)
            except LiftRefused as error:
                field = {"not_there": "scope", "asked": "scope"}.get(error.reason, "reason")
                errors[field] = ask.t(f"afgemeld.lift_refused_{error.reason}")
            else:
                return ask.back(f"afgemeld/lift/{id}", told="afgemeld.told_asked")
        return ask.page(
            "afgemeld_lift_new", status=422, **_words(ask, also=scope), address=address, scope=scope, reason=reason,
            errors=errors,
        )  # fmt: skip

    async def _request(self, ask: Ask) -> Response:
        request = await ask.run(_lifting(ask).get, ask.params["id"])
        if request is None:
            return _gone(ask)
        await ask.note("afgemeld.lift_read", request.scope, person=request.digests[0])
        return ask.page("afgemeld_lift", request=request, mine=_same(ask, request), **_words(ask))

    async def _agree(self, ask: Ask) -> Response:
        request = await ask.run(_lifting(ask).get, ask.params["id"])
        if request is None or _same(ask, request):
            return _gone(ask) if request is None else _not_you(ask)
        await ask.note("afgemeld.lift_agree", request.scope, person=request.digests[0])
        try:
            lifted = await ask.run(_lifting(ask).agree, request.id, ask.member.name)
        except LiftRefused as error:
            return _gone(ask) if error.reason == "gone" else _not_you(ask)
        ask.rooms.figures.forget(COUNTS)
        return ask.back("afgemeld/lift", told=f"afgemeld.told_lifted{'' if lifted else '_before'}")

    async def _refuse(self, ask: Ask) -> Response:
        request = await ask.run(_lifting(ask).get, ask.params["id"])
        if request is None or _same(ask, request):
            return _gone(ask) if request is None else _not_you(ask)
        await ask.note("afgemeld.lift_refuse", request.scope, person=request.digests[0])
        try:
            await ask.run(_lifting(ask).refuse, request.id, ask.member.name)
        except LiftRefused as error:
            return _gone(ask) if error.reason == "gone" else _not_you(ask)
        return ask.back("afgemeld/lift", told="afgemeld.told_refused")


def _lifting(ask: Ask) -> Lifting:
    return Lifting(ask.kit.afgemeld, ask.kit.store, ask.kit.now)


def _same(ask: Ask, request: LiftRequest) -> bool:
    return request.by.strip().casefold() == ask.member.name.strip().casefold()


def _gone(ask: Ask) -> Response:
    return ask.wrong(ask.t("afgemeld.lift_gone"), status=404, title=ask.t("afgemeld.lift_gone_title"))


def _not_you(ask: Ask) -> Response:
    return ask.wrong(ask.t("afgemeld.lift_same"), status=403, title=ask.t("afgemeld.lift_same_title"))


def _words(ask: Ask, *, also: str = "") -> dict[str, Any]:
    """What the templates say things with."""
    return {
        "hows": [(how, ask.t(f"afgemeld.how_{how}")) for how in HOW],
        "scopes": scope_options(ask, also=also),
        "scope_said": lambda scope: scope_said(ask, scope),
        "reason_said": lambda reason: reason_said(ask, reason),
        "how_said": lambda channel: how_said(ask, channel),
        "list_said": lambda id: list_said(ask, id),
    }


def _listed(ask: Ask, figure: Figure[Any] | None) -> Listing[Any] | None:
    if figure is None:
        return None
    rows = [
        (scope_said(ask, scope), reason_said(ask, reason), count) for (scope, reason), count in figure.value.items()
    ]
    columns: list[Column[Any]] = [
        Column("scope", ask.t("afgemeld.scope"), by=lambda row: row[0]),
        Column("reason", ask.t("afgemeld.reason"), by=lambda row: row[1]),
        Column("count", ask.t("afgemeld.count"), by=lambda row: row[2], number=True),
    ]
    return Listing.of(
        rows, columns, ask.visit.request.query_params, ask.url("afgemeld"),
        search=lambda row: f"{row[0]} {row[1]}", sort="count", descending=True,
    )  # fmt: skip

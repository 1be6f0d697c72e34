"""Accounts of the staff: who may be in the console and what for; for whoever has the role beheer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from urllib.parse import quote

from starlette.responses import Response

from consentkit.errors import TokenError
from consentkit.render import Texts
from consentkit.staff import Account, Given, Right, Role, StaffRefused, read_roles
from consentkit.web.console.ask import Ask, Handler, Route
from consentkit.web.console.listing import Column, Listing

Page = Callable[["StaffPages", Ask], Awaitable[Response]]


def _here(handle: Page) -> Page:
    """Only where the console has accounts of its own, and the one that a path names exists."""

    @wraps(handle)
    async def handled(self: StaffPages, ask: Ask) -> Response:
        if not ask.member.account:
            status = 409 if ask.visit.request.method == "POST" else 200
            return ask.wrong(ask.t("staff.host"), status=status, title=ask.t("base.menu_staff"))
        try:
            return await handle(self, ask)
        except StaffRefused as refused:
            if refused.reason == "unknown":
                return ask.wrong(ask.t("staff.refused_unknown"), status=404, title=ask.t("base.not_found_title"))
            return ask.wrong(ask.t(f"staff.refused_{refused.reason}"))

    return handled


class StaffPages:
    """The list of accounts, and each of them."""

    name = "staff"

    def __init__(self) -> None:
        self.routes = (
            _route("staff", get=self._list),
            _route("staff/add", get=self._ask_add, post=self._add),
            _route("staff/account/{name}", get=self._show),
            _route("staff/account/{name}/roles", get=self._show, post=self._set_roles),
            _route("staff/account/{name}/disable", get=self._ask_disable, post=self._disable),
            _route("staff/account/{name}/enable", get=self._show, post=self._enable),
            _route("staff/account/{name}/reset", get=self._ask_reset, post=self._reset),
            _route("staff/account/{name}/password", get=self._given),
        )

    @_here
    async def _list(self, ask: Ask) -> Response:
        t = ask.t
        accounts = await ask.run(ask.kit.accounts.list)
        columns = [
            Column[Account]("name", t("staff.name"), by=lambda one: one.name.casefold()),
            Column[Account]("roles", t("staff.roles"), by=lambda one: _roles(t, one.roles)),
            Column[Account]("state", t("staff.state"), by=lambda one: _state(t, one)),
            Column[Account]("second", t("staff.second_factor"), by=lambda one: one.second_factor),
            Column[Account]("seen", t("staff.seen"), by=lambda one: one.seen_at),
        ]
        listing = Listing.of(
            accounts, columns, ask.visit.request.query_params, ask.url("staff"),
            search=lambda one: f"{one.name} {_roles(t, one.roles)} {_state(t, one)}", sort="name",
        )  # fmt: skip
        return ask.page(
            "staff",
            list=listing,
            roles=lambda one: _roles(t, one.roles),
            state=lambda one: _state(t, one),
            path=lambda one: _path(one.name),
        )

    # -- one account --------------------------------------------------------------------------------------------

    @_here
    async def _show(self, ask: Ask) -> Response:
        return await self._account(ask)

    async def _account(
        self, ask: Ask, *, chosen: frozenset[Role] | None = None, error: str = "", status: int = 200
    ) -> Response:
        account = await ask.run(ask.kit.accounts.get, ask.params["name"])
        return ask.page(
            "staff_account",
            status=status,
            account=account,
            state=_state(ask.t, account),
            path=_path(account.name),
            own=account.name == ask.member.name,
            every=[*Role],
            chosen=account.roles if chosen is None else chosen,
            error=error,
        )

    @_here
    async def _set_roles(self, ask: Ask) -> Response:
        chosen = _chosen(ask)
        try:
            await ask.run(ask.kit.accounts.set_roles, ask.params["name"], chosen, by=ask.member.name)
        except StaffRefused as refused:
            if refused.reason == "unknown":
                raise
            error = ask.t(f"staff.refused_{refused.reason}")
            return await self._account(ask, chosen=chosen, error=error, status=422)
        if ask.params["name"] == ask.member.name and Role.BEHEER not in chosen:
            return ask.back("", told="staff.told_roles")
        return ask.back(_path(ask.params["name"]), told="staff.told_roles")

    @_here
    async def _ask_disable(self, ask: Ask) -> Response:
        return await self._ask_first(ask, "disable")

    @_here
    async def _disable(self, ask: Ask) -> Response:
        await ask.run(ask.kit.accounts.disable, ask.params["name"], by=ask.member.name)
        return ask.back(_path(ask.params["name"]), told="staff.told_disabled")

    @_here
    async def _enable(self, ask: Ask) -> Response:
        await ask.run(ask.kit.accounts.enable, ask.params["name"], by=ask.member.name)
        return ask.back(_path(ask.params["name"]), told="staff.told_enabled")

    @_here
    async def _ask_reset(self, ask: Ask) -> Response:
        return await self._ask_first(ask, "reset")

    @_here
    async def _reset(self, ask: Ask) -> Response:
        given = await ask.run(ask.kit.accounts.reset, ask.params["name"], by=ask.member.name)
        return _show_once(ask, given)

    @staticmethod
    async def _ask_first(ask: Ask, act: str) -> Response:
        account = await ask.run(ask.kit.accounts.get, ask.params["name"])
        return ask.page("staff_ask", act=act, account=account, path=_path(account.name))

    # -- a new one ----------------------------------------------------------------------------------------------

    @_here
    async def _ask_add(self, ask: Ask) -> Response:
        return _add_page(ask)

    @_here
    async def _add(self, ask: Ask) -> Response:
        try:
            given = await ask.run(ask.kit.accounts.add, ask.sent.text("name"), _chosen(ask), by=ask.member.name)
        except StaffRefused as refused:
            return _add_page(ask, refused=refused)
        return _show_once(ask, given)

    @_here
    async def _given(self, ask: Ask) -> Response:
        """The one-time password, to the log-in that made it, for a few minutes: to pass on."""
        try:
            given = await ask.run(ask.kit.accounts.given, ask.query("ticket"), ask.member)
        except TokenError:
            given = None
        if given is None or given.name != ask.params["name"]:
            return ask.wrong(ask.t("staff.given_gone"), status=404, title=ask.t("staff.given"))
        return ask.page("staff_given", given=given, path=_path(given.name))


def _route(path: str, *, get: Handler, post: Handler | None = None) -> Route:
    return Route(path, Right.STAFF, get=get, post=post)


def _add_page(ask: Ask, *, refused: StaffRefused | None = None) -> Response:
    error = ask.t(f"staff.refused_{refused.reason}") if refused else ""
    return ask.page(
        "staff_add",
        status=422 if refused else 200,
        typed=ask.sent.text("name"),
        every=[*Role],
        chosen=_chosen(ask),
        name_error=error if refused and refused.reason != "no_role" else "",
        role_error=error if refused and refused.reason == "no_role" else "",
    )


def _show_once(ask: Ask, given: Given) -> Response:
    return ask.back(f"{_path(given.name)}/password?ticket={ask.kit.accounts.ticket(given, ask.member)}")


def _chosen(ask: Ask) -> frozenset[Role]:
    return read_roles(name for name in ask.sent.all("role") if name in {*Role})


def _path(name: str) -> str:
    return f"staff/account/{quote(name, safe='')}"


def _roles(t: Texts, roles: frozenset[Role]) -> str:
    return ", ".join(t(f"staff.role_{role}") for role in Role if role in roles)


def _state(t: Texts, account: Account) -> str:
    if account.disabled:
        return t("staff.state_disabled")
    return t("staff.state_invited" if account.must_change else "staff.state_active")

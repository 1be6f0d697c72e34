"""The way in: logging in, a second factor, one's own account, and what is carried through a log-in that ran out."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlencode

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.responses import RedirectResponse, Response

from consentkit.errors import TokenError
from consentkit.staff import Member, StaffRefused, key_of
from consentkit.store import after_fork
from consentkit.web.console.ask import HEADERS, Ask, Rooms, Route, Sent
from consentkit.web.console.carry import Carried, carried, kept, uncarried

PER_CLIENT_AND_NAME: Final = parse("8/10 minutes")
"""Tries of one name from one address; so few that nobody locks a colleague out from there."""

PER_CLIENT: Final = parse("40/10 minutes")
"""A whole office can stand behind one address."""

PER_NAME: Final = parse("40/10 minutes")

PER_ACCOUNT: Final = parse("10/hour")
"""Codes after a right password, and passwords asked of somebody who is in: three codes in a million are right at any
moment, so that an even chance takes more than two years.
"""

HASHING: Final = 2
"""Passwords looked at at once: each takes 64 MB and some 50 ms of all processors."""

COOKIE: Final = "consentkit-console"

_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Onward:
    """Where somebody wanted to go before the log-in came between: a page of the console, and what they had sent there.

    `carried` is empty where they only looked.
    """

    next: str = ""
    carried: str = ""

    @classmethod
    def of(cls, sent: Sent) -> Onward:
        """As the log-in page's own form brought it back."""
        return cls(_inside(sent.text("next")), sent.text("carried"))


class Entry:
    """Logs people in and out.

    Args:
        rooms: what the console works with. own: with accounts of our own; else the host app knows who asks.
    """

    name = "account"

    def __init__(self, rooms: Rooms, *, own: bool) -> None:
        self._rooms = rooms
        self._own = own
        self._accounts = rooms.kit.accounts
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._fresh()
        after_fork(self, "_fresh")
        self.routes: tuple[Route, ...] = (
            Route("account", None, get=self._account),
            Route("account/password", None, get=self._account, post=self._change_password),
            Route("account/elsewhere", None, get=self._account, post=self._end_others),
            Route("account/code", None, get=self._enrol, post=self._confirm),
            Route("account/code/begin", None, get=self._enrol, post=self._begin),
            Route("account/code/off", None, get=self._ask_off, post=self._off),
        )

    def _fresh(self) -> None:
        self._hashing = ThreadPoolExecutor(HASHING, thread_name_prefix="consentkit-password")

    def close(self) -> None:
        """Look at no further passwords."""
        self._hashing.shutdown(wait=False, cancel_futures=True)

    async def member(self, ask: Ask) -> Member | None:
        """Who asks, by the log-in of our own."""
        cookie = ask.visit.request.cookies.get(_cookie_name(ask), "")
        watches = "text/event-stream" in ask.visit.request.headers.get("accept", "")
        return await ask.run(self._accounts.member, cookie, used=not watches) if cookie else None

    def lets_through(self, path: str) -> bool:
        """Whether a page may be seen by somebody who has to choose a password first."""
        return path == "account" or path.startswith("account/")

    # -- the door -----------------------------------------------------------------------------------------------

    async def door(self, ask: Ask, path: str, member: Member | None) -> Response:
        """The answer to `login` and `logout`."""
        posted = ask.visit.request.method == "POST"
        if path == "logout":
            return await self._log_out(ask, member) if posted and self._own else ask.back("")
        onward = Onward.of(ask.sent) if posted else Onward(_inside(ask.query("next")))
        if not self._own:
            return self._to_host(ask, onward.next)
        if posted and ask.sent.has("step"):
            return await self._take_code(ask, onward, member)
        if posted:
            return await self._take_password(ask, onward, member)
        return ask.back(onward.next) if member else await self._log_in_page(ask, onward, status=200)

    async def ask_to_log_in(self, ask: Ask, path: str, sent: Sent) -> Response:
        """The answer to somebody who is not logged in, with what they sent kept."""
        posted = ask.visit.request.method == "POST"
        next = _here(ask, path)
        if self._own:
            return await self._log_in_page(ask, Onward(next, carried(sent) if posted else ""))
        if not posted:
            return self._to_host(ask, next)
        return self._continue(ask, next, kept(sent), "entry.continue_host", status=401, log_in=self._host_address(ask))

    async def offer_again(self, ask: Ask, path: str, said: str = "entry.continue_old") -> Response:
        """The answer to a form that lay open too long, was shown in another log-in, or was sent before: it can be sent
        again. `said` is the text that tells which.
        """
        return self._continue(ask, _here(ask, path), kept(ask.sent), said, status=409)

    async def _take_password(self, ask: Ask, onward: Onward, member: Member | None) -> Response:
        name = ask.sent.text("name")
        key, client = key_of(name)[:60], _subscriber(ask.visit.client)
        windows = (PER_CLIENT_AND_NAME, (client, key)), (PER_CLIENT, (client,)), (PER_NAME, ("name", key))
        if wait := self._wait(*windows):
            return await self._too_many(ask, onward, wait)
        passage = await self._hash(self._accounts.log_in, name, ask.sent.raw("password"))
        if passage is None:
            return await self._log_in_page(ask, onward, "entry.wrong")
        self._limiter.clear(PER_CLIENT_AND_NAME, client, key)
        if passage.member is None:
            return self._code_page(ask, passage.token, onward)
        return await self._arrive(ask, passage.token, passage.member, onward, member)

    async def _take_code(self, ask: Ask, onward: Onward, member: Member | None) -> Response:
        step = ask.sent.text("step")
        try:
            window = (PER_ACCOUNT, ("code", key_of(self._accounts.named(step))))
            if wait := self._wait(window):
                return await self._too_many(ask, onward, wait)
            passage = await ask.run(self._accounts.log_in_by_code, step, ask.sent.text("code"))
        except TokenError:
            return await self._log_in_page(ask, onward, "entry.too_late")
        if passage is None or passage.member is None:
            return self._code_page(ask, step, onward, error=ask.t("entry.wrong_code"), status=401)
        self._limiter.clear(window[0], *window[1])
        return await self._arrive(ask, passage.token, passage.member, onward, member)

    async def _arrive(self, ask: Ask, token: str, member: Member, onward: Onward, before: Member | None) -> Response:
        """Go on to where somebody wanted to be; with a password of somebody else's making, past choosing one."""
        if before is not None and before.session != member.session:
            await ask.run(self._accounts.end, before)
        ask.member = member
        if member.must_change:
            ask.area = self.name
            response = await self._account(ask, onward=onward, told="entry.told_must_change")
        elif onward.carried:
            response = self._continue(ask, onward.next, uncarried(onward.carried), "entry.continue_in")
        else:
            response = ask.back(onward.next)
        response.headers.append("Set-Cookie", _cookie(ask, token))
        return response

    async def _log_out(self, ask: Ask, member: Member | None) -> Response:
        if member is not None:
            await ask.run(self._accounts.end, member)
        response = ask.back("login", told="entry.told_logged_out")
        response.headers.append("Set-Cookie", f"{_cookie(ask, '')}; Max-Age=0")
        return response

    async def _log_in_page(
        self,
        ask: Ask,
        onward: Onward,
        error: str = "",
        *,
        status: int = 401,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        anybody = await ask.run(self._accounts.any)
        return ask.page(
            "login",
            status=status,
            headers=headers,
            error=ask.t(error) if error else "",
            typed=ask.sent.text("name") if ask.sent.has("carried") else "",  # of this page, and of no other form
            onward=onward,
            anybody=anybody,
        )

    async def _too_many(self, ask: Ask, onward: Onward, wait: int) -> Response:
        headers = {"Retry-After": str(wait)}
        return await self._log_in_page(ask, onward, "entry.too_many", status=429, headers=headers)

    @staticmethod
    def _code_page(ask: Ask, step: str, onward: Onward, *, error: str = "", status: int = 200) -> Response:
        return ask.page("code", status=status, step=step, onward=onward, error=error)

    @staticmethod
    def _continue(
        ask: Ask, next: str, sent: Carried, reason: str, *, status: int = 200, log_in: str | None = None
    ) -> Response:
        """What was sent, with one button that sends it on."""
        out = not ask.member.name
        return ask.page("continue", status=status, next=next, sent=sent, reason=ask.t(reason), log_in=log_in, out=out)

    def _to_host(self, ask: Ask, next: str) -> Response:
        """To the host app's own log-in, which leads back here."""
        address = self._host_address(ask, next)
        if address is None:
            return ask.wrong(ask.t("entry.host_only"), status=403, title=ask.t("entry.log_in"))
        return RedirectResponse(address, 303, HEADERS)

    def _host_address(self, ask: Ask, next: str = "") -> str | None:
        login = self._rooms.kit.settings.console.login
        if login is None:
            return None
        return f"{ask.visit.root}{login}{'&' if '?' in login else '?'}{urlencode({'next': ask.url(next)})}"

    def _wait(self, *windows: tuple[RateLimitItem, tuple[str, ...]]) -> int:
        """Count one try; the seconds to wait where there were too many, else 0."""
        for item, key in windows:
            if not self._limiter.hit(item, *key):
                return max(1, int(self._limiter.get_window_stats(item, *key).reset_time - time.time()) + 1)
        return 0

    async def _hash(self, call: Callable[..., T], *arguments: Any) -> T:
        """What makes or looks at a password, a few at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._hashing, call, *arguments)

    # -- one's own account --------------------------------------------------------------------------------------

    async def _account(
        self,
        ask: Ask,
        *,
        errors: Mapping[str, str] | None = None,
        onward: Onward | None = None,
        told: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        me = ask.member
        if not me.account:
            return _at_host(ask)
        account = await ask.run(self._accounts.get, me.name)
        context: dict[str, Any] = {
            "account": account,
            "open": await ask.run(self._accounts.log_ins, me.name, session=me.session),
            "last": await ask.run(self._accounts.last_log_ins, me.name),
            "errors": errors or {},
            "onward": onward or Onward(),
        }
        if told:
            context["told"] = told
        return ask.page("account", status=status, headers=headers, **context)

    async def _change_password(self, ask: Ask) -> Response:
        me, onward = ask.member, Onward.of(ask.sent)
        if not me.account:
            return _at_host(ask)
        old, new = ask.sent.raw("password_old"), ask.sent.raw("password_new")
        if new != ask.sent.raw("password_again"):
            return await self._account(
                ask, errors={"password_again": ask.t("entry.not_again")}, onward=onward, status=422
            )
        window = (PER_ACCOUNT, ("password", key_of(me.name)))
        if wait := self._wait(window):
            errors = {"password_old": ask.t("entry.too_many")}
            return await self._account(
                ask, errors=errors, onward=onward, status=429, headers={"Retry-After": str(wait)}
            )
        try:
            await self._hash(self._change, me, old, new)
        except StaffRefused as refused:
            field = "password_old" if refused.reason == "wrong_password" else "password_new"
            errors = {field: ask.t(f"entry.refused_{refused.reason}")}
            return await self._account(ask, errors=errors, onward=onward, status=422)
        self._limiter.clear(window[0], *window[1])
        if onward.carried:
            return self._continue(ask, onward.next, uncarried(onward.carried), "entry.continue_in")
        return ask.back(onward.next or "account", told="entry.told_password")

    def _change(self, me: Member, old: str, new: str) -> None:
        self._accounts.change_password(me.name, old, new, session=me.session)

    async def _end_others(self, ask: Ask) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        await ask.run(self._accounts.end_others, ask.member)
        return ask.back("account", told="entry.told_elsewhere")

    async def _begin(self, ask: Ask) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        try:
            await ask.run(self._accounts.begin_second_factor, ask.member.name)
        except StaffRefused:
            return ask.back("account")
        return ask.back("account/code")

    async def _enrol(
        self,
        ask: Ask,
        *,
        error: str = "",
        password_error: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        issuer = ask.visit.site.settings.name
        enrolment = await ask.run(self._accounts.enrolment, ask.member.name, issuer=issuer)
        if enrolment is None:
            return ask.back("account")
        size, path = await ask.run(enrolment.qr)
        spaced = " ".join(re.findall(".{1,4}", enrolment.secret))
        return ask.page(
            "account_code", status=status, headers=headers, size=size, path=path, secret=spaced, error=error,
            password_error=password_error,
        )  # fmt: skip

    async def _confirm(self, ask: Ask) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        window = (PER_ACCOUNT, ("password", key_of(ask.member.name)))
        if wait := self._wait(window):
            error = ask.t("entry.too_many")
            return await self._enrol(ask, password_error=error, status=429, headers={"Retry-After": str(wait)})
        if not await self._hash(self._accounts.has_password, ask.member.name, ask.sent.raw("password_now")):
            return await self._enrol(ask, password_error=ask.t("entry.refused_wrong_password"), status=422)
        self._limiter.clear(window[0], *window[1])
        try:
            right = await ask.run(self._accounts.confirm_second_factor, ask.member.name, ask.sent.text("code"))
        except StaffRefused:
            return ask.back("account")
        if not right:
            return await self._enrol(ask, error=ask.t("entry.wrong_code"), status=422)
        return ask.back("account", told="entry.told_second_factor_on")

    async def _ask_off(
        self, ask: Ask, *, error: str = "", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        return ask.page("account_off", status=status, headers=headers, error=error)

    async def _off(self, ask: Ask) -> Response:
        if not ask.member.account:
            return _at_host(ask)
        window = (PER_ACCOUNT, ("password", key_of(ask.member.name)))
        if wait := self._wait(window):
            error = ask.t("entry.too_many")
            return await self._ask_off(ask, error=error, status=429, headers={"Retry-After": str(wait)})
        try:
            await self._hash(self._accounts.stop_second_factor, ask.member.name, ask.sent.raw("password_now"))
        except StaffRefused:
            return await self._ask_off(ask, error=ask.t("entry.refused_wrong_password"), status=422)
        self._limiter.clear(window[0], *window[1])
        return ask.back("account", told="entry.told_second_factor_off")


def _subscriber(client: str) -> str:
    """Whom tries are counted for: an address, or the 64 bits of one in IPv6, of which everybody has all that follow
    (RFC 6177 section 2).
    """
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if not isinstance(address, IPv6Address):
        return client
    mapped = address.ipv4_mapped
    return str(mapped or ip_network((int(address), 64), strict=False).network_address)


def _at_host(ask: Ask) -> Response:
    status = 409 if ask.visit.request.method == "POST" else 200
    return ask.wrong(ask.t("entry.host_account"), status=status, title=ask.t("entry.account"))


def _here(ask: Ask, path: str) -> str:
    """The page that was asked for, as `next` names it."""
    pairs = [
        (name, value) for name, value in ask.visit.request.query_params.multi_items() if name not in ("told", "lang")
    ]
    return _inside(quote(path) + (f"?{urlencode(pairs)}" if pairs else ""))


def _inside(next: str) -> str:
    """A page of the console with its query; the first page where it is anything else, or the door itself."""
    parts = unquote(next.partition("?")[0]).split("/")
    if not _PATH.fullmatch(next) or not {".", "..", ""}.isdisjoint(parts) or "\\" in next:
        return ""
    return "" if parts[0] in ("login", "logout") else next


def _cookie_name(ask: Ask) -> str:
    return f"__Host-{COOKIE}" if ask.visit.site.flow.secure else COOKIE


def _cookie(ask: Ask, value: str) -> str:
    """The log-in's cookie: of the browser session, for the server alone, and not sent along with others' forms.

    Lax and not Strict: somebody who comes by a link in a mail is still logged in.
    """
    secure = ask.visit.site.flow.secure
    path = "/; Secure" if secure else ask.url("")
    return f"{_cookie_name(ask)}={value}; Path={path}; HttpOnly; SameSite=Lax"

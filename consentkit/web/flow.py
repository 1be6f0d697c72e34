"""What a page view needs of one site: built once at the start, read by every request, never written.

The only thing that changes here is a bounded memo of what a raw `Cookie` header means, so that a visitor's
second page costs one look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol

from starlette.types import ASGIApp

from consentkit.choice import (
    Choice,
    Choices,
    Found,
    OldChoices,
    Policy,
    State,
    Status,
    choice_header,
    cookie_name,
    decide,
    find,
    once_name,
    refused,
)
from consentkit.choice.cookies import names
from consentkit.gate import Gate, Slot
from consentkit.gate.csp import ContentPolicy
from consentkit.web.seen import Sightings

NOTHING: frozenset[str] = frozenset()
DENIED = State(Status.UNKNOWN, NOTHING, asks=False)
"""What holds where nothing can be known: no consent, and no question that could not be answered either."""

MEMO = 2048
MAX_MEMO_HEADER = 4096
"""A longer `Cookie` header is read again each time, so that the memo stays under MEMO times this many bytes."""

Wake = Literal["here", "policy", "reload", "again", "form"]
Fill = Callable[[Slot], bytes]


class View(NamedTuple):
    """One page view, as far as what is inserted depends on it.

    Args:
        state: of this visitor; in shared mode that of a visitor nothing is known of.
        path: path and query as the visitor sees them, root path included, percent-encoded.
        root_path: where the app is mounted, or empty. host: the `Host` header with its port, or empty.
        nonce: of the app's own Content-Security-Policy, if it has one.
        wake: how the browser script may wake a gated inline script under that policy: at once, through the Trusted
            Types policy `consentkit`, or by loading the page again; `again` where whatever is granted needs a page
            with another policy; `form` where it may not fetch from the site at all, so that forms go their plain way.
        importing: the browser script is to hand in what an earlier consent tool's cookie grants.
    """

    state: State
    path: str
    root_path: str
    host: str
    nonce: str | None
    wake: Wake
    importing: bool = False

    @property
    def ask(self) -> bool:
        """Whether this page shows the question."""
        return self.state.asks


class Visitor(NamedTuple):
    """What a `Cookie` header says: the visitor's state, and the cookies in it that nobody agreed to.

    `once` is the value that may let an embed in for a single load, not yet looked at. `old` is what an earlier consent
    tool kept, of a visitor who did not answer here yet.
    """

    state: State
    refused: tuple[str, ...]
    once: str | None = None
    old: Found | None = None


@dataclass(frozen=True, slots=True)
class PageFlow:
    """All that a page view needs of one site.

    Args:
        gate, choices, policy: of this site. prefix: of the site's own routes, `/privacy`.
        mode: `private` (the HTML depends on the visitor) or `shared` (it is the same for everybody).
        gpc: whether `/.well-known/gpc.json` is answered.
        secure: whether the site is on https; shared_domain: whether subdomains share the choice. Both decide the
            name of the choice cookie.
        html_etag: changes whenever the same page would be gated or filled differently: build and policy.
        inserts: given a view, the function that fills the slots of that page.
        seen: where names are noted that the site turns out to have; it leaves out those that are declared.
        csp: the policy that goes with every page, beside the app's own; None where the browser is told nothing.
        old: how choices of an earlier consent tool are taken over; None where they are not.
    """

    gate: Gate
    choices: Choices
    policy: Policy
    prefix: str
    mode: Literal["private", "shared"]
    gpc: bool
    secure: bool
    shared_domain: bool
    html_etag: bytes
    inserts: Callable[[View], Fill]
    seen: Sightings = field(default_factory=Sightings, repr=False, compare=False)
    csp: ContentPolicy | None = None
    old: OldChoices | None = None
    cookie: str = field(init=False)
    _visitors: dict[tuple[bytes, str | None, date], Visitor] = field(init=False, repr=False, compare=False)
    _tags: dict[tuple[object, ...], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cookie", cookie_name(secure=self.secure, shared_domain=self.shared_domain))
        object.__setattr__(self, "_visitors", {})
        object.__setattr__(self, "_tags", {})

    def visitor(self, header: bytes, *, signal: str | None, today: date) -> Visitor:
        """What the raw `Cookie` header of a request says; remembered by its bytes."""
        key = (header, signal, today)
        found = self._visitors.get(key)
        if found is None:
            cookies = header.decode("latin-1")
            value = find(cookies, self.cookie)
            state = self.choices.state(value, signal=signal, today=today)
            old = self.old.read(cookies, signal=signal, today=today) if self.old and value is None else None
            if old is not None:
                state = self._adopted(old, signal=signal, today=today)
            once = find(cookies, once_name(secure=self.secure))
            found = Visitor(state, refused(cookies, self.policy, state.granted), once, old)
            for name in names(cookies):
                self.seen.note("cookie", name)
            if len(header) <= MAX_MEMO_HEADER:
                if len(self._visitors) >= MEMO:
                    self._visitors.clear()
                self._visitors[key] = found
        return found

    def keeping(self, choice: Choice) -> bytes:
        """The `Set-Cookie` value that keeps a choice which an earlier tool's cookie told."""
        return choice_header(
            self.cookie,
            self.choices.write(choice),
            days=self.policy.days,
            secure=self.secure,
            readable=self.mode == "shared",
            domain=self.old.domain if self.old else None,
        )

    def _adopted(self, old: Found, *, signal: str | None, today: date) -> State:
        """The state of who answered an earlier tool: refusals hold, and what is about to be imported is not asked."""
        state = decide(old.choice, self.policy, signal=signal, today=today)
        if not old.importing:
            return state
        asked = {one.id for one in self.policy.asked}
        settled = frozenset(asked & old.answers.keys()) if state.settled else state.settled
        return replace(state, asks=state.asks and not asked <= old.answers.keys(), settled=settled)

    def once(self, visitor: Visitor, header: bytes, *, page: str, now: datetime) -> Visitor | None:
        """The visitor with what this one load of `page` may use besides; None where nothing is added.

        Args:
            header: the raw `Cookie` header. page: path and query as the visitor sees them. now: aware.
        """
        if visitor.once is None:
            return None
        cookies = header.decode("latin-1")
        added = self.choices.once.spend(visitor.once, page=page, choice=find(cookies, self.cookie), now=now)
        if not added:
            return None
        granted = visitor.state.granted | added
        kept = refused(cookies, self.policy, granted)
        return visitor._replace(state=replace(visitor.state, granted=granted), refused=kept)

    def tag(self, state: State | None, *, document: bool | None, today: date | None = None) -> bytes:
        """What an ETag gets so that it stands for this page as this visitor sees it; None: as everybody sees it.

        With `today` in it no 304 brings back a page whose placeholders ask a question that is too old to answer.
        """
        stands = None
        if state is not None:
            stands = (state.status, state.granted, state.signal, state.day is None, state.record_id is None)
        key = (stands, document, today)
        found = self._tags.get(key)
        if found is None:
            seen = [] if stands is None else [stands[0], sorted(stands[1]), *stands[2:]]
            what = self.html_etag + repr([document, today, *seen]).encode()
            found = blake2b(what, digest_size=6).hexdigest().encode("ascii")
            if len(self._tags) >= MEMO:
                self._tags.clear()
            self._tags[key] = found
        return found


class Kit(Protocol):
    """What the middleware needs of the kit.

    `site` gives the page flow for a `Host` header, or None where no site may answer; such pages are gated by
    `closed`, which grants nothing. `pages` is the ASGI app behind the prefix.
    """

    closed: Gate
    pages: ASGIApp

    def site(self, host: str, /) -> PageFlow | None: ...
    def today(self) -> date: ...
    def now(self) -> datetime: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...

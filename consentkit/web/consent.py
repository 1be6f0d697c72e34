"""What server-side code may ask: `consent_of(request).allows("analytics")`.

The answer is made when it is asked for: a request that nobody asks about costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from consentkit.choice import State, signal
from consentkit.errors import ConsentKitError
from consentkit.service import NECESSARY
from consentkit.web.flow import DENIED, PageFlow, Visitor

log = logging.getLogger("consentkit")

KEY = "consentkit"
_DENIED = Visitor(DENIED, ())


class NotWrapped(ConsentKitError, RuntimeError):
    """The request did not come through the middleware, so nothing is known about consent."""

    def __init__(self, given: object) -> None:
        super().__init__(
            f"no consent is known for this {type(given).__name__}: put the app behind consentkit, with "
            "`app = kit.wrap(app)`, `app.add_middleware(ConsentMiddleware, kit=kit)` or, for a WSGI app, "
            "`app = kit.wrap_wsgi(wsgi_app)`; and give consent_of() the request, the ASGI scope or the WSGI environ"
        )


class Consent:
    """What this visitor agreed to, on this request. Anything that can't be read counts as no consent."""

    __slots__ = ("_found", "_headers", "_raw", "flow", "today")

    def __init__(
        self,
        flow: PageFlow | None,
        headers: Mapping[bytes, bytes],
        raw: Sequence[tuple[bytes, bytes]],
        today: Callable[[], date],
    ) -> None:
        self.flow = flow
        self._headers = headers
        self._raw = raw
        self.today = today
        self._found: Visitor | None = None

    @property
    def visitor(self) -> Visitor:
        """The state, and the request's cookies that it does not allow; denied when our own reading fails."""
        found = self._found
        if found is None:
            found = self._found = self._read()
        return found

    def _read(self) -> Visitor:
        if self.flow is None:
            return _DENIED
        headers = self._headers
        try:
            signalled = signal(self._raw) if b"sec-gpc" in headers or b"dnt" in headers else None
            return self.flow.visitor(headers.get(b"cookie", b""), signal=signalled, today=self.today())
        except Exception:
            log.exception("a visitor's choice could not be read: taken as no consent")
            return _DENIED

    def load_once(self, page: str, now: datetime) -> bool:
        """Add what was let in for this one load of `page`; whether there was anything."""
        found = None
        try:
            if self.flow is not None:
                found = self.flow.once(self.visitor, self._headers.get(b"cookie", b""), page=page, now=now)
        except Exception:
            log.exception("what was let in once could not be read: it stays out")
        self._found = found or self._found
        return found is not None

    @property
    def state(self) -> State:
        """Where the visitor stands: status, granted purposes, day and expiry."""
        return self.visitor.state

    @property
    def decided_at(self) -> date | None:
        """The day of the visitor's choice; None without one."""
        return self.state.day

    @property
    def policy(self) -> str:
        """The fingerprint of what the site asks today (SHA-256, hex); empty on an unknown host."""
        return self.flow.policy.fingerprint if self.flow else ""

    @property
    def services(self) -> frozenset[str]:
        """The ids of the services that may load and store: the necessary ones and those that were agreed to."""
        if self.flow is None:
            return frozenset()
        policy, granted = self.flow.policy, self.state.granted
        agreed = (service for purpose in policy.purposes if purpose.id in granted for service in purpose.services)
        return frozenset(service.id for service in (*policy.necessary, *agreed))

    def allows(self, name: str) -> bool:
        """Whether the purpose, category or service called `name` may be used now; an unknown name may not."""
        if name == NECESSARY:
            return True
        if self.flow is None:
            return False
        needed = self.flow.policy.resolve(name)
        if needed:
            return needed <= self.state.granted
        return any(service.id == name for service in self.flow.policy.necessary)

    def __repr__(self) -> str:
        return f"<Consent {self.state.status} {sorted(self.state.granted)}>"


def _scope(given: Any) -> Any:
    """The ASGI scope behind a request object of any framework, a WSGI environ (through a2wsgi) or the scope itself."""
    for candidate in (given, *(getattr(given, name, None) for name in ("scope", "environ", "META"))):
        if isinstance(candidate, Mapping):
            if KEY in candidate:
                return candidate
            if isinstance(candidate.get("asgi.scope"), Mapping):
                return candidate["asgi.scope"]
    return {}


def consent_of(request_or_scope: Any) -> Consent:
    """What the visitor behind this request agreed to.

    Args:
        request_or_scope: an ASGI scope; a request of Starlette, FastAPI, Litestar, Quart, Django or Flask; or a
            WSGI environ.

    Raises:
        NotWrapped: the request did not pass the middleware.
    """
    found = _scope(request_or_scope).get(KEY)
    if not isinstance(found, Consent):
        raise NotWrapped(request_or_scope)
    return found

"""The route that browsers report to what a policy of ours blocked, or would have: of each only the host and the kind.

Nothing of the visitor is kept: no address, no page, no query, no time of day. Anybody can post here, so what comes is
taken for a rumour, bounded in size and in number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from limits import parse as parse_limit
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.responses import Response

from consentkit.errors import ChoiceRefused
from consentkit.gate.csp import FETCHES
from consentkit.web.forms import read_body
from consentkit.web.visit import HEADERS, Visit

ROUTE: Final = "csp-report"
MAX_BODY: Final = 16 * 1024
MAX_REPORTS: Final = 50
"""So many reports of one message are read."""

MAX_HOST: Final = 253
"""Of a host name, in characters (RFC 1035 section 2.3.4)."""

PER_CLIENT: Final = "120/minute"
IN_ALL: Final = "1200/minute"

_ONE = "application/csp-report"
_BATCH = "application/reports+json"
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")
_NETWORK = frozenset({"http", "https", "ws", "wss"})
_WITHOUT_HOST = frozenset({"inline", "eval", "wasm-eval", "data", "blob"})


class Reports:
    """Answers the route that `report-uri` (CSP3 section 5.3) and `report-to` (Reporting API) of our policy name.

    No same-origin rule: browsers send reports without our tokens, and some without an origin.
    """

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._client, self._all = parse_limit(PER_CLIENT), parse_limit(IN_ALL)

    async def answer(self, visit: Visit, name: str) -> Response | None:
        """The answer to `name` under the prefix, or None where it isn't ours: 204 for anything that is not too much."""
        if name != ROUTE:
            return None
        if visit.request.method != "POST":
            return Response(None, 405, HEADERS | {"Allow": "POST"})
        if not (self._limiter.hit(self._client, visit.client) and self._limiter.hit(self._all)):
            return Response(None, 429, HEADERS | {"Retry-After": "60"})
        media_type = visit.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type in (_ONE, _BATCH):
            try:
                body = await read_body(visit.request, MAX_BODY)
            except ChoiceRefused as error:
                return Response(None, error.status, HEADERS)
            if visit.site.flow.csp is not None:
                for host, directive in set(blocked(body)):
                    visit.site.flow.seen.note("host", host, f"csp:{directive}")
        return Response(None, 204, HEADERS)


def blocked(body: bytes) -> Iterator[tuple[str, str]]:
    """What was blocked, as host (or `inline`, `eval`, `data`) and directive; what is no such report gives nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return
    for report in said[:MAX_REPORTS] if isinstance(said, list) else [said]:
        found = _read(report) if isinstance(report, dict) else None
        if found:
            yield found


def _read(report: dict[str, Any]) -> tuple[str, str] | None:
    batched = report.get("type") == "csp-violation"
    body = report.get("body" if batched else "csp-report")
    if not isinstance(body, dict):
        return None
    names = ("effectiveDirective",) if batched else ("effective-directive", "violated-directive")
    directive = next((str(body[name]).partition(" ")[0] for name in names if name in body), "")
    at = body.get("blockedURL" if batched else "blocked-uri")
    if directive not in FETCHES or not isinstance(at, str):
        return None
    if at in _WITHOUT_HOST:
        return at, directive
    try:
        place = urlsplit(at)
        host = place.hostname or ""
    except ValueError:
        return None
    named = place.scheme in _NETWORK and len(host) <= MAX_HOST and _HOST.fullmatch(host)
    return (host.rstrip("."), directive) if named else None

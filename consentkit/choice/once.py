"""One embed, let in for one load of one page: the visitor's choice stays what it was.

What says so is a signed value in a cookie that lives for a minute. It names the page, the choice that stood beside
it, the purpose and a random number, so that it opens nothing elsewhere, later, for another choice or a second time.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from consentkit.choice.policy import FINGERPRINT_BYTES, Policy, Purpose
from consentkit.errors import ChoiceRefused, TokenError
from consentkit.tokens import Tokens, Use

LIFETIME = timedelta(minutes=1)
"""How long the page may take to come; it is asked for at once, by the redirect that brings the cookie."""

MOST_SPENT = 4096
"""How many spent values are remembered; of more than that in one minute the oldest could be spent again."""

_SKEW = timedelta(seconds=-5)  # another process of the same site may be a little behind
_LAYOUT = struct.Struct(f">I16s{FINGERPRINT_BYTES}s16s")  # seconds, random, purpose, page and choice
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def once_name(*, secure: bool) -> str:
    """The cookie's name. It belongs to one host, also where subdomains share the choice (RFC 6265bis 4.1.3.2)."""
    return "__Host-consentkit-once" if secure else "consentkit-once"


def once_header(value: str | None, *, secure: bool) -> bytes:
    """The `Set-Cookie` value that sets it, or with None ends it."""
    age = int(LIFETIME.total_seconds()) if value else 0
    parts = [f"{once_name(secure=secure)}={value or ''}", "Path=/", f"Max-Age={age}", "SameSite=Lax", "HttpOnly"]
    return "; ".join([*parts, "Secure"] if secure else parts).encode("ascii")


def single(purposes: Collection[str], policy: Policy) -> Purpose:
    """The embed that is to be let in once.

    Args:
        purposes: the words of the answer.

    Raises:
        ChoiceRefused: they are not exactly one embed of this site. A whole category is never let in by one click.
    """
    found = [purpose for purpose in policy.asked if purpose.embed and purpose.id in purposes]
    if len(found) != 1 or len(purposes) != 1:
        raise ChoiceRefused("unknown_purpose", status=422)
    return found[0]


class Once:
    """Issues and spends what lets one embed in once.

    Args:
        policy: what the site asks today. tokens: the signing keys.
    """

    def __init__(self, policy: Policy, tokens: Tokens) -> None:
        self._policy = policy
        self._tokens = tokens
        self._spent: dict[bytes, None] = {}

    def issue(self, purpose: Purpose, *, page: str, choice: str | None, now: datetime, random: bytes) -> str:
        """The cookie's value.

        Args:
            page: path and query of the page that is to load it. choice: the value of the choice cookie, if any.
            now: aware. random: 16 bytes.
        """
        seconds = int((now - _EPOCH).total_seconds())
        packed = _LAYOUT.pack(seconds, random, purpose.fingerprint, _where(page, choice))
        return self._tokens.sign(Use.ONCE, packed)

    def spend(self, value: str, *, page: str, choice: str | None, now: datetime) -> frozenset[str]:
        """The purpose that this load of this page may use; empty for what is forged, late, spent or from elsewhere."""
        try:
            seconds, random, fingerprint, where = _LAYOUT.unpack(self._tokens.read(Use.ONCE, value))
        except (TokenError, struct.error):
            return frozenset()
        age = now - _EPOCH - timedelta(seconds=seconds)
        if not _SKEW <= age <= LIFETIME or where != _where(page, choice) or random in self._spent:
            return frozenset()
        while len(self._spent) >= MOST_SPENT:
            del self._spent[next(iter(self._spent))]
        self._spent[random] = None
        return frozenset(one.id for one in self._policy.asked if one.embed and one.fingerprint == fingerprint)


def _where(page: str, choice: str | None) -> bytes:
    return blake2b(f"{page.partition('#')[0]}\n{choice or ''}".encode(), digest_size=16).digest()

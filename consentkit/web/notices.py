"""The notice token: which question was shown, when, and a random number that makes it answerable once.

It is signed and sent along with every question; nothing is stored when a question is shown. The random number
becomes a unique column of the event, so that one question gives one record (GDPR art. 7(1)).
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from consentkit.errors import ChoiceRefused, TokenError
from consentkit.tokens import Tokens, Use

MAX_AGE = timedelta(days=7)
"""A page may stay open for days before it is answered; after this the question is asked afresh."""

_LAYOUT = struct.Struct(">16sI16s")
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shown:
    """A question that was shown: the first 16 bytes of its notice's hash, when, and its random number."""

    notice: bytes
    at: datetime
    nonce: str


def issue(tokens: Tokens, notice_hash: str, *, now: datetime) -> str:
    """A token for a question that is being shown.

    Args:
        notice_hash: SHA-256 of the notice, in hex. now: the time, aware.
    """
    seconds = int((now - _EPOCH).total_seconds())
    packed = _LAYOUT.pack(bytes.fromhex(notice_hash)[:16], seconds, secrets.token_bytes(16))
    return tokens.sign(Use.NOTICE, packed)


def read(tokens: Tokens, token: str, *, now: datetime) -> Shown:
    """What a token says.

    Raises:
        ChoiceRefused: it is forged, too old, or from the future.
    """
    try:
        notice, seconds, nonce = _LAYOUT.unpack(tokens.read(Use.NOTICE, token))
    except (TokenError, struct.error) as error:
        raise ChoiceRefused("forged_notice", status=400) from error
    at = _EPOCH + timedelta(seconds=seconds)
    if not -timedelta(minutes=5) <= now - at <= MAX_AGE:
        raise ChoiceRefused("expired_notice", status=410)
    return Shown(notice, at, nonce.hex())

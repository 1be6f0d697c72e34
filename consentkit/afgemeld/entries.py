"""What stands in the table, as values: who may not be written to, how widely, why, and since when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

MAIL: Final = "mail"
"""The scope of all mail: nothing goes to the address any more, service messages neither."""

MARKETING: Final = "marketing"
"""The scope of all marketing: every list, today's and later ones."""

OPT_IN: Final = "opt-in:"
"""Begins the scope of a row that says: all marketing was left, and this one list was confirmed again since."""

_LIST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}\Z")


class Reason(StrEnum):
    """Why an address is in the table."""

    UNSUBSCRIBE = "unsubscribe"
    ONE_CLICK = "one-click"
    COMPLAINT = "complaint"
    HARD_BOUNCE = "hard-bounce"
    REPLY = "reply"
    PHONE = "phone"
    LETTER = "letter"
    STAFF = "staff"
    IMPORT = "import"
    ERASURE = "erasure"


LASTING: Final = frozenset({Reason.COMPLAINT, Reason.HARD_BOUNCE})
"""These say that mail does harm or doesn't arrive: only people lift them, no sign-up does."""


def list_scope(list: str) -> str:
    """The scope of one list.

    Raises:
        ValueError: `list` can't be the id of a list.
    """
    if not _LIST_ID.match(list):
        raise ValueError(f"{list!r} is no list id: letters, digits, dots, dashes and underscores, at most 64")
    return f"list:{list}"


def opt_in_scope(list: str) -> str:
    """The scope of a row that excepts one list from all marketing."""
    return OPT_IN + list_scope(list).removeprefix("list:")


def scope_of(text: str) -> str:
    """A scope as it is written in files: `mail`, `marketing`, `list:<id>`.

    Raises:
        ValueError: it is none of these.
    """
    if text in (MAIL, MARKETING):
        return text
    if text.startswith("list:"):
        return list_scope(text.removeprefix("list:"))
    raise ValueError(f"{text!r} is no scope: write mail, marketing or list:<id>")


def covering(list: str | None, *, service: bool = False) -> tuple[str, ...]:
    """The scopes that have to be looked at for a message.

    Args:
        list: the list it would go to; None for marketing that belongs to no list.
        service: it is a service message, which a marketing opt-out leaves alone (never a hard bounce).
    """
    if service:
        return (MAIL,)
    return (MAIL, MARKETING) if list is None else (MAIL, MARKETING, list_scope(list), opt_in_scope(list))


@dataclass(frozen=True, slots=True, repr=False)
class Suppression:
    """One row: a keyed digest and no readable address.

    Args:
        digest: HMAC-SHA-256 of the canonical address under the key `key_id`; its first half where only a short
            token came back.
        scope: `mail`, `marketing` or `list:<id>`.
        channel: how it came in: `page`, `one-click`, `mailto`, `command`, `import` …
        at: since when, aware.
        mailing: the mailing whose link was used, where that is known; of an exception the record of its consent.
    """

    digest: bytes
    key_id: str
    scope: str
    reason: Reason
    channel: str
    at: datetime
    mailing: str | None = None

    def __post_init__(self) -> None:
        if not self.is_exception:
            scope_of(self.scope)
        if len(self.digest) not in (16, 32):
            raise ValueError("a digest has 32 bytes, or 16 from a short token")
        if not _CHANNEL.match(self.channel):
            raise ValueError(f"{self.channel!r} is no channel: a short word in lower case")
        if self.at.utcoffset() is None:
            raise ValueError(f"{self.at!r} has no time zone: give an aware datetime")

    @property
    def is_exception(self) -> bool:
        """Whether it forbids nothing itself, but excepts a list from all marketing."""
        return self.scope.startswith(OPT_IN)

    def covers(self, list: str | None) -> bool:
        """Whether it has a say about marketing to this list."""
        return self.scope in covering(list)

    def __repr__(self) -> str:
        return f"<Suppression {self.scope} {self.reason}>"


def forbidding(found: Iterable[Suppression]) -> Sequence[Suppression]:
    """Of the rows that `covering` names, those that forbid the message: marketing not where its list is excepted."""
    rows = [*found]
    excepted = {one.digest for one in rows if one.is_exception}
    return [one for one in rows if not one.is_exception and not (one.scope == MARKETING and one.digest in excepted)]


def unreachable(found: Iterable[Suppression]) -> bool:
    """Whether a mailbox gets no mail at all, what its owner asks for neither: all mail was left, or it does harm."""
    return any(one.scope == MAIL or one.reason in LASTING for one in found)


def widest(found: Iterable[Suppression]) -> Suppression | None:
    """The row that forbids most, the oldest of equals; None where none does."""
    order = {MAIL: 0, MARKETING: 1}
    return min(forbidding(found), key=lambda one: (order.get(one.scope, 2), one.at), default=None)

"""Forms that do their work once: what a form carries, and where a second click on it leads.

A form carries a signed token with the time, 16 random bytes and whom it was shown to. The token is spent in the
database before the work begins, so that a double click, the back button or a replay does nothing twice: it leads to
where the first one led. Only what says something else than the first time is offered to be sent anew.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update

from consentkit.errors import TokenError
from consentkit.staff.roles import Member
from consentkit.staff.tables import posts
from consentkit.store import Store, insert_new
from consentkit.tokens import Tokens, Use

LIFETIME: Final = timedelta(hours=24)
"""How long a form may lie open."""

_LAYOUT = struct.Struct(">I16s16s")
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Spent:
    """A form that was sent before. `same`: it said the same then. `leads_to` is empty while its work is being done."""

    same: bool
    leads_to: str


class Posts:
    """Issues and spends the tokens of forms.

    Args:
        store: the database. tokens: sign. clock: tells the time, aware.
    """

    def __init__(self, store: Store, tokens: Tokens, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._tokens = tokens
        self._now = clock

    def issue(self, member: Member) -> str:
        """A token for one form that is shown to `member`."""
        at = int((self._now() - _EPOCH).total_seconds())
        return self._tokens.sign(Use.FORM, _LAYOUT.pack(at, secrets.token_bytes(16), _whose(member)))

    def read(self, token: str, member: Member) -> str:
        """What the token of a form that `member` sends is spent by.

        Raises:
            TokenError: it is not ours, was shown to somebody else or in another log-in, or is older than a day.
        """
        try:
            at, random, whose = _LAYOUT.unpack(self._tokens.read(Use.FORM, token))
        except struct.error as error:
            raise TokenError("not a form of ours") from error
        age = self._now() - _EPOCH - timedelta(seconds=at)
        if whose != _whose(member) or not timedelta(seconds=-1) <= age <= LIFETIME:
            raise TokenError("a form of another log-in, or one that lay open too long")
        return str(random.hex())

    def spend(self, nonce: str, said: str) -> Spent | None:
        """Take the work of a form; None: it is ours to do.

        Args:
            said: everything the form says, so that the same again can be told from something else.
        """
        said = self._mark(nonce, said)
        with self._store.told(), self._store.begin() as connection:
            row = {"nonce": nonce, "at": self._now(), "said": said, "leads_to": ""}
            new = insert_new(connection, posts).values(row).returning(posts.c.nonce)
            if connection.execute(new).first() is not None:
                connection.execute(delete(posts).where(posts.c.at < self._now() - LIFETIME - timedelta(hours=1)))
                return None
            first = connection.execute(select(posts.c.said, posts.c.leads_to).where(posts.c.nonce == nonce)).first()
            return (
                Spent(True, "") if first is None else Spent(first.said == said, first.leads_to)
            )  # given back just now

    def _mark(self, nonce: str, said: str) -> str:
        """What a form said, by a signature: passwords and addresses may stand in it, which the database alone must not
        let anybody guess.
        """
        digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()
        return self._tokens.sign(Use.FORM, bytes.fromhex(nonce) + digest).rpartition(".")[2]

    def led(self, nonce: str, to: str) -> None:
        """Note where a form led."""
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(posts).where(posts.c.nonce == nonce).values(leads_to=to))

    def give_back(self, nonce: str) -> None:
        """The work was not done: the same form may be sent again."""
        with self._store.told(), self._store.begin() as connection:
            connection.execute(delete(posts).where(posts.c.nonce == nonce))


def _whose(member: Member) -> bytes:
    return hashlib.sha256(f"{member.session}\0{member.name}".encode()).digest()[:16]

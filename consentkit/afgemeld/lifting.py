"""Requests to lift: somebody asks with a reason, and a second person agrees or refuses (checklist SUP-04).

A request holds digests, never the address: whoever decides sees what was asked and why, and of whom it is only through
the person who asked. It is gone once it was decided; what was lifted is kept with its reason and both names.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection

from consentkit.afgemeld.entries import scope_of
from consentkit.afgemeld.ledger import Afgemeld
from consentkit.afgemeld.tables import lift_requests
from consentkit.errors import LiftRefused
from consentkit.store import Store

MAX_REASON: Final = 1000
"""Characters of a reason."""

MOST: Final = 500
"""Requests that are listed: the oldest ones."""


_ADDRESS = re.compile(r"[^\s@]@[^\s@]")


@dataclass(frozen=True, slots=True, repr=False)
class LiftRequest:
    """What waits for a second person.

    Args:
        digests: of the rows that it is about; an address may stand there under an older key, or by half.
        by: who asked.
    """

    id: str
    scope: str
    reason: str
    by: str
    at: datetime
    digests: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<LiftRequest {self.scope}>"


class Lifting:
    """Takes requests, and has them decided by somebody else.

    Args:
        ledger: the rows. store: the database they stand in. clock: tells the time, aware.
    """

    def __init__(self, ledger: Afgemeld, store: Store, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._store = store
        self._now = clock

    def ask(self, digests: Sequence[bytes], scope: str, reason: str, by: str) -> str:
        """Ask that the rows of one scope leave the table.

        Args:
            digests: what `AddressKeys.digests` gives. reason: why the row is a mistake. by: who asks.

        Returns:
            the id of the request.

        Raises:
            LiftRefused: there is no reason or no such row (`reason`, `long`, `not_there`), or it was asked already
                (`asked`). A reason is kept: no address may stand in it (`address`).
            AfgemeldUnavailable: the table can't be asked.
            ValueError: there is no such scope.
        """
        scope, reason = scope_of(scope), reason.strip()
        if not reason:
            raise LiftRefused("reason")
        if len(reason) > MAX_REASON:
            raise LiftRefused("long")
        if _ADDRESS.search(reason):
            raise LiftRefused("address")
        id, row = secrets.token_urlsafe(12), lift_requests.c
        with self._ledger.changing() as change:
            found = [one for one in self._ledger.rows(change.connection, digests) if one.scope == scope]
            if not found:
                raise LiftRefused("not_there")
            named = row.digest.in_([one.digest for one in found]) & (row.scope == scope)
            if change.connection.execute(select(row.id).where(named).limit(1)).first():
                raise LiftRefused("asked")
            common = {"id": id, "scope": scope, "reason": reason, "by": by, "at": self._now()}
            rows = [{"digest": one.digest, "key_id": one.key_id, **common} for one in found]
            change.connection.execute(lift_requests.insert(), rows)
        return id

    def waiting(self) -> list[LiftRequest]:
        """What waits for a second person, the oldest first."""
        row = lift_requests.c
        oldest = select(row.id).group_by(row.id).order_by(func.min(row.at), row.id).limit(MOST)
        with self._store.read() as connection:
            ids = [*connection.execute(oldest).scalars()]
            found = {one.id: one for one in _read(connection, ids)}
        return [found[id] for id in ids]

    def get(self, id: str) -> LiftRequest | None:
        """One request; None where it was decided, or never made."""
        with self._store.read() as connection:
            return next(iter(_read(connection, [id])), None)

    def agree(self, id: str, second: str) -> int:
        """Lift what was asked; the request is gone. Which rows left, by whom and why, is kept.

        Args:
            second: who agrees: another person than the one who asked.

        Returns:
            how many rows left the table; 0 where the person came back by themselves in the meantime.

        Raises:
            LiftRefused: the same person asked (`same`), or it was decided already (`gone`).
            AfgemeldUnavailable: nothing changed.
        """
        with self._ledger.changing() as change:
            request = _taken(change.connection, id, second)
            try:
                return change.lift(
                    request.digests, request.scope, reason=request.reason, by=request.by, second=second, at=self._now()
                )
            except ValueError as error:
                raise LiftRefused("same") from error

    def refuse(self, id: str, by: str) -> None:
        """Leave everything as it is; the request is gone.

        Raises:
            LiftRefused: as `agree`. DatabaseUnavailable: nothing changed.
        """
        with self._store.told(), self._store.begin() as connection:
            _taken(connection, id, by)


def _read(connection: Connection, ids: Sequence[str], *, lock: bool = False) -> list[LiftRequest]:
    row = lift_requests.c
    query = select(row.id, row.scope, row.reason, row.by, row.at, row.digest).where(row.id.in_([*ids]))
    query = query.order_by(row.id, row.digest)
    digests: dict[tuple[str, str, str, str, datetime], list[bytes]] = {}
    for *rest, digest in connection.execute(query.with_for_update() if lock else query):
        id, scope, reason, by, at = rest
        digests.setdefault((id, scope, reason, by, at), []).append(bytes(digest))
    return [LiftRequest(*rest, tuple(theirs)) for rest, theirs in digests.items()]


def _taken(connection: Connection, id: str, by: str) -> LiftRequest:
    """A request, taken off those that wait, by another person than the one who asked."""
    found = _read(connection, [id], lock=True)
    if not found:
        raise LiftRefused("gone")
    if found[0].by.strip().casefold() == by.strip().casefold():
        raise LiftRefused("same")
    connection.execute(delete(lift_requests).where(lift_requests.c.id == id))
    return found[0]

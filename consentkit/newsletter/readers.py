"""The readers of a list as mailings see them: asked in bulk when an audience is frozen, one by one when mail goes.

Both ways hold the rules of `rules.why_not` and ask afgemeld; the second asks inside the transaction that lets a message
go, with the person locked, so that who leaves before it gets nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, literal, null, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from consentkit.afgemeld import Afgemeld
from consentkit.newsletter.people import hold_people, standing
from consentkit.newsletter.rules import LEFT, NO, PROOF, Route, State, why_not
from consentkit.newsletter.tables import subscriber_digests, subscribers, subscriptions

LANGUAGE = "language"
"""The name under which a filter asks for the language that a reader signed up in."""


_ON_LIST: Final = select(
    subscriptions.c.subscriber_id,
    subscriptions.c.state,
    subscriptions.c.route,
    subscriptions.c.proof,
    subscriptions.c.valid_until,
    subscriptions.c.left_at,
    subscriptions.c.request_id,
    subscriptions.c.language,
    subscriptions.c.measuring,
    subscribers.c.address,
    subscribers.c.digest,
    subscribers.c.fields,
).where(subscriptions.c.subscriber_id == subscribers.c.id, subscriptions.c.list == bindparam("list"))
_AMONG: Final = _ON_LIST.where(subscribers.c.id.in_(bindparam("ids", expanding=True)))
"""Made once: a statement of SQLAlchemy's takes longer to put together than SQLite takes to answer it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Whom a mailing is for.

    Args:
        list: its id. service: what is sent is service mail.
        fields: who lacks one of these is left out.
        where: only who has one of these values in a field.
    """

    list: str
    service: bool = False
    fields: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Reader:
    """One person who may get the message now, as the database had it in the transaction that asked."""

    id: int
    address: str
    digest: bytes
    language: str
    fields: Mapping[str, str]
    measuring: bool


class Readers:
    """Asks who may get a mailing.

    Args:
        afgemeld: the ledger.
    """

    def __init__(self, afgemeld: Afgemeld) -> None:
        self._afgemeld = afgemeld

    def open(self) -> None:
        """Make sure that the ledger can be asked.

        Raises:
            AfgemeldUnavailable: it can't; then nothing may be sent.
        """
        self._afgemeld.open()

    def candidates(self, connection: Connection, aim: Aim, now: datetime) -> Select[tuple[int, str | None]]:
        """Everybody of a list whose address is known: number, and why they may not get it, NULL where they may."""
        mine = and_(subscribers.c.id == subscriptions.c.subscriber_id, subscriptions.c.list == aim.list)
        reason = case(*self._why_not(connection, aim, now), else_=null())
        known = subscribers.c.address.is_not(None)
        return select(subscriptions.c.subscriber_id, reason.label("reason")).where(mine, known)

    def find(self, connection: Connection, list: str, digests: Sequence[bytes]) -> Reader | None:
        """Somebody of a list with one of these digests, whether or not mail may go there: to show what it would say."""
        theirs = select(subscriber_digests.c.subscriber_id).where(subscriber_digests.c.digest.in_(digests))
        return self._one(connection, list, subscribers.c.id.in_(theirs))

    def get(self, connection: Connection, list: str, id: int) -> Reader | None:
        """The same by their number."""
        return self._one(connection, list, subscribers.c.id == id)

    def _one(self, connection: Connection, list: str, which: ColumnElement[bool]) -> Reader | None:
        row = connection.execute(_ON_LIST.where(which), {"list": list}).first()
        return _reader(row) if row is not None and row.address is not None else None

    def _why_not(self, connection: Connection, aim: Aim, now: datetime) -> list[tuple[ColumnElement[bool], Any]]:
        """`rules.why_not` as SQL, in its order."""
        row = subscriptions.c
        filtered = [
            func.coalesce(_value(connection, name), "").not_in(wanted) for name, wanted in sorted(aim.where.items())
        ]
        gone = self._gone(aim)
        proven = and_(row.route != Route.UNPROVEN.value, *(_has_proof(connection, route) for route in PROOF))
        requested = and_(row.state == State.PENDING.value, row.request_id.is_not(None))
        rules: list[tuple[ColumnElement[bool], Any]] = [
            (requested, "unconfirmed"),
            (~proven, "unproven"),
            (row.state == State.PENDING.value, "unconfirmed"),
        ]
        if not aim.service:
            over = or_(row.valid_until.is_(None), row.valid_until <= now)
            consent = row.route == Route.CONSENT.value
            rules = [(row.state.in_(sorted(LEFT)), "left"), *rules, (and_(consent, over), "expired")]
        empty = [(func.trim(func.coalesce(_value(connection, name), "")) == "", f"field:{name}") for name in aim.fields]
        some = [(or_(*filtered), "filtered")] if filtered else []
        return [(gone, "afgemeld"), *some, *rules, *empty]

    def _gone(self, aim: Aim) -> ColumnElement[bool]:
        """Whether afgemeld forbids it; with one key there is one digest, which stands at the person."""
        if len(self._afgemeld.keys.keys) == 1:
            return self._afgemeld.forbids(subscribers.c.digest, list=aim.list, service=aim.service)
        theirs = subscriber_digests.c.subscriber_id == subscriptions.c.subscriber_id
        forbids = self._afgemeld.forbids(subscriber_digests.c.digest, list=aim.list, service=aim.service)
        return select(literal(1)).select_from(subscriber_digests).where(theirs, forbids).exists()

    def release(
        self, connection: Connection, aim: Aim, ids: Sequence[int], now: datetime
    ) -> Mapping[int, Reader | str]:
        """Ask again about each, in the transaction that lets their messages go: who may, else why not in a word.

        They are locked until it ends, in the order in which whoever leaves locks them: an opt-out is either there
        before this looks, or waits until the message was released.

        Raises:
            AfgemeldUnavailable: there is no key.
        """
        keys = self._afgemeld.keys
        hold_people(connection, ids)  # first, in a statement of its own: what is read after it is as they left it
        rows = connection.execute(_AMONG, {"list": aim.list, "ids": ids}).all()
        digests = {row.subscriber_id: keys.digests(row.address) for row in rows if row.address is not None}
        every = [digest for some in digests.values() for digest in some]
        forbidden = self._afgemeld.forbidden(connection, every, list=aim.list, service=aim.service)
        found: dict[int, Reader | str] = dict.fromkeys(ids, "erased")
        for row in rows:
            if row.address is None:
                continue
            if not forbidden.isdisjoint(digests[row.subscriber_id]):
                found[row.subscriber_id] = "afgemeld"
            else:
                found[row.subscriber_id] = _judge(row, aim, now)
        return found


def _reader(row: Any) -> Reader:
    fields = json.loads(row.fields)
    return Reader(row.subscriber_id, row.address, bytes(row.digest), row.language, fields, row.measuring)


def _judge(row: Any, aim: Aim, now: datetime) -> Reader | str:
    reader = _reader(row)
    for name, wanted in aim.where.items():
        if (reader.language if name == LANGUAGE else reader.fields.get(name, "")) not in wanted:
            return "filtered"
    reason = why_not(standing(row), now, service=aim.service)
    if reason is not None:
        return reason
    missing = next((name for name in aim.fields if not reader.fields.get(name, "").strip()), None)
    return reader if missing is None else f"field:{missing}"


def _value(connection: Connection, name: str) -> ColumnElement[Any]:
    return subscriptions.c.language if name == LANGUAGE else _of(connection, subscribers.c.fields, name)


def _of(connection: Connection, column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """One value of a JSON object that stands in a text column."""
    if connection.dialect.name == "postgresql":
        return func.jsonb_extract_path_text(column.cast(JSONB), name)
    return func.json_extract(column, f'$."{name}"')


def _has_proof(connection: Connection, route: Route) -> ColumnElement[bool]:
    """That a row of this route can show what it must."""
    shown = [
        func.lower(func.trim(func.coalesce(_of(connection, subscriptions.c.proof, name), ""))).not_in(sorted(NO))
        for name in PROOF[route]
    ]
    return or_(subscriptions.c.route != route.value, and_(literal(True), *shown))

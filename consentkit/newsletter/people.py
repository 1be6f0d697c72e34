"""The rows of one mailbox: found by any digest it has, locked before anything about it changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.engine import Connection, Row

from consentkit.address import DIGEST_BYTES, HALF_BYTES, Address, AddressKeys
from consentkit.newsletter.forms import Topic
from consentkit.newsletter.rules import Route, Standing, State
from consentkit.newsletter.tables import parent_mails, subscriber_digests, subscribers, subscriptions
from consentkit.store import insert_new

SAME_AGAIN: Final = timedelta(minutes=10)
"""A second request for the same within this time sends no second mail."""

A_DAY: Final = timedelta(days=1)
MAILS_A_DAY: Final = 5
"""So many mails of this kind reach one address in 24 hours, whoever asks for them (subscription bombing)."""

ANSWERED: Final = {"request_id": None, "requested_at": None, "request": None}
"""The columns of a subscription for which nothing waits to be confirmed."""

_AT_ONCE: Final = 500
_HOLD: Final = (
    select(subscribers.c.id)
    .where(subscribers.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(subscribers.c.id)
    .with_for_update()
)


def find(connection: Connection, digests: Sequence[bytes], *, lock: bool = False) -> Row[Any] | None:
    """The subscriber who has one of these digests, or one that begins with a half among them.

    Args:
        lock: nobody else changes anything about this person before the transaction ends.
    """
    query = select(subscribers).where(subscribers.c.id.in_(_ids(digests))).order_by(subscribers.c.id)
    return connection.execute(query.with_for_update() if lock else query).first()


def find_all(connection: Connection, digests: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
    """Who has these digests, whole or by half: digest and number of the subscriber."""
    columns = select(subscriber_digests.c.digest, subscriber_digests.c.subscriber_id)
    rows = connection.execute(columns.where(_one_of(digests)))
    return [(bytes(digest), id) for digest, id in rows]


def hold(connection: Connection, digests: Sequence[bytes]) -> None:
    """Lock everybody who has one of these digests, in the order of their numbers."""
    query = select(subscribers.c.id).where(subscribers.c.id.in_(_ids(digests))).order_by(subscribers.c.id)
    connection.execute(query.with_for_update()).all()


def hold_people(connection: Connection, ids: Sequence[int]) -> None:
    """Lock subscribers by number, in the order in which everybody locks them. On SQLite who writes is alone anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(_HOLD, {"ids": ids}).all()


def agrees_to_measuring(
    subscriber: ColumnElement[int] | int, list: ColumnElement[str] | str, now: datetime, *, since: Any = None
) -> ColumnElement[bool]:
    """That a subscriber agrees now to opens and clicks of a list being measured, as a condition.

    Args:
        subscriber, list: columns of the statement it stands in, or values.
        since: the consent in force is as old as this, so that what went before it stays unmeasured.
    """
    row = subscriptions.c
    agreed = [
        row.subscriber_id == subscriber,
        row.list == list,
        row.state == State.ACTIVE.value,
        row.measuring,
        or_(row.valid_until.is_(None), row.valid_until > now),
    ]
    if since is not None:
        agreed.append(row.confirmed_at <= since)
    return exists().where(*agreed)


def is_kept(subscriber: ColumnElement[Any]) -> ColumnElement[bool]:
    """That a column names a subscriber who is still there and was not erased, as a condition."""
    return exists().where(subscribers.c.id == subscriber, subscribers.c.erased_at.is_(None))


def has_digest(subscriber: ColumnElement[Any], digest: bytes) -> ColumnElement[bool]:
    """That a column names who has this digest, or one that begins with this half, as a condition."""
    return subscriber.in_(_ids([digest]))


def hold_one(connection: Connection, id: int) -> Row[Any] | None:
    """Lock one subscriber by number."""
    return connection.execute(select(subscribers).where(subscribers.c.id == id).with_for_update()).first()


def make(
    connection: Connection, keys: AddressKeys, address: Address, *, lang: str, now: datetime, fields: str = "{}"
) -> int:
    """The subscriber with this address, locked; made, with `fields`, where there is none.

    One that was erased gets the address back.
    """
    digests = keys.digests(address.canonical)
    found = find(connection, digests, lock=True)
    if found is None:
        row = {
            "digest": digests[0], "key_id": keys.newest.id, "address": address.deliver_to, "language": lang,
            "fields": fields, "created_at": now, "erased_at": None,
        }  # fmt: skip
        connection.execute(insert_new(connection, subscribers), row)
        made = select(subscribers).where(subscribers.c.digest == digests[0])
        found = connection.execute(made.with_for_update()).one()
    elif found.address is None:
        again = {"address": address.deliver_to, "language": lang, "erased_at": None, "created_at": now}
        connection.execute(update(subscribers).where(subscribers.c.id == found.id).values(again))
    remember(connection, found.id, digests)
    return int(found.id)


def make_all(
    connection: Connection,
    keys: AddressKeys,
    some: Sequence[tuple[Address, Sequence[bytes], str]],
    *,
    lang: str,
    now: datetime,
) -> Mapping[bytes, int]:
    """As `make`, for many addresses of which nobody was found.

    Args:
        some: each address, its digests, and fields.

    Returns:
        the number of each by its digest under the newest key.
    """
    if not some:
        return {}
    rows = [
        {
            "digest": digests[0], "key_id": keys.newest.id, "address": address.deliver_to, "language": lang,
            "fields": fields, "created_at": now, "erased_at": None,
        }
        for address, digests, fields in some
    ]  # fmt: skip
    connection.execute(insert_new(connection, subscribers), rows)
    theirs = subscribers.c.digest.in_([digests[0] for _, digests, _ in some])
    query = select(subscribers.c.digest, subscribers.c.id).where(theirs).order_by(subscribers.c.id)
    made = {bytes(digest): id for digest, id in connection.execute(query.with_for_update())}
    known = [
        {"digest": digest, "subscriber_id": made[digests[0]]}
        for _, digests, _ in some
        for digest in digests
        if len(digest) == DIGEST_BYTES
    ]
    connection.execute(insert_new(connection, subscriber_digests), known)
    return made


def remember(connection: Connection, id: int, digests: Sequence[bytes]) -> None:
    """Note by which digests somebody may be asked for."""
    rows = [{"digest": digest, "subscriber_id": id} for digest in digests if len(digest) == DIGEST_BYTES]
    connection.execute(insert_new(connection, subscriber_digests), rows)


def meet_key(connection: Connection, keys: AddressKeys) -> None:
    """Note everybody's digest under a new key, so that links made with it find them."""
    last = 0
    while True:
        query = select(subscribers.c.id, subscribers.c.address).where(
            subscribers.c.id > last, subscribers.c.address.is_not(None)
        )
        some = connection.execute(query.order_by(subscribers.c.id).limit(_AT_ONCE)).all()
        for id, address in some:
            remember(connection, id, keys.digests(address))
            last = id
        if len(some) < _AT_ONCE:
            return


def digests_of(connection: Connection, keys: AddressKeys, person: Row[Any]) -> list[bytes]:
    """Every digest that a row of afgemeld about this person can have."""
    if person.address is not None:
        return keys.digests(person.address)
    query = select(subscriber_digests.c.digest).where(subscriber_digests.c.subscriber_id == person.id)
    whole = [bytes(digest) for digest in connection.execute(query).scalars()]
    return [*whole, *(digest[:HALF_BYTES] for digest in whole)]


def rows_of(connection: Connection, id: int) -> Sequence[Row[Any]]:
    """Somebody's subscriptions."""
    mine = subscriptions.c.subscriber_id == id
    return connection.execute(select(subscriptions).where(mine).order_by(subscriptions.c.list)).all()


def new_row(connection: Connection, id: int, topic: str, *, site: str, lang: str) -> Row[Any]:
    """A subscription that waits for its first confirmation."""
    row = {
        "subscriber_id": id, "list": topic, "site": site, "state": State.PENDING.value,
        "route": Route.UNPROVEN.value, "proof": "{}", "measuring": False, "language": lang, "mails": 0,
    }  # fmt: skip
    connection.execute(insert_new(connection, subscriptions), row)
    where = and_(subscriptions.c.subscriber_id == id, subscriptions.c.list == topic)
    return connection.execute(select(subscriptions).where(where)).one()


def set_row(connection: Connection, row: Row[Any], **values: Any) -> None:
    """Change one subscription."""
    where = and_(subscriptions.c.subscriber_id == row.subscriber_id, subscriptions.c.list == row.list)
    connection.execute(update(subscriptions).where(where).values(values))


def requested(connection: Connection, request: str) -> Sequence[Row[Any]]:
    """The subscriptions that one request asks for."""
    query = select(subscriptions).where(subscriptions.c.request_id == request).order_by(subscriptions.c.list)
    return connection.execute(query).all()


def standing(row: Row[Any]) -> Standing:
    """A row of `subscription` as the rule looks at it."""
    waits = row.request_id is not None
    return Standing(State(row.state), Route(row.route), json.loads(row.proof), row.valid_until, row.left_at, waits)


def consents(row: Row[Any] | None) -> bool:
    """Whether a consent with a record of ours is in force on it."""
    return row is not None and row.state == State.ACTIVE and row.route == Route.CONSENT and row.record_id is not None


def is_child(rows: Sequence[Row[Any]]) -> bool:
    """Whether a parent agreed for this person: then nothing is added without the parent."""
    return any("parent" in json.loads(row.proof) for row in rows)


def mailed_enough(rows: Mapping[str, Row[Any]], topics: Sequence[Topic], now: datetime) -> bool:
    """Whether the address has had what it can get for now."""
    day = sum(row.mails for row in rows.values() if row.mailed_at and row.mailed_at > now - A_DAY)
    if day >= MAILS_A_DAY:
        return True
    asked = [rows.get(topic.id) for topic in topics]
    return bool(asked) and all(
        row is not None and row.request_id is not None and row.mailed_at and row.mailed_at > now - SAME_AGAIN
        for row in asked
    )


def parent_mailed(connection: Connection, digests: Sequence[bytes], now: datetime) -> bool:
    """Note a mail to a parent, whoever's it is; False where the address has had what it can get for now.

    Args:
        digests: of the parent's address, the newest key's first.
    """
    theirs = and_(parent_mails.c.digest.in_(digests), parent_mails.c.at > now - A_DAY)
    if connection.execute(select(func.count()).select_from(parent_mails).where(theirs)).scalar_one() >= MAILS_A_DAY:
        return False
    connection.execute(parent_mails.insert().values(id=uuid4().hex, digest=digests[0], at=now))
    return True


def mailed(row: Row[Any], now: datetime, *, more: bool = True) -> dict[str, Any]:
    """A mail about this goes out now; one about several things counts once."""
    recent = row.mailed_at is not None and row.mailed_at > now - A_DAY
    return {"mails": (row.mails if recent else 0) + more, "mailed_at": now}


def _ids(digests: Sequence[bytes]) -> Any:
    return select(subscriber_digests.c.subscriber_id).where(_one_of(digests))


def _one_of(digests: Sequence[bytes]) -> ColumnElement[bool]:
    whole = [digest for digest in digests if len(digest) == DIGEST_BYTES]
    halves = {digest for digest in digests if len(digest) < DIGEST_BYTES} - {digest[:HALF_BYTES] for digest in whole}
    column = subscriber_digests.c.digest
    between = [column.between(half, half.ljust(DIGEST_BYTES, b"\xff")) for half in halves]
    return or_(column.in_(whole), *between)

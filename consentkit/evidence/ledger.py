"""Appending to the chains: everything that a transaction of the writer does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, column, or_, select, table, update
from sqlalchemy.engine import Connection

from consentkit.evidence.event import GENESIS, SHOWN_STATE, ConsentEvent, Notice, Refusal, link
from consentkit.evidence.records import decision_before
from consentkit.evidence.tables import counts, events, heads, notices
from consentkit.store import insert_into, insert_new


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to write: an event or one more refusal, with the notice that it answers, where that is known."""

    what: ConsentEvent | Refusal
    notice: Notice | None = None


TakenBack = Callable[[Connection, ConsentEvent, frozenset[str]], None]
"""Told, in the transaction that writes an event, which purposes it takes back that were granted until then."""


def append(
    connection: Connection,
    entries: Sequence[Entry],
    *,
    known: set[str],
    answered: bool = False,
    taken_back: TakenBack | None = None,
) -> list[bool]:
    """Write the entries in their order at the ends of their chains.

    The heads are locked, in the order of the sites' names, so several processes can write to one database. An event
    that is there already is left alone.

    Args:
        connection: a write transaction of `Store.begin`.
        entries: checked events and refusals.
        known: the hashes of notices that need not be written; the caller adds those it committed.
        answered: the visitors have their answer already (journal), so an event whose nonce was spent elsewhere
            meanwhile is kept, without the nonce.
        taken_back: called for each event written here that takes something back; what it writes is committed with
            the event, or not at all.

    Returns:
        for each entry whether it was taken; `False` means that its nonce was spent before.
    """
    chains = _lock(connection, sorted({entry.what.site for entry in entries if isinstance(entry.what, ConsentEvent)}))
    spent, written = _seen(connection, entries, answered=answered)
    taken: list[bool] = []
    rows: list[dict[str, Any]] = []
    fewer: list[tuple[ConsentEvent, int]] = []
    refused: Counter[tuple[Any, ...]] = Counter()
    bodies: dict[str, Notice] = {}
    for entry in entries:
        what = entry.what
        if what.event_id in written:
            taken.append(True)
            continue
        if what.nonce in spent and not answered:
            taken.append(False)
            continue
        taken.append(True)
        if entry.notice is not None and entry.notice.hash not in known:
            bodies[entry.notice.hash] = entry.notice
        if isinstance(what, Refusal):
            refused[what.site, what.day, what.decision, what.notice_hash] += 1
            continue
        kept = replace(what, nonce=None) if what.nonce in spent else what
        if kept.nonce is not None:
            spent.add(kept.nonce)
        if answered:
            written.add(kept.event_id)
        rows.append(chains[what.site].append(kept))
        if taken_back and kept.state != SHOWN_STATE and not all(kept.purposes.values()):
            fewer.append((kept, chains[what.site].seq))
    _keep_notices(connection, bodies)
    if rows:
        connection.execute(_insert_event, rows)
        _move_heads(connection, [chain for chain in chains.values() if chain.grown])
    _count(connection, refused)
    for event, seq in fewer:
        if taken_back and (lost := _lost(connection, event, seq)):
            taken_back(connection, event, lost)
    return taken


def _lost(connection: Connection, event: ConsentEvent, seq: int) -> frozenset[str]:
    before = decision_before(connection, event, seq)
    held = before.purposes if before else {}
    return frozenset(name for name, granted in held.items() if granted and not event.purposes.get(name))


@dataclass(slots=True)
class Chain:
    """The end of one site's chain, inside the transaction that holds its lock."""

    site: str
    seq: int
    hash: str
    grown: bool = False

    def append(self, event: ConsentEvent) -> dict[str, Any]:
        """Make the event the new end; returns its row: the very texts that were hashed."""
        fields = event.fields()
        self.seq += 1
        self.hash = link(self.hash, self.seq, fields)
        self.grown = True
        del fields["schema"]
        return {**fields, "seq": self.seq, "hash": self.hash}


# Without types: the values are spelled already, and spelling them once more would take a third of the time.
_insert_event = table(events.name, *(column(one.name) for one in events.columns)).insert()
_select_heads = select(heads.c.site, heads.c.seq, heads.c.hash).order_by(heads.c.site).with_for_update()
_move = update(heads).where(heads.c.site == bindparam("of")).values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))


def _lock(connection: Connection, sites: Sequence[str]) -> dict[str, Chain]:
    if not sites:
        return {}
    wanted = _select_heads.where(heads.c.site.in_(sites))
    found = connection.execute(wanted).all()
    if len(found) < len(sites):
        new = [{"site": site, "seq": 0, "hash": GENESIS, "base_seq": 0, "base_hash": GENESIS} for site in sites]
        connection.execute(insert_new(connection, heads), new)
        found = connection.execute(wanted).all()
    return {site: Chain(site, seq, digest) for site, seq, digest in found}


def _seen(connection: Connection, entries: Sequence[Entry], *, answered: bool) -> tuple[set[str | None], set[str]]:
    """The nonces among these entries that an event spent before, and the ids that are written already."""
    nonces = [entry.what.nonce for entry in entries if entry.what.nonce is not None]
    query = select(events.c.nonce, events.c.event_id)
    if answered:
        query = query.where(or_(events.c.nonce.in_(nonces), events.c.event_id.in_([e.what.event_id for e in entries])))
    elif nonces:
        query = query.where(events.c.nonce.in_(nonces))
    else:
        return set(), set()
    found = connection.execute(query).all()
    return {nonce for nonce, _ in found if nonce is not None}, {event_id for _, event_id in found}


def _keep_notices(connection: Connection, bodies: Mapping[str, Notice]) -> None:
    if bodies:
        rows = [{"hash": notice.hash, "body": notice.body.decode()} for notice in bodies.values()]
        connection.execute(insert_new(connection, notices), rows)


def _move_heads(connection: Connection, chains: Sequence[Chain]) -> None:
    connection.execute(_move, [{"of": chain.site, "to_seq": chain.seq, "to_hash": chain.hash} for chain in chains])


def _count(connection: Connection, refused: Mapping[tuple[Any, ...], int]) -> None:
    if not refused:
        return
    insert = insert_new(connection, counts)
    more = {"total": counts.c.total + insert.excluded.total}
    statement = insert_into(connection, counts).on_conflict_do_update(
        index_elements=list(counts.primary_key), set_=more
    )
    rows = [
        {"site": site, "day": day, "decision": decision, "notice_hash": digest, "total": total}
        for (site, day, decision, digest), total in sorted(refused.items())
    ]
    connection.execute(statement, rows)

"""Addresses from elsewhere: a CSV as a stream, a chunk at a time, with a report by line.

A row may be mailed only with a lawful route and its proof; without them it lands unproven. Whoever is in afgemeld or
left the list is passed over and reported: no import brings anybody back (checklist NEW-05, SUP-03).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, BinaryIO, Final

from sqlalchemy import and_, select
from sqlalchemy.engine import Connection, Row

from consentkit.address import Address
from consentkit.afgemeld import Afgemeld
from consentkit.csvstream import Broken, Table
from consentkit.csvstream import Row as Line
from consentkit.errors import AddressError, FormRefused
from consentkit.newsletter import people
from consentkit.newsletter.forms import Form, Topic, clean
from consentkit.newsletter.rules import LEFT, PROOF, Route, State, missing_proof
from consentkit.newsletter.tables import subscribers, subscriptions
from consentkit.service import Duration
from consentkit.store import Store, insert_new

AT_ONCE: Final = 500
BROKEN: Final = "broken row"
NO_ADDRESS: Final = "no address"
UNKNOWN_ROUTE: Final = "unknown route"
_EXPORTED_AT_ONCE: Final = 2000
_PROOF_COLUMNS: Final = tuple(dict.fromkeys(name for names in PROOF.values() for name in names))

Report = Callable[[int, str], None]


@dataclass(slots=True)
class Imported:
    """What an import did, in numbers.

    Args:
        added: new on the list, and may be mailed. proven: were there without proof, and now have it.
        unproven: new on the list without proof, so not to be mailed.
        known: were there already. refused: by reason.
    """

    added: int = 0
    proven: int = 0
    unproven: int = 0
    known: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def unreadable(self) -> int:
        """How many rows a person should look at: the others that were refused are known already, or left."""
        return sum(self.refused[reason] for reason in (BROKEN, NO_ADDRESS, UNKNOWN_ROUTE))


@dataclass(frozen=True, slots=True, repr=False)
class _Person:
    line: int
    address: Address
    digests: Sequence[bytes]
    fields: Mapping[str, str]
    route: Route
    proof: Mapping[str, str]
    lacking: str


class Importer:
    """Brings a file into one list.

    Args:
        store, afgemeld: the rooms below. topic, form: of the list. site: whose list it is, by name.
        route, proof: for every row that doesn't say otherwise in columns of its own.
        language: of rows without a column `language`.
        now: the moment that is noted.
    """

    def __init__(
        self,
        store: Store,
        afgemeld: Afgemeld,
        *,
        topic: Topic,
        form: Form,
        site: str,
        route: Route,
        proof: Mapping[str, str],
        language: str,
        now: datetime,
    ) -> None:
        self._store = store
        self._afgemeld = afgemeld
        self._topic = topic
        self._form = form
        self._site = site
        self._route = route
        self._proof = {name: clean(value) for name, value in proof.items()}
        self._language = language
        self._now = now
        self._ends = now + timedelta(days=Duration.parse(topic.valid).days)

    def read(
        self, source: BinaryIO, *, column: str | None = None, dry_run: bool = False,
        report: Report = lambda line, reason: None, progress: Callable[[int], None] = lambda read: None,
    ) -> Imported:  # fmt: skip
        """Import a file.

        Args:
            dry_run: only report.
            report: is told line and reason of what was passed over, line after line; never an address.
            progress: is told how many bytes were read.

        Raises:
            AfgemeldUnavailable: the table can't be asked; nothing was imported.
            ConsentKitError: there is no column with addresses.
        """
        self._afgemeld.open()
        done = Imported()
        table = Table.open(source, column=column)
        seen: set[bytes] = set()
        waiting: list[_Person] = []
        told: list[tuple[int, str]] = []

        def note(line: int, reason: str) -> None:
            told.append((line, reason))

        def take() -> None:
            self._take(waiting, done, note, dry_run=dry_run)
            for line, reason in sorted(told, key=itemgetter(0)):  # some rows are refused as they are read, some later
                report(line, reason)
            for each in (waiting, told, seen):  # whoever comes again is found in the database
                each.clear()
            progress(table.bytes_read)

        for row in table.rows():
            person = self._person(table, row, done, note)
            if person is not None and person.digests[0][:8] in seen:
                done.refused["duplicate"] += 1
                note(person.line, "duplicate")
            elif person is not None:
                seen.add(person.digests[0][:8])
                waiting.append(person)
            if len(waiting) + len(told) >= AT_ONCE:
                take()
        take()
        return done

    def _person(self, table: Table, row: Line | Broken, done: Imported, report: Report) -> _Person | None:
        if isinstance(row, Broken):
            done.refused[BROKEN] += 1
            report(row.line, f"{BROKEN}: {row.problem}")
            return None
        cells = {name.strip().casefold(): cell for name, cell in zip(table.columns, row.cells, strict=False)}
        try:
            address = Address.parse(row.cells[table.column])
            route = Route(cells.get("route", "").strip() or self._route)
            fields = self._fields(cells)
        except AddressError as error:
            done.refused[NO_ADDRESS] += 1
            report(row.line, f"{NO_ADDRESS}: {error}")
            return None
        except ValueError:
            done.refused[UNKNOWN_ROUTE] += 1
            report(row.line, f"{UNKNOWN_ROUTE}: write {', '.join(Route)}")
            return None
        given = {name: clean(cells.get(name, "")) for name in (*_PROOF_COLUMNS, "proof")}
        own = {name: given[name] for name in _PROOF_COLUMNS if given[name]}
        if given["proof"] and len(PROOF[route]) == 1:
            own.setdefault(PROOF[route][0], given["proof"])
        proof = {**self._proof, **own} if route is self._route else own
        told = ""
        if lacking := missing_proof(route, proof):
            told = f"unproven: the route {route} needs {', '.join(lacking)}"
            route, proof = Route.UNPROVEN, {}
        digests = self._afgemeld.keys.digests(address.canonical)
        return _Person(row.line, address, digests, fields, route, proof, told)

    def _fields(self, cells: Mapping[str, str]) -> dict[str, str]:
        """The declared fields; a column that nobody declared is not taken."""
        wanted = [(name, cells[name]) for name in self._form.fields if name in cells and name != "email"]
        needed = {name: "-" for name in self._form.fields if name not in self._form.optional}
        try:
            answer = self._form.read({**needed, **dict(wanted), "email": "a@b.nl", "age": "16plus"}.items())
        except FormRefused:
            return {}
        return {name: answer.fields[name] for name, _ in wanted if answer.fields.get(name)}

    def _take(self, some: Sequence[_Person], done: Imported, report: Report, *, dry_run: bool) -> None:
        if not some:
            return
        every = [digest for person in some for digest in person.digests]
        with self._store.begin() as connection:
            gone = self._afgemeld.forbidden(connection, every, list=self._topic.id)
            known = dict(people.find_all(connection, every))
            rows = self._rows(connection, list(known.values()))
            writes: list[tuple[_Person, Row[Any] | None, bool]] = []
            for person in some:
                if not gone.isdisjoint(person.digests):
                    done.refused["afgemeld"] += 1
                    report(person.line, "afgemeld")
                    continue
                id = next((known[digest] for digest in person.digests if digest in known), None)
                row = rows.get(id)
                if self._is_wanted(person, row, done=done, report=report):
                    writes.append((person, row, id is not None))
            if not dry_run:
                self._write(connection, writes)

    def _is_wanted(self, person: _Person, row: Row[Any] | None, *, done: Imported, report: Report) -> bool:
        """Whether a row of the file changes anything; it is counted either way."""
        proven = person.route is not Route.UNPROVEN
        if row is not None and State(row.state) in LEFT:
            done.refused["left"] += 1
            report(person.line, "left")
            return False
        if person.lacking and (row is None or row.state != State.ACTIVE):
            report(person.line, person.lacking)
        if row is not None and (row.state == State.ACTIVE or not proven):
            done.known += 1
            return False
        if row is not None:
            done.proven += 1
        elif proven:
            done.added += 1
        else:
            done.unproven += 1
        return True

    def _write(self, connection: Connection, writes: Sequence[tuple[_Person, Row[Any] | None, bool]]) -> None:
        """Store what changes: who is new all at once, as most of a file is."""
        made = people.make_all(
            connection,
            self._afgemeld.keys,
            [(one.address, one.digests, _as_json(one.fields)) for one, _, known in writes if not known],
            lang=self._language,
            now=self._now,
        )
        added: list[dict[str, Any]] = []
        for person, row, known in writes:
            id = self._known(connection, person) if known else made[person.digests[0]]
            if row is None:
                added.append(self._row(id, person))
            else:
                people.set_row(connection, row, **self._standing(person))
        if added:
            connection.execute(insert_new(connection, subscriptions), added)

    def _known(self, connection: Connection, person: _Person) -> int:
        fields = _as_json(person.fields)
        return people.make(
            connection, self._afgemeld.keys, person.address, lang=self._language, now=self._now, fields=fields
        )

    def _row(self, id: int, person: _Person) -> dict[str, Any]:
        return {
            "subscriber_id": id, "list": self._topic.id, "site": self._site, "measuring": False,
            "language": self._language, "mails": 0, **self._standing(person),
        }  # fmt: skip

    def _standing(self, person: _Person) -> dict[str, Any]:
        proven = person.route is not Route.UNPROVEN
        proof = {**person.proof, "imported_at": self._now.isoformat(timespec="seconds")}
        return {
            "state": (State.ACTIVE if proven else State.PENDING).value,
            "route": person.route.value,
            "proof": _as_json(proof),
            "valid_until": self._ends if person.route is Route.CONSENT else None,
            "confirmed_at": self._now if proven else None,
        }

    def _rows(self, connection: Connection, ids: Sequence[int]) -> Mapping[int | None, Row[Any]]:
        mine = and_(subscriptions.c.subscriber_id.in_(ids), subscriptions.c.list == self._topic.id)
        return {row.subscriber_id: row for row in connection.execute(select(subscriptions).where(mine))}


def _as_json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), ensure_ascii=False)


def export(store: Store, list: str, *, agreed_only: bool) -> Iterator[dict[str, str]]:
    """The subscribers of a list, streamed, with state, route and proof.

    Args:
        list: a list's id, or `partner.<id>` for the addresses that may go to a partner.
        agreed_only: leave out everybody who is not subscribed now.
    """
    query = (
        select(subscribers.c.address, subscribers.c.fields, *(c for c in subscriptions.c if c.name != "fields"))
        .join(subscribers, subscribers.c.id == subscriptions.c.subscriber_id)
        .where(subscriptions.c.list == list, subscribers.c.address.is_not(None))
        .order_by(subscriptions.c.subscriber_id)
    )
    if agreed_only:
        query = query.where(subscriptions.c.state == State.ACTIVE.value)
    with store.read() as connection:
        for row in connection.execution_options(yield_per=_EXPORTED_AT_ONCE).execute(query):
            yield {
                "email": row.address,
                **json.loads(row.fields),
                "state": row.state,
                "route": row.route,
                "proof": "; ".join(f"{name}={value}" for name, value in json.loads(row.proof).items()),
                "measuring": "yes" if row.measuring else "no",
                "language": row.language,
                "receipt": row.record_id or "",
                "confirmed_at": row.confirmed_at.isoformat(timespec="seconds") if row.confirmed_at else "",
                "left_at": row.left_at.isoformat(timespec="seconds") if row.left_at else "",
            }

"""The table as CSV, out and in: keyed digests, never readable addresses, so only the same key can do anything with it.

What goes out names no person and no mailing, and nothing else that is stored could be joined with it. What comes in
may be plain addresses too, of another mailing tool; of those only the digests are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import BinaryIO, Final

from consentkit.address import AddressKeys
from consentkit.afgemeld.entries import Reason, Suppression, scope_of
from consentkit.afgemeld.ledger import WRITTEN_AT_ONCE, Afgemeld
from consentkit.csvstream import Broken, Row, Table
from consentkit.errors import AddressError

COLUMNS: Final = ("digest", "key_id", "scope", "reason", "channel", "at")
_DIGEST: Final = "digest"
_OPTIONAL: Final[tuple[str, ...]] = ("key_id", "scope", "reason", "channel", "at")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, in rows; `known` stood in the table before, or further up in the file."""

    new: int = 0
    known: int = 0
    refused: int = 0


class _DryRun(Exception):
    """Ends a transaction without a trace."""


def export(ledger: Afgemeld, *, scope: str | None = None) -> Iterator[str]:
    """The table as lines of CSV, the header first, as it was at one moment.

    Args:
        scope: only this one; None for all.

    Raises:
        AfgemeldUnavailable: the table can't be asked.
    """
    entries = ledger.entries(scope)
    first = next(entries, None)  # whatever is wrong shows before anything is written
    yield ",".join(COLUMNS) + "\r\n"
    while first is not None:
        at = first.at.isoformat(timespec="microseconds")
        yield f"{first.digest.hex()},{first.key_id},{first.scope},{first.reason},{first.channel},{at}\r\n"
        first = next(entries, None)


def import_(
    ledger: Afgemeld,
    source: BinaryIO,
    *,
    scope: str,
    at: datetime,
    reason: Reason = Reason.IMPORT,
    channel: str = "import",
    column: str | None = None,
    dry_run: bool = False,
    report: Callable[[int, str], None] = lambda line, reason: None,
    progress: Callable[[int], None] = lambda bytes_read: None,
) -> Imported:
    """Add what a CSV lists: addresses, or the digests of an export (a column `digest`, and `key_id` beside it).

    The columns `scope`, `reason`, `channel` and `at` count where a row fills them in; a moment without a time zone is
    UTC. Each 2,000 rows are a transaction: an import that ended halfway may be repeated.

    Args:
        source: as `Table.open` takes it.
        scope, reason, channel, at: of a row that does not say.
        column: the address column; see `Table.open`.
        dry_run: only count.
        report: told the line and why, for each row that is refused; never what it holds.
        progress: told how many bytes were read so far.

    Raises:
        AfgemeldUnavailable: the table can't take it; what came before stays.
        ConsentKitError: there is no column of addresses or digests.
    """
    ledger.open()
    reader = _Reader(Table.open(source, column=column, also=(_DIGEST,)), ledger.keys)
    standard = Suppression(bytes(32), ledger.keys.newest.id, scope, reason, channel, at)
    new = known = refused = 0
    met: set[bytes] = set()
    chunk: list[Suppression] = []

    def write() -> None:
        nonlocal new, known
        fresh = [one for one in chunk if not dry_run or _once(met, one)]
        added = _add(ledger, fresh, dry_run=dry_run)
        new += added
        known += len(chunk) - added
        chunk.clear()
        progress(reader.table.bytes_read)

    for row in reader.table.rows():
        try:
            chunk.append(reader.read(row, standard))
        except ValueError as error:
            refused += 1
            report(row.line, str(error))
        if len(chunk) == WRITTEN_AT_ONCE:
            write()
    write()
    return Imported(new, known, refused)


class _Reader:
    def __init__(self, table: Table, keys: AddressKeys) -> None:
        self.table = table
        self._keys = keys
        self._ids = {key.id for key in keys.keys}
        names = [name.casefold() for name in table.columns]
        self._digests = names[table.column : table.column + 1] == [_DIGEST]
        self._columns = {name: names.index(name) for name in _OPTIONAL if name in names}

    def read(self, row: Row | Broken, standard: Suppression) -> Suppression:
        """What a row says.

        Raises:
            ValueError: why it is refused, without what it holds.
        """
        if isinstance(row, Broken):
            raise ValueError(row.problem)
        cells = {name: text for name, at in self._columns.items() if (text := row.cells[at].strip())}
        digest, key_id = self._who(row.cells[self.table.column].strip(), cells)
        scope = _scope(cells["scope"]) if "scope" in cells else standard.scope
        reason = _reason(cells["reason"]) if "reason" in cells else standard.reason
        at = min(_moment(cells["at"]), standard.at) if "at" in cells else standard.at
        try:
            return Suppression(digest, key_id, scope, reason, cells.get("channel", standard.channel), at)
        except ValueError:
            raise ValueError("no channel: a short word in lower case") from None

    def _who(self, text: str, cells: Mapping[str, str]) -> tuple[bytes, str]:
        if not self._digests:
            try:
                return self._keys.digest(text), self._keys.newest.id
            except AddressError:
                raise ValueError("no address that mail could be sent to") from None
        key_id = cells.get("key_id", self._keys.newest.id).lower()
        if key_id not in self._ids:
            raise ValueError("made with a key that is not among CONSENTKIT_AFGEMELD_KEYS")
        if len(text) not in (32, 64) or not set(text) <= set("0123456789abcdefABCDEF"):
            raise ValueError("no digest: it has 64 hexadecimal digits, or 32 from a short token")
        return bytes.fromhex(text), key_id


def _scope(text: str) -> str:
    try:
        return scope_of(text)
    except ValueError:
        raise ValueError("no scope: write mail, marketing or list:<id>") from None


def _reason(text: str) -> Reason:
    try:
        return Reason(text.lower())
    except ValueError:
        raise ValueError(f"no reason that is known: write one of {', '.join(Reason)}") from None


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.utcoffset() is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("no moment: write it as 2026-01-31T09:30:00Z") from None


def _once(met: set[bytes], one: Suppression) -> bool:
    mark = sha256(one.digest + one.scope.encode()).digest()[:8]
    if mark in met:
        return False
    met.add(mark)
    return True


def _add(ledger: Afgemeld, suppressions: Sequence[Suppression], *, dry_run: bool) -> int:
    added = 0
    with suppress(_DryRun), ledger.changing() as change:
        added = change.add(suppressions)
        if dry_run:
            raise _DryRun
    return added

"""Scrub a list of contacts that another mailing tool will send to: those who left go out, every other byte stays.

Everybody suppressed in the asked scopes is held in memory, some 8 bytes each, so that a million rows take seconds. The
answer is that of the moment the run began: scrub shortly before sending.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from struct import Struct
from typing import BinaryIO, Final, TypeVar, cast

from consentkit.address import DIGEST_BYTES, AddressKeys, canonical
from consentkit.afgemeld.ledger import Afgemeld
from consentkit.csvstream import Batch, Table
from consentkit.errors import AddressError

SUPPRESSED: Final = "suppressed"
INVALID: Final = "no address that mail could be sent to"
DUPLICATE: Final = "an address that stands further up"
_T = TypeVar("_T")
_BROKEN: Final = "broken"

_HEAD = Struct(">H6s")
_WHOLE = Struct(f">H6s{DIGEST_BYTES - _HEAD.size}x")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_plain_lines = re.compile(
    rf"(?:(?=[^@\n]{{1,64}}+@){_ATOM}(?:\.{_ATOM})*+@[A-Za-z0-9.-]++\n)*+", re.ASCII
).match  # as many lines as hold a local part that is written plainly, and what may be a domain


class Met:
    """The digests that a run knows: first those suppressed, then, behind them, those that came by and may stay.

    Each is known by 63 bits: 15 choose one of 32,768 strings, in which 48 others stand. A string grows by being copied,
    and `find` searches it in C: faster than a hash table in Python, and never twice in memory. A digest is taken for
    another with a chance of 6 n / 2^63 (n are known; a string may match between two of them as well): at 1 million rows
    against 1 million suppressed, one row too many goes out once in a million runs. It errs towards not mailing, and
    nobody who is suppressed is missed.

    Args:
        heads: the first 8 bytes of each suppressed digest, joined.
    """

    def __init__(self, heads: Iterable[bytes]) -> None:
        tails = self._tails = [b""] * 32_768
        for joined in heads:
            for head, tail in _HEAD.iter_unpack(joined):
                tails[head >> 1] += tail
        self._suppressed = array("L", map(len, tails))

    def suppressed(self, digests: Sequence[bytes]) -> list[bool]:
        """Whether each digest is suppressed."""
        tails, ends = self._tails, self._suppressed
        return [
            tails[head >> 1].find(tail, 0, ends[head >> 1]) >= 0 for head, tail in _WHOLE.iter_unpack(b"".join(digests))
        ]

    def refused(self, digests: Sequence[bytes]) -> Iterator[tuple[int, str]]:
        """Which digests are suppressed or came by before, by position, and why; the others have come by now."""
        tails, ends = self._tails, self._suppressed
        for at, (head, tail) in enumerate(_WHOLE.iter_unpack(b"".join(digests))):
            there = tails[head >> 1]
            found = there.find(tail)
            if found < 0:
                tails[head >> 1] = there + tail
            else:
                yield at, SUPPRESSED if found < ends[head >> 1] else DUPLICATE


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, in rows; `kept` is what the sink got."""

    kept: int = 0
    suppressed: int = 0
    invalid: int = 0
    duplicate: int = 0
    broken: int = 0

    @property
    def rows(self) -> int:
        """All that came by."""
        return self.kept + self.suppressed + self.invalid + self.duplicate + self.broken


def scrub(
    ledger: Afgemeld,
    source: BinaryIO,
    sink: BinaryIO,
    *,
    list: str | None = None,
    column: str | None = None,
    report: Callable[[int, str], None] = lambda line, reason: None,
    progress: Callable[[int], None] = lambda bytes_read: None,
) -> Report:
    """Copy the rows of a CSV that may be written to, byte by byte.

    What goes out: who is suppressed, what holds no bare address, an address that came before (in any spelling), and
    what can't be read as a row. Columns, order, dialect, encoding, header and blank lines stay as they are.

    Args:
        source: as `Table.open` takes it.
        list: the list that will be sent to; None leaves out whoever left anything at all.
        column: the address column; see `Table.open`.
        report: told the line and the reason of each row that goes out; never what it holds.
        progress: told how many bytes were read so far.

    Raises:
        AfgemeldUnavailable: the table can't be asked; then the sink gets nothing.
        ConsentKitError: there is no column of addresses; then the sink gets nothing.
    """
    ledger.open()
    table = Table.open(source, column=column)
    met = Met(ledger.heads(list))
    sink.write(table.head)
    rows = 0
    counts = Counter[str]()
    for batch in table.batches():
        rows += len(batch.raw) - batch.addresses.count(None) + len(batch.broken)
        out = _refused(batch, ledger.keys, met)
        raw: Iterable[bytes] = batch.raw
        if out:
            stays = bytearray(b"\1") * len(batch.raw)
            for at in sorted(out):
                stays[at] = 0
                report(batch.lines[at], out[at])
                counts[_BROKEN if at in batch.broken else out[at]] += 1
            raw = compress(raw, stays)
        sink.write(table.original(b"".join(raw)))
        progress(table.bytes_read)
    return Report(
        kept=rows - counts.total(),
        suppressed=counts[SUPPRESSED],
        invalid=counts[INVALID],
        duplicate=counts[DUPLICATE],
        broken=counts[_BROKEN],
    )


def _refused(batch: Batch, keys: AddressKeys, met: Met) -> dict[int, str]:
    """Why each row that goes out does, by its position."""
    out = dict(batch.broken)
    texts, positions = _without_none(batch.addresses, range(len(batch.addresses)))
    spelled = _spelled(texts)
    known, positions_known = _without_none(spelled, positions)
    if len(known) < len(spelled):
        out.update(dict.fromkeys(set(positions).difference(positions_known), INVALID))
        positions = positions_known
    for key in keys.keys[1:]:
        left = met.suppressed([*map(key.digest, known)])
        if any(left):
            out.update(dict.fromkeys(compress(positions, left), SUPPRESSED))
            stays = [not one for one in left]
            positions, known = [*compress(positions, stays)], [*compress(known, stays)]
    for at, why in met.refused([*map(keys.newest.digest, known)]):
        out[positions[at]] = why
    return out


def _without_none(values: Sequence[_T | None], positions: Sequence[int]) -> tuple[Sequence[_T], Sequence[int]]:
    if None not in values:
        return cast("Sequence[_T]", values), positions
    both = [(value, at) for value, at in zip(values, positions, strict=True) if value is not None]
    return [value for value, _ in both], [at for _, at in both]


def _spelled(texts: Sequence[str]) -> list[bytes | None]:
    """What `canonical` makes of each text; None for what is no address. Plain addresses are taken many at a time."""
    joined = "\n".join(texts) + "\n"
    if joined.count("\n") != len(texts):
        texts = ["" if "\n" in text.strip() else text.strip() for text in texts]  # no address holds a line end
        joined = "\n".join(texts) + "\n"
    found: list[bytes | None] = []
    start = 0
    while len(found) < len(texts):
        plain = _plain_lines(joined, start)
        end = plain.end() if plain else start
        if end > start:
            lower = joined[start : end - 1].lower()
            if all(map(_plain_domain, {*lower.replace("@", "\n").split("\n")[1::2]})):
                found += lower.encode().split(b"\n")
            else:
                found += map(_one, texts[len(found) : len(found) + lower.count("\n") + 1])
        if len(found) < len(texts):
            found.append(_one(texts[len(found)]))
            start = joined.index("\n", end) + 1
    return found


def _one(text: str) -> bytes | None:
    try:
        return canonical(text).encode()
    except AddressError:
        return None


@lru_cache(maxsize=10_000)
def _plain_domain(domain: str) -> bool:
    """Whether `canonical` leaves a domain in lower case as it is, whatever plain local part stands before it."""
    try:
        return domain.isascii() and len(domain) < 180 and canonical(f"a@{domain}") == f"a@{domain}"
    except AddressError:
        return False

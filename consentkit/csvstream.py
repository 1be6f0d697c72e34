"""A CSV of any spelling as a stream: encoding, delimiter, header and address column are found, rows keep their line.

UTF-8 (with a BOM or without), UTF-16 with a BOM, else Windows-1252; commas, semicolons, tabs or bars, or what Excel's
`sep=` in the first line names; quotes; CRLF or LF; with a header or without. A broken row is told with its line, and
the rest goes on. Memory does not grow with the file: a block at a time is read, so a pipe will do.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple

from consentkit.address import canonical
from consentkit.errors import AddressError, ConsentKitError

MAX_ROW: Final = 131_072
"""Bytes that one row may have: an opened quote that nobody closed must not swallow the rest of the file."""

EMAIL_NAMES: Final = (
    "email", "mail", "emailadres", "mailadres", "emailaddress", "mailaddress", "email1", "email1value",
)  # fmt: skip
"""What a header calls the address column, in lower case and without spaces, dashes and underscores."""

_BLOCK: Final = 1 << 15
_SAMPLE: Final = 1 << 15
_DELIMITERS: Final = (",", ";", "\t", "|")
_UTF16: Final = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SEPARATOR = re.compile(rb"(?i)sep=([^\w\s\"@\x00-\x1f\x7f-\xff]|\t)\r?\n")
_MAYBE_DELIMITERS: Final = "^~#/!$%&*=?`{}"
"""What may stand in an address as well, and in all of them only where it parts columns."""
_COMPUTED: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with, also where signs are as wide as letters of East Asia (OWASP, CSV Injection)."""
_LIKE_ADDRESS = re.compile(r"[^\s@,;|\"<>]+@[^\s@,;|\"<>]+\Z")

_UNDECODABLE: Final = "the text can't be decoded"
_NUL: Final = "it holds a NUL"
_QUOTES: Final = "its quotes are wrong"
_RETURN: Final = "it holds a carriage return outside quotes"
_LONG: Final = f"it is longer than {MAX_ROW:,} bytes"


class Row(NamedTuple):
    """One row: its cells as text, and the number of its first line in the file, counted from 1."""

    line: int
    cells: Sequence[str]


class Broken(NamedTuple):
    """A row that can't be read, and why; nothing of what it holds."""

    line: int
    problem: str


class Batch(NamedTuple):
    """Rows that follow each other, for who wants their bytes.

    Args:
        lines: the number of each one's first line.
        raw: the bytes of each with its line end, in UTF-8 where the file is UTF-16; see `Table.original`.
        addresses: the cell of the address column; None for a blank line and for a broken row.
        broken: why, by position, where a row is broken.
    """

    lines: Sequence[int]
    raw: Sequence[bytes]
    addresses: Sequence[str | None]
    broken: dict[int, str]


class _Record(NamedTuple):
    line: int
    raw: bytes
    cells: Sequence[bytes]
    encoding: str
    problem: str | None = None


class _Unfinished(Exception):
    """The lines at hand end within quotes."""


class _Feed:
    """Lines for a csv reader, from a position that may be moved. Latin-1 keeps bytes apart from what they mean."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines
        self.at = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            raise _Unfinished
        line = self.lines[self.at]
        self.at += 1
        return line.decode("latin-1")


class Table:
    """A CSV that was opened; read it once, by `rows` or by `batches`.

    Args:
        columns: the names in the header, as written; empty where there is none.
        column: the position of the address column.
        width: how many columns each row has.
        head: the bytes before the first row: the BOM, `sep=` and the header.
        bytes_read: how much of the source was read so far.
    """

    @classmethod
    def open(cls, source: BinaryIO, *, column: str | None = None, also: Sequence[str] = ()) -> Table:
        """Read the beginning of `source` and find out how it is written.

        Args:
            column: the header of the address column, or its number from 1. Without it a header that is called
                email, e-mail, e-mailadres, mail and the like, else the first column in which an address stands.
            also: further names of that column in the header, in lower case.

        Raises:
            ConsentKitError: there is no such column, or its delimiter is none of those.
        """
        return cls(source, column, also)

    def __init__(self, source: BinaryIO, column: str | None, also: Sequence[str]) -> None:
        self._source = source
        self.bytes_read = 0
        self.head = b""
        self.columns: tuple[str, ...] = ()
        self.delimiter = ","
        self.width = 0
        self._wide = "utf-8"  # UTF-16 is read as UTF-8 and given back by `original`
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ended = False
        self._line = 1
        self._start(self._raw_block())
        marked = bool(self.head)
        delimiters = self._named_delimiter() or _DELIMITERS
        sample = self._sample()
        self._utf8 = self._decoder is not None or marked or any(map(_is_wide, BytesIO(sample)))
        found = self._sniff(sample, delimiters)
        if found:
            self._take_header(found[0], column)
        self.column = self._find_column(found, column, also)

    def rows(self) -> Iterator[Row | Broken]:
        """Every row but blank lines, and what was broken, in order."""
        for line, data, last in self._blocks():
            if data is None:
                yield Broken(line, _LONG)
                continue
            for one in self._records(data, line, last=last):
                if one.problem:
                    yield Broken(one.line, one.problem)
                elif one.cells:
                    yield Row(one.line, [cell.decode(one.encoding) for cell in one.cells])

    def batches(self) -> Iterator[Batch]:
        """The same rows as bytes, some at a time, with no more taken apart than the address needs."""
        for line, data, last in self._blocks():
            batch = Batch([line], [b""], [None], {0: _LONG}) if data is None else self._whole_batch(line, data)
            if batch is not None:
                yield batch
            elif data is not None:
                yield self._batch(self._records(data, line, last=last))

    def original(self, data: bytes) -> bytes:
        """Bytes of `Batch.raw` as they stood in the file."""
        if self._decoder is None:
            return data
        return data.decode("utf-8", "surrogatepass").encode(self._wide, "surrogatepass")

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _raw_block(self) -> bytes:
        data = self._source.read(_BLOCK)
        self.bytes_read += len(data)
        return data

    def _start(self, data: bytes) -> None:
        for mark, name in _UTF16:
            if data.startswith(mark):
                self.head, self._wide = mark, name
                self._decoder = codecs.getincrementaldecoder(name)("surrogatepass")
                self._unread = self._narrow(data[len(mark) :])
                return
        if data.startswith(codecs.BOM_UTF8):
            self.head = codecs.BOM_UTF8
        self._unread = data[len(self.head) :]
        self._ended = not data

    def _narrow(self, data: bytes) -> bytes:
        """UTF-16 as UTF-8; half a sign at the end of the file becomes a byte that can't be decoded."""
        assert self._decoder is not None  # noqa: S101  # only called when there is one
        text = self._decoder.decode(data).encode("utf-8", "surrogatepass")
        return text if data or not self._decoder.getstate()[0] else text + b"\xff"

    def _more(self) -> bytes:
        data = self._raw_block()
        self._ended = not data
        if self._decoder is not None:
            return self._narrow(data)
        return data

    def _blocks(self) -> Iterator[tuple[int, bytes | None, bool]]:
        """Whole lines with the number of the first and whether they are the last; None for a line without an end.

        Whoever reads a block leaves what is unfinished in `_unread` and the number of its line in `_line`.
        """
        while True:
            if not self._ended:
                self._unread += self._more()
            data = self._unread
            cut = len(data) if self._ended else data.rfind(b"\n") + 1
            if cut:
                rest = data[cut:]
                yield self._line, data[:cut], self._ended
                self._unread += rest
            elif len(data) > MAX_ROW:
                yield self._line, None, False
                self._skip_line()
            if self._ended and not self._unread:
                return

    def _skip_line(self) -> None:
        while not self._ended:
            data = self._more()
            end = data.find(b"\n")
            if end >= 0:
                self._unread = data[end + 1 :]
                self._line += 1
                return
        self._unread = b""

    # -- rows -----------------------------------------------------------------------------------------------------

    def _records(self, data: bytes, line: int, *, last: bool) -> Iterator[_Record]:
        """The records of whole lines, blank ones without cells. What is unfinished stays in `_unread`."""
        self._unread = b""
        self._line = line + data.count(b"\n")
        lines = BytesIO(data).readlines()
        feed = _Feed(lines)
        reader = csv.reader(feed, delimiter=self.delimiter, strict=True)
        delimiter = self.delimiter.encode()
        while feed.at < len(lines):
            start = feed.at
            raw = lines[start]
            if b'"' not in raw:
                feed.at += 1
                bare = raw.rstrip(b"\r\n")
                cells = bare.split(delimiter) if bare else []
                yield self._record(line + start, raw, cells, _RETURN if b"\r" in bare else None)
                continue
            try:
                texts = next(reader)
            except _Unfinished:
                whole = b"".join(lines[start:])
                if not last and len(whole) <= MAX_ROW:
                    self._unread, self._line = whole, line + start
                    return
                texts = None
            except csv.Error:
                texts = None
            if texts is None:
                feed.at = start + 1
                reader = csv.reader(feed, delimiter=self.delimiter, strict=True)
                yield self._record(line + start, raw, (), _QUOTES)
                continue
            if feed.at > start + 1:
                raw = b"".join(lines[start : feed.at])
            yield self._record(line + start, raw, [text.encode("latin-1") for text in texts], None)

    def _record(self, line: int, raw: bytes, cells: Sequence[bytes], problem: str | None) -> _Record:
        encoding = "ascii" if raw.isascii() else self._encoding(raw)
        if len(raw) > MAX_ROW:
            problem = _LONG
        elif b"\0" in raw:
            problem = _NUL
        elif encoding is None:
            problem = _UNDECODABLE
        elif problem is None and cells and self.width and len(cells) != self.width:
            problem = self._wrong_width(len(cells))
        return _Record(line, raw, cells, encoding or "", problem)

    def _encoding(self, raw: bytes) -> str | None:
        for name in ("utf-8",) if self._utf8 else ("utf-8", "cp1252"):
            try:
                raw.decode(name)
            except UnicodeDecodeError:
                continue
            self._utf8 = self._utf8 or name == "utf-8"
            return name
        return None

    def _whole_batch(self, line: int, data: bytes) -> Batch | None:
        """A block taken apart in one go; None where something in it needs care row by row."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if b"\0" in data:
            return None
        if b'"' in data:
            batch = self._quoted_batch(line, data, text)
        elif data.count(b"\r") == data.count(b"\r\n") + data.endswith(b"\r"):
            batch = self._plain_batch(line, data, text.replace("\r\n", "\n"))
        else:
            return None
        if batch is None or (len(data) > MAX_ROW and max(map(len, batch.raw)) > MAX_ROW):
            return None
        self._unread, self._line = b"", line + data.count(b"\n")
        self._utf8 = self._utf8 or not data.isascii()
        return batch

    def _plain_batch(self, line: int, data: bytes, text: str) -> Batch:
        column, width, delimiter = self.column, self.width, self.delimiter
        raw = BytesIO(data).readlines()
        texts = text.split("\n")[: len(raw)]
        addresses = [cells[column] if len(cells := text.split(delimiter)) == width else None for text in texts]
        if width == 1:
            addresses = [address if address and address != "\r" else None for address in addresses]
        broken: dict[int, str] = {}
        if None in addresses:
            for at, address in enumerate(addresses):
                if address is None and texts[at].strip("\r"):
                    broken[at] = self._wrong_width(texts[at].count(delimiter) + 1)
        return Batch(range(line, line + len(raw)), raw, addresses, broken)

    def _quoted_batch(self, line: int, data: bytes, text: str) -> Batch | None:
        column, width = self.column, self.width
        reader = csv.reader(StringIO(text, newline="\n"), delimiter=self.delimiter, strict=True)
        addresses: list[str | None] = []
        broken: dict[int, str] = {}
        ends = [0]
        try:
            for cells in reader:
                if len(cells) != width and cells:
                    broken[len(addresses)] = self._wrong_width(len(cells))
                addresses.append(cells[column] if len(cells) == width else None)
                ends.append(reader.line_num)
        except csv.Error:
            return None
        raw = BytesIO(data).readlines()
        starts = ends[:-1]
        if len(starts) < len(raw):
            raw = [b"".join(raw[start:end]) for start, end in pairwise(ends)]
        return Batch([line + start for start in starts], raw, addresses, broken)

    def _batch(self, records: Iterator[_Record]) -> Batch:
        lines: list[int] = []
        raw: list[bytes] = []
        addresses: list[str | None] = []
        broken: dict[int, str] = {}
        for one in records:
            if one.problem:
                broken[len(lines)] = one.problem
            lines.append(one.line)
            raw.append(one.raw)
            addresses.append(None if one.problem or not one.cells else one.cells[self.column].decode(one.encoding))
        return Batch(lines, raw, addresses, broken)

    def _wrong_width(self, found: int) -> str:
        return f"it has {found} column(s) instead of {self.width}"

    # -- how it is written ----------------------------------------------------------------------------------------

    def _sample(self) -> bytes:
        """Whole lines from the beginning, which stay unread."""
        data = self._unread[:_SAMPLE]
        return data if len(self._unread) <= _SAMPLE else data[: data.rfind(b"\n") + 1] or data

    def _named_delimiter(self) -> Sequence[str]:
        """The delimiter that the file names for Excel; that line belongs to the head."""
        found = _SEPARATOR.match(self._unread)
        if found is None:
            return ()
        self.head += self.original(found[0])
        self._unread = self._unread[found.end() :]
        self._line += 1
        return (found[1].decode(),)

    def _sniff(self, sample: bytes, delimiters: Sequence[str]) -> Sequence[_Record]:
        """Set delimiter and width; the records of the sample, blank lines left out."""
        unread, line = self._unread, self._line
        best: tuple[tuple[int, int, int], str, int, list[_Record]] | None = None
        for delimiter in delimiters:
            self.delimiter = delimiter
            found = [one for one in self._records(sample, line, last=True) if one.raw.strip()]
            widths = Counter(len(one.cells) for one in found if not one.problem)
            width, count = max(widths.items(), key=lambda each: each[1], default=(1, 0))
            with_address = sum(any(map(_has_address, one.cells)) for one in found if len(one.cells) == width > 1)
            score = (with_address, count if width > 1 else 0, width)
            if best is None or score > best[0]:
                best = score, delimiter, width, found
        assert best is not None  # noqa: S101  # there is a delimiter
        _, self.delimiter, self.width, records = best
        self._unread, self._line = unread, line
        return records

    def _take_header(self, first: _Record, column: str | None) -> None:
        if first.problem or len(first.cells) != self.width:
            return
        names = tuple(cell.decode(first.encoding).strip() for cell in first.cells)
        if any("@" in name for name in names) and _position(names, column) is None:
            return
        self.columns = names
        before = self._unread.find(first.raw) + len(first.raw)
        self.head += self.original(self._unread[:before])
        self._unread = self._unread[before:]
        self._line = first.line + first.raw.count(b"\n")

    def _find_column(self, found: Sequence[_Record], column: str | None, also: Sequence[str]) -> int:
        known = f"the columns are {', '.join(self.columns)}" if self.columns else "there is no header"
        if column is not None:
            at = _position(self.columns, column)
            if at is None and column.isascii() and column.isdigit() and 0 < int(column) <= self.width:
                at = int(column) - 1
            if at is None:
                raise ConsentKitError(f"no column is called {column!r}: {known}")
            return at
        for names in (EMAIL_NAMES, also):
            for at, name in enumerate(self.columns):
                if re.sub(r"[\s_-]", "", name.casefold()) in names:
                    return at
        rows = [one for one in found if not one.problem and len(one.cells) == self.width]
        for at in range(self.width):
            cells = [one.cells[at].decode(one.encoding) for one in rows if _is_address(one.cells[at], one.encoding)]
            if cells:
                _refuse_unknown_delimiter(cells, at)
                return at
        if not found:
            return 0
        raise ConsentKitError(f"no column holds addresses: name it, or give its number ({known})")


def inert(cell: str) -> str:
    """A cell that a spreadsheet takes for text, and computes nothing of."""
    return f"'{cell}" if cell.startswith(_COMPUTED) else cell


def _position(names: Sequence[str], wanted: str | None) -> int | None:
    folded = [name.casefold() for name in names]
    return folded.index(wanted.strip().casefold()) if wanted and wanted.strip().casefold() in folded else None


def _has_address(cell: bytes) -> bool:
    return b"@" in cell and _LIKE_ADDRESS.match(cell.decode("latin-1").strip()) is not None


def _is_address(cell: bytes, encoding: str) -> bool:
    if b"@" not in cell:
        return False
    try:
        canonical(cell.decode(encoding))
    except AddressError:
        return False
    return True


def _refuse_unknown_delimiter(cells: Sequence[str], at: int) -> None:
    """Two columns must not be taken for one address: nobody would find out who left.

    Raises:
        ConsentKitError: one sign stands in every address.
    """
    local_parts = [cell.rpartition("@")[0] for cell in cells]
    sign = next((sign for sign in _MAYBE_DELIMITERS if all(sign in local for local in local_parts)), None)
    if sign is not None:
        raise ConsentKitError(
            f'"{sign}" stands before every address, so it may be what parts the columns: save the file with commas, '
            f"semicolons, tabs or bars, or write sep={sign} in its first line. If these are whole addresses, "
            f"say --column {at + 1}"
        )


def _is_wide(line: bytes) -> bool:
    """Whether a line can only be UTF-8."""
    if line.isascii():
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

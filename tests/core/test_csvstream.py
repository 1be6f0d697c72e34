"""Files of contacts as they come: any encoding, delimiter and habit, read row by row in little memory."""

from __future__ import annotations

import csv
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consentkit.csvstream import MAX_ROW, Broken, Row, Table
from consentkit.errors import ConsentKitError
from tests.pipe import Pipe

ROWS = [("1", "Jan Jansen", "jan@school.nl"), ("2", "Zoë de Wit", "zoe@school.nl")]


def opened(data: bytes, column: str | None = None) -> Table:
    return Table.open(io.BytesIO(data), column=column)


def read(data: bytes, column: str | None = None) -> list[Row | Broken]:
    return [*opened(data, column).rows()]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_every_dialect_and_encoding_reads_alike(delimiter: str, end: str, encoding: str) -> None:
    lines = ["id,naam,e-mail", *(",".join(row) for row in ROWS)]
    text = end.join(line.replace(",", delimiter) for line in lines) + end
    data = ("\ufeff" + text if encoding == "utf-16-be" else text).encode(encoding)

    table = opened(data)

    assert (table.columns, table.column, table.delimiter) == (("id", "naam", "e-mail"), 2, delimiter)
    assert [*table.rows()] == [Row(2, list(ROWS[0])), Row(3, list(ROWS[1]))]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("naam,email", 1),
        ("E-Mail,naam", 0),
        ("naam,EMAIL", 1),
        ("naam,E-mailadres", 1),
        ("naam,Mail", 1),
        ("naam,E-mail Address", 1),
        ("naam,e_mail", 1),
        ("naam,contact", 1),
    ],
)
def test_the_address_column_is_found_by_its_name_or_by_what_stands_in_it(header: str, column: int) -> None:
    cells = ["Jan", "Jan"]
    cells[column] = "jan@school.nl"

    table = opened(f"{header}\n{','.join(cells)}\n".encode())

    assert (bool(table.columns), table.column) == (True, column)


def test_without_a_header_the_first_row_is_a_row() -> None:
    table = opened(b"1,jan@school.nl,Jan\n2,zoe@school.nl,Zo\n")

    assert (table.columns, table.column, table.head) == ((), 1, b"")
    assert [*table.rows()] == [Row(1, ["1", "jan@school.nl", "Jan"]), Row(2, ["2", "zoe@school.nl", "Zo"])]


def test_addresses_alone_are_a_file_too() -> None:
    assert read(b"jan@school.nl\n\nzoe@school.nl") == [Row(1, ["jan@school.nl"]), Row(3, ["zoe@school.nl"])]


@pytest.mark.parametrize(("column", "expected"), [("Ouder 2", 1), ("ouder 2", 1), ("2", 1), ("1", 0)])
def test_a_column_can_be_named_or_numbered(column: str, expected: int) -> None:
    assert opened(b"ouder 1,ouder 2\njan@school.nl,zoe@school.nl\n", column).column == expected


@pytest.mark.parametrize(
    ("data", "column", "expected"),
    [
        (b"naam,email\nJan,jan@x.nl\n", "mobiel", "no column is called 'mobiel': the columns are naam, email"),
        (b"jan@x.nl,Jan\n", "mobiel", "no column is called 'mobiel': there is no header"),
        (b"naam,plaats\nJan,Utrecht\n", None, "no column holds addresses: name it, or give its number "
         "(the columns are naam, plaats)"),
    ],
)  # fmt: skip
def test_no_such_column_is_said_without_quoting_a_row(data: bytes, column: str | None, expected: str) -> None:
    with pytest.raises(ConsentKitError) as refused:
        opened(data, column)

    assert str(refused.value) == expected


@pytest.mark.parametrize("sign", "^~#/!$%&*=?`{}")
def test_a_delimiter_that_is_not_known_is_named_and_no_two_columns_are_taken_for_an_address(sign: str) -> None:
    told = (
        f'"{sign}" stands before every address, so it may be what parts the columns: save the file with commas, '
        f"semicolons, tabs or bars, or write sep={sign} in its first line. If these are whole addresses, say --column "
    )
    rows = f"Jan{sign}jan@school.nl\n{sign}zoe@school.nl\n"

    for text, column in (
        (rows, 1), (f"naam{sign}email\n{rows}", 1), (f"email{sign}jan@school.nl\n", 1), (f"Jansen, J{rows}", 2),
    ):  # fmt: skip
        with pytest.raises(ConsentKitError) as refused:
            opened(text.encode())
        assert str(refused.value) == f"{told}{column}"
    assert opened(rows.encode(), "1").column == 0
    named = opened(f"sep={sign}\n{rows}".encode())
    assert (named.delimiter, named.column, named.width) == (sign, 1, 2)


def test_one_address_with_an_odd_sign_among_others_is_an_address() -> None:
    assert len(read(b"m&m@school.nl\njan@school.nl\n")) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("sign", [";", "\t", "^"])
@pytest.mark.parametrize("names", ["naam,e-mail", "id,naam,e-mail"])
def test_the_line_in_which_excel_names_the_delimiter_swallows_no_header(encoding: str, sign: str, names: str) -> None:
    cells = ["1", "Zoë", "zoe@school.nl"][-names.count(",") - 1 :]
    head = f"sep={sign}\r\n{names.replace(',', sign)}\r\n"
    data = (head + sign.join(cells) + "\r\n").encode(encoding)

    table = opened(data)

    assert (table.columns, table.delimiter) == (tuple(names.split(",")), sign)
    assert (table.column, table.head) == (len(cells) - 1, head.encode(encoding))
    assert [*table.rows()] == [Row(3, cells)]


def test_an_empty_file_has_no_rows() -> None:
    assert read(b"") == []
    assert read(b"\xef\xbb\xbf") == []
    assert read(b"email\n") == []


def test_quotes_hold_delimiters_quotes_and_line_ends() -> None:
    data = b'email,note\r\n"jan@x.nl","a, ""b""\r\nc"\r\nzoe@x.nl,d\r\n'

    assert read(data) == [Row(2, ["jan@x.nl", 'a, "b"\r\nc']), Row(4, ["zoe@x.nl", "d"])]


def test_a_broken_row_is_told_by_line_and_the_rest_goes_on() -> None:
    rows = [
        b"email,naam",
        b"a@x.nl,A",
        b"b@x.nl,B,C",
        b'"c@x.nl"C,C',
        b"d@x.nl,\0",
        b"e@x.nl,\xff\xfe",
        b"f@x.nl",
        b"g@x.nl,G\rH",
        b"h@x.nl,Zo\xc3\xab",
        b"i@x.nl," + b"I" * MAX_ROW,
        b"",
        b"j@x.nl,J",
        b'k@x.nl,"K',
        b"l@x.nl,L",
    ]

    assert read(b"\n".join(rows)) == [
        Row(2, ["a@x.nl", "A"]),
        Broken(3, "it has 3 column(s) instead of 2"),
        Broken(4, "its quotes are wrong"),
        Broken(5, "it holds a NUL"),
        Broken(6, "the text can't be decoded"),
        Broken(7, "it has 1 column(s) instead of 2"),
        Broken(8, "it holds a carriage return outside quotes"),
        Row(9, ["h@x.nl", "Zoë"]),
        Broken(10, "it is longer than 131,072 bytes"),
        Row(12, ["j@x.nl", "J"]),
        Broken(13, "its quotes are wrong"),
        Row(14, ["l@x.nl", "L"]),
    ]


def test_a_quote_that_nobody_closes_swallows_no_more_than_its_own_row() -> None:
    data = b'email,naam\na@x.nl,"A\n' + b"".join(b"b%d@x.nl,B\n" % n for n in range(40_000))

    found = read(data)

    assert found[0] == Broken(2, "its quotes are wrong")
    assert found[1:] == [Row(n + 3, [f"b{n}@x.nl", "B"]) for n in range(40_000)]


def test_a_line_without_an_end_is_one_broken_row() -> None:
    data = b"email,naam\na@x.nl,A\n" + b"x" * 3 * MAX_ROW + b"\nb@x.nl,B\n" + b"y" * 3 * MAX_ROW

    assert read(data) == [
        Row(2, ["a@x.nl", "A"]),
        Broken(3, "it is longer than 131,072 bytes"),
        Row(4, ["b@x.nl", "B"]),
        Broken(5, "it is longer than 131,072 bytes"),
    ]


def test_half_a_sign_at_the_end_of_utf_16_breaks_only_its_row() -> None:
    data = "email\na@x.nl\nb@x.nl".encode("utf-16")[:-1]

    assert read(data) == [Row(2, ["a@x.nl"]), Broken(3, "the text can't be decoded")]


def test_windows_1252_is_only_a_way_out() -> None:
    """In a file that holds UTF-8, other bytes are a broken row and no other letters."""
    assert read("email,naam\na@x.nl,Zoë\n".encode() + b"b@x.nl,Zo\xeb\n") == [
        Row(2, ["a@x.nl", "Zoë"]),
        Broken(3, "the text can't be decoded"),
    ]


@pytest.mark.parametrize("row", [b"%d,jan%d@x.nl,%s\n", b'%d,jan%d@x.nl,"Jan, ""J\n%s"""\n'], ids=["plain", "quoted"])
def test_memory_does_not_grow_with_the_file(row: bytes) -> None:
    rows = 40_000
    source = io.BufferedReader(Pipe(row % (n, n, b"Jansen " * 10) for n in range(rows)))
    tracemalloc.start()
    try:
        table = Table.open(source)
        count = sum(len(batch.raw) for batch in table.batches())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == rows
    assert table.bytes_read > 3_000_000
    assert peak < 2_000_000


CELL = st.text(st.sampled_from("ab ,;\t|\"'\n\r\u00e9\u20ac=@"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=30), st.sampled_from([",", ";", "\t", "|"]), st.booleans())
def test_what_a_csv_writer_wrote_is_read_back(cells: list[tuple[str, str]], delimiter: str, wide: bool) -> None:
    rows = [("x@x.nl", "1", "")] * 40 + [("jan@x.nl", *pair) for pair in cells]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("email", "a", "b"), *rows])

    found = read(text.getvalue().encode("utf-16" if wide else "utf-8"))

    assert [tuple(row.cells) for row in found if isinstance(row, Row)] == rows

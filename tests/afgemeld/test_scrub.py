"""A list for another mailing tool comes out without those who left, and otherwise byte for byte as it was."""

from __future__ import annotations

import csv
import io
import logging
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consentkit.address import AddressKeys, canonical
from consentkit.afgemeld import Afgemeld, Reason, Suppression
from consentkit.afgemeld.scrub import Report, _spelled, scrub
from consentkit.errors import AddressError, AfgemeldUnavailable, ConsentKitError
from consentkit.store import Store
from tests.pipe import Pipe

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OLD = b"k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"
NEW = b"w4Rz8Kc1Yh6Bv3Mx9Td5Ng2Qj7Pf0LsE"
Told = list[tuple[int, str]]
SUPPRESSED = "suppressed"
INVALID = "no address that mail could be sent to"
DUPLICATE = "an address that stands further up"


def ledger_of(url: str, folder: Path, *keys: bytes) -> Afgemeld:
    return Afgemeld(Store(url), AddressKeys(keys), tombstones=folder / "tombstones", clock=lambda: NOW)


@dataclass
class Run:
    """What a run wrote and told."""

    out: bytes
    report: Report
    told: Told = field(default_factory=list)


def run(ledger: Afgemeld, data: bytes, *, list: str | None = None, column: str | None = None) -> Run:
    sink = io.BytesIO()
    told: Told = []
    report = scrub(
        ledger, io.BytesIO(data), sink, list=list, column=column, report=lambda line, why: told.append((line, why))
    )
    return Run(sink.getvalue(), report, told)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Afgemeld]:
    made = migrated(database_url, tmp_path)
    yield made
    made.close()
    made._store.close()


def migrated(url: str, folder: Path) -> Afgemeld:
    """A ledger in which some left: everything, all marketing, or one list."""
    made = ledger_of(url, folder, OLD)
    made._store.upgrade()
    for address, scope in (
        ("weg@school.nl", "marketing"),
        ("dood@school.nl", "mail"),
        ("lijst@school.nl", "list:nieuws"),
        ("weg@münchen.example", "marketing"),
    ):
        made.add_sync(address, scope=scope, reason="unsubscribe", channel="page")
    return made


def test_who_left_goes_out_and_everybody_else_stays_byte_for_byte(ledger: Afgemeld) -> None:
    data = (
        b"id,naam,email\r\n"
        b"1,Jan,jan@school.nl\r\n"
        b"2,Weg,weg@school.nl\r\n"
        b"3,Zo\xc3\xab,zoe@school.nl\r\n"
        b"4,Dood,dood@school.nl\r\n"
        b'5,"Jan, ""de"" tweede",  jan2@school.nl \r\n'
        b"6,Lijst,lijst@school.nl\r\n"
    )

    found = run(ledger, data)

    assert found.out == (
        b"id,naam,email\r\n"
        b"1,Jan,jan@school.nl\r\n"
        b"3,Zo\xc3\xab,zoe@school.nl\r\n"
        b'5,"Jan, ""de"" tweede",  jan2@school.nl \r\n'
    )
    assert found.told == [(3, SUPPRESSED), (5, SUPPRESSED), (7, SUPPRESSED)]
    assert found.report == Report(kept=3, suppressed=3)


def test_a_list_is_also_left_by_who_left_only_that_list(ledger: Afgemeld) -> None:
    data = b"lijst@school.nl\nweg@school.nl\njan@school.nl\n"

    assert run(ledger, data, list="nieuws").out == b"jan@school.nl\n"
    assert run(ledger, data, list="agenda").out == b"lijst@school.nl\njan@school.nl\n"
    assert run(ledger, data).out == b"jan@school.nl\n"  # nobody said which list it is for


def test_invalid_duplicate_and_broken_rows_go_out_with_line_and_reason(ledger: Afgemeld) -> None:
    data = (
        b"email;naam\n"
        b"jan@school.nl;Jan\n"
        b"JAN@School.NL;Jan in hoofdletters\n"
        b"Jan <jan3@school.nl>;met een naam\n"
        b";leeg\n"
        b"\n"
        b"a@x.nl;te;veel\n"
        b'b@x.nl;"met een\nregeleinde"\n'
        b'c@x.nl;"fout" aangehaald\n'
        b"piet@m\xc3\xbcnchen.example;Piet\n"
        b"piet@xn--mnchen-3ya.example;Piet nogmaals\n"
        b"WEG@XN--MNCHEN-3YA.example;weg in een andere spelling\n"
        b"d@x.nl;zonder regeleinde"
    )

    found = run(ledger, data)

    assert found.out == (
        b"email;naam\n"
        b"jan@school.nl;Jan\n"
        b"\n"
        b'b@x.nl;"met een\nregeleinde"\n'
        b"piet@m\xc3\xbcnchen.example;Piet\n"
        b"d@x.nl;zonder regeleinde"
    )
    assert found.told == [
        (3, DUPLICATE),
        (4, INVALID),
        (5, INVALID),
        (7, "it has 3 column(s) instead of 2"),
        (10, "its quotes are wrong"),
        (12, DUPLICATE),
        (13, SUPPRESSED),
    ]
    assert found.report == Report(kept=4, suppressed=1, invalid=2, duplicate=2, broken=2)
    assert found.report.rows == 11


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_dialect_and_encoding_comes_out_as_it_came_in(tmp_path: Path, delimiter: str, encoding: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    lines = ["naam,email", "Zoë,zoe@school.nl", "Weg,Weg@School.nl", "€,weg@münchen.example", "Jan,jan@school.nl"]
    spelled = [line.replace(",", delimiter) + "\r\n" for line in lines]
    ledger = migrated(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)

    out = run(ledger, (mark + "".join(spelled)).encode(encoding)).out

    assert out == (mark + spelled[0] + spelled[1] + spelled[4]).encode(encoding)
    ledger._store.close()


def test_formulas_pass_untouched(tmp_path: Path) -> None:
    ledger = migrated(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)
    data = b'email,naam\njan@school.nl,=1+1\n+jan@school.nl,@SUM(A1)\nzoe@school.nl,"-2+3"\n'

    assert run(ledger, data).out == data
    ledger._store.close()


def test_two_columns_of_addresses_are_told_apart_by_name(tmp_path: Path) -> None:
    ledger = migrated(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)
    data = b"ouder 1,ouder 2\njan@school.nl,weg@school.nl\nweg@school.nl,zoe@school.nl\n"

    assert run(ledger, data, column="ouder 2").out == b"ouder 1,ouder 2\nweg@school.nl,zoe@school.nl\n"
    ledger._store.close()


def test_who_left_under_an_older_key_or_by_a_short_token_goes_out_too(ledger: Afgemeld, tmp_path: Path) -> None:
    half = ledger.keys.digest("half@school.nl")[:16]
    with ledger.changing() as change:
        change.add([Suppression(half, ledger.keys.newest.id, "marketing", Reason.REPLY, "mailto", NOW)])
    both = Afgemeld(ledger._store, AddressKeys([NEW, OLD]), tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    both.add_sync("nieuw@school.nl", scope="marketing", reason="unsubscribe", channel="page")
    data = b"weg@school.nl\nhalf@school.nl\njan@school.nl\nnieuw@school.nl\nJan@school.nl\nweg@school.nl\n"

    found = run(both, data)

    assert found.out == b"jan@school.nl\n"
    assert found.told == [
        (1, SUPPRESSED), (2, SUPPRESSED), (4, SUPPRESSED), (5, DUPLICATE), (6, SUPPRESSED),
    ]  # fmt: skip
    both.close()


def test_a_wrong_key_writes_nothing(ledger: Afgemeld, tmp_path: Path) -> None:
    wrong = Afgemeld(ledger._store, AddressKeys([NEW]), tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    none = Afgemeld(ledger._store, None, tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    sink = io.BytesIO()

    for refused in (wrong, none):
        with pytest.raises(AfgemeldUnavailable):
            scrub(refused, io.BytesIO(b"email\njan@school.nl\n"), sink)

    assert sink.getvalue() == b""


def test_a_database_that_is_away_writes_nothing(tmp_path: Path) -> None:
    away = ledger_of(f"sqlite:///{tmp_path / 'none' / 'x.db'}", tmp_path, OLD)
    sink = io.BytesIO()

    with pytest.raises(AfgemeldUnavailable):
        scrub(away, io.BytesIO(b"email\njan@school.nl\n"), sink)

    assert sink.getvalue() == b""


def test_a_file_without_addresses_writes_nothing(tmp_path: Path) -> None:
    ledger = migrated(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)
    sink = io.BytesIO()

    with pytest.raises(ConsentKitError, match="no column holds addresses"):
        scrub(ledger, io.BytesIO(b"naam,plaats\nJan,Utrecht\n"), sink)

    assert sink.getvalue() == b""
    ledger._store.close()


def test_nothing_that_is_told_or_logged_holds_an_address(
    ledger: Afgemeld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    data = (
        b'email,n\nweg@school.nl,a\nJan <j@school.nl>,b\n"k@school.nl"x,c\n'
        b"l@school.nl,d,e\nm@school.nl,f\nM@school.nl,g\n"
    )

    found = run(ledger, data)

    said = repr(found.report) + repr(found.told) + caplog.text + "".join(capfd.readouterr())
    assert len(found.told) == 5
    assert "@" not in said
    assert "school" not in said


def test_more_suppressed_than_one_page_of_the_table_holds(ledger: Afgemeld) -> None:
    key = ledger.keys.newest
    gone = [f"weg{n}@school.nl" for n in range(12_000)]
    with ledger.changing() as change:
        change.add([
            Suppression(ledger.keys.digest(one), key.id, scope, Reason.IMPORT, "import", NOW)
            for n, one in enumerate(gone)
            for scope in (["marketing", "mail"] if n % 3 else ["marketing"])
        ])  # fmt: skip
    data = "\n".join([*gone, *(f"jan{n}@school.nl" for n in range(500))]).encode()

    found = run(ledger, data)

    assert found.out.decode().split() == [f"jan{n}@school.nl" for n in range(500)]
    assert found.report == Report(kept=500, suppressed=12_000)


class Counting(io.RawIOBase):
    """A sink that only counts."""

    size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.size += len(data)
        return len(data)


def test_a_stream_is_never_whole_in_memory(tmp_path: Path) -> None:
    ledger = migrated(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)
    rows, long = 200_000, b"x" * 100
    source = io.BufferedReader(Pipe(b"jan%d@school.nl,%s\n" % (n, long) for n in range(rows)))
    sink = Counting()
    tracemalloc.start()
    try:
        report = scrub(ledger, source, sink)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert report == Report(kept=rows)
    assert sink.size > 23_000_000
    assert peak < 10_000_000  # 6.5 MB of strings, in which each address has 6 bytes, and a few blocks
    ledger._store.close()


# -- the same by a model that asks the table for each row ---------------------------------------------------------

POOL = (
    "jan@school.nl", "JAN@school.nl", " jan@school.nl", "jan.jansen+kind@school.nl", "zoe@münchen.example",
    "zoe@XN--mnchen-3ya.example", "weg@school.nl", "Weg@School.NL ", "dood@school.nl", "lijst@school.nl",
    "weg@münchen.example", "WEG@xn--mnchen-3ya.example", "a..b@school.nl", "Jan <jan@school.nl>", "", "jan@school",
    "jan@@school.nl", "x" * 65 + "@school.nl", "zoë@school.nl", "jan@school.nl\n", "j\nan@school.nl", "=jan@school.nl",
    "ⓙan@school.nl", "\u212aees@school.nl", "kees@school.nl", "jan@school.invalid", "jan@xn--a.nl", "jan@[127.0.0.1]",
)  # fmt: skip
NOTE = st.text(st.sampled_from('ab ,;"\r\né='), max_size=6)
BROKEN = (
    b"te,veel,kolommen,hier,en;nog;meer;ook\n", b"\0,\0;\n", b"\xff\xfe;\xff,\n", b'"fout" a,"b;"c\n', b"a\rb,c\rd;e\n",
)  # fmt: skip
ROW = st.one_of(st.tuples(st.sampled_from(POOL), NOTE), st.sampled_from([*BROKEN, b"\n", b"\r\n"]))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Afgemeld]:
    folder = tmp_path_factory.mktemp("scrub")
    made = migrated(f"sqlite:///{folder / 'x.db'}", folder)
    yield made
    made.close()
    made._store.close()


def refused(ledger: Afgemeld, address: str, seen: set[str]) -> bool:
    try:
        spelled = canonical(address)
        gone = ledger.look_up(address, list="nieuws") is not None or spelled in seen
    except AddressError:
        return True
    seen.add(spelled)
    return gone


@settings(deadline=None)
@given(st.lists(ROW, max_size=40), st.sampled_from(",;"), st.booleans())
def test_what_stays_is_what_a_look_up_a_row_lets_stay(
    standing: Afgemeld, rows: Sequence[tuple[str, str] | bytes], delimiter: str, quoted: bool
) -> None:
    style = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    raw: list[tuple[bytes, str | None]] = [(f"vast{n}@x.nl{delimiter}\n".encode(), f"vast{n}@x.nl") for n in range(50)]
    for row in rows:
        if isinstance(row, bytes):
            raw.append((row, None))
        else:
            text = io.StringIO(newline="")
            csv.writer(text, delimiter=delimiter, quoting=style).writerow(row)
            raw.append((text.getvalue().encode(), row[0]))
    head = f"email{delimiter}é\n".encode()
    seen: set[str] = set()
    expected = [
        data for data, address in raw
        if (data.strip() == b"" if address is None else not refused(standing, address, seen))
    ]  # fmt: skip

    found = run(standing, head + b"".join(data for data, _ in raw), list="nieuws")

    assert found.out == head + b"".join(expected)
    assert found.report.kept == len([data for data in expected if data.strip()])
    assert len(found.told) == len(raw) - len(expected)


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(POOL), st.text(st.sampled_from("aB1.@-+ \n\ré"), max_size=14)), max_size=20))
def test_addresses_taken_many_at_a_time_are_spelled_as_one_by_one(texts: list[str]) -> None:
    def one(text: str) -> bytes | None:
        try:
            return canonical(text).encode()
        except AddressError:
            return None

    assert _spelled(texts) == [one(text) for text in texts]

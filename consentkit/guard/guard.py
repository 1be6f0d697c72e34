"""Decides whether a message may leave, and makes it ready: asked per message, directly before it is handed over."""

from __future__ import annotations

import copy
import hashlib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import getaddresses, make_msgid, parseaddr
from typing import Any, Final, TypeVar

from consentkit.address import canonical
from consentkit.afgemeld import ONE_CLICK
from consentkit.errors import Suppressed, TokenError, UnguardedMail
from consentkit.guard.headers import LIST_HEADER, OWN, PURPOSE_HEADER, Stated
from consentkit.guard.watch import Watch
from consentkit.kit import ConsentKit

M = TypeVar("M", bound="Message[Any, Any]")

REMEMBERED: Final = 20_000
"""How many released service messages are known by sight; each is sent within moments."""

RESENT: Final = ("Resent-To", "Resent-Cc", "Resent-Bcc")
"""Mailers send to these, where a message has them, instead of to `To`, `Cc` and `Bcc`."""

_URI = re.compile(r"<(https?://[^<>\s]+)>")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True, repr=False)
class Cleared:
    """What may leave.

    Args:
        recipients: who may get it, as they were given. left_out: how many may not.
        headers: what to set on it. marketing: whether it is.
    """

    recipients: tuple[str, ...]
    left_out: int
    headers: Mapping[str, str]
    marketing: bool


class Guard:
    """Lets out what may be sent, and nothing else.

    A message says what it is: `X-Consentkit-List: nieuwsbrief`, or `X-Consentkit-Purpose: service` or `marketing`.
    One that says nothing is marketing if it carries what mailings carry (`List-Unsubscribe`, `List-Id`,
    `Feedback-ID`, `Precedence: bulk`).

    What is here blocks for as long as a look at the table takes. On an event loop: `asyncio.to_thread(guard.release,
    message)`.

    Args:
        kit: the app's.
        strict: refuse a message that does not say what it is, instead of taking it for a service message.
    """

    def __init__(self, kit: ConsentKit, *, strict: bool = False) -> None:
        self.kit = kit
        self.strict = strict
        self._released = _Memory(REMEMBERED)

    def release(self, message: M, recipients: Sequence[str] | None = None) -> M:
        """A copy of `message` that may be sent now, with the headers that it needs and without ours.

        Args:
            recipients: who gets it; default: whom its `To`, `Cc` and `Bcc` name.

        Raises:
            Suppressed: it would reach somebody who left. It does not say whom.
            UnguardedMail: it does not say what it is (strict), says it wrongly, is marketing to several at once, or is
                resent (RFC 5322 section 3.6.6): whom `Resent-To` names, and not `To`, would get it.
            AddressError: a recipient is no address.
            AfgemeldUnavailable: nobody can tell who left; nothing may be sent.
        """
        if any(name in message for name in RESENT):
            raise UnguardedMail(f"a message that is resent goes to others than its To says: take {RESENT[0]} off")
        cleared = self.clear(message.items(), _recipients(message) if recipients is None else recipients)
        if cleared.left_out:
            raise Suppressed(f"{cleared.left_out} recipient(s) of this message left; it was not sent")
        released = copy.copy(message)
        for name in (*OWN, *cleared.headers):
            del released[name]  # makes a new list of headers, so that the copy shares none with its original
        for name, value in cleared.headers.items():
            released[name] = value
        if not cleared.marketing:
            self.remember(_identified(released), cleared.recipients)
        return released

    def clear(self, headers: Iterable[tuple[str, object]], recipients: Sequence[str]) -> Cleared:
        """Decide about a message that is not built yet.

        Raises:
            UnguardedMail, AddressError, AfgemeldUnavailable: as `release`. Who left is counted instead.
        """
        stated = Stated.read(headers)
        if not recipients:
            raise UnguardedMail("a message goes to somebody: it has no recipient")
        if stated.marketing:
            return self._marketing(stated, recipients)
        if self.strict and not stated.declared:
            raise UnguardedMail(
                f"the message does not say what it is: set {PURPOSE_HEADER} to service, or {LIST_HEADER} to its list"
            )
        look_up = self.kit.afgemeld.look_up
        may = tuple(one for one in recipients if look_up(_bare(one), service=True) is None)
        return Cleared(may, len(recipients) - len(may), {}, marketing=False)

    def _marketing(self, stated: Stated, recipients: Sequence[str]) -> Cleared:
        if len(recipients) != 1:
            raise UnguardedMail(
                f"marketing goes to one recipient a message, not to {len(recipients)}: each reader needs a link of "
                "their own to leave with"
            )
        if stated.list is not None:
            self._check_list(stated.list)
        address = _bare(recipients[0])
        if self._left(address, stated):
            return Cleared((), 1, {}, marketing=True)
        made = self.kit.list_unsubscribe_headers(address, list=stated.list)
        return Cleared(tuple(recipients), 0, made, marketing=True)

    def _check_list(self, list: str) -> None:
        lists = self.kit.settings.lists
        if list not in lists:  # a slip of the pen would ask about a list that nobody can have left
            raise UnguardedMail(f"{LIST_HEADER} names no list of the configuration: [lists] has {', '.join(lists)}")
        if lists[list].pupils:
            raise UnguardedMail(f"the list {list} has pupils on it, and no mailing ever goes to them")

    def _left(self, address: str, stated: Stated) -> bool:
        if not stated.declared:  # which list it belongs to nobody said, so it could be any that they left
            return bool(self.kit.afgemeld.all_of(address))
        return self.kit.afgemeld.look_up(address, list=stated.list) is not None

    def remember(self, message_id: str, recipients: Iterable[str]) -> None:
        """Know a released service message again when it is handed over."""
        self._released.add(_sight(message_id, one) for one in recipients)

    # -- the watch ----------------------------------------------------------------------------------------------

    def watch(self) -> Watch:
        """Refuse, in this process, what goes round the guard, until `undo()` or the end of a `with` block.

        Looks at what is handed to `smtplib` and `aiosmtplib`, through which Django and FastAPI-Mail send. Marketing
        passes with a link of ours for exactly its recipient, who is looked up once more at that moment. Anything else
        passes if it was released in this process; where the guard is not strict, also if it says nothing at all.

        Raises:
            RuntimeError: mail is being watched already.
        """
        return Watch(self.check)

    def check(self, message: str | bytes, recipients: Sequence[str]) -> None:
        """What the watch does with each message.

        Raises:
            UnguardedMail: it did not pass the guard.
            Suppressed: it did, and since then somebody left.
            AddressError, AfgemeldUnavailable: as `release`.
        """
        raw = message.encode("utf-8", "surrogateescape") if isinstance(message, str) else message
        head = BytesHeaderParser().parsebytes(_HEAD_END.split(raw, maxsplit=1)[0] + b"\r\n\r\n")
        if any(name in head for name in OWN):
            raise UnguardedMail("a message went round the guard: send what Guard.release gives back")
        message_id = "" if "List-Unsubscribe" in head else str(head.get("Message-ID", ""))  # a mailing is no service
        if message_id and self._released.knows(_sight(message_id, one) for one in recipients):
            self._ask(recipients, service=True)
        elif Stated.read(head.items()).marketing:
            list = self._link(head, recipients)
            self._ask(recipients, list=list)
        elif self.strict:
            raise UnguardedMail(
                "a message went round the guard: send what Guard.release gives back, in the process that released it"
            )

    def _ask(self, recipients: Sequence[str], *, list: str | None = None, service: bool = False) -> None:
        if any(self.kit.afgemeld.look_up(_bare(one), list=list, service=service) for one in recipients):
            raise Suppressed("a recipient left after this message was made; it was not sent")

    def _link(self, head: Message[Any, Any], recipients: Sequence[str]) -> str | None:
        """The list that the message's own link leaves; a link of another person or another maker is none."""
        links = head.get_all("List-Unsubscribe", [])
        found = _URI.search(re.sub(r"[\r\n]+", "", str(links[0]))) if len(links) == 1 else None
        if found is None or head.get_all("List-Unsubscribe-Post") != [ONE_CLICK]:
            raise UnguardedMail(
                "a marketing message has no link to leave with, or a broken one: send what Guard.release gives back, "
                "or set kit.list_unsubscribe_headers on a message with consentkit.guard.POLICY"
            )
        try:
            leaving = self.kit.links.read(found[1].rpartition("/")[2])
        except TokenError:
            raise UnguardedMail("a marketing message carries a link that consentkit did not make") from None
        if len(recipients) != 1 or leaving.digest not in self.kit.afgemeld.keys.digests(_bare(recipients[0])):
            raise UnguardedMail("a marketing message carries the link of somebody else")
        return leaving.list


class _Memory:
    """What was seen, the latest so many of it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: dict[bytes, None] = {}
        self._turn = threading.Lock()

    def add(self, sights: Iterable[bytes]) -> None:
        with self._turn:
            for sight in sights:
                self._seen.pop(sight, None)
                self._seen[sight] = None
            while len(self._seen) > self._size:
                del self._seen[next(iter(self._seen))]

    def knows(self, sights: Iterable[bytes]) -> bool:
        with self._turn:
            return all(sight in self._seen for sight in sights)


def _sight(message_id: str, recipient: str) -> bytes:
    return hashlib.sha256(f"{message_id.strip()}\n{canonical(_bare(recipient))}".encode()).digest()


def _bare(text: str) -> str:
    """An address without the name before it."""
    return parseaddr(text)[1] or text


def _recipients(message: Message[Any, Any]) -> list[str]:
    named = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return list(dict.fromkeys(address for _, address in getaddresses(named) if address))


def _identified(message: Message[Any, Any]) -> str:
    """The message's id; it gets one if it has none."""
    if "Message-ID" not in message:
        domain = parseaddr(str(message.get("From", "")))[1].rpartition("@")[2]
        message["Message-ID"] = make_msgid(domain=domain if domain.isascii() and domain else "localhost")
    return str(message["Message-ID"])

"""The check before a mailing goes out. It reads the bytes that would leave, and nothing but what it is told to expect.

Nothing here depends on how a message was made: what a reader, a mail server and a mailbox provider get is what is
judged. An error keeps the mailing from going out; a warning asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from consentkit.mailing.preflight import domain
from consentkit.mailing.preflight.content import MOST_HTML, content, tracking
from consentkit.mailing.preflight.domain import DNSUnavailable, Lookup, lookup
from consentkit.mailing.preflight.emitted import Emitted
from consentkit.mailing.preflight.expected import Expected
from consentkit.mailing.preflight.finding import Finding, Note, error, header, told
from consentkit.mailing.preflight.headers import headers, lines, whole
from consentkit.mailing.preflight.promotion import Signal, promotion
from consentkit.render import load_texts
from consentkit.settings import is_local

__all__ = ["DNSUnavailable", "Expected", "Finding", "Lookup", "Signal", "blocks", "check", "lookup", "promotion"]


def check(
    samples: Sequence[tuple[bytes, Expected]],
    *,
    now: datetime | None = None,
    dns: bool = True,
    ask: Lookup = lookup,
    lang: str = "en",
) -> list[Finding]:
    """What stands in the way of a mailing, the worst first; the same finding in several samples is told once.

    Args:
        samples: messages as they would leave. Two or more of readers who did not agree to be measured and whose
            fields differ, so that links that tell who follows them come to light.
        now: aware. dns: whether to ask the DNS about the sender's domain; that takes up to three seconds.
        ask: how. lang: the language of the findings.

    Raises:
        KeyError: there are no texts in that language.
    """
    read = [(Emitted(payload), expected) for payload, expected in samples]
    moment = datetime.now(UTC) if now is None else now
    notes = [note for mail, expected in read for note in _one(mail, expected, moment)]
    notes += _repeated([mail for mail, _ in read])
    notes += tracking(read)
    if dns:
        notes += _domains([expected for _, expected in read], ask)
    return told(notes, load_texts(lang))


def blocks(findings: Iterable[Finding]) -> bool:
    """Whether the mailing may not go out."""
    return any(finding.level == "error" for finding in findings)


def _one(mail: Emitted, expected: Expected, now: datetime) -> Iterator[Note]:
    yield from lines(mail)
    yield from whole(mail, expected, MOST_HTML)
    yield from headers(mail, expected, now)
    yield from content(mail, expected)


def _repeated(mails: Sequence[Emitted]) -> Iterator[Note]:
    """A Message-ID is given to one message only (RFC 5322 section 3.6.4)."""
    ids = [mail.value("message-id") for mail in mails if mail.all("message-id")]
    if len(set(ids)) < len(ids):
        yield error("message-id-repeated", header("Message-ID"))


def _domains(expectations: Iterable[Expected], ask: Lookup) -> Iterator[Note]:
    """Each sender once; the DNS knows nothing of this machine and of `.test`."""
    senders = {(one.domain, one.envelope_domain): one.keys for one in expectations if not is_local(one.domain)}
    for (sender, envelope), keys in senders.items():
        yield from domain.notes(sender, envelope, keys, ask)

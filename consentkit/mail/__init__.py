"""The way a message leaves the building: what one is, how it is spelled as bytes, and the server that takes it."""

from consentkit.mail.message import MAX_LINE, Message
from consentkit.mail.pool import Wire
from consentkit.mail.smtp import (
    Encryption,
    Envelope,
    MailDeferred,
    Mailer,
    MailError,
    MailRefused,
    MailUnavailable,
    MemoryMailer,
    Server,
    SMTPMailer,
    Stage,
    encryption,
    is_loopback,
)

__all__ = [
    "MAX_LINE",
    "Encryption",
    "Envelope",
    "MailDeferred",
    "MailError",
    "MailRefused",
    "MailUnavailable",
    "Mailer",
    "MemoryMailer",
    "Message",
    "SMTPMailer",
    "Server",
    "Stage",
    "Wire",
    "encryption",
    "is_loopback",
]

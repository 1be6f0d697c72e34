"""What providers post about mail that came back: proven to be theirs, then read into reports. Nothing is stored here.

Each provider proves itself in its own way: Amazon with a certificate, Mailgun and the general form with an HMAC,
Postmark with a password. A request that can't is refused, and none of it is believed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from consentkit.afgemeld.head import LONG_TOKEN, distinct
from consentkit.afgemeld.links import BOUNCE_TOKEN
from consentkit.errors import ConsentKitError, SettingsError
from consentkit.mailing.bounces import Kind, Report, failed
from consentkit.settings import Settings, Webhook

log = logging.getLogger("consentkit.mailing")

MAX_BODY: Final = 512 * 1024
"""Amazon's largest message has 256 KB; a bounce in full with Postmark is larger, and not needed."""

SIGNATURE: Final = "consentkit-signature"
WINDOW: Final = timedelta(minutes=5)
"""How far the time of a request in the general form may be off: whoever signs signs each try again."""

LATE: Final = timedelta(days=1)
"""How old a message of Amazon or Mailgun may be: they try again for hours, with what they signed first."""

_FETCH_SECONDS: Final = 5.0
_MAX_FETCHED: Final = 64 * 1024
_CERTIFICATES: Final = 8
_MAX_EVENTS: Final = 1_000
_OUR_ID = re.compile(r"<?(\d{1,18})\.(\d{1,12})\.(\d{1,18})@", re.ASCII)

Headers = Mapping[str, str]
Fetch = Callable[[str], bytes]


class WebhookRefused(ConsentKitError):
    """A request that can't be taken: `status` is the HTTP status to answer. The sentence quotes nothing of it."""

    def __init__(self, sentence: str, *, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Hook(Protocol):
    """One provider."""

    def read(self, headers: Headers, body: bytes, now: datetime) -> Sequence[Report]:
        """What a request says, once it has proved whose it is.

        Args:
            headers: by their names in lower case.

        Raises:
            WebhookRefused: it can't prove it, or can't be read.
        """


def hooks(settings: Settings, fetch: Fetch | None = None) -> Mapping[str, Hook]:
    """The providers that the configuration names.

    Args:
        fetch: gives what stands at an https address of Amazon's; for tests.

    Raises:
        SettingsError: one needs a library that isn't there.
    """
    return {
        name: _hook(name, table, settings.webhook_secrets.get(name, ""), fetch or fetch_bounded)
        for name, table in settings.mailing.webhooks.items()
    }


def _hook(name: str, table: Webhook, secret: str, fetch: Fetch) -> Hook:
    match table.kind:
        case "ses":
            try:
                import cryptography  # noqa: F401, PLC0415  # an extra
            except ImportError as error:
                problem = f"{name} needs cryptography: run `pip install 'consentkit[dkim]'`"
                raise SettingsError([problem], source="mailing.webhooks") from error
            return Ses(table.topic, fetch)
        case "postmark":
            return Postmark(secret)
        case "mailgun":
            return Mailgun(secret)
    return Generic(secret)


# -- the general form -----------------------------------------------------------------------------------------------


class Generic:
    """Signed JSON: HMAC-SHA-256 of `<time>.<body>` in `Consentkit-Signature: t=<seconds>,v1=<hex>`."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def read(self, headers: Headers, body: bytes, now: datetime) -> Sequence[Report]:
        pairs = [part.strip().partition("=") for part in headers.get(SIGNATURE, "").split(",")[:10]]
        sent = next((value for name, _, value in pairs if name == "t"), "")
        wanted = hmac.digest(self._secret, sent.encode() + b"." + body, "sha256").hex()
        if not any(name == "v1" and _same(value, wanted) for name, _, value in pairs):
            raise _unproven()
        _timely(_seconds(sent), now, WINDOW)
        table = _table(body)
        events = table.get("events", [table])
        if not isinstance(events, list) or len(events) > _MAX_EVENTS:
            raise _unreadable()
        return [self._event(event) for event in events]

    def _event(self, event: Any) -> Report:
        id, kind = _text(event, "id"), _text(event, "kind")
        if not id or (kind and kind not in set(Kind)):
            raise _unreadable()
        status = _text(event, "status")
        if not kind or kind == Kind.HARD:
            found, status = failed(status, _text(event, "diagnostic"))
            kind = kind or found
        return _report(Kind(kind), status, id, address=_text(event, "address"), message_id=_text(event, "message_id"))


# -- Mailgun --------------------------------------------------------------------------------------------------------


class Mailgun:
    """Mailgun signs a time and a token of one use, and not what it says: so each token is taken once."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def read(self, headers: Headers, body: bytes, now: datetime) -> Sequence[Report]:
        table = _table(body)
        signature = _inner(table, "signature")
        sent, token = _text(signature, "timestamp"), _text(signature, "token")
        wanted = hmac.digest(self._secret, (sent + token).encode(), "sha256").hex()
        if not token or not _same(_text(signature, "signature"), wanted):
            raise _unproven()
        _timely(_seconds(sent), now, LATE)
        event = _inner(table, "event-data")
        kind, status = self._told(event)
        message_id = _text(_inner(_inner(event, "message"), "headers"), "message-id")
        return [_report(kind, status, token, address=_text(event, "recipient"), message_id=message_id)]

    def _told(self, event: Mapping[str, Any]) -> tuple[Kind, str]:
        match _text(event, "event"):
            case "complained":
                return Kind.COMPLAINT, ""
            case "unsubscribed":
                return Kind.LEFT, ""
            case "failed" if _text(event, "severity") == "permanent":
                answer = _inner(event, "delivery-status")
                words = f"{_text(answer, 'code')} {_text(answer, 'message')}"
                return failed(_text(answer, "enhanced-code"), words)
            case "failed":
                return Kind.DELAYED, ""
        return Kind.NOTHING, ""


# -- Postmark -------------------------------------------------------------------------------------------------------


class Postmark:
    """Postmark names itself by user and password (RFC 7617), which stand in the address that it posts to."""

    _KINDS: Final = {
        "HardBounce": Kind.HARD,
        "BadEmailAddress": Kind.HARD,
        "SoftBounce": Kind.SOFT,
        "Unknown": Kind.SOFT,
        "Transient": Kind.DELAYED,
        "DnsError": Kind.DELAYED,
        "Blocked": Kind.POLICY,
        "SpamNotification": Kind.POLICY,
        "VirusNotification": Kind.POLICY,
        "DMARCPolicy": Kind.POLICY,
        "SpamComplaint": Kind.COMPLAINT,
        "Unsubscribe": Kind.LEFT,
        "AutoResponder": Kind.AUTO_REPLY,
    }

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def read(self, headers: Headers, body: bytes, now: datetime) -> Sequence[Report]:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not _same(_from_base64(sent).decode("utf-8", "replace"), self._secret):
            raise _unproven()
        table = _table(body)
        kind, status = self._told(table)
        id = _text(table, "ID") or hashlib.sha256(body).hexdigest()
        return [_report(kind, status, f"{_text(table, 'RecordType')} {id}", address=_whom(table, "Email", "Recipient"))]

    def _told(self, table: Mapping[str, Any]) -> tuple[Kind, str]:
        match _text(table, "RecordType"):
            case "SpamComplaint":
                return Kind.COMPLAINT, ""
            case "SubscriptionChange":
                left = table.get("SuppressSending") is True and _text(table, "SuppressionReason") == "ManualSuppression"
                return (Kind.LEFT if left else Kind.NOTHING), ""
            case "Bounce":
                kind = self._KINDS.get(_text(table, "Type"), Kind.NOTHING)
                found, status = failed("", _text(table, "Details"))
                coded = status != "5.0.0"
                if kind is Kind.HARD and coded:
                    return found, status
                return kind, status if coded else ""
        return Kind.NOTHING, ""


# -- Amazon ---------------------------------------------------------------------------------------------------------


class Ses:
    """Amazon SES, which tells of bounces and complaints over SNS.

    Args:
        topic: the topic that may tell us something; anybody can make one of their own, which Amazon signs as well.
        fetch: gives what stands at an https address of Amazon's: a certificate, or the answer to a confirmation.
    """

    _SIGNED: Final = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    _TYPES: Final = {
        "Notification": frozenset({"SubscribeURL", "Token"}),
        "SubscriptionConfirmation": frozenset({"Subject"}),
        "UnsubscribeConfirmation": frozenset({"Subject"}),
    }
    """What is signed of each: everything of `_SIGNED` but this."""

    _CODES: Final = {
        "NoEmail": "5.1.1",
        "MailboxFull": "5.2.2",
        "MessageTooLarge": "5.3.4",
        "ContentRejected": "5.6.0",
        "AttachmentRejected": "5.6.1",
    }

    def __init__(self, topic: str, fetch: Fetch) -> None:
        _, partition, _, region, *_ = topic.split(":")
        self._topic = topic
        self._host = f"sns.{region}.amazonaws.com" + (".cn" if partition == "aws-cn" else "")
        self._fetch = fetch
        self._fetching = threading.Lock()
        self._keys: dict[str, Any] = {}

    def read(self, headers: Headers, body: bytes, now: datetime) -> Sequence[Report]:
        table = _table(body)
        kind = _text(table, "Type")
        if kind not in self._TYPES or not _same(_text(table, "TopicArn"), self._topic):
            raise _unproven()
        try:
            sent = datetime.fromisoformat(_text(table, "Timestamp"))
        except ValueError:
            raise _unproven() from None
        _timely(sent if sent.tzinfo else sent.replace(tzinfo=UTC), now, LATE)
        self._verify(table, kind, now)
        if kind == "SubscriptionConfirmation":
            self._get(_text(table, "SubscribeURL"))
            log.info("the subscription to the configured topic was confirmed")
            return []
        if kind == "UnsubscribeConfirmation":
            log.warning("the configured topic tells us nothing any more: somebody ended its subscription")
            return []
        return self._events(_table(_text(table, "Message").encode()), _text(table, "MessageId"))

    def _verify(self, table: Mapping[str, Any], kind: str, now: datetime) -> None:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA1, SHA256  # noqa: PLC0415

        made = {"1": SHA1(), "2": SHA256()}.get(_text(table, "SignatureVersion"))  # noqa: S303  # as Amazon has it
        if made is None:
            raise _unproven()
        names = [name for name in self._SIGNED if table.get(name) is not None and name not in self._TYPES[kind]]
        signed = "".join(f"{name}\n{_text(table, name)}\n" for name in names).encode()
        key = self._key(_text(table, "SigningCertURL"), now)
        try:
            key.verify(_from_base64(_text(table, "Signature")), signed, PKCS1v15(), made)
        except InvalidSignature:
            raise _unproven() from None

    def _key(self, url: str, now: datetime) -> Any:
        """The key of a certificate that is in force and speaks for SNS."""
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415  # an extra
        from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

        if url not in self._keys:
            try:
                certificate = load_pem_x509_certificate(self._get(url))
            except ValueError:
                raise _unproven() from None
            key = certificate.public_key()
            in_force = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
            if not in_force or not isinstance(key, RSAPublicKey):
                raise _unproven()
            if len(self._keys) >= _CERTIFICATES:
                self._keys.clear()
            self._keys[url] = (key, certificate.not_valid_after_utc)
        key, until = self._keys[url]
        if now > until:
            raise _unproven()
        return key

    def _get(self, url: str) -> bytes:
        """What stands at an address of our topic's own SNS; elsewhere under amazonaws.com anybody may put something.

        One at a time: who posts rubbish must not keep many threads waiting for Amazon.
        """
        if not url.startswith(f"https://{self._host}/") or not re.fullmatch(r"[!-~]{1,2000}", url):
            raise _unproven()
        if not self._fetching.acquire(blocking=False):
            raise WebhookRefused("something is being fetched from Amazon already", status=503)
        try:
            return self._fetch(url)
        finally:
            self._fetching.release()

    def _events(self, table: Mapping[str, Any], id: str) -> Sequence[Report]:
        mail = _inner(table, "mail")
        match _text(table, "notificationType") or _text(table, "eventType"):
            case "Bounce":
                bounce = _inner(table, "bounce")
                told = [(whom, *self._bounced(bounce, whom)) for whom in _list(bounce, "bouncedRecipients")]
            case "Complaint":
                complaint = _inner(table, "complaint")
                spam = _text(complaint, "complaintFeedbackType") != "not-spam"
                kind = Kind.COMPLAINT if spam else Kind.NOTHING
                told = [(whom, kind, "") for whom in _list(complaint, "complainedRecipients")]
            case _:
                return []
        written = {_text(header, "name").lower(): _text(header, "value") for header in _list(mail, "headers")}
        return [
            _report(
                kind,
                status,
                f"{id} {count}",
                address=_text(whom, "emailAddress"),
                message_id=written.get("message-id", ""),
                sender=_text(mail, "source"),
                links=written.get("list-unsubscribe", ""),
            )
            for count, (whom, kind, status) in enumerate(told)
        ]

    def _bounced(self, bounce: Mapping[str, Any], whom: Any) -> tuple[Kind, str]:
        status = _text(whom, "status") or self._CODES.get(_text(bounce, "bounceSubType"), "")
        kind, status = failed(status, _text(whom, "diagnosticCode"))
        if kind is Kind.HARD and _text(bounce, "bounceType") != "Permanent":
            kind = Kind.SOFT
        return kind, status


def fetch_bounded(url: str) -> bytes:
    """What stands at an https address: within seconds, of no more than 64 KB, and without following anybody elsewhere.

    Raises:
        WebhookRefused: it could not be fetched; who posts should try again.
    """
    parts = urlsplit(url)
    until = time.monotonic() + _FETCH_SECONDS
    connection = HTTPSConnection(parts.hostname or "", timeout=_FETCH_SECONDS, context=ssl.create_default_context())
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        answer = connection.getresponse()
        found = b""
        while answer.status == 200 and len(found) <= _MAX_FETCHED and time.monotonic() < until:
            chunk = answer.read1(_MAX_FETCHED)
            if not chunk:
                return found
            found += chunk
    except (OSError, HTTPException) as error:
        raise WebhookRefused("what Amazon signed with can't be fetched now", status=503) from error
    finally:
        connection.close()
    raise WebhookRefused("what Amazon signed with can't be fetched now", status=503)


# -- reading --------------------------------------------------------------------------------------------------------


def _report(
    kind: Kind,
    status: str,
    id: str,
    *,
    address: str,
    message_id: str = "",
    sender: str = "",
    links: str = "",
) -> Report:
    ours = _OUR_ID.match(message_id)
    return Report(
        kind,
        status[:16],
        id,
        bounce_tokens=tuple(distinct(token.lower() for token in BOUNCE_TOKEN.findall(sender[:1_000]))),
        leave_tokens=tuple(distinct(LONG_TOKEN.findall(links[:5_000]))),
        mailing=int(ours[1]) if ours else None,
        nonce=int(ours[3]) if ours else None,
        delivery=int(ours[2]) if ours else None,
        address=address,
    )


def _unproven() -> WebhookRefused:
    return WebhookRefused("a request can't prove whose it is; nothing of it was believed", status=403)


def _unreadable() -> WebhookRefused:
    return WebhookRefused("a request that is genuine can't be read", status=400)


def _same(sent: str, wanted: str) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "replace"), wanted.encode())


def _seconds(text: str) -> datetime:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        raise _unproven()
    return datetime.fromtimestamp(int(text), UTC)


def _timely(sent: datetime, now: datetime, most: timedelta) -> None:
    if abs(now - sent) > most:
        raise WebhookRefused("a request is too old, or a clock is wrong; nothing of it was believed", status=403)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _table(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise _unreadable() from None
    if not isinstance(found, dict):
        raise _unreadable()
    return found


def _inner(table: Any, name: str) -> Mapping[str, Any]:
    found = table.get(name) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}


def _list(table: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = table.get(name)
    return found[:_MAX_EVENTS] if isinstance(found, list) else []


def _text(table: Any, name: str) -> str:
    found = table.get(name) if isinstance(table, dict) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def _whom(table: Mapping[str, Any], *names: str) -> str:
    return next(filter(None, (_text(table, name) for name in names)), "")

"""What providers post: believed where they prove who they are, taken once, and anything else changes nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from consentkit.errors import SettingsError
from consentkit.mailing import webhooks
from consentkit.mailing.tables import deliveries, inbox, mailings
from consentkit.mailing.webhooks import MAX_BODY, Hook, Ses, WebhookRefused, fetch_bounded, hooks
from consentkit.newsletter.tables import subscribers
from consentkit.settings import Settings
from tests.newsletter import desk as desks
from tests.newsletter.desk import JAN

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECRET = "w4Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt"
PASSWORD = "postmark:Hn3Gm6Fd1Cak7Jw0uZ4sXq9Bv2Lr8Yt"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
SNS = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{SNS}/SimpleNotificationService-0123.pem"
OTHER = "ander@voorbeeld.nl"
TABLES = {
    "mailing": {
        "webhooks": {
            "own": {"kind": "generic"},
            "ses-main": {"kind": "ses", "topic": TOPIC},
            "postmark": {"kind": "postmark"},
            "mailgun": {"kind": "mailgun"},
        }
    },
    "webhook_secrets": {"own": SECRET, "postmark": PASSWORD, "mailgun": SECRET},
}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(*, start: datetime, days: int = 300) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=days))
    return made.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Request:
    """What a provider posts."""

    name: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)


def raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def own(body: Any, *, late: int = 0, secret: str = SECRET) -> Request:
    sent = str(int(NOW.timestamp()) + late)
    mark = hmac.new(secret.encode(), f"{sent}.".encode() + raw(body), hashlib.sha256).hexdigest()
    return Request("own", raw(body), {"consentkit-signature": f"t={sent},v1={mark}"})


def mailgun(event: Any, *, token: str = "t" * 50, late: int = 0, secret: str = SECRET) -> Request:
    sent = str(int(NOW.timestamp()) + late)
    mark = hmac.new(secret.encode(), (sent + token).encode(), hashlib.sha256).hexdigest()
    signature = {"timestamp": sent, "token": token, "signature": mark}
    return Request("mailgun", raw({"signature": signature, "event-data": event}))


def postmark(body: Any, *, password: str = PASSWORD) -> Request:
    mark = base64.b64encode(password.encode()).decode()
    return Request("postmark", raw(body), {"authorization": f"Basic {mark}"})


def sns(message: Any = None, *, version: str = "2", at: datetime = NOW, **changed: Any) -> Request:
    """What SNS posts, signed as Amazon does it; what begins with `forge_` is changed after that."""
    table: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": json.dumps(message),
        "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": f"{SNS}/?Action=Unsubscribe",
    }
    table |= {name: value for name, value in changed.items() if not name.startswith("forge_")}
    names = ["Message", "MessageId", "Timestamp", "TopicArn", "Type"]
    names += ["Subject"] if "Subject" in table else []
    names += ["SubscribeURL", "Token"] if "SubscribeURL" in table else []
    signed = "".join(f"{name}\n{table[name]}\n" for name in sorted(names)).encode()
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    table["Signature"] = base64.b64encode(KEY.sign(signed, padding.PKCS1v15(), digest)).decode()
    table |= {name[6:]: value for name, value in changed.items() if name.startswith("forge_")}
    return Request("ses-main", raw(table), {"content-type": "text/plain; charset=UTF-8"})


@dataclass
class Amazon:
    """What stands at Amazon's addresses, and what was fetched of it."""

    pages: dict[str, bytes] = field(default_factory=lambda: {CERTIFICATE: certificate(start=NOW - timedelta(days=100))})
    fetched: list[str] = field(default_factory=list)

    def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        if url not in self.pages:
            raise WebhookRefused("away", status=503)
        return self.pages[url]


@dataclass
class Desk:
    """The four providers, without a site behind them."""

    amazon: Amazon
    hooks: Mapping[str, Hook]

    def told(self, request: Request, *, at: datetime = NOW) -> list[tuple[str, str, str, int | None]]:
        reports = self.hooks[request.name].read(request.headers, request.body, at)
        return [(one.kind, one.status, one.address, one.delivery) for one in reports]

    def status(self, request: Request, *, at: datetime = NOW) -> int:
        try:
            self.told(request, at=at)
        except WebhookRefused as error:
            return error.status
        return 200


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    amazon = Amazon()
    return Desk(amazon, hooks(desks.settings(tmp_path, **TABLES), amazon))


@dataclass
class School:
    """A running site to which the providers post."""

    site: desks.Desk
    amazon: Amazon

    def send(self, request: Request) -> tuple[int, str]:
        answer = self.site.browser.post(f"/privacy/inbox/{request.name}", content=request.body, headers=request.headers)
        return answer.status_code, answer.text

    def left(self, address: str = JAN) -> list[tuple[str, str, str, str | None]]:
        found = self.site.kit.afgemeld.all_of(address)
        return sorted((one.scope, str(one.reason), one.channel, one.mailing) for one in found)

    def taken(self) -> list[tuple[str, str, int | None, str]]:
        with self.site.kit.store.read() as connection:
            rows = connection.execute(select(inbox.c.source, inbox.c.kind, inbox.c.delivery_id, inbox.c.status))
            return [(source, kind, delivery, status) for source, kind, delivery, status in rows]

    def state(self) -> str:
        with self.site.kit.store.read() as connection:
            (row,) = connection.execute(select(deliveries.c.state, deliveries.c.reason)).all()
        return f"{row.state} {row.reason}".strip()

    @property
    def changed(self) -> tuple[Any, Any, str]:
        return self.left(), self.taken(), self.state()


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    """Jan got mailing 7 as delivery 41."""
    with desks.desk(tmp_path, **TABLES) as site:
        site.clock.now = NOW
        site.subscribe()
        sent = {
            "id": 7, "site": "s", "list": "nieuwsbrief", "purpose": "marketing", "language": "nl", "subject": "s",
            "preheader": "", "sender": "s", "reply_to": "", "content": "{}", "measured": False, "state": "done",
            "note": "", "created_at": NOW, "failed_in_row": 0, "nonce": 99,
        }  # fmt: skip
        with site.kit.store.begin() as connection:
            (person,) = connection.execute(select(subscribers.c.id)).scalars()
            connection.execute(mailings.insert().values(sent))
            values = {"id": 41, "mailing_id": 7, "subscriber_id": person, "state": "sent", "reason": ""}
            connection.execute(deliveries.insert().values(**values, tries=1, measured=False, at=NOW))
        amazon = Amazon()
        site.kit.hooks = hooks(site.kit.settings, amazon)
        yield School(site, amazon)


GONE = [("mail", "hard-bounce", "bounce", "7")]
HARD = {"id": "e1", "kind": "hard", "status": "5.1.1", "message_id": "<7.41.99@delinde.example>"}
UNTOUCHED: tuple[Any, Any, str] = ([], [], "sent")


# -- the general form -------------------------------------------------------------------------------------------------


def test_a_signed_event_is_taken_once_and_its_replay_changes_nothing(school: School) -> None:
    assert school.send(own(HARD)) == (200, "Taken.")
    assert school.changed == (GONE, [("webhook:own", "hard", 41, "5.1.1")], "failed bounced 5.1.1")

    school.site.clock.later(minutes=1)
    assert school.send(own(HARD)) == (200, "Taken.")
    assert len(school.taken()) == 1


def test_what_can_t_prove_whose_it_is_is_refused_in_plain_words_and_changes_nothing(school: School) -> None:
    mark = own(HARD).headers["consentkit-signature"]
    headers = [None, "t=1,v1=00", f"v1={'0' * 64}", "t=,v1=", b"t=\xe9,v1=\xe9", mark.replace("t=1", "t=2"), mark[:-1]]
    requests = [
        *(Request("own", raw(HARD), {"consentkit-signature": header} if header else {}) for header in headers),
        own(HARD, secret=SECRET[::-1]),
        own(HARD, late=-301),
        own(HARD, late=301),
        mailgun(FAILED, secret=SECRET[::-1]),
        postmark(BOUNCE, password="postmark:wrong"),
        sns(bounced(), forge_Message="{}"),
    ]

    assert {school.send(request) for request in requests} == {(403, "Refused.")}
    assert school.changed == UNTOUCHED
    assert school.send(own(HARD, late=-299))[0] == 200


def test_several_events_come_in_one_request(school: School) -> None:
    events = [
        HARD,
        {"id": "e2", "kind": "complaint", "address": OTHER},
        {"id": "e3", "status": "5.0.0", "diagnostic": "550 5.1.1 unknown", "address": "derde@voorbeeld.nl"},
    ]

    assert school.send(own({"events": events}))[0] == 200
    assert school.left(OTHER) == [("marketing", "complaint", "complaint", None)]
    assert school.left("derde@voorbeeld.nl") == [("mail", "hard-bounce", "bounce", None)]


@pytest.mark.parametrize(
    "body",
    [
        [HARD],
        {},
        {"id": "", "kind": "hard"},
        {"id": "1", "kind": "nonsense"},
        {"events": "x"},
        {"events": [1]},
        {"events": [{"id": "1", "kind": "nothing"}] * 1001},
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_genuine_and_can_t_be_read_is_told_so(desk: Desk, body: Any) -> None:
    assert desk.status(own(body)) == 400


# -- whom it is about -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {"message_id": "7.41.99@delinde.example"},
        {"message_id": "<7.41.99@delinde.example>", "address": JAN.upper()},
    ],
)
def test_a_known_provider_names_our_message_and_its_reader(school: School, event: dict[str, str]) -> None:
    assert school.send(own({**HARD, **event}))[0] == 200
    assert school.changed == (GONE, [("webhook:own", "hard", 41, "5.1.1")], "failed bounced 5.1.1")


def test_what_names_no_message_of_ours_and_no_address_changes_nothing(school: School) -> None:
    ids = ("<8.41.99@{}>", "<7.40.99@{}>", "<7.41.98@{}>", "<abc@{}>", "")
    events = [{**HARD, "id": f"e{n}", "message_id": id.format("delinde.example")} for n, id in enumerate(ids)]

    assert school.send(own({"events": [*events, {**HARD, "id": "e9", "address": "geen adres"}]}))[0] == 200
    assert school.taken() == [("webhook:own", "hard", None, "5.1.1")] * 6
    assert (school.left(), school.state()) == ([], "sent")


def test_an_address_counts_for_itself_and_not_for_a_message_to_somebody_else(school: School) -> None:
    assert school.send(own({**HARD, "address": OTHER}))[0] == 200
    assert school.left(OTHER) == [("mail", "hard-bounce", "bounce", None)]
    assert (school.left(), school.state()) == ([], "sent")


def test_a_message_that_is_gone_leaves_the_address_that_the_provider_names(school: School) -> None:
    with school.site.kit.store.begin() as connection:
        connection.execute(deliveries.delete())

    assert school.send(own({**HARD, "address": JAN}))[0] == 200
    assert school.left() == [("mail", "hard-bounce", "bounce", None)]


# -- Mailgun ----------------------------------------------------------------------------------------------------------

FAILED = {
    "event": "failed",
    "severity": "permanent",
    "id": "G9Bn5sl1TC6nu79C8C0bwg",
    "recipient": JAN,
    "delivery-status": {"code": 550, "enhanced-code": "", "message": "5.1.1 The email account does not exist"},
    "message": {"headers": {"message-id": "7.41.99@delinde.example", "to": JAN}},
}


@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        ({}, "hard", "5.1.1"),
        ({"delivery-status": {"code": 552, "enhanced-code": "5.2.2", "message": "full"}}, "soft", "5.2.2"),
        ({"delivery-status": {"code": 605, "message": "Not delivering to previously bounced"}}, "soft", "5.0.0"),
        ({"severity": "temporary"}, "delayed", ""),
        ({"event": "complained"}, "complaint", ""),
        ({"event": "unsubscribed"}, "left", ""),
        ({"event": "opened"}, "nothing", ""),
    ],
)
def test_mailgun_tells_of_failures_complaints_and_leaving(
    desk: Desk, event: dict[str, Any], kind: str, status: str
) -> None:
    assert desk.told(mailgun({**FAILED, **event})) == [(kind, status, JAN, 41)]


def test_a_token_of_mailgun_is_taken_once_whatever_comes_with_it(school: School) -> None:
    """It signs the token and not the event: who saw one request could write another around it."""
    assert school.send(mailgun({**FAILED, "event": "opened"}))[0] == 200
    assert school.send(mailgun(FAILED))[0] == 200
    assert (school.left(), school.state()) == ([], "sent")

    assert school.send(mailgun({**FAILED, "event": "unsubscribed"}, token="u" * 50))[0] == 200
    assert school.left() == [("marketing", "unsubscribe", "provider", "7")]


def test_mailgun_may_try_again_for_hours_and_no_longer(desk: Desk) -> None:
    assert desk.status(mailgun(FAILED, late=-8 * 3600)) == 200
    assert desk.status(mailgun(FAILED, late=-25 * 3600)) == 403
    assert desk.status(mailgun(FAILED, token="")) == 403
    assert desk.status(Request("mailgun", raw({"event-data": FAILED}))) == 403


# -- Postmark ---------------------------------------------------------------------------------------------------------

BOUNCE = {"RecordType": "Bounce", "ID": 4323372036854775807, "Type": "HardBounce", "Email": JAN, "Details": "unknown"}
CHANGE = {"RecordType": "SubscriptionChange", "Email": None, "Recipient": JAN, "SuppressionReason": "ManualSuppression"}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({}, "hard", ""),
        ({"Details": "smtp;550 5.1.1 no such user"}, "hard", "5.1.1"),
        ({"Details": "smtp;552 5.2.2 mailbox full"}, "soft", "5.2.2"),
        ({"Details": "smtp;554 5.7.1 blocked"}, "policy", "5.7.1"),
        ({"Type": "SoftBounce", "Details": "smtp;550 5.1.1 x"}, "soft", "5.1.1"),
        ({"Type": "Transient"}, "delayed", ""),
        ({"Type": "Blocked"}, "policy", ""),
        ({"Type": "AutoResponder"}, "auto_reply", ""),
        ({"Type": "SMTPApiError"}, "nothing", ""),
        ({"RecordType": "SpamComplaint"}, "complaint", ""),
        ({**CHANGE, "SuppressSending": True}, "left", ""),
        ({**CHANGE, "SuppressSending": True, "SuppressionReason": "HardBounce"}, "nothing", ""),
        ({**CHANGE, "SuppressSending": False}, "nothing", ""),
        ({"RecordType": "Delivery"}, "nothing", ""),
    ],
)
def test_postmark_tells_of_bounces_complaints_and_leaving(
    desk: Desk, body: dict[str, Any], kind: str, status: str
) -> None:
    assert desk.told(postmark({**BOUNCE, **body})) == [(kind, status, JAN, None)]


def test_a_bounce_of_postmark_is_taken_once(school: School) -> None:
    assert school.send(postmark(BOUNCE)) == school.send(postmark({**BOUNCE, "Type": "Blocked"})) == (200, "Taken.")
    assert school.left() == [("mail", "hard-bounce", "bounce", None)]
    assert school.taken() == [("webhook:postmark", "hard", None, "")]


@pytest.mark.parametrize("sent", ["", "Basic", "Basic ###", "Basic w6k=", f"Bearer {PASSWORD}"])
def test_without_postmark_s_password_nothing_is_believed(desk: Desk, sent: str) -> None:
    assert desk.status(Request("postmark", raw(BOUNCE), {"authorization": sent})) == 403


# -- Amazon -----------------------------------------------------------------------------------------------------------

RECIPIENT = {"emailAddress": JAN, "action": "failed", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 unknown"}
NO_CODE = {"emailAddress": JAN}


def bounced(source: str = "", **changed: Any) -> dict[str, Any]:
    table = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [RECIPIENT]}
    mail = {"messageId": "0102019-ses", "source": source, "destination": [JAN]}
    return {"notificationType": "Bounce", "bounce": table | changed, "mail": mail}


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_bounce_of_ses_is_taken_once_and_the_certificate_fetched_once(school: School, version: str) -> None:
    token = school.site.kit.links.bounce_token(school.site.kit.afgemeld.keys.digest(JAN), 41)
    request = sns(bounced(f"bounces+{token}@delinde.example"), version=version)

    assert school.send(request) == school.send(request) == (200, "Taken.")
    assert school.changed == (GONE, [("webhook:ses-main", "hard", 41, "5.1.1")], "failed bounced 5.1.1")
    assert school.amazon.fetched == [CERTIFICATE]


@pytest.mark.parametrize(
    ("bounce", "kind", "status"),
    [
        ({}, "hard", "5.1.1"),
        ({"bounceSubType": "NoEmail", "bouncedRecipients": [NO_CODE]}, "hard", "5.1.1"),
        ({"bouncedRecipients": [NO_CODE]}, "soft", "5.0.0"),
        ({"bounceType": "Transient"}, "soft", "5.1.1"),
        (
            {"bounceType": "Transient", "bounceSubType": "MailboxFull", "bouncedRecipients": [NO_CODE]},
            "soft",
            "5.2.2",
        ),
        ({"bounceSubType": "ContentRejected", "bouncedRecipients": [NO_CODE]}, "policy", "5.6.0"),
    ],
)
def test_what_kind_of_bounce_ses_means(desk: Desk, bounce: dict[str, Any], kind: str, status: str) -> None:
    assert desk.told(sns(bounced(**bounce))) == [(kind, status, JAN, None)]


def test_a_complaint_of_ses_names_our_message_by_its_headers(desk: Desk) -> None:
    mail = {"headers": [{"name": "Message-ID", "value": "<7.41.99@delinde.example>"}]}

    def complaint(kind: str) -> Request:
        told = {"complainedRecipients": [NO_CODE], "complaintFeedbackType": kind}
        return sns({"eventType": "Complaint", "complaint": told, "mail": mail}, Subject="Amazon SES")

    assert desk.told(complaint("abuse")) == [("complaint", "", JAN, 41)]
    assert desk.told(complaint("not-spam")) == [("nothing", "", JAN, 41)]
    assert desk.told(sns({"eventType": "Delivery", "mail": mail})) == []


FORGERIES: dict[str, dict[str, Any]] = {
    "another message": {"forge_Message": "{}"},
    "another id": {"forge_MessageId": "x"},
    "no signature": {"forge_Signature": ""},
    "an unknown version": {"version": "3"},
    "another topic": {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:bounces"},
    "another type": {"forge_Type": "SubscriptionConfirmation"},
    "an unknown type": {"Type": "Surprise"},
    "the day before yesterday's": {"Timestamp": "2026-02-28T09:00:00.000Z"},
    "no time": {"Timestamp": "soon"},
    "a certificate over http": {"SigningCertURL": CERTIFICATE.replace("https", "http")},
    "a certificate of somebody's bucket": {"SigningCertURL": "https://bucket.s3.amazonaws.com/a.pem"},
    "a certificate of another region": {"SigningCertURL": CERTIFICATE.replace("eu-west-1", "us-east-1")},
    "a host that begins as Amazon's": {"SigningCertURL": f"{SNS}.evil.example/a.pem"},
    "a user before the host": {"SigningCertURL": f"{SNS}@evil.example/a.pem"},
    "another port": {"SigningCertURL": f"{SNS}:8443/a.pem"},
    "an address with a line break": {"SigningCertURL": f"{CERTIFICATE}\r\nHost: evil.example"},
    "no certificate": {"SigningCertURL": f"{SNS}/text.pem"},
    "an old certificate": {"SigningCertURL": f"{SNS}/old.pem"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_amazon_did_not_sign_for_our_topic_is_refused_and_fetches_nothing_elsewhere(
    desk: Desk, forgery: str
) -> None:
    old = certificate(start=NOW - timedelta(days=400))
    desk.amazon.pages |= {f"{SNS}/text.pem": b"no certificate", f"{SNS}/old.pem": old}

    assert desk.status(sns(bounced(), **FORGERIES[forgery])) == 403
    assert desk.amazon.pages.keys() >= set(desk.amazon.fetched)


def test_a_subscription_is_confirmed_at_amazon_and_nowhere_else(desk: Desk) -> None:
    url = f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
    desk.amazon.pages[url] = b"<ok/>"
    confirm = {"Type": "SubscriptionConfirmation", "Token": "2336412f37"}

    assert desk.status(sns(**confirm, SubscribeURL="https://evil.example/?Action=ConfirmSubscription")) == 403
    assert desk.status(sns(**confirm, SubscribeURL=url.replace("https", "http"))) == 403
    assert desk.status(sns(**confirm, SubscribeURL=url, forge_Token="x")) == 403
    assert desk.amazon.fetched == [CERTIFICATE]

    assert desk.told(sns(**confirm, SubscribeURL=url)) == []
    assert desk.amazon.fetched == [CERTIFICATE, url]


def test_when_amazon_can_t_be_reached_it_is_asked_to_try_again(desk: Desk) -> None:
    page = desk.amazon.pages.pop(CERTIFICATE)
    assert desk.status(sns(bounced())) == 503

    desk.amazon.pages[CERTIFICATE] = page
    assert desk.status(sns(bounced())) == 200


def test_while_something_is_fetched_nobody_else_waits_for_amazon(desk: Desk) -> None:
    statuses: list[int] = []
    inner = desk.amazon.pages[CERTIFICATE]

    def fetch(url: str) -> bytes:
        statuses.append(desk.status(sns(bounced())))
        return inner

    desk.hooks = {"ses-main": Ses(TOPIC, fetch)}

    assert desk.status(sns(bounced())) == 200
    assert statuses == [503]


def test_a_certificate_that_was_kept_is_not_used_after_its_end(desk: Desk) -> None:
    later = NOW + timedelta(days=250)

    assert desk.status(sns(bounced())) == 200
    assert desk.status(sns(bounced(), at=later), at=later) == 403


# -- fetching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, float], str]]:
    """An https server on this machine that answers one request with given bytes, drop by drop where that is asked."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(webhooks.ssl, "create_default_context", lambda: trusting)
    monkeypatch.setattr(webhooks, "_FETCH_SECONDS", 0.4)
    listening = socket.create_server(("127.0.0.1", 0))
    real = webhooks.HTTPSConnection
    port = listening.getsockname()[1]
    monkeypatch.setattr(webhooks, "HTTPSConnection", lambda host, **options: real(host, port, **options))

    def serve(answer: bytes, wait: float = 0.0) -> str:
        def run() -> None:
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as peer:
                    peer.recv(10_000)
                    for start in range(0, len(answer), 4_000):
                        peer.sendall(answer[start : start + 4_000])
                        time.sleep(wait)
            except OSError:
                return

        threading.Thread(target=run, daemon=True).start()
        return "https://localhost/SimpleNotificationService.pem?x=1"

    yield serve
    listening.close()


def test_what_stands_at_an_address_is_fetched(amazon: Callable[..., str]) -> None:
    assert fetch_bounded(amazon(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo")) == b"hallo"


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 0),
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000, 0.1),
        (b"rubbish", 0),
        (b"", 0),
    ],
    ids=["missing", "a redirect", "too large", "too slow", "rubbish", "nothing"],
)
def test_a_fetch_ends_within_its_bounds(amazon: Callable[..., str], answer: bytes, wait: float) -> None:
    start = time.monotonic()

    with pytest.raises(WebhookRefused) as caught:
        fetch_bounded(amazon(answer, wait))

    assert caught.value.status == 503
    assert time.monotonic() - start < 2


# -- the route --------------------------------------------------------------------------------------------------------


def test_who_is_not_configured_is_not_there(school: School, tmp_path: Path) -> None:
    assert school.send(Request("other", raw(HARD)))[0] == 404
    assert school.send(Request("", raw(HARD)))[0] == 404
    (tmp_path / "without").mkdir()
    with desks.desk(tmp_path / "without") as without:
        assert School(without, Amazon()).send(own(HARD)) == (404, "There is nothing here.")


def test_only_a_post_of_a_bounded_size_is_taken(school: School) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = school.site.browser.request(method, "/privacy/inbox/own")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert school.send(own(b"x" * (MAX_BODY + 1))) == (413, "This is too large.")


def test_when_it_can_t_be_stored_the_provider_is_asked_to_try_again(school: School) -> None:
    with school.site.kit.store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE mail_inbox RENAME TO away")
    assert school.send(own(HARD)) == (503, "This can't be stored now.")
    with school.site.kit.store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO mail_inbox")
    assert school.changed == UNTOUCHED

    assert school.send(own(HARD))[0] == 200
    assert school.left() == GONE


@pytest.mark.checklist("SEC-05")
def test_neither_addresses_nor_secrets_reach_the_log(school: School, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        school.send(own({**HARD, "address": JAN}))
        school.send(own({"id": "9", "kind": "hard", "address": f"{JAN}@"}))
        school.send(own({"id": "10", "kind": "unknown", "address": JAN}))
        school.send(postmark(BOUNCE, password=f"{JAN}:{SECRET}"))
        school.send(sns(bounced(), forge_Message=JAN))

    assert "webhook:own: unclear" in caplog.text
    assert not re.search(rf"voorbeeld|{SECRET}|bounces\+", caplog.text)


# -- the configuration ------------------------------------------------------------------------------------------------


def test_secrets_come_from_the_environment_and_never_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "consentkit.toml"
    text = (
        '[site]\nname = "De Linde"\nbase_url = "http://127.0.0.1"\nprivacy_statement = "/p"\n'
        '[site.controller]\nname = "De Linde"\naddress = "Lindelaan 1"\n[mailing.webhooks.mail-gun]\nkind = "mailgun"\n'
    )
    file.write_text(text, "utf-8")

    assert Settings.load(file, {"CONSENTKIT_WEBHOOK_MAIL_GUN": SECRET}).webhook_secrets == {"mail-gun": SECRET}
    with pytest.raises(SettingsError, match="Set CONSENTKIT_WEBHOOK_MAIL_GUN to the HTTP webhook signing key"):
        Settings.load(file, {})
    file.write_text(f'webhook_secrets = {{ x = "{SECRET}" }}\n{text}', "utf-8")
    with pytest.raises(SettingsError, match="secrets do not belong in the file"):
        Settings.load(file, {"CONSENTKIT_WEBHOOK_MAIL_GUN": SECRET})


@pytest.mark.parametrize(
    ("webhooks", "secret", "problem"),
    [
        ({"x": {"kind": "generic"}}, "short", "weaker than 32 random signs"),
        ({"x": {"kind": "generic"}}, "a" * 40, "weaker than 32 random signs"),
        ({"x": {"kind": "postmark"}}, SECRET, "as user:password"),
        ({"x": {"kind": "ses"}}, "", "`topic` is for kind"),
        ({"x": {"kind": "generic", "topic": TOPIC}}, SECRET, "`topic` is for kind"),
        ({"x": {"kind": "ses", "topic": "arn:aws:s3:::bucket"}}, "", "mailing.webhooks.x.topic"),
        ({"x": {"kind": "sendgrid"}}, SECRET, "mailing.webhooks.x.kind"),
        ({"X y": {"kind": "generic"}}, SECRET, "is no name"),
        ({"x": {"kind": "generic", "secret": SECRET}}, SECRET, "mailing.webhooks.x.secret: unknown key"),
    ],
)
def test_a_webhook_that_can_t_work_is_told_at_the_start(
    tmp_path: Path, webhooks: dict[str, Any], secret: str, problem: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)) as caught:
        desks.settings(tmp_path, mailing={"webhooks": webhooks}, webhook_secrets={"x": secret})
    assert SECRET not in str(caught.value) or "unknown key" in problem


def test_without_cryptography_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(SettingsError, match=r"pip install 'consentkit\[dkim\]'"):
        hooks(desks.settings(tmp_path, **TABLES))

"""Server-side recipients are told of each withdrawal (GDPR art. 7(3) and 19).

A call is written in the transaction that writes the withdrawal, so none is lost and none comes of what did not happen;
the outbox carries it out, again and again until it is taken. The visitor waits for nobody.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection

from consentkit.evidence import ConsentEvent
from consentkit.newsletter.outbox import Outbox, Parcel
from consentkit.newsletter.posting import post_json
from consentkit.service import Service

log = logging.getLogger("consentkit.vendors")

WITHDRAWAL: Final = "withdrawal"
LASTS: Final = timedelta(days=30)
"""How long a recipient that does not answer is called again."""


def derived_secret(key: bytes, service: str) -> bytes:
    """The secret that signs the calls to a service for which none was set: HMAC-SHA-256, in hex.

    Args:
        key: the newest of CONSENTKIT_SECRET_KEYS; a recipient that knows the result can't tell the key.
    """
    return hmac.digest(key, f"consentkit.webhook.v1.{service}".encode(), "sha256").hex().encode()


class Recipients:
    """The services that have a `webhook`, and what they are told.

    Args:
        services: per site those that it names. outbox: keeps and carries out the calls.
        secret: what signs the calls to a service.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        services: Mapping[str, Iterable[Service]],
        outbox: Outbox,
        *,
        secret: Callable[[str], bytes],
        clock: Callable[[], datetime],
    ) -> None:
        self._services = {site: [one for one in every if one.webhook] for site, every in services.items()}
        self._urls = {one.id: one.webhook for every in self._services.values() for one in every}
        self._outbox = outbox
        self._secret = secret
        self._now = clock

    def __bool__(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._urls)

    def taken_back(self, connection: Connection, event: ConsentEvent, purposes: frozenset[str]) -> None:
        """Put in the calls that an event asks for, in the transaction that writes it.

        Args:
            purposes: what was granted until this event and is not any more.
        """
        for service in self._services.get(event.site, ()):
            if service.purpose_id in purposes:
                told = {"service": service.id, "record": event.record_id, "state": "withdrawn"}
                payload = {**told, "at": event.at.astimezone(UTC).isoformat(), "site": event.site}
                self._outbox.put(
                    connection, WITHDRAWAL, site=event.site, subscriber_id=None, payload=payload, lasts=LASTS
                )

    def wake(self) -> None:
        """Carry out what waits, now."""
        if self:
            self._outbox.wake()

    def call(self, parcel: Parcel) -> None:
        """Tell one recipient of one withdrawal, as JSON, signed anew at each try.

        `Consentkit-Signature: t=<seconds>,v1=<hex>` holds the HMAC-SHA-256 of `<seconds>.<body>`; `Consentkit-Id` is
        the same at each try.

        Raises:
            PartnerUnreachable: it did not answer 2xx.
        """
        service = str(parcel.payload["service"])
        url = self._urls.get(service)
        if url is None:
            log.warning("%s has no webhook any more: a withdrawal is not told to it", service)
            return
        body = json.dumps(parcel.payload, ensure_ascii=False).encode()
        at = str(int(self._now().timestamp()))
        signature = hmac.digest(self._secret(service), at.encode() + b"." + body, "sha256").hex()
        post_json(url, body, {"Consentkit-Signature": f"t={at},v1={signature}", "Consentkit-Id": parcel.id})
        log.info("%s was told of a withdrawal (try %d)", service, parcel.tries)

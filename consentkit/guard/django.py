"""A mail backend for Django that asks who left before each message.

Settings: `EMAIL_BACKEND = "consentkit.guard.django.EmailBackend"`; `CONSENTKIT`, a kit, a dotted path to one, or the
path of its TOML file; `CONSENTKIT_EMAIL_BACKEND`, what sends (default Django's SMTP); `CONSENTKIT_STRICT_MAIL`, whether
a message must say what it is (default no).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from email.utils import make_msgid
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.core.mail.backends.base import BaseEmailBackend  # type: ignore[import-untyped]
from django.core.mail.utils import DNS_NAME  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from consentkit.errors import ConsentKitError
from consentkit.guard.guard import Cleared, Guard
from consentkit.guard.headers import OWN
from consentkit.kit import ConsentKit

log = logging.getLogger("consentkit.guard")

SENDS: Final = "django.core.mail.backends.smtp.EmailBackend"


def guard() -> Guard:
    """The guard of this Django process, as the settings say; `guard().watch()` watches the rest of the process."""
    kit = getattr(settings, "CONSENTKIT", None)
    if kit is None:
        raise ImproperlyConfigured(
            "CONSENTKIT is missing: set it to a ConsentKit, a dotted path to one, or the path of consentkit.toml"
        )
    return _guard(kit, bool(getattr(settings, "CONSENTKIT_STRICT_MAIL", False)))


@lru_cache(maxsize=4)
def _guard(kit: ConsentKit | Path | str, strict: bool) -> Guard:
    return Guard(_kit(kit), strict=strict)


def _kit(kit: ConsentKit | Path | str) -> ConsentKit:
    if isinstance(kit, str) and not kit.endswith(".toml"):
        kit = import_string(kit)
    found = ConsentKit(kit) if isinstance(kit, str | Path) else kit
    if not isinstance(found, ConsentKit):
        raise ImproperlyConfigured("CONSENTKIT leads to something that is no ConsentKit")
    return found


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]
    """Sends what the guard lets out, through the backend that `CONSENTKIT_EMAIL_BACKEND` names.

    `fail_silently` passes over every error. It never sends what may not be sent.
    """

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        super().__init__(fail_silently=fail_silently)
        name = getattr(settings, "CONSENTKIT_EMAIL_BACKEND", SENDS)
        self.inner = import_string(name)(fail_silently=fail_silently, **options)
        self.guard = guard()

    def open(self) -> bool | None:
        """Open the connection of the backend that sends."""
        opened: bool | None = self.inner.open()
        return opened

    def close(self) -> None:
        """Close it."""
        self.inner.close()

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        """Send them; returns how many were sent, not counting those whose recipients left.

        Raises:
            UnguardedMail, AddressError, AfgemeldUnavailable: as `Guard.release`, unless `fail_silently`.
        """
        sent = left_out = 0
        opened = None
        try:
            for mail in email_messages:
                cleared = self._clear(mail)
                if cleared is None:
                    continue
                left_out += cleared.left_out
                if not cleared.recipients:
                    continue
                opened = opened or self.open()
                if self.fail_silently and getattr(self.inner, "connection", self) is None:
                    break  # the server is away, which was passed over in silence: don't try it for each message
                sent += self.inner.send_messages([self._ready(mail, cleared)]) or 0
        finally:
            if opened:
                self.close()
            if left_out:
                log.info("%d recipient(s) were left out: they left", left_out)
        return sent

    def _clear(self, mail: Any) -> Cleared | None:
        """Ask directly before the hand-over; None where there is nothing to send."""
        if not mail.recipients():
            return None
        try:
            return self.guard.clear(mail.extra_headers.items(), mail.recipients())
        except ConsentKitError as error:
            if not self.fail_silently:
                raise
            log.error("a message was not sent: %s", error)
            return None

    def _ready(self, mail: Any, cleared: Cleared) -> Any:
        """The message as it may leave; Django's own stays as it was, so that it can be sent again."""
        ready = copy.copy(mail)
        for field in vars(ready).keys() & {"connection", "_connection"}:
            vars(ready)[field] = self.inner  # some backends copy what they are given, connection and all
        gone = {name.lower() for name in (*OWN, *cleared.headers)}
        ready.extra_headers = {name: value for name, value in mail.extra_headers.items() if name.lower() not in gone}
        ready.extra_headers.update(cleared.headers)
        for field in ("to", "cc", "bcc"):
            setattr(ready, field, [one for one in getattr(mail, field) if one in cleared.recipients])
        if not cleared.marketing:
            names = {name.lower(): name for name in ready.extra_headers}
            name = names.get("message-id", "Message-ID")
            ready.extra_headers.setdefault(name, make_msgid(domain=DNS_NAME.get_fqdn()))
            self.guard.remember(str(ready.extra_headers[name]), cleared.recipients)
        return ready

"""Stands before what Python sends mail with, while it is told to, and steps aside cleanly."""

from __future__ import annotations

import asyncio
import functools
import smtplib
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import aiosmtplib

Check = Callable[[str | bytes, Sequence[str]], None]

_TURN = threading.Lock()


class Watch:
    """Has every message of this process looked at before `smtplib` or `aiosmtplib` hands it over.

    `smtplib.SMTP.sendmail` is where `send_message` and Django's SMTP backend end, `aiosmtplib.SMTP.sendmail` where
    FastAPI-Mail ends. It does not see mail that is given to a provider over HTTP, to another process such as
    `sendmail`, or to a server by single SMTP commands.

    Args:
        check: raises for a message that may not be sent.

    Raises:
        RuntimeError: there is a watch already.
    """

    _on: ClassVar[Watch | None] = None

    def __init__(self, check: Check) -> None:
        with _TURN:
            if Watch._on is not None:
                raise RuntimeError("mail is being watched already in this process: undo that first")
            self._check = check
            self._sync = smtplib.SMTP.sendmail
            self._async = aiosmtplib.SMTP.sendmail
            self._before_sync = self._checked()
            self._before_async = self._checked_async()
            smtplib.SMTP.sendmail = self._before_sync  # type: ignore[method-assign]
            aiosmtplib.SMTP.sendmail = self._before_async  # type: ignore[method-assign]
            Watch._on = self

    def undo(self) -> None:
        """Stop watching; once is enough."""
        with _TURN:
            if Watch._on is not self:
                return
            Watch._on = None
            # Where somebody else put something over ours since, ours stays under it, and lets everything by.
            if smtplib.SMTP.sendmail is self._before_sync:
                smtplib.SMTP.sendmail = self._sync  # type: ignore[method-assign]
            if aiosmtplib.SMTP.sendmail is self._before_async:
                aiosmtplib.SMTP.sendmail = self._async  # type: ignore[method-assign]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def _look(self, message: str | bytes, recipients: str | Sequence[str]) -> None:
        if Watch._on is self:
            self._check(message, [recipients] if isinstance(recipients, str) else list(recipients))

    def _checked(self) -> Any:
        send = self._sync

        @functools.wraps(send)
        def sendmail(client: Any, from_addr: str, to_addrs: Any, msg: Any, *args: Any, **options: Any) -> Any:
            self._look(msg, to_addrs)
            return send(client, from_addr, to_addrs, msg, *args, **options)

        return sendmail

    def _checked_async(self) -> Any:
        send = self._async

        @functools.wraps(send)
        async def sendmail(client: Any, sender: str, recipients: Any, message: Any, /, **options: Any) -> Any:
            await asyncio.to_thread(self._look, message, recipients)
            return await send(client, sender, recipients, message, **options)

        return sendmail

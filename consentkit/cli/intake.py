"""`consentkit afgemeld intake`: opt-outs, bounces and complaints that come in by mail, from a pipe or a mailbox."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from consentkit.afgemeld.intake import intake as take
from consentkit.afgemeld.intake import intake_mailbox, read_message
from consentkit.cli.output import JsonOption, data, error_console, open_kit, say
from consentkit.errors import AfgemeldUnavailable, ConsentKitError
from consentkit.kit import ConsentKit

TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: a mail server keeps the message and tries again."""


def intake(
    context: typer.Context,
    mailbox: Annotated[
        str | None,
        typer.Option("--mailbox", help="Read the unread mail of imaps://host:993/INBOX; default: standard input."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take opt-outs, bounces and complaints by mail: one from standard input, or the unread ones of a mailbox."""
    raw = b"" if mailbox else read_message(sys.stdin.buffer)
    kit = open_kit(context)
    try:
        needs_a_person = _mailbox(kit, mailbox, json=json) if mailbox else _message(kit, raw, json=json)
    except AfgemeldUnavailable as error:
        error_console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(TRY_AGAIN) from error
    finally:
        kit.close()
    raise typer.Exit(1 if needs_a_person else 0)


def _message(kit: ConsentKit, raw: bytes, *, json: bool) -> bool:
    lists = tuple(kit.settings.lists)
    result = kit.inbox.take_mail(raw) or take(kit.afgemeld, kit.links, lists, raw, kit.now)
    if json:
        data(asdict(result))
    else:
        say(str(result))
    return result.needs_a_person


def _mailbox(kit: ConsentKit, url: str, *, json: bool) -> bool:
    user, password = (os.environ.get(name, "") for name in ("CONSENTKIT_IMAP_USER", "CONSENTKIT_IMAP_PASSWORD"))
    if not user or not password:
        raise ConsentKitError("set CONSENTKIT_IMAP_USER and CONSENTKIT_IMAP_PASSWORD to read a mailbox")
    lists = tuple(kit.settings.lists)
    report = intake_mailbox(
        kit.afgemeld, kit.links, lists, url, kit.now, user=user, password=password, before=kit.inbox.take_mail
    )
    if json:
        data({**report.outcomes, "failed": report.failed})
    else:
        say(str(report))
    return report.needs_a_person

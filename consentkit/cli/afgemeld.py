"""`consentkit afgemeld`: who may not be written to. No command prints an address; no shell needs to keep one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from consentkit.afgemeld import LASTING, MAIL, MARKETING, Reason, forbidding, list_scope, scope_of, transfer
from consentkit.afgemeld.scrub import scrub as run_scrub
from consentkit.cli.intake import intake
from consentkit.cli.output import JsonOption, bar, data, open_source, opened_kit, say, tell
from consentkit.errors import ConsentKitError
from consentkit.kit import ConsentKit

app = typer.Typer(help="Who left: add, look up, import, export, scrub.", no_args_is_help=True)

app.command()(intake)

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address; - reads it from standard input.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A CSV; - reads standard input.")]
List = Annotated[str | None, typer.Option("--list", help="One list, by its id.")]
Scope = Annotated[str | None, typer.Option(help="mail (everything), marketing, or list:<id>.")]
Column = Annotated[str | None, typer.Option(help="The address column: its header, or its number from 1.")]

_CHANNELS = {reason: reason.value for reason in (Reason.PHONE, Reason.LETTER, Reason.REPLY)}
"""How somebody asked, where the reason tells; else all that is known is that this command was typed."""


@app.command()
def add(
    context: typer.Context,
    address: Address,
    list: List = None,
    scope: Scope = None,
    reason: Annotated[Reason, typer.Option(help="How they asked.")] = Reason.STAFF,
    json: JsonOption = False,
) -> None:
    """Never write to an address again: all marketing, unless --list, --scope or the reason says otherwise."""
    with opened_kit(context) as kit:
        wanted = _wanted(kit, list, scope) or (MAIL if reason in LASTING else MARKETING)
        channel = _CHANNELS.get(reason, "command")
        new = kit.afgemeld.add_sync(_read(address), scope=wanted, reason=reason, channel=channel)
    if json:
        data({"added": new, "scope": wanted, "reason": reason})
    else:
        say(f"was {'added' if new else 'there already'}: {wanted}")


@app.command()
def check(context: typer.Context, address: Address, list: List = None, json: JsonOption = False) -> None:
    """Say whether an address is suppressed, and how; with --list only what forbids mail of that list."""
    with opened_kit(context) as kit:
        _wanted(kit, list, None)
        found = [one for one in kit.afgemeld.all_of(_read(address)) if list is None or one.covers(list)]
        if list is not None:
            found = [*forbidding(found)]
        found = [one for one in found if not one.is_exception]
    entries = [{"scope": one.scope, "reason": one.reason, "channel": one.channel, "since": one.at} for one in found]
    if json:
        data({"suppressed": bool(entries), "entries": entries})
    else:
        for one in found:
            how = one.reason if one.reason == one.channel else f"{one.reason} by {one.channel}"
            say(f"suppressed: {one.scope}, {how}, since {one.at:%Y-%m-%d %H:%M} UTC")
        if not found:
            say("not suppressed")
    raise typer.Exit(1 if found else 0)


@app.command("import")
def import_(
    context: typer.Context,
    file: File,
    column: Column = None,
    list: List = None,
    scope: Scope = None,
    reason: Annotated[Reason, typer.Option(help="For rows that don't say.")] = Reason.IMPORT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    json: JsonOption = False,
) -> None:
    """Add what a CSV lists: addresses, or digests of an export that was made with the same key."""
    with opened_kit(context) as kit, open_source(file) as (source, size), bar("importing", size) as moved:
        done = transfer.import_(
            kit.afgemeld,
            source,
            scope=_wanted(kit, list, scope) or MARKETING,
            at=kit.now(),
            reason=reason,
            column=column,
            dry_run=dry_run,
            report=lambda line, why: tell(f"line {line}: {why}"),
            progress=moved,
        )
    if json:
        data({**asdict(done), "dry_run": dry_run})
    else:
        would = "would be " if dry_run else ""
        say(f"{done.new} row(s) {would}new, {done.known} known, {done.refused} refused")
    raise typer.Exit(1 if done.refused else 0)


@app.command()
def export(context: typer.Context, scope: Scope = None, json: JsonOption = False) -> None:
    """Write the table as CSV to standard output: keyed digests, no readable address."""
    with opened_kit(context) as kit:
        lines = transfer.export(kit.afgemeld, scope=_parsed(scope) if scope else None)
        names = next(lines).strip().split(",")
        if not json:
            sys.stdout.write(",".join(names) + "\n")
        for line in lines:
            if json:
                data(dict(zip(names, line.strip().split(","), strict=True)))
            else:
                sys.stdout.write(line.strip() + "\n")


@app.command()
def scrub(
    context: typer.Context,
    file: File,
    list: List = None,
    column: Column = None,
    report: Annotated[Path | None, typer.Option(help="Write there which rows went out, not to standard error.")] = None,
    json: JsonOption = False,
) -> None:
    """Copy a CSV to standard output without those who left, invalid addresses and duplicates.

    Exit code 1: some rows can't be read, or hold no address.
    """
    with ExitStack() as stack:
        kit = stack.enter_context(opened_kit(context))
        _wanted(kit, list, None)
        source, size = stack.enter_context(open_source(file))
        told: Callable[[str], object] = tell
        if report is not None:
            told = stack.enter_context(_written(report))
        moved = stack.enter_context(bar("scrubbing", size))
        done = run_scrub(
            kit.afgemeld,
            source,
            sys.stdout.buffer,
            list=list,
            column=column,
            report=_reporter(told, json=json),
            progress=moved,
        )
        sys.stdout.buffer.flush()
    tell(
        dumps({"rows": done.rows, **asdict(done)})
        if json
        else f"{done.rows} row(s): {done.kept} kept, {done.suppressed} suppressed, {done.duplicate} duplicate, "
        f"{done.invalid} invalid, {done.broken} broken"
    )
    raise typer.Exit(1 if done.invalid or done.broken else 0)


@app.command()
def lift(
    context: typer.Context,
    address: Address,
    reason: Annotated[str, typer.Option(help="Why it was a mistake.")],
    by: Annotated[str, typer.Option(help="Who lifts it.")],
    second: Annotated[str, typer.Option(help="Who else looked at it: another person.")],
    list: List = None,
    scope: Scope = None,
    json: JsonOption = False,
) -> None:
    """Take back a suppression that was a mistake; who asks to come back signs up again instead."""
    wanted = _parsed(scope) if scope and not list else None
    with opened_kit(context) as kit:
        wanted = wanted or _wanted(kit, list, scope)
        if wanted is None:
            raise ConsentKitError("say what to lift: --list or --scope")
        digests = kit.afgemeld.keys.digests(_read(address))
        try:
            with kit.afgemeld.changing() as change:
                lifted = change.lift(digests, wanted, reason=reason, by=by, second=second, at=kit.now())
        except ValueError as error:
            raise ConsentKitError(str(error)) from error
    if json:
        data({"lifted": lifted, "scope": wanted})
    else:
        say(f"was lifted: {wanted}" if lifted else f"was not there: {wanted}")
    raise typer.Exit(0 if lifted else 1)


def _read(address: str) -> str:
    return sys.stdin.readline() if address == "-" else address


def _wanted(kit: ConsentKit, list: str | None, scope: str | None) -> str | None:
    """The scope that the options name, None for neither.

    Raises:
        ConsentKitError: both were given, there is no such scope, or the configuration has no such list.
    """
    if list is not None and scope is not None:
        raise ConsentKitError("give --list or --scope, not both")
    name = list
    if list is None and scope is not None:
        scope = _parsed(scope)
        name = scope.removeprefix("list:") if scope.startswith("list:") else None
    if name is None:
        return scope
    if name not in kit.settings.lists:
        known = ", ".join(kit.settings.lists)
        remedy = f"the lists are {known}" if known else "the configuration has no [lists.<id>]"
        raise ConsentKitError(f'there is no list "{name}": {remedy}')
    return list_scope(name)


def _parsed(scope: str) -> str:
    try:
        return scope_of(scope)
    except ValueError as error:
        raise ConsentKitError(str(error)) from error


@contextmanager
def _written(path: Path) -> Iterator[Callable[[str], object]]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(path.open("w", encoding="utf-8"))
        except OSError as error:
            raise ConsentKitError(f"{path}: {error.strerror}") from error
        yield lambda line: opened.write(line + "\n")


def _reporter(tell: Callable[[str], object], *, json: bool) -> Callable[[int, str], None]:
    def report(line: int, reason: str) -> None:
        tell(dumps({"line": line, "reason": reason}) if json else f"line {line}: {reason}")

    return report

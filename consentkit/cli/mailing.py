"""`consentkit mailing`: write, look, check, send, and ask how it went. `consentkit worker`: send what is due."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consentkit.cli.output import JsonOption, data, error_console, opened_kit, say, table, tell
from consentkit.errors import ConsentKitError, MailingError
from consentkit.kit import ConsentKit
from consentkit.mailing import (
    Attendance,
    Audience,
    DeliveryState,
    Finding,
    Mailing,
    MailingState,
    Status,
    Turn,
    read_file,
    read_folder,
)
from consentkit.mailing.report import as_csv, as_html, as_json, as_rows
from consentkit.mailing.report import report as read_report

app = typer.Typer(help="Mailings: write, preview, check, send, follow.", no_args_is_help=True)

Id = Annotated[int, typer.Argument(metavar="ID", help="The number of a mailing.")]
_EVERY: Final = 5.0
_LOOK: Final = 1.0
_SHARE: Final = 10
"""How often a look at a mailing goes into the time between two: counting a million messages takes a while."""

_SOON: Final = timedelta(minutes=1)
_PATIENCE: Final = 40.0
"""Seconds that what is being handed over may take at the end. A mail server that takes longer leaves it in doubt."""


@app.command()
def new(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="A folder with mailing.toml; else give the options.")
    ] = None,
    list: Annotated[str | None, typer.Option(help="The list it goes to, by its id.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="The subject, the same for everybody: it holds no fields.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="The HTML, or a .mjml or .md file.")] = None,
    text: Annotated[Path | None, typer.Option(help="The plain text; made from the HTML if there is none.")] = None,
    preheader: Annotated[str, typer.Option(help="What mail programs show after the subject.")] = "",
    purpose: Annotated[Literal["marketing", "service"], typer.Option(help="Service mail holds no promotion.")] = (
        "marketing"
    ),
    sender: Annotated[str, typer.Option(help='"De Linde <nieuws@delinde.example>"; default that of the list.')] = "",
    reply_to: Annotated[str, typer.Option(help="Where answers go.")] = "",
    language: Annotated[str, typer.Option(help="The language of the text; default the site's first.")] = "",
    field: Annotated[
        list[str] | None, typer.Option(help="A field that the text uses: NAME, or NAME=for who has none.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only who has FIELD=VALUE; may be given again.")] = None,
    measured: Annotated[bool, typer.Option("--measured", help="Count opens and clicks of those who agreed.")] = False,
    site: Annotated[str | None, typer.Option(help="The site, by name, where there are several.")] = None,
    json: JsonOption = False,
) -> None:
    """Keep a mailing as a draft, and print its number. Nothing is sent."""
    with opened_kit(context) as kit:
        most = kit.settings.mailing.attachments_mb
        if folder is not None:
            draft = read_folder(folder, attachments_mb=most)
        else:
            if list is None or subject is None or html is None:
                raise MailingError(["give a FOLDER, or --list, --subject and --html"])
            fields, defaults = _fields(field or ())
            draft = read_file(
                html, text=text, attachments_mb=most, list=list, subject=subject, preheader=preheader,
                purpose=purpose, sender=sender, reply_to=reply_to, language=language, fields=fields,
                defaults=defaults, where=_where(where or ()), measured=measured,
            )  # fmt: skip
        made = kit.mailings.new(draft, site=site)
    if json:
        data({"id": made})
    else:
        say(f"mailing {made}: a draft. Look at it with `consentkit mailing preview {made}`")


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """Every mailing, the newest first."""
    with opened_kit(context) as kit:
        found = kit.mailings.all()
    if json:
        data([asdict(one) for one in found])
    elif not found:
        say("there is no mailing yet: `consentkit mailing new` makes one")
    else:
        table(
            {"id": one.id, "state": one.state, "list": one.list, "made": f"{one.created_at:%Y-%m-%d %H:%M}",
             "subject": one.subject}
            for one in found
        )  # fmt: skip


@app.command()
def preview(
    context: typer.Context,
    id: Id,
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path(),
    reader: Annotated[str | None, typer.Option(help="Whose message; - asks for it on standard input.")] = None,
    json: JsonOption = False,
) -> None:
    """Write the exact message of one reader, as mailing-ID.eml, .html and .txt. Opens and sends nothing."""
    with opened_kit(context) as kit:
        made = kit.mailings.preview(id, _address(reader))
    written = {
        out / f"mailing-{id}.eml": made.raw,
        out / f"mailing-{id}.html": made.html.encode(),
        out / f"mailing-{id}.txt": made.text.encode(),
    }
    for path, content in written.items():
        _write(path, content)
    if json:
        data({"written": [str(path) for path in written]})
    else:
        for path in written:
            say(f"{path}: written")


@app.command()
def preflight(
    context: typer.Context,
    id: Id,
    dns: Annotated[bool, typer.Option(help="Ask DNS about the sender's domain.")] = True,
    json: JsonOption = False,
) -> None:
    """Check the finished message, byte by byte. Errors stand in the way of sending; exit code 1 where there are any."""
    with opened_kit(context) as kit:
        found = kit.mailings.preflight(id, dns=dns)
    if json:
        data([asdict(one) for one in found])
    else:
        _show(found)
    if any(one.level == "error" for one in found):
        raise typer.Exit(1)


@app.command()
def test(
    context: typer.Context,
    id: Id,
    to: Annotated[list[str], typer.Option(help="An address of your own; may be given again.")],
) -> None:
    """Send the mailing to yourself, marked as a test."""
    with opened_kit(context) as kit:
        asyncio.run(kit.test_mailing(id, to))
    say(f"mailing {id}: a test went to {len(to)} address(es)")


@app.command()
def send(
    context: typer.Context,
    id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M"], help="Not before this moment, local time.")
    ] = None,
    not_after: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M"], help="What has not gone by then never goes.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count who would get it, and who not and why.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for what the mail server asked to try later.")] = True,
    dns: Annotated[bool, typer.Option(help="Ask DNS about the sender's domain.")] = True,
    json: JsonOption = False,
) -> None:
    """Send a mailing until it is done. Starting it again goes on where it was; nobody gets it twice.

    Exit code 0: it is done, or begins later, or with --no-wait the mail server put off what is left. 1: it ended
    otherwise, or nobody could be sent it. 130, 143: interrupted by SIGINT, SIGTERM; start it again to go on.
    """
    with opened_kit(context) as kit:
        mailings = kit.mailings
        mailing = mailings.get(id)
        if dry_run:
            _counted(mailings.audience(id), json=json)
            return
        if mailing.state is MailingState.DRAFT:
            found = mailings.preflight(id, dns=dns)
            if found and not json:
                _show(found, to=tell)
            if not yes:
                _counted(mailings.audience(id), json=False)
                typer.confirm(f'Send "{mailing.subject}" to them now?', abort=True)
            mailings.send(id, at=_local(at), not_after=_local(not_after), dns=dns)
        elif mailing.state in (MailingState.PAUSED, MailingState.STOPPED):
            raise MailingError(
                [f"mailing {id} is {mailing.state}: {_why(mailing.note)}`consentkit mailing resume {id}`"]
            )
        elif (at and _local(at) != mailing.start_at) or (not_after and _local(not_after) != mailing.not_after):
            raise MailingError([f"mailing {id} has its times already: --at and --not-after can't change them"])
        caught = None
        mailing = mailings.get(id)
        if mailing.state is MailingState.SENDING and not _begins_later(kit, mailing, _SOON):
            mailings.readers.open()
            _could_send(kit)
            caught = _follow(kit, id, wait=wait)
        code = _code(kit, _report(kit, id, json=json), caught)
    if code:
        raise typer.Exit(code)


@app.command()
def pause(context: typer.Context, id: Id, json: JsonOption = False) -> None:
    """Release nothing more, from now on; what is being handed over is finished."""
    _changed(context, id, "pause", json=json)


@app.command()
def resume(context: typer.Context, id: Id, json: JsonOption = False) -> None:
    """Let a paused or stopped mailing go on: by the app, a worker, or `consentkit mailing send`."""
    _changed(context, id, "resume", json=json)


@app.command()
def cancel(context: typer.Context, id: Id, json: JsonOption = False) -> None:
    """Give up what has not gone out. It can't be taken up again."""
    _changed(context, id, "cancel", json=json)


@app.command()
def status(context: typer.Context, id: Id, json: JsonOption = False) -> None:
    """How it goes: messages by state, why some did not go, what is in the way, and what is in doubt."""
    with opened_kit(context) as kit:
        _report(kit, id, json=json)


@app.command()
def report(
    context: typer.Context,
    id: Id,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    lang: Annotated[str | None, typer.Option(help="The language of the words; default the site's first.")] = None,
    json: JsonOption = False,
) -> None:
    """What became of it: delivered, bounced, left; opens and clicks of those who agreed to be measured."""
    with opened_kit(context) as kit:
        site = kit.mailings.get(id).site
        made = read_report(kit.store, id, kit.now())
        renderer = kit.paper(site).renderer
        texts = renderer.texts(lang)
        if html is not None:
            _write(html, as_html(made, renderer, lang).encode())
            say(f"{html}: written")
        elif json:
            data(as_json(made))
        elif csv:
            sys.stdout.write(as_csv(made, texts))
        else:
            for row in as_rows(made, texts):
                share = f"  {row.share:.1%}" if row.share is not None else ""
                say(f"{'  ' * bool(row.detail)}{row.value:>9}  {row.label}{share}")


def worker(
    context: typer.Context,
    queue: Annotated[
        Literal["none", "procrastinate"], typer.Option(help="procrastinate: many workers on PostgreSQL share the work.")
    ] = "none",
    once: Annotated[bool, typer.Option("--once", help="Send what is due now, and end.")] = False,
) -> None:
    """Send mailings and service mails that are due, until it is told to stop (SIGTERM)."""
    with opened_kit(context) as kit:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            if queue == "procrastinate":
                kit.work_queue(once=once)
            elif once:
                asyncio.run(kit.engine.work(wait=False))
            else:
                kit.start()
                threading.Event().wait()
        except KeyboardInterrupt:
            tell("stopping: what is being handed over is finished first")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _changed(context: typer.Context, id: int, verb: str, *, json: bool) -> None:
    with opened_kit(context) as kit:
        mailing = getattr(kit.mailings, verb)(id)
    if json:
        data(asdict(mailing))
    else:
        say(f"mailing {id}: {mailing.state}")


def _could_send(kit: ConsentKit) -> None:
    """Make sure that this process can have its turn, or at least wait for it.

    Raises:
        ConsentKitError: it can't, and what to do.
    """
    turn = Turn(kit.store)
    try:
        with kit.store.told():
            turn.take()
    finally:
        turn.leave()


def _follow(kit: ConsentKit, id: int, *, wait: bool) -> int | None:
    """Send in this process, or watch another do it, and show how far it is; the signal that ended it, if one did.

    SIGINT and SIGTERM let what is being handed over be finished; a second one ends it at once.
    """
    crashed: list[Exception] = []
    caught: list[int] = []

    def run() -> None:
        try:
            asyncio.run(kit.engine.work(id, wait=wait))
        except Exception as error:
            crashed.append(error)

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {one: signal.getsignal(one) or signal.SIG_DFL for one in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=run, name="consentkit-mailing", daemon=True)
    try:
        for number in before:
            signal.signal(number, catch)
        thread.start()
        with _bar(f"mailing {id}") as moved:
            _watch(kit, id, moved, while_=lambda: thread.is_alive() and not caught, turn=thread.join)
        if caught:
            tell(f"stopping; `consentkit mailing send {id}` goes on where it was")
    finally:
        kit.engine.stop()
        thread.join(_PATIENCE)
        for number, handler in before.items():
            signal.signal(number, handler)
    if crashed:
        with kit.store.told():
            raise crashed[0]
    return caught[0] if caught else None


def _watch(kit: ConsentKit, id: int, moved: _bar, *, while_: Callable[[], bool], turn: Callable[[float], None]) -> None:
    """Show how far a mailing is, every second or as often as that is cheap."""
    due = time.monotonic() + _LOOK
    while while_():
        turn(0.1)
        began = time.monotonic()
        if began >= due:
            with suppress(ConsentKitError):  # the database is away, which the engine waits for
                moved(kit.mailings.status(id))
            due = time.monotonic() + max(_LOOK, _SHARE * (time.monotonic() - began))


class _bar:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=error_console)

    def __enter__(self) -> _bar:
        if error_console.is_terminal:
            self._progress.start()
            self._task = self._progress.add_task(self._what, total=None, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, now: Status) -> None:
        note = now.mailing.note or (f"next try {now.next_try.astimezone():%H:%M}" if now.next_try else "")
        if error_console.is_terminal:
            self._progress.update(self._task, total=now.total, completed=now.settled, note=note)
        elif time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            tell(f"{self._what}: {now.settled} of {now.total} {note}".rstrip())


def _report(kit: ConsentKit, id: int, *, json: bool) -> Status:
    now = kit.mailings.status(id)
    if json:
        shown = asdict(now.mailing) | {"counts": now.counts, "reasons": now.reasons, "in_doubt": now.in_doubt}
        data(shown | {"next_try": now.next_try, "total": now.total, "settled": now.settled})
        return now
    mailing = now.mailing
    say(f"mailing {id}: {mailing.state}, {now.settled} of {now.total} settled. {mailing.subject}")
    if mailing.note:
        say(f"in the way: {mailing.note}" if mailing.state is MailingState.SENDING else mailing.note)
    if mailing.start_at and _begins_later(kit, mailing):
        by = f"the app, `consentkit worker` or `consentkit mailing send {id}`"
        say(f"begins at {_shown(mailing.start_at)}, sent by {by}")
    if mailing.not_after and mailing.state in _OPEN:
        say(f"ends at {_shown(mailing.not_after)}: what has not gone by then never goes")
    if now.next_try is not None:
        say(f"the next try is at {_shown(now.next_try)}")
    for state in DeliveryState:
        if count := now.counts.get(state):
            say(f"  {state.replace('_', ' '):<10} {count:>9}")
            for reason, some in sorted(now.reasons.get(state, {}).items()):
                say(f"    {some:>17}  {reason}")
    if _is_abandoned(kit, now):
        say("a sender died over some of them: start `consentkit mailing send` or the worker, which takes them over")
    if now.in_doubt:
        numbers = ", ".join(map(str, now.in_doubt))
        say(f"in doubt, each may have arrived once and is not repeated: delivery {numbers}")
    return now


_OPEN: Final = (MailingState.SENDING, MailingState.PAUSED, MailingState.STOPPED)


def _begins_later(kit: ConsentKit, mailing: Mailing, after: timedelta = timedelta(0)) -> bool:
    """Whether it is sent, and begins in the future."""
    return bool(mailing.state in _OPEN and mailing.start_at and mailing.start_at > kit.now() + after)


def _is_abandoned(kit: ConsentKit, now: Status) -> bool:
    """Whether messages are in the hands of a sender that is gone, and nobody took them over."""
    if not (now.counts.get(DeliveryState.CLAIMED) or now.counts.get(DeliveryState.SENDING)):
        return False
    return kit.mailings.attendance(now.mailing.id) is Attendance.DEAD


def _code(kit: ConsentKit, now: Status, caught: int | None) -> int:
    """With what `send` ends: 0 where all went as it should."""
    state, counts = now.mailing.state, now.counts
    if state is MailingState.DONE:
        return int(not counts.get(DeliveryState.SENT) and bool(counts.get(DeliveryState.FAILED)))
    if caught is not None and state is MailingState.SENDING:
        return 128 + caught
    if state is not MailingState.SENDING:
        return 1
    idle = any(counts.get(one) for one in (DeliveryState.QUEUED, DeliveryState.CLAIMED, DeliveryState.SENDING))
    return int(idle and not _begins_later(kit, now.mailing))


def _shown(moment: datetime) -> str:
    """A moment in local time, as `--at` takes it but for the T."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConsentKitError(f"{path}: can't be written ({error.strerror})") from error


def _counted(audience: Audience, *, json: bool) -> None:
    if json:
        data({"candidates": audience.candidates, "queued": audience.queued, "excluded": audience.excluded})
        return
    say(f"{audience.queued} of {audience.candidates} would get it" if audience.queued else "nobody would get it")
    for reason, count in audience.excluded.items():
        say(f"  {count:>9}  not: {reason}")


def _show(found: Sequence[Finding], *, to: Callable[[str], None] = say) -> None:
    if not found:
        to("nothing found: it can go")
    for one in found:
        to(f"{one.level}: {one.where}: {one.what} {one.remedy}")


def _why(note: str) -> str:
    return f"{note}. Look at what was wrong, then " if note else ""


def _local(moment: datetime | None) -> datetime | None:
    return moment.astimezone() if moment else None


def _address(text: str | None) -> str | None:
    return sys.stdin.readline().strip() if text == "-" else text


def _fields(given: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    pairs = [one.partition("=") for one in given]
    return tuple(name for name, _, _ in pairs), {name: value for name, sign, value in pairs if sign}


def _where(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign:
            raise MailingError([f"--where {one}: write FIELD=VALUE"])
        found[name] = (*found.get(name, ()), value)
    return found

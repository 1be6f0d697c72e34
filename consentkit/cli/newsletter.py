"""`consentkit newsletter`: lists and their numbers, addresses from elsewhere, exports, the form to copy."""

from __future__ import annotations

import csv
import sys
from collections.abc import MutableSequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from rich.progress import Progress

from consentkit.cli.output import JsonOption, data, error_console, open_kit, say, table
from consentkit.errors import ConsentKitError, SettingsError
from consentkit.kit import ConsentKit
from consentkit.newsletter import PROOF, Importer, Route, export_list, missing_proof, read_proof

app = typer.Typer(help="The newsletter: lists, import, export, form.", no_args_is_help=True)

ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="A list of the configuration, by its id.")]
RouteName = Literal["consent", "customer", "published_address", "donor", "unproven"]


@app.command()
def lists(context: typer.Context, json: JsonOption = False) -> None:
    """The lists, and how many stand on each in which state."""
    kit = open_kit(context)
    counts = kit.newsletter.counts()
    rows = [
        {"list": id, "title": next(iter(each.title.values())), **counts.get(id, {})}
        for id, each in kit.settings.lists.items()
    ]
    kit.close()
    if json:
        for row in rows:
            data(row)
    elif rows:
        states = [name for name in next(iter(rows)) if name not in ("list", "title")]
        names = dict.fromkeys([*states, *(key for row in rows for key in row if key not in ("list", "title"))])
        header = {"list": "list", "title": "title", **{name: name for name in names}}
        table([header, *({key: row.get(key, 0) for key in header} for row in rows)])
    else:
        say("there are no lists: add [lists.<id>] to the configuration")


@app.command("import")
def import_(
    context: typer.Context,
    list: ListArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A CSV file, or - for standard input.")],
    route: Annotated[RouteName, typer.Option(help="On what ground these addresses may be mailed.")] = "unproven",
    proof: Annotated[
        str, typer.Option(help="What proves it: text; for customer and donor `sale=…; opt_out_offered=yes`.")
    ] = "",
    column: Annotated[str | None, typer.Option(help="The address column: its name, or its number from 1.")] = None,
    lang: Annotated[str | None, typer.Option(help="The language of these people; default the site's first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what would happen.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring addresses in. Without a route and its proof they land unproven, and can't be mailed."""
    kit = open_kit(context)
    paper = kit.newsletter.papers[kit.sites[0].settings.name]
    form = _form(kit, list)
    wanted = Route(route)
    proofs = read_proof(wanted, proof)
    if proof and (lacking := missing_proof(wanted, proofs)):
        kit.close()
        needs = "; ".join(f"{name}=…" for name in PROOF[wanted])
        raise ConsentKitError(f"--proof lacks {', '.join(lacking)}: the route {wanted} needs --proof '{needs}'")
    importer = Importer(
        kit.store,
        kit.afgemeld,
        topic=paper.topics[list],
        form=form,
        site=paper.site.name,
        route=wanted,
        proof=proofs,
        language=lang or paper.site.languages[0],
        now=kit.now(),
    )
    told: MutableSequence[str] = []

    def report(line: int, reason: str) -> None:
        if json:
            told.append(f"line {line}: {reason}")
        else:
            error_console.print(f"line {line}: {reason}", markup=False, highlight=False, soft_wrap=True)

    with _opened(file) as (source, size), _bar(size) as progress:
        done = importer.read(source, column=column, dry_run=dry_run, report=report, progress=progress)
    kit.close()
    if json:
        data({**asdict(done), "refused": dict(done.refused), "dry_run": dry_run, "report": told})
        return
    if dry_run:
        say("nothing was changed; this is what would happen:")
    say(f"{done.added} added, {done.proven} now proven, {done.unproven} unproven (not mailed), {done.known} known")
    say(f"{sum(done.refused.values())} passed over" + _by_reason(done.refused))


def _by_reason(refused: dict[str, int]) -> str:
    return ": " + ", ".join(f"{count} {reason}" for reason, count in refused.items()) if refused else ""


@app.command()
def export(
    context: typer.Context,
    list: Annotated[str | None, typer.Argument(metavar="[LIST]", help="A list of the configuration.")] = None,
    partner: Annotated[
        str | None, typer.Option(help="Instead: those who agreed that this partner gets their address.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Also who is not subscribed now, with the state.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the subscribers of a list as CSV; for a partner only those who agreed to exactly that."""
    kit = open_kit(context)
    if (list is None) == (partner is None):
        raise ConsentKitError("name a list, or a --partner")
    paper = kit.newsletter.papers[kit.sites[0].settings.name]
    topic = f"partner.{partner}" if partner else str(list)
    if topic not in paper.topics:
        known = ", ".join(
            id.removeprefix("partner.") for id in paper.topics if id.startswith("partner.") is bool(partner)
        )
        raise ConsentKitError(f"{partner or list!r} is not in the configuration; there are: {known or 'none'}")
    rows = export_list(kit.store, topic, agreed_only=bool(partner) or not everybody)
    names: dict[str, None] = dict.fromkeys(("email", *(name for name in _fields(kit, topic) if name != "email")))
    if partner is None:
        names |= dict.fromkeys(
            ("state", "route", "proof", "measuring", "language", "receipt", "confirmed_at", "left_at")
        )
    writer = csv.DictWriter(sys.stdout, names.keys(), restval="", extrasaction="ignore", lineterminator="\n")
    if not json:
        writer.writeheader()
    for row in rows:
        kept = {name: _harmless(row.get(name, "")) for name in names}
        if json:
            data({name: row.get(name, "") for name in names})
        else:
            writer.writerow(kept)
    kit.close()


def _harmless(cell: str) -> str:
    """A cell that a spreadsheet takes for text: what somebody typed may begin like a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


@app.command()
def form(
    context: typer.Context,
    list: ListArgument,
    lang: Annotated[str | None, typer.Option(help="The language of the form.")] = None,
) -> None:
    """Print the sign-up form as HTML, to paste into any template."""
    kit = open_kit(context)
    paper = kit.newsletter.papers[kit.sites[0].settings.name]
    html = paper.form_html(_form(kit, list), lang or paper.site.languages[0], marked=False)
    kit.close()
    sys.stdout.write(html + "\n")


@app.command()
def erase(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose data; - reads it from standard input.")],
    json: JsonOption = False,
) -> None:
    """Erase a person's data; afgemeld and the proof of consent stay, without a readable address."""
    kit = open_kit(context)
    erased = kit.newsletter.erase_address(sys.stdin.readline() if address == "-" else address)
    kit.close()
    if json:
        data({"erased": erased})
    else:
        say(
            "erased; the address is in afgemeld and can't be mailed" if erased else "nothing is kept about this address"
        )


def _form(kit: ConsentKit, list: str) -> Any:
    paper = kit.newsletter.papers[kit.sites[0].settings.name]
    found = paper.form(list)
    if found is None:
        known = ", ".join(topic.id for topic in paper.lists) or "none"
        raise SettingsError(
            [f"there is no list {list!r} to sign up for; there are: {known}"], source=kit.settings.source
        )
    return found


def _fields(kit: ConsentKit, topic: str) -> tuple[str, ...]:
    paper = kit.newsletter.papers[kit.sites[0].settings.name]
    forms = (paper.form(one.id) for one in paper.lists)
    fields = [name for form in forms if form and any(t.id == topic for t in form.topics) for name in form.fields]
    return tuple(dict.fromkeys(fields))


class _Opened:
    def __init__(self, name: str) -> None:
        self._name = name
        self._file: BinaryIO | None = None

    def __enter__(self) -> tuple[BinaryIO, int | None]:
        if self._name == "-":
            return sys.stdin.buffer, None
        path = Path(self._name)
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ConsentKitError(f"{path}: can't be read: {error.strerror}") from error
        return self._file, path.stat().st_size

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _opened(name: str) -> _Opened:
    return _Opened(name)


def _bar(size: int | None) -> Any:
    """A progress bar on a terminal, nothing elsewhere."""
    if not error_console.is_terminal:
        return nullcontext(lambda read: None)
    return _Bar(size)


class _Bar:
    def __init__(self, size: int | None) -> None:
        self._progress = Progress(console=error_console, transient=True)
        self._task = self._progress.add_task("importing", total=size)

    def __enter__(self) -> Any:
        self._progress.start()
        return lambda read: self._progress.update(self._task, completed=read)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

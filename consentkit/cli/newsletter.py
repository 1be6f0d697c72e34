"""`consentkit newsletter`: lists and their numbers, addresses from elsewhere, exports, the form to copy."""

from __future__ import annotations

import csv
import sys
from collections.abc import MutableSequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from consentkit.cli.output import JsonOption, bar, data, open_source, opened_kit, say, table, tell
from consentkit.csvstream import inert
from consentkit.errors import ConsentKitError, SettingsError
from consentkit.kit import ConsentKit
from consentkit.newsletter import PROOF, Importer, Route, export_list, missing_proof, read_proof

app = typer.Typer(help="The newsletter: lists, import, export, form.", no_args_is_help=True)

ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="A list of the configuration, by its id.")]
RouteName = Literal["consent", "customer", "published_address", "donor", "unproven"]


@app.command()
def lists(context: typer.Context, json: JsonOption = False) -> None:
    """The lists, and how many stand on each in which state."""
    with opened_kit(context) as kit:
        counts = kit.newsletter.counts()
        rows = [
            {"list": id, "title": next(iter(each.title.values())), **counts.get(id, {})}
            for id, each in kit.settings.lists.items()
        ]
    if json:
        for row in rows:
            data(row)
    elif rows:
        header = {key: key for row in rows for key in row}
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
    """Bring addresses in. Without a route and its proof they land unproven, and can't be mailed.

    Exit code 1: some rows can't be read, or hold no address.
    """
    wanted = Route(route)
    proofs = read_proof(wanted, proof)
    if proof and (lacking := missing_proof(wanted, proofs)):
        needs = "; ".join(f"{name}=…" for name in PROOF[wanted])
        raise ConsentKitError(f"--proof lacks {', '.join(lacking)}: the route {wanted} needs --proof '{needs}'")
    told: MutableSequence[str] = []

    def report(line: int, reason: str) -> None:
        if json:
            told.append(f"line {line}: {reason}")
        else:
            tell(f"line {line}: {reason}")

    with opened_kit(context) as kit, open_source(file) as (source, size), bar("importing", size) as moved:
        paper = kit.paper()
        importer = Importer(
            kit.store,
            kit.afgemeld,
            topic=paper.topics[list],
            form=_form(kit, list),
            site=paper.site.name,
            route=wanted,
            proof=proofs,
            language=lang or paper.site.languages[0],
            now=kit.now(),
        )
        done = importer.read(source, column=column, dry_run=dry_run, report=report, progress=moved)
    if json:
        data({**asdict(done), "refused": dict(done.refused), "dry_run": dry_run, "report": told})
    else:
        if dry_run:
            say("nothing was changed; this is what would happen:")
        say(f"{done.added} added, {done.proven} now proven, {done.unproven} unproven (not mailed), {done.known} known")
        say(f"{sum(done.refused.values())} passed over" + _by_reason(done.refused))
    raise typer.Exit(1 if done.unreadable else 0)


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
    if (list is None) == (partner is None):
        raise ConsentKitError("name a list, or a --partner")
    with opened_kit(context) as kit:
        paper = kit.paper()
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
            kept = {name: inert(row.get(name, "")) for name in names}
            if json:
                data({name: row.get(name, "") for name in names})
            else:
                writer.writerow(kept)


@app.command()
def form(
    context: typer.Context,
    list: ListArgument,
    lang: Annotated[str | None, typer.Option(help="The language of the form.")] = None,
    json: JsonOption = False,
) -> None:
    """Print the sign-up form as HTML, to paste into any template.

    A copy can't say which text it shows, so the evidence calls what comes in by it `post.newsletter`.
    """
    with opened_kit(context) as kit:
        paper = kit.paper()
        spoken = paper.renderer.language(lang or paper.site.languages[0])
        html = paper.form_html(_form(kit, list), spoken, marked=False)
    if json:
        data({"list": list, "lang": spoken, "html": html})
    else:
        say(*html.split("\n"))


@app.command()
def erase(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose data; - reads it from standard input.")],
    json: JsonOption = False,
) -> None:
    """Erase a person's data; afgemeld and the proof of consent stay, without a readable address."""
    with opened_kit(context) as kit:
        erased = kit.newsletter.erase_address(sys.stdin.readline() if address == "-" else address)
    if json:
        data({"erased": erased})
    else:
        say(
            "erased; the address is in afgemeld and can't be mailed" if erased else "nothing is kept about this address"
        )


def _form(kit: ConsentKit, list: str) -> Any:
    paper = kit.paper()
    found = paper.form(list)
    if found is None:
        known = ", ".join(topic.id for topic in paper.lists) or "none"
        raise SettingsError(
            [f"there is no list {list!r} to sign up for; there are: {known}"], source=kit.settings.source
        )
    return found


def _fields(kit: ConsentKit, topic: str) -> tuple[str, ...]:
    paper = kit.paper()
    forms = (paper.form(one.id) for one in paper.lists)
    fields = [name for form in forms if form and any(t.id == topic for t in form.topics) for name in form.fields]
    return tuple(dict.fromkeys(fields))

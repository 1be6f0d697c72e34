"""`consentkit records` and `consentkit purge`: prove, export, show, and clean up the evidence."""

from __future__ import annotations

import csv
import json as jsonlib
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import track

from consentkit.cli.output import JsonOption, data, error_console, open_kit, say
from consentkit.csvstream import inert
from consentkit.errors import ConsentKitError
from consentkit.mailing import pace
from consentkit.service import Duration
from consentkit.staff import Jobs, StaffLog

app = typer.Typer(help="The evidence of consent: verify, export, show.", no_args_is_help=True)

Since = Annotated[datetime | None, typer.Option(help="From this moment (UTC), such as 2026-01-31.")]
Until = Annotated[datetime | None, typer.Option(help="Up to, not including, this moment (UTC).")]
SiteName = Annotated[str | None, typer.Option("--site", help="One site, by its name; default all.")]


@app.command()
def verify(
    context: typer.Context,
    site: SiteName = None,
    anchor: Annotated[str | None, typer.Option(help="An end of the chain noted earlier, number:hash.")] = None,
    json: JsonOption = False,
) -> None:
    """Read the whole chain and find any changed, removed, inserted or reordered event."""
    kit = open_kit(context)
    report = kit.evidence.verify(site, anchor=anchor)
    kit.close()
    if json:
        data({**asdict(report), "ok": report.ok})
    else:
        say(*str(report).split("\n"))
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def export(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    site: SiteName = None,
    format: Annotated[Literal["jsonl", "csv"], typer.Option(help="JSON lines, or CSV for a spreadsheet.")] = "jsonl",
    counts: Annotated[bool, typer.Option("--counts", help="The daily counts of refusals instead.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the events, oldest first, to standard output."""
    kit = open_kit(context)
    rows: Iterable[dict[str, Any]] = (
        (asdict(count) for count in kit.evidence.counts(site))
        if counts
        else kit.evidence.export(_aware(since), _aware(until), site=site)
    )
    if error_console.is_terminal and not sys.stdout.isatty():
        rows = track(rows, "exporting", console=error_console, total=None)
    if format == "csv" and not json:
        _csv(rows)
    else:
        for row in rows:
            data(row)
    kit.close()


@app.command()
def notice(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(metavar="HASH", help="The notice's SHA-256, as an event names it.")],
    out: Annotated[Path | None, typer.Option(help="Write a page that shows it here; default: standard output.")] = None,
    json: JsonOption = False,
) -> None:
    """Show a notice exactly as it was shown then, from its hash."""
    kit = open_kit(context)
    found = kit.evidence.notice(digest)
    if found is None:
        raise ConsentKitError(f"no notice has the hash {digest}: copy it from `consentkit records export`")
    page = kit.sites[0].renderer.show_notice(found.content)
    kit.close()
    if json:
        data(found.content)
    elif out:
        out.write_bytes(page)
        say(f"{out}: written")
    else:
        sys.stdout.write(page.decode())


def purge(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    json: JsonOption = False,
) -> None:
    """Carry out retention: note what expired, delete what is over its period. For a daily cron job."""
    kit = open_kit(context)
    keep = kit.settings.retention
    now = kit.now()
    expired = 0 if dry_run else kit.evidence.expire(now)
    proofs = {paper.scope: _period(keep.newsletter) for paper in kit.newsletter.papers.values()}
    gone = kit.evidence.purge(
        now, keep=_period(keep.consent), keep_counts=_period(keep.counters), keep_in=proofs, dry_run=dry_run
    )
    letters = kit.newsletter.purge(
        now,
        unconfirmed=_period(keep.unconfirmed),
        left=_period(keep.left),
        proof=_period(keep.newsletter),
        dry_run=dry_run,
    )
    measured = kit.measuring.reduce(now, dry_run=dry_run)  # before what it counts is purged
    sent = kit.measuring.reduce_deliveries(now, keep=_period(keep.mailings), dry_run=dry_run)
    returned = kit.inbox.purge(now, keep=_period(keep.tracking), dry_run=dry_run)
    unseen = kit.audit.purge(now.date(), dry_run=dry_run)
    lines = StaffLog(kit.store, kit.now).purge(now, keep=_period(keep.staff_log), dry_run=dry_run)
    thrown = kit.drafts.purge(now, dry_run=dry_run)
    reports = Jobs(kit.store, kit.now).purge(now, dry_run=dry_run)
    if not dry_run:
        with kit.store.told(), kit.store.begin() as connection:
            pace.forget(connection, now)
    kit.close()
    if json:
        counts = {"deleted": asdict(gone), "newsletter": letters, "inbox": returned}
        counts["mailings"] = {"events": measured, "deliveries": sent}
        console = {"drafts": thrown, "staff_log": lines, "reports": reports}
        data({"expired": expired, **counts, "seen": unseen, **console, "dry_run": dry_run})
    else:
        verb = "would go" if dry_run else "deleted"
        say(f"{expired} consent(s) noted as expired")
        say(f"{verb}: {gone.events} event(s), {gone.notices} notice(s), {gone.counters} daily counter(s)")
        say(
            f"{verb}: {letters['requests']} unconfirmed sign-up(s), {letters['addresses']} address(es) of people who "
            f"left, {letters['subscriptions']} proof(s) of old subscriptions"
        )
        say(f"{verb}: {measured} open(s) and click(s), {sent} deliveries of old mailings; totals of them stay")
        say(f"{verb}: {returned} note(s) of bounces and complaints that were taken")
        say(f"{verb}: {unseen} name(s) that the audit has not seen for 13 months")
        say(f"{verb}: {lines} line(s) of the console's log")
        say(f"{verb}: {thrown} draft(s) of mailings that were thrown away 30 days ago or longer")
        say(f"{verb}: {reports} report(s) of imports, exports and checks in the console, with their files")


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _period(text: str) -> timedelta:
    return timedelta(days=Duration.parse(text).days)


def _csv(rows: Iterable[dict[str, Any]]) -> None:
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row))
            writer.writeheader()
        cells = {
            name: jsonlib.dumps(value) if isinstance(value, dict) else inert(value) if isinstance(value, str) else value
            for name, value in row.items()
        }
        writer.writerow(cells)

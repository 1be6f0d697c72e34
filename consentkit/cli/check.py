"""`consentkit check`: is the configuration whole, what would leak from these pages, and what turned out to be there?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from consentkit.cli import apps
from consentkit.cli.output import JsonOption, config_path, data, say, table, tell
from consentkit.errors import ConsentKitError
from consentkit.kit import ConsentKit
from consentkit.probe import Finding, Report, Source, Web, annotation, as_github, as_text, merged, source_of
from consentkit.probe import browser as browsing
from consentkit.probe.examine import Subject, examine, get_to_know, kit_of
from consentkit.render import load_texts
from consentkit.settings import Settings
from consentkit.web import owner
from consentkit.web.owner import Undeclared


def check(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="[URL|MODULE:APP]", help="A running site, or an app, to look at.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="A page to begin with; may be given again.")] = None,
    pages: Annotated[int, typer.Option(min=1, help="How many pages to look at.")] = 25,
    browser: Annotated[
        bool, typer.Option("--browser", help="Also open them in Chromium, and count what leaves and what is kept.")
    ] = False,
    seen: Annotated[
        bool, typer.Option("--seen", help="Also list what visitors' pages had and nobody declared.")
    ] = False,
    github: Annotated[bool, typer.Option("--github", help="Print findings as annotations of GitHub.")] = False,
    json: JsonOption = False,
) -> None:
    """Check configuration, keys and database; with a URL or an app also what its pages would let through."""
    kit = ConsentKit(Settings.load(config_path(context, config)))
    report = Report()
    if target:
        report = _look(target, kit, start=tuple(path or ("/",)), pages=pages, browser=browser)
    report.findings = [*_configuration(kit), *report.findings]
    report.warnings = [*kit.settings.advice, *report.warnings]
    rows, links = _seen(kit) if seen else ([], {})
    kit.close()
    if json:
        data(_as_data(report, rows, links, target=target, browser=browser, seen=seen))
    elif github:
        _say_github(report, rows, kit)
    else:
        _say(report, rows, links, target=target, seen=seen)
    raise typer.Exit(1 if report.findings or rows else 0)


# -- the pages --------------------------------------------------------------------------------------------------------


def _look(target: str, kit: ConsentKit, *, start: tuple[str, ...], pages: int, browser: bool) -> Report:
    asked = apps.app_or_url(target)
    with source_of(asked, (kit_of(asked) or kit).settings.all_sites[0].base_url) as source:
        subject = get_to_know(source, kit, path=start[0])
        report = examine(source, subject, start=start, most=pages, follow=True)
        if not browser:
            return report
        if isinstance(asked, str):
            _browse(source, kit, subject, report)
        else:
            with apps.serving(asked) as base:
                _browse(Web(base), kit, subject, report)
    return report


def _browse(source: Source, kit: ConsentKit, subject: Subject, report: Report) -> None:
    """Open the same pages in Chromium. On loopback a site may have another name for its cookie, so ask again."""
    known = get_to_know(source, kit, path=report.paths[0]) if report.paths else subject
    if len(known.states) < len(subject.states):
        report.warnings += known.warnings
    found: list[Finding] = []
    opened = browsing.browse(source.base, report.paths, known.states, known.viewer)
    for state in known.states:
        visits = opened[state.name]
        found += browsing.judge(visits, state, known.viewer)
        report.requests[state.name] = browsing.requests_of(visits)
        report.stored[state.name] = browsing.stored_of(visits)
        if known.flow is not None:
            for visit in visits:
                for kept in visit.stored:
                    known.flow.seen.note("cookie" if kept.kind == "cookie" else "storage", kept.name, visit.path)
    report.findings = merged([*report.findings, *found])


# -- what was seen ----------------------------------------------------------------------------------------------------


def _seen(kit: ConsentKit) -> tuple[list[Undeclared], Mapping[str, str]]:
    """What visitors' pages had and nobody declared, and the link to the owner's view of each site."""
    rows: list[Undeclared] = []
    links: dict[str, str] = {}
    kit.audit.flush()
    for site in kit.sites:
        name = site.settings.name
        rows += owner.undeclared(kit.audit.read(name), site.flow.seen.declared, load_texts("en"))
        if kit.settings.secret_keys:
            links[name] = owner.link(kit.tokens, site.settings, now=kit.now())
    return rows, links


# -- what is said -----------------------------------------------------------------------------------------------------


def _as_data(
    report: Report,
    rows: Sequence[Undeclared],
    links: Mapping[str, str],
    *,
    target: str | None,
    browser: bool,
    seen: bool,
) -> dict[str, Any]:
    told: dict[str, Any] = {"findings": [asdict(one) for one in report.findings], "pages": len(report.paths)}
    if report.warnings:
        told["warnings"] = report.warnings
    if target and browser:
        told |= {"requests": report.requests, "stored": report.stored}
    if seen:
        told |= {"seen": [asdict(row) for row in rows], "owner": dict(links)}
    return told


def _say(
    report: Report, rows: Sequence[Undeclared], links: Mapping[str, str], *, target: str | None, seen: bool
) -> None:
    if report.findings:
        say(*as_text(report.findings).splitlines())
    for state, requests in report.requests.items():
        told = ", ".join(f"{host} {count}" for host, count in requests.items()) or "nobody"
        say(f"{state}: the browser asked {told}")
        for kept in report.stored[state]:
            say(f"{state}: it kept {kept}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"{len(report.findings)} finding(s)" + (f" on {len(report.paths)} page(s)" if target else ""))
    if not seen:
        return
    say(f"{len(rows)} name(s) seen and not declared")
    table(
        {"kind": row.label, "name": row.name, "where": row.where, "first": row.first, "last": row.last,
         "count": row.count, "remedy": row.remedy}
        for row in rows
    )  # fmt: skip
    for name, link in links.items():
        say(f"{name}: {link} (for an hour)")
    if not links:
        tell("there is no link to the owner's view: without signing keys nobody could read it")


def _say_github(report: Report, rows: Sequence[Undeclared], kit: ConsentKit) -> None:
    for finding in report.findings:
        say(as_github(finding))
    for row in rows:
        what = f"{row.label} {row.name} was seen ({row.where}) and nobody declared it"
        say(as_github(Finding("undeclared", kit.settings.source, what, row.remedy, row.name)))
    for warning in report.warnings:
        say(annotation("warning", warning, title="consentkit"))


# -- the configuration ------------------------------------------------------------------------------------------------


def _configuration(kit: ConsentKit) -> list[Finding]:
    source = kit.settings.source
    found: list[Finding] = []
    if not kit.settings.secret_keys:
        found.append(Finding("configuration", source, "there are no signing keys", "Run `consentkit init`."))
    if not kit.store.healthy():
        remedy = "Start it, correct [database] url, or run `consentkit db upgrade`."
        found.append(Finding("configuration", source, "the database does not answer or has an older schema", remedy))
    if kit.settings.lists:
        found += _newsletter(kit, source)
    for site in kit.sites:
        for name in ("name", "address", "email"):
            value = getattr(site.settings.controller, name)
            if not value or value.startswith("<"):
                remedy = "GDPR art. 13(1)(a): visitors must know who asks."
                found.append(Finding("configuration", source, f"site.controller.{name} is not filled in", remedy))
    return found


def _newsletter(kit: ConsentKit, source: str) -> list[Finding]:
    """What keeps the newsletter from working."""
    found: list[Finding] = []
    try:
        kit.afgemeld.open()
        late = kit.outbox.late()
    except ConsentKitError as error:
        remedy = "Nothing is sent and nobody can sign up until it is mended; the site goes on."
        return [Finding("configuration", source, str(error), remedy)]
    if late:
        remedy = f"Look at the log, and whether {kit.settings.mail.smtp[0]} answers ([mail] smtp)."
        found.append(Finding("configuration", source, f"{late} service mail(s) wait for more than an hour", remedy))
    for id, each in kit.settings.lists.items():
        for site in kit.settings.all_sites:
            for name in ("title", "about", "frequency"):
                if missing := [lang for lang in site.languages if lang not in getattr(each, name)]:
                    remedy = "Add it: who signs up in that language must be able to read it."
                    found.append(
                        Finding("configuration", source, f"lists.{id}.{name} lacks {', '.join(missing)}", remedy)
                    )
    return found

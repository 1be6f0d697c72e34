"""`consentkit check`: is the configuration whole, and what would leak from these pages?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from consentkit import catalogue
from consentkit.cli.look import Page, base_url, look
from consentkit.cli.output import JsonOption, config_path, data, say
from consentkit.errors import ConsentKitError
from consentkit.kit import ConsentKit
from consentkit.service import Service
from consentkit.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, where, and what to do."""

    where: str
    what: str
    remedy: str


def check(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="[URL|MODULE:APP]", help="A running site, or an app, to look at.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="A page to begin with; may be given again.")] = None,
    pages: Annotated[int, typer.Option(min=1, help="How many pages to look at.")] = 25,
    json: JsonOption = False,
) -> None:
    """Check configuration, keys and database; with a URL or an app also what its pages would let through."""
    kit = ConsentKit(Settings.load(config_path(context, config)))
    findings = _configuration(kit)
    looked = 0
    if target:
        with base_url(target) as base:
            known = {**catalogue.load(), **kit.settings.named_services}
            for page in look(base, services=known.values(), start=tuple(path or ("/",)), most=pages):
                looked += 1
                findings += _page(page, kit, known)
    kit.close()
    if json:
        data({"findings": [asdict(finding) for finding in findings], "pages": looked})
    else:
        for finding in findings:
            say(f"{finding.where}: {finding.what}\n    {finding.remedy}")
        say(f"{len(findings)} finding(s)" + (f" on {looked} page(s)" if target else ""))
    raise typer.Exit(1 if findings else 0)


def _configuration(kit: ConsentKit) -> list[Finding]:
    source = kit.settings.source
    found: list[Finding] = []
    if not kit.settings.secret_keys:
        found.append(Finding(source, "there are no signing keys", "Run `consentkit init`."))
    if not kit.store.healthy():
        remedy = "Start it, correct [database] url, or run `consentkit db upgrade`."
        found.append(Finding(source, "the database does not answer or has an older schema", remedy))
    if kit.settings.lists:
        found += _newsletter(kit, source)
    for site in kit.sites:
        for name in ("name", "address", "email"):
            value = getattr(site.settings.controller, name)
            if not value or value.startswith("<"):
                remedy = "GDPR art. 13(1)(a): visitors must know who asks."
                found.append(Finding(source, f"site.controller.{name} is not filled in", remedy))
    return found


def _newsletter(kit: ConsentKit, source: str) -> list[Finding]:
    """What keeps the newsletter from working."""
    found: list[Finding] = []
    try:
        kit.afgemeld.open()
        late = kit.outbox.late()
    except ConsentKitError as error:
        remedy = "Nothing is sent and nobody can sign up until it is mended; the site goes on."
        return [Finding(source, str(error), remedy)]
    if late:
        remedy = f"Look at the log, and whether {kit.settings.mail.smtp[0]} answers ([mail] smtp)."
        found.append(Finding(source, f"{late} service mail(s) wait for more than an hour", remedy))
    for id, each in kit.settings.lists.items():
        for site in kit.settings.all_sites:
            for name in ("title", "about", "frequency"):
                if missing := [lang for lang in site.languages if lang not in getattr(each, name)]:
                    remedy = "Add it: who signs up in that language must be able to read it."
                    found.append(Finding(source, f"lists.{id}.{name} lacks {', '.join(missing)}", remedy))
    return found


def _page(page: Page, kit: ConsentKit, known: Mapping[str, Service]) -> list[Finding]:
    """What the delivered HTML would load without anybody having agreed."""
    found: list[Finding] = []
    named = set(kit.settings.named_services)
    for seen in page.seen:
        where = f"{page.path}:{seen.line}"
        if seen.service_id and seen.gated:
            title = known[seen.service_id].title if seen.service_id in known else seen.service_id
            remedy = (
                "Put the app behind kit.wrap(app): it is held back until the visitor agrees."
                if seen.service_id in named
                else f"Add [services.{seen.service_id}] so that visitors can agree to it, or remove the tag."
            )
            found.append(Finding(where, f"<{seen.tag}> loads {title} before consent", remedy))
        elif not seen.service_id:
            remedy = "Declare it as a service (docs/services.md), mark it with data-consent, or set strict = true."
            found.append(Finding(where, f"<{seen.tag}> loads from {seen.host}, which nobody declared", remedy))
    for line, tag, url in page.parked:
        remedy = "Name its service under [services.…] so that visitors can agree to it, or remove the tag."
        found.append(Finding(f"{page.path}:{line}", f"<{tag}> {url} is held back and nothing will release it", remedy))
    declared = [service for service in known.values() if service.id in named]
    for name in page.cookies:
        if name.removeprefix("__Host-") != "consentkit" and not any(service.cookie(name) for service in declared):
            remedy = "Add it to the cookies of a service; docs/services.md shows how."
            found.append(Finding(page.path, f'cookie "{name}" is set and nobody declared it', remedy))
    return found

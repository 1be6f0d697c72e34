"""`consentkit init`: writes a configuration, with the services that the site's pages turn out to use, and keys."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from consentkit import catalogue
from consentkit.cli import apps
from consentkit.cli.output import config_path, say
from consentkit.errors import ConsentKitError, SettingsError
from consentkit.gate import Gate
from consentkit.probe import Page, PageUnreachable, look, source_of
from consentkit.service import Service
from consentkit.settings import KEY_FILE, is_local


def init(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="[URL|MODULE:APP]", help="A running site, or an app, to look at.")
    ] = None,
    pages: Annotated[int, typer.Option(min=1, help="How many pages to look at.")] = 25,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing configuration (never the keys).")] = False,
) -> None:
    """Write consentkit.toml and the key file."""
    path = config_path(context)
    if path.exists() and not force:
        problem = "exists already. Replace it with --force, or name another with --config"
        raise SettingsError([problem], source=str(path))
    seen: list[Page] = []
    if target:
        asked = apps.app_or_url(target)
        with source_of(asked, "http://127.0.0.1:8000") as source:
            host = urlsplit(source.base).hostname or ""
            gate = Gate(catalogue.load().values(), configured=(), categories=(), own_hosts=(host,))
            seen = list(look(source, gate, most=pages))
        if isinstance(asked, str) and (to := seen[0].leads_to):
            raise PageUnreachable(f"{target} leads to {to}: name the address where the site is")
    services = _recognised(seen)
    path.write_text(_configuration(target, seen, services), encoding="utf-8")
    say(f"{path}: written, with {len(services)} service(s)")
    for service in services:
        say(f"  {service.title} ({service.category})")
    keys = path.parent / KEY_FILE
    say(f"{keys}: {'kept as it was' if keys.exists() else 'made (keep it out of version control, and back it up)'}")
    if not keys.exists():
        write_keys(keys)
    say("Next: complete the lines marked with <…>, then `consentkit check`.")


def write_keys(path: Path) -> None:
    """Make a key file that only its owner can read."""
    text = (
        "# Secrets of consentkit. Keep this file private and backed up.\n"
        "# To rotate: put a new key before the old one, separated by a comma.\n"
        f"CONSENTKIT_SECRET_KEYS={secrets.token_urlsafe(48)}\n"
        "# Addresses that left are kept under this key: without it the afgemeld table is lost. Never replace it.\n"
        f"CONSENTKIT_AFGEMELD_KEYS={secrets.token_urlsafe(48)}\n"
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConsentKitError(f"{path}: can't be written: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _recognised(pages: Iterable[Page]) -> list[Service]:
    """The catalogue's services that the pages load, or whose cookies they set."""
    known = catalogue.load()
    found = {seen.service_id for page in pages for seen in page.seen if seen.service_id}
    for name in {name for page in pages for name in page.cookies}:
        found |= {service.id for service in known.values() if any(i.name == name for i in service.items)}
    return [known[id] for id in sorted(found) if id in known]


def _configuration(target: str | None, pages: list[Page], services: list[Service]) -> str:
    first = pages[0] if pages else None
    name = first.title.split(" | ")[0].split(" – ")[0] if first and first.title else "<the name visitors know>"
    url = target if target and target.startswith("http") else "http://127.0.0.1:8000"
    host = urlsplit(url).hostname or ""
    statement = next(
        (link for page in pages for link in page.links if "privacy" in link.lower() and link.startswith("/")),
        "/privacyverklaring",
    )
    languages = ["en", "nl"] if first and first.lang.lower().startswith("en") else ["nl", "en"]
    strange = sorted({seen.host for page in pages for seen in page.seen if not seen.service_id and seen.host})
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in (("name", name), ("url", url))}
    lines = [
        "# The configuration of consentkit. Every key is explained in docs/settings.md.",
        "",
        "[site]",
        f"name = {quoted['name']}",
        f"base_url = {quoted['url']}" + ("            # the public address, https" if is_local(host) else ""),
        f"languages = {json.dumps(languages)}",
        f"privacy_statement = {json.dumps(statement)}",
        "",
        "[site.controller]",
        'name = "<the legal name of the organisation>"',
        'address = "<street, postcode, town>"',
        'email = "<privacy@…>"',
        "",
    ]
    for service in services:
        lines += [f"[services.{service.id}]".ljust(36) + f"# {service.title}, {service.provider}: {service.category}"]
    if not services:
        lines += ["# [services.google-analytics]        # name each service of the site; docs/services.md lists them"]
    if strange:
        lines += ["", "# These hosts were seen too. Declare them (docs/services.md), or remove what loads from them:"]
        lines += [f"#   {host}" for host in strange]
    lines += [
        "",
        "# A newsletter (docs/newsletter.md):",
        "# [lists.nieuwsbrief]",
        '# title = { nl = "Nieuwsbrief", en = "Newsletter" }',
        '# about = { nl = "<waarover>", en = "<what about>" }',
        '# frequency = { nl = "elke maand", en = "monthly" }',
        "#",
        "# [mail]",
        '# smtp = "smtp://127.0.0.1:25"',
        '# sender = "<Name> <nieuws@…>"',
    ]
    lines += ["", "[database]", 'url = "sqlite:///consentkit.db"', ""]
    return "\n".join(lines)

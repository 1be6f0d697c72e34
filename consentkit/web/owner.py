"""What the owner of a site sees of the audit: a link that holds for an hour, and each name with what to do about it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from consentkit import catalogue
from consentkit.audit import Sighting
from consentkit.errors import TokenError
from consentkit.gate.vectors import OFF
from consentkit.render import Texts
from consentkit.service import Service
from consentkit.settings import Site as SiteSettings
from consentkit.tokens import Tokens, Use
from consentkit.web.seen import KINDS, Declared

MAX_AGE = timedelta(hours=1)
"""How long a link to the owner's view holds."""

_LAYOUT = struct.Struct(">I")
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def link(tokens: Tokens, site: SiteSettings, *, now: datetime) -> str:
    """The address of the owner's view of the cookie statement. Whoever has it can read it for an hour.

    Args:
        now: the time, aware.
    """
    made = _LAYOUT.pack(int((now - _EPOCH).total_seconds())) + site.name.encode()
    return f"{site.base_url}{site.prefix}/cookies?owner={tokens.sign(Use.OWNER, made)}"


def is_owner(tokens: Tokens, token: str, site: SiteSettings, *, now: datetime) -> bool:
    """Whether a token was made for this site's owner, within the last hour."""
    try:
        made = tokens.read(Use.OWNER, token)
        at = _EPOCH + timedelta(seconds=_LAYOUT.unpack_from(made)[0])
    except (TokenError, struct.error):
        return False
    return made[_LAYOUT.size :] == site.name.encode() and timedelta(0) <= now - at + timedelta(seconds=1) <= MAX_AGE


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A name that was seen and is not declared. `label` (the kind), `where` and `remedy` are words of one language."""

    site: str
    kind: str
    label: str
    name: str
    where: str
    first: date
    last: date
    count: int
    remedy: str


def undeclared(rows: Iterable[Sighting], declared: Declared, texts: Texts) -> list[Undeclared]:
    """What is still not declared of what was seen, each with what to do.

    Args:
        rows: of one site. declared: what that site declares now. texts: of the language to speak.
    """
    known = catalogue.load()
    return [
        Undeclared(
            row.site,
            row.kind,
            texts(f"seen.kind_{row.kind}"),
            row.name,
            row.place or texts("seen.browser"),
            row.first,
            row.last,
            row.total,
            remedy(row.kind, row.name, texts, known),
        )
        for kind in KINDS
        for row in rows
        if row.kind == kind and not declared.covers(kind, row.name)
    ]


def remedy(kind: str, name: str, texts: Texts, known: Mapping[str, Service]) -> str:
    """What to do about a name that nobody declared.

    Args:
        kind: `cookie`, `host`, `storage` or `tag`. known: the services of the catalogue, by id.
    """
    if kind == "tag" and name.endswith(OFF):
        return texts("seen.remedy_tag", tool=name.removesuffix(OFF))
    found = known.get(name) if kind == "tag" else _knows(kind, name, known.values())
    if found is not None:
        return texts("seen.remedy_known", service=found.id, title=found.title)
    if kind == "tag":
        return texts("seen.remedy_unknown")
    return texts(f"seen.remedy_{kind}")


def _knows(kind: str, name: str, services: Iterable[Service]) -> Service | None:
    """The service of the catalogue that a name belongs to, if it belongs to one only."""
    ask: Any = {"cookie": Declared.cookie, "storage": Declared.storage, "host": Declared.host}[kind]
    found = [service for service in services if ask(Declared([service]), name)]
    return found[0] if len(found) == 1 else None

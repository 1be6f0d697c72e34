"""What the owner of a site sees of the audit: a link that holds for an hour, and each name with what to do about it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
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
            remedy(row.kind, row.name, texts),
        )
        for kind in KINDS
        for row in rows
        if row.kind == kind and not declared.covers(kind, row.name)
    ]


def remedy(kind: str, name: str, texts: Texts) -> str:
    """What to do about a name that nobody declared.

    Args:
        kind: `cookie`, `host`, `storage` or `tag`.
    """
    if kind == "tag" and name.endswith(OFF):
        return texts("seen.remedy_tag", tool=name.removesuffix(OFF))
    found = _known(kind, name)
    if found is not None:
        return texts("seen.remedy_known", service=found.id, title=found.title)
    if kind == "tag":
        return texts("seen.remedy_unknown")
    return texts(f"seen.remedy_{kind}")


def lines(kind: str, name: str, texts: Texts, *, declared: Collection[str] = ()) -> str:
    """What to write in `consentkit.toml` about a name that nobody declared; empty where writing there is no remedy.

    A service of the catalogue is named, and that is all. Of any other the name stands there, and what only the owner
    knows is left empty: the configuration is refused until it is filled in, so that nothing half goes out.

    Args:
        kind, name: as for `remedy`. declared: the ids of the services that the site names already.
    """
    if kind == "tag" and name.endswith(OFF):
        return f"[site.dialects]\n{name.removesuffix(OFF)} = true"
    found = _known(kind, name)
    if found is not None:
        return "" if found.id in declared else f"[services.{found.id}]"
    if kind == "tag":
        return ""
    host = name.rpartition("*.")[2].lstrip("*.-")
    if not (host if kind == "host" else name.strip("*")):
        return ""
    both = "{ " + ", ".join(f'{lang} = ""' for lang in catalogue.LANGUAGES) + " }"
    said = {key: texts(f"seen.line_{key}") for key in ("provider", "country", "category", "purpose", "duration")}
    table = [
        f"[services.{_free_id(host if kind == 'host' else name, declared)}]",
        f'provider = ""  # {said["provider"]}',
        f'country = ""  # {said["country"]}',
        f'category = ""  # {said["category"]}',
        f"purpose = {both}  # {said['purpose']}",
    ]
    if kind == "host":
        table.append(f"hosts = [{_quoted(host)}]")
    else:
        place = "cookies" if kind == "cookie" else "storage"
        local = ', kind = "local"' if kind == "storage" else ""
        kept = f'{{ name = {_quoted(name)}{local}, duration = "", purpose = {both} }}'
        table.append(f"{place} = [{kept}]  # {said['duration']}")
    return "\n".join(table)


def _free_id(name: str, declared: Collection[str]) -> str:
    """An id for a service of the owner's own, made of a name that was seen."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "service"
    taken = {*declared, *catalogue.load(), *catalogue.CATEGORIES}
    tries = (plain, f"own-{plain}", *(f"own-{plain}-{number}" for number in range(2, len(taken) + 2)))
    return next(id for id in tries if id not in taken)


def _quoted(text: str) -> str:
    """A text as TOML spells it."""
    return json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")


@lru_cache(maxsize=4096)
def _known(kind: str, name: str) -> Service | None:
    """The service of the catalogue that a name belongs to, if it belongs to one only."""
    if kind == "tag":
        return catalogue.load().get(name)
    ask: Any = {"cookie": Declared.cookie, "storage": Declared.storage, "host": Declared.host}[kind]
    found = [service for service, declared in _declarations() if ask(declared, name)]
    return found[0] if len(found) == 1 else None


@cache
def _declarations() -> Sequence[tuple[Service, Declared]]:
    return [(service, Declared([service])) for service in catalogue.load().values()]

"""From what was seen on a page to what is wrong with it, in one state of consent, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from consentkit import catalogue
from consentkit.gate import Gate
from consentkit.gate.urls import target
from consentkit.probe.pages import Page
from consentkit.probe.report import Finding
from consentkit.probe.states import GRANTED, NO_CHOICE, State
from consentkit.render import load_texts
from consentkit.service import Service
from consentkit.web.flow import PageFlow
from consentkit.web.owner import remedy
from consentkit.web.seen import Declared

_UNWRAPPED = "Put the app behind kit.wrap(app): it is held back until the visitor agrees."
_LATE = "It gets past the gate: mark it with data-consent, or report the tag as a bug of consentkit."
_OLD_WAY = "Set it only where consent_of(request).allows(…) says so, or in an app behind kit.wrap(app)."


class Viewer:
    """What findings are judged by: the services that are known, those that the site declares, and its own hosts.

    Args:
        declared: the site's. base: the scheme and host that is looked at, an own host of the site.
        flow: of the site, where consentkit stands in front of it.
    """

    def __init__(self, declared: Declared, base: str, *, flow: PageFlow | None = None) -> None:
        self.host = urlsplit(base).hostname or ""
        self.declared = declared
        self.wrapped = flow is not None
        self.known: Mapping[str, Service] = {**catalogue.load(), **{one.id: one for one in declared.services}}
        purposes = {service.purpose_id for service in declared.services}
        self.gate = flow.gate if flow else Gate(
            self.known.values(), configured=declared.ids, categories=purposes, own_hosts=(self.host,)
        )  # fmt: skip
        self._ask = Gate(self.known.values(), configured=declared.ids, categories=purposes)

    def own(self, host: str) -> bool:
        """Whether a host is the site's, as it is looked at."""
        return host == self.host or host.endswith(f".{self.host}")

    def allows(self, service: Service, state: State) -> bool:
        """Whether a service may load and store for a visitor in this state."""
        return self._ask.allows(service, state.granted)

    def service_of_cookie(self, name: str) -> Service | None:
        """Whose cookie it is; one that the site declares goes before one of the catalogue."""
        return next((service for service in self.declared.services if service.cookie(name)), self._ask.cookie(name))

    def english(self, kind: str, name: str) -> str:
        """What to do about a name that nobody declared."""
        return remedy(kind, name, load_texts("en"))


def inspect(page: Page, viewer: Viewer, state: State) -> Iterator[Finding]:
    """What is wrong with a page that a visitor in this state got."""
    yield from _tags(page, viewer, state)
    yield from _held(page, viewer, state)
    for name in dict.fromkeys(page.cookies):
        yield from cookie(name, page.path, viewer, state)


def _tags(page: Page, viewer: Viewer, state: State) -> Iterator[Finding]:
    for seen in page.seen:
        where = f"{page.path}:{seen.line}"
        if seen.parked:
            what = f"<{seen.tag}> is parked and nothing will release it"
            yield Finding("parked", where, what, viewer.english("tag", seen.parked), seen.parked, (state.name,))
            continue
        service = viewer.known.get(seen.service_id) if seen.service_id else None
        if service is not None and not viewer.allows(service, state):
            if service.id not in viewer.declared.ids:
                fix = f"Add [services.{service.id}] so that visitors can agree to it, or remove the tag."
            else:
                fix = _LATE if viewer.wrapped else _UNWRAPPED
            when = "before consent" if state.name in (NO_CHOICE, GRANTED) else "after a refusal"
            what = f"<{seen.tag}> loads {service.title} {when}"
            yield Finding("leak", where, what, fix, service.id, (state.name,))
        elif service is None and seen.host and not viewer.own(seen.host) and not viewer.declared.host(seen.host):
            yield undeclared_host(f"<{seen.tag}> loads from {seen.host}", where, seen.host, state)


def undeclared_host(what: str, where: str, host: str, state: State) -> Finding:
    """A third party that no service of the site or of the catalogue names."""
    fix = "Declare it as a service (docs/services.md), mark it with data-consent, or set strict = true."
    return Finding("undeclared", where, f"{what}, which nobody declared", fix, host, (state.name,))


def _held(page: Page, viewer: Viewer, state: State) -> Iterator[Finding]:
    for line, tag, url in page.parked:
        service = viewer.gate.service_of_url(url) if "//" in url else None
        named = f"[services.{service.id}]" if service else "its service under [services.…]"
        fix = f"Name {named} so that visitors can agree to it, or remove the tag."
        what = f"<{tag}> {url} is held back and nothing will release it"
        place = target(url)
        name = service.id if service else place.host if place else url
        yield Finding("parked", f"{page.path}:{line}", what, fix, name, (state.name,))


def cookie(name: str, where: str, viewer: Viewer, state: State) -> Iterator[Finding]:
    """What is wrong with a cookie that is there in this state."""
    service = viewer.service_of_cookie(name)
    if not viewer.declared.cookie(name):
        fix = viewer.english("cookie", name) if service else (
            "Add it to the cookies of a service; docs/services.md shows how."
        )  # fmt: skip
        yield Finding("undeclared", where, f'cookie "{name}" is set and nobody declared it', fix, name, (state.name,))
    elif service is not None and not viewer.allows(service, state):
        what = f'cookie "{name}" of {service.title} is set without consent'
        yield Finding("leak", where, what, _OLD_WAY, name, (state.name,))

"""One look at a site: which states of consent can be looked at, and what its pages show in each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from consentkit.gate.urls import without_port
from consentkit.kit import ConsentKit
from consentkit.probe.inspect import Viewer, inspect
from consentkit.probe.pages import look
from consentkit.probe.report import Finding, Report, merged
from consentkit.probe.source import App, PageUnreachable, Source
from consentkit.probe.states import GRANTED, NO_CHOICE, State, states
from consentkit.settings import is_local
from consentkit.web.flow import PageFlow
from consentkit.web.middleware import ConsentMiddleware
from consentkit.web.seen import Declared

_OTHER_KEYS = (
    "the site does not take choices that are signed with these keys: only pages before a choice were looked at. "
    "Run the check with the site's own keys to see the rest."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A site that is looked at, as far as it is known.

    Args:
        viewer: what findings are judged by. states: those that it can be looked at in.
        flow: of the site, where it is ours. warnings: why there are fewer states than three.
    """

    viewer: Viewer
    states: Sequence[State]
    flow: PageFlow | None
    warnings: Sequence[str] = ()


def kit_of(app: Any) -> ConsentKit | None:
    """The kit of an app that consentkit wraps."""
    kit = app.kit if isinstance(app, ConsentMiddleware) else None
    return kit if isinstance(kit, ConsentKit) else None


def get_to_know(source: Source, kit: ConsentKit | None, *, path: str = "/") -> Subject:
    """What stands behind an address: consentkit with keys that we have, with others, or none.

    Args:
        kit: of the configuration at hand; an app that is wrapped already keeps its own. path: a page of the site.

    Raises:
        PageUnreachable: it does not answer.
    """
    host = urlsplit(source.base).netloc
    if isinstance(source, App):
        source.get(path)
        if source.flow is not None:
            flow = source.flow
            return Subject(Viewer(flow.seen.declared, source.base, flow=flow), states(flow, flow.seen.today()), flow)
    site = kit.find_site(host) if kit else None
    if kit is None or site is None:
        return Subject(Viewer(Declared(), source.base), [State(NO_CHOICE)], None)
    flow = site.flow
    ours = not isinstance(source, App) and _is_of(kit, host)
    known = states(flow, kit.today())
    if ours and (found := _receipt(source, flow, known)):
        viewer = Viewer(flow.seen.declared, source.base, flow=flow)
        if found == "given":
            return Subject(viewer, known, flow)
        return Subject(viewer, known[:1], flow, [_OTHER_KEYS])
    return Subject(Viewer(flow.seen.declared, source.base), known[:1], None)


def examine(source: Source, subject: Subject, *, start: tuple[str, ...], most: int, follow: bool) -> Report:
    """Look at the pages as each kind of visitor gets them.

    Args:
        start: the paths to begin with. most: how many pages at the most. follow: whether links are followed.

    Raises:
        PageUnreachable: one of the start pages does not answer.
    """
    report = Report(warnings=list(subject.warnings))
    paths = start
    found: list[Finding] = []
    for number, state in enumerate(subject.states):
        seen: list[str] = []
        pages = look(
            source, subject.viewer.gate, start=paths, most=most, follow=follow and not number,
            cookie=state.cookie, granted=state.granted,
        )  # fmt: skip
        for page in pages:
            seen.append(page.path)
            found += inspect(page, subject.viewer, state)
            if page.leads_to and not number:
                report.warnings.append(f"{page.path} leads to {page.leads_to}, where nothing was looked at")
        if not number:
            paths = tuple(seen)  # the other visitors go where the first went
            report.paths = paths
    report.findings = merged(found)
    return report


def _is_of(kit: ConsentKit, host: str) -> bool:
    name = without_port(host)
    sites = kit.settings.all_sites
    return is_local(name) or any(name.lower() in (site.host.lower(), *site.hosts) for site in sites)


def _receipt(source: Source, flow: PageFlow, known: Sequence[State]) -> str:
    """What the site itself says of a visitor who granted everything; empty where no consentkit answers."""
    granted = next(state for state in known if state.name == GRANTED)
    try:
        answer = source.get(f"{flow.prefix}/receipt", granted.cookie)
        told = json.loads(answer.body) if answer.status == 200 else {}
    except (PageUnreachable, ValueError):
        return ""
    return str(told.get("state", "")) if isinstance(told, dict) else ""

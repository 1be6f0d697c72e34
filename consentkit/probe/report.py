"""What the probe found, and how it is told: as text, and as annotations for GitHub's checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|(?<=#)#(?=\\[)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        kind: `configuration`; `leak` (loads or is stored without consent); `undeclared` (nobody told visitors of it);
            `parked` (held back, and nothing will release it).
        where: a page's path, with the line in the HTML as it was sent, such as `/contact:12`; or a file.
        what: a sentence without a full stop. remedy: what to do.
        name: of the host, cookie, storage or service that it is about.
        states: of consent, in which it was found; empty where that makes no difference.
    """

    kind: str
    where: str
    what: str
    remedy: str
    name: str = ""
    states: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where, without the line."""
        path, _, line = self.where.rpartition(":")
        return path if path and line.isdigit() else self.where

    @property
    def line(self) -> int:
        """The line; 0 where there is none."""
        line = self.where.rpartition(":")[2]
        return int(line) if line.isdigit() and self.path != self.where else 0

    def __str__(self) -> str:
        states = f" ({', '.join(self.states)})" if self.states else ""
        return f"{visible(self.where)}: {visible(self.what)}{states}\n    {visible(self.remedy)}"


@dataclass(slots=True)
class Report:
    """All that one look at a site gave.

    Args:
        paths: of the pages that were looked at. requests: to other hosts, per state of consent; stored: what the
            browser kept, per state; both only where a browser looked.
        warnings: what is no finding, and still to be known.
    """

    findings: list[Finding] = field(default_factory=list)
    paths: tuple[str, ...] = ()
    requests: dict[str, Mapping[str, int]] = field(default_factory=dict)
    stored: dict[str, Sequence[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The same finding of several states as one, in the order in which they came."""
    found: dict[Finding, list[str]] = {}
    for one in findings:
        found.setdefault(replace(one, states=()), []).extend(one.states)
    return [replace(one, states=tuple(dict.fromkeys(states))) for one, states in found.items()]


def visible(text: str) -> str:
    """A text as one line, for names come from strangers.

    Control characters, line ends, what turns the direction of text and lone surrogates are written as `\\n`, `\\x1b`,
    `\\u202e`; `##[`, which begins a command of GitHub wherever it stands, is broken.
    """
    return _UNSEEN.sub(lambda found: _escaped(found[0]), text)


def _escaped(char: str) -> str:
    return "\\x23" if char == "#" else char.encode("unicode_escape").decode("ascii")


def as_text(findings: Iterable[Finding]) -> str:
    """Findings by page and by the states of consent that they hold in."""
    out: list[str] = []
    ordered = sorted(findings, key=lambda one: (one.kind != "configuration", one.path, len(one.states), one.states))
    for (path, states), group in groupby(ordered, key=lambda one: (one.path, one.states)):
        out.append(path + (f", {', '.join(states)}:" if states else ":"))
        for one in group:
            out.append(f"  {f'line {one.line}: ' if one.line else ''}{one.what}")
            out.append(f"      {one.remedy}")
    return "".join(f"{visible(line)}\n" for line in out)


def as_github(finding: Finding) -> str:
    """One finding as a workflow command of GitHub, which shows it beside the change."""
    states = f" [{', '.join(finding.states)}]" if finding.states else ""
    place = {"file": finding.path, "line": str(finding.line or 1), "title": f"consentkit: {finding.kind}"}
    return annotation("error", f"{finding.what}{states}. {finding.remedy}", **place)


def annotation(level: str, text: str, **place: str) -> str:
    """A workflow command of GitHub that shows a text.

    Args:
        level: `error` or `warning`. place: its `file`, `line` and `title`.
    """
    properties = ",".join(f"{name}={_property(value)}" for name, value in place.items())
    return f"::{level} {properties}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

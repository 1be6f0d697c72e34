"""What visitors chose with an earlier consent tool, as far as its cookie says so and our words can say the same.

A refusal is honoured: it is not asked again. A grant was given to another text, which nobody knows here any more; it
counts only where the site says so, and as what it is. The cookies are read as anybody may have written them: bounded,
and whatever does not look like the tool's own is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote

from consentkit.choice.cookies import find, names
from consentkit.choice.policy import Policy
from consentkit.choice.state import Choice
from consentkit.service import NECESSARY

MAX_HEADER: Final = 32 * 1024
MAX_VALUE: Final = 4096

OLD_COOKIES: Final = (
    "CookieConsent",
    "cc_cookie",
    "klaro",
    "cmplz_banner-status",
    "cookieyes-consent",
    "OptanonConsent",
)
"""The cookies of which one shows that an earlier tool was answered."""

_SOME = re.compile(r"(?:^|[; ])(?:" + "|".join(map(re.escape, OLD_COOKIES)) + ")=")
_COOKIEBOT = re.compile(r"\b(preferences|statistics|marketing):(true|false)\b")
_GROUPS = re.compile(r"(?:^|&)groups=([^&]*)")
_GROUP = re.compile(r"([\w-]+):([01])(?![^,])")
_COMPLIANZ = re.compile(r"(?:^|[; ])cmplz_([a-z-]+)=(allow|deny)(?=;|$)")
_COOKIEYES = re.compile(r"(?:^|,)([a-z]+):(yes|no)(?=,|$)")


class Dialects(Protocol):
    """What the words of other tools mean on this site."""

    def reads(self, dialect: str) -> bool: ...
    def meaning(self, dialect: str, word: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Imported:
    """An answer that another tool kept, in our names: category and service ids.

    Args:
        tool: whose cookie it was; of several the first.
        refused, granted: names that may overlap where the tool asked in finer or coarser parts; refusing goes first.
        rest_refused: the tool writes down only what was accepted, so all else was refused.
    """

    tool: str
    refused: frozenset[str]
    granted: frozenset[str]
    rest_refused: bool = False

    def answers(self, policy: Policy) -> dict[str, bool]:
        """The purposes of this site that were answered, each with whether it was granted."""
        granted = {
            purpose.id
            for purpose in policy.asked
            if not self.granted.isdisjoint((purpose.category, purpose.id))
            or self.granted.issuperset(service.id for service in purpose.services)
        }
        refused = {
            purpose.id
            for name in self.refused
            for purpose in policy.purposes
            if name in (purpose.category, purpose.id) or any(service.id == name for service in purpose.services)
        }
        if self.rest_refused:
            refused |= {purpose.id for purpose in policy.asked} - granted
        return {
            purpose.id: purpose.id not in refused
            for purpose in policy.purposes
            if purpose.id in refused or purpose.id in granted
        }


def choice_of(answers: Mapping[str, bool], policy: Policy, *, today: date, record_id: bytes | None = None) -> Choice:
    """The choice that these answers make; decided once nothing is left to ask."""
    answered = {one.fingerprint: answers[one.id] for one in policy.purposes if one.id in answers}
    return Choice(today, all(one.id in answers for one in policy.asked), answered, record_id)


class Found(NamedTuple):
    """What an earlier tool's cookie means to this site, for one visitor.

    `answers` are the purposes that it answers. `choice` holds the refusals among them, which count at once. Where
    something was granted it is still to be recorded (`importing`) and counts only then.
    """

    tool: str
    answers: Mapping[str, bool]
    choice: Choice
    importing: bool


@dataclass(frozen=True, slots=True)
class OldChoices:
    """How one site takes over what earlier tools kept.

    Args:
        policy: what the site asks. dialects: which tools are read, and what their words mean.
        grants: whether what was granted there counts too, once it is recorded as imported.
        domain: the parent domain whose subdomains share the choice, if they do.
    """

    policy: Policy
    dialects: Dialects
    grants: bool
    domain: str | None = None

    def read(self, cookies: str, *, signal: str | None, today: date) -> Found | None:
        """What is taken over of these cookies; None when nothing is. The browser's own signal beats a grant."""
        found = read(cookies, self.dialects)
        if found is None:
            return None
        grants = self.grants and not signal
        answers = {id: granted for id, granted in found.answers(self.policy).items() if grants or not granted}
        if not answers:
            return None
        refusals = {id: granted for id, granted in answers.items() if not granted}
        choice = choice_of(refusals, self.policy, today=today)
        return Found(found.tool, answers, choice, importing=any(answers.values()))

    def spent(self, cookies: str) -> tuple[str, ...]:
        """The cookies of other tools that may not speak again, once the visitor's choice is kept here.

        A grant in them would come back when the choice kept here has run out, whatever was said since.
        """
        return tuple(filter(_is_old, names(cookies))) if self.grants else ()


def _is_old(name: str) -> bool:
    return name in OLD_COOKIES or name == "OptanonAlertBoxClosed" or name.startswith("cmplz_")


def read(cookies: str, dialects: Dialects) -> Imported | None:
    """What the cookies of other tools say; None when none of them holds an answer that can be said in our words.

    Args:
        cookies: the `Cookie` header. dialects: which tools are read, and what their words mean.
    """
    if len(cookies) > MAX_HEADER or not _SOME.search(cookies):
        return None
    tool = ""
    refused: set[str] = set()
    granted: set[str] = set()
    rest = False
    for name, reader in _READERS.items():
        if not dialects.reads(name):
            continue
        found = list(reader(cookies))
        if not found:
            continue
        tool = tool or name
        rest |= _REST in found
        for word, yes in found:
            meant = dialects.meaning(name, word) if word else None
            if meant is not None and meant != NECESSARY:
                (granted if yes else refused).add(meant)
    if not refused and not granted and not rest:
        return None
    return Imported(tool, frozenset(refused), frozenset(granted), rest)


_REST: Final = ("", False)
"""Everything that is not named was refused."""

_Said = Iterable[tuple[str, bool]]


def _value(cookies: str, name: str) -> str:
    found = find(cookies, name)
    return "" if found is None or len(found) > MAX_VALUE else found


def _json(cookies: str, name: str) -> Any:
    try:
        return json.loads(unquote(_value(cookies, name)))
    except (ValueError, RecursionError):
        return None


def _cookiebot(cookies: str) -> _Said:
    """A JavaScript object with bare keys. What the tool assumed (`implied`) nobody chose."""
    text = unquote(_value(cookies, "CookieConsent"))
    if "implied" in text or "stamp:'-1'" in text:
        return []
    return [(name, value == "true") for name, value in _COOKIEBOT.findall(text)]


def _vanilla(cookies: str) -> Iterator[tuple[str, bool]]:
    """The accepted categories; version 3 names the others too, among the services."""
    data = _json(cookies, "cc_cookie")
    if not isinstance(data, dict):
        return
    accepted = data.get("categories", data.get("level"))
    if not isinstance(accepted, list):
        return
    said = [name for name in accepted if isinstance(name, str)]
    services = data.get("services")
    others = [name for name in services if name not in said] if isinstance(services, dict) else []
    yield from ((name, True) for name in said)
    yield from ((name, False) for name in others)
    if not isinstance(services, dict) or not services:
        yield _REST


def _klaro(cookies: str) -> _Said:
    data = _json(cookies, "klaro")
    if not isinstance(data, dict):
        return []
    return [(name, value) for name, value in data.items() if isinstance(value, bool) and name]


def _complianz(cookies: str) -> _Said:
    if _value(cookies, "cmplz_banner-status") != "dismissed":
        return []
    said = [(name, value == "allow") for name, value in _COMPLIANZ.findall(cookies) if name != "functional"]
    services = _json(cookies, "cmplz_consented_services")
    refused = [name for name, value in services.items() if value is False] if isinstance(services, dict) else []
    return said + [(name, False) for name in refused]


def _cookieyes(cookies: str) -> _Said:
    said = dict(_COOKIEYES.findall(unquote(_value(cookies, "cookieyes-consent"))))
    if said.pop("action", "") != "yes":
        return []
    return [(name, value == "yes") for name, value in said.items() if name not in ("consent", NECESSARY)]


def _onetrust(cookies: str) -> _Said:
    """Its cookie is there from the first page on; only closing the box was an answer."""
    groups = _GROUPS.search(_value(cookies, "OptanonConsent"))
    if groups is None or not _value(cookies, "OptanonAlertBoxClosed"):
        return []
    return [(name, value == "1") for name, value in _GROUP.findall(unquote(groups[1]))]


_READERS: Final = {
    "cookiebot": _cookiebot,
    "vanilla-cookieconsent": _vanilla,
    "klaro": _klaro,
    "complianz": _complianz,
    "cookieyes": _cookieyes,
    "onetrust": _onetrust,
}

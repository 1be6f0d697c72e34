"""Forms as they are declared: which fields, what for, how long, which choices. What is not declared is not taken. Pure.

Every choice is a box of its own and starts unticked (GDPR recital 32, CJEU C-673/17); leaving all of them empty never
blocks the form (GDPR art. 7(4)).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from consentkit.address import Address
from consentkit.errors import AddressError, FormRefused, SettingsError
from consentkit.service import Text
from consentkit.settings import NO_PURPOSE, Settings
from consentkit.settings import Form as FormSettings

HONEYPOT = "website"
"""A field that people don't see. Who fills it in is a program, and is answered as if all went well."""

_MOST = {"email": 254, "message": 5000}
_MOST_ELSE = 200
_OURS = frozenset({"lists", "measuring", "uses", "partners", "age", "parent_email", "lang", "text", "next", HONEYPOT})
_TICKED = frozenset({"on", "1", "yes", "true", "ja"})
_NO_SIGNS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to agree to: a list, another use of the answers, or a partner who gets the address.

    Args:
        id: as it stands in subscriptions: a list's own id, `use.<id>` or `partner.<id>`.
        title, about: what it is, per language. frequency: how often, for a list.
        sender: who writes; for a partner its name.
        webhook: what is told when somebody withdraws, for a partner.
    """

    id: str
    kind: Literal["list", "use", "partner"]
    title: Text
    about: Text
    frequency: Text = field(default_factory=dict)
    sender: str = ""
    valid: str = "10 years"
    webhook: str | None = None

    @property
    def value(self) -> str:
        """What stands in the form: the id without its kind."""
        return self.id.removeprefix(f"{self.kind}.")


@dataclass(frozen=True, slots=True)
class Form:
    """A form with everything that stands at it.

    Args:
        id: of `[forms.<id>]`, or of the list whose own form it is.
        own: the list that sending it signs up for; None for a form that only offers lists.
        also: other lists that can be ticked.
    """

    id: str
    fields: tuple[str, ...]
    optional: frozenset[str]
    labels: Mapping[str, Text]
    title: Text
    purpose: Text
    retention: str
    own: Topic | None
    also: tuple[Topic, ...]
    uses: tuple[Topic, ...]
    partners: tuple[Topic, ...]
    children: bool

    @property
    def measures(self) -> bool:
        """Whether it asks to measure opens and clicks: only beside a list."""
        return self.own is not None or bool(self.also)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Everything that can be agreed to here."""
        own = (self.own,) if self.own else ()
        return (*own, *self.also, *self.uses, *self.partners)

    def read(self, data: Iterable[tuple[str, str]]) -> Answer:
        """What somebody filled in.

        Raises:
            FormRefused: a needed field is empty or wrong; with a text key per field.
        """
        given: dict[str, list[str]] = {}
        for name, value in data:
            given.setdefault(name, []).append(value)
        problems: dict[str, str] = {}
        values: dict[str, str] = {}
        for name in self.fields:
            text = clean(given.get(name, [""])[0], multiline=name == "message")
            if not text and name not in self.optional:
                problems[name] = "needed"
            elif len(text) > _MOST.get(name, _MOST_ELSE):
                problems[name] = "too_long"
            elif text:
                values[name] = text
        if "email" in values and (wrong := _not_an_address(values["email"])):
            problems["email"] = wrong
        young, parent = self._age(given, values, problems)
        if problems:
            raise FormRefused(problems)
        chosen = {topic.id: topic for topic in ((self.own,) if self.own else ())}
        for name, offered in (("lists", self.also), ("uses", self.uses), ("partners", self.partners)):
            ticked = {word for value in given.get(name, []) for word in value.replace(",", " ").split()}
            chosen |= {topic.id: topic for topic in offered if topic.value in ticked}
        return Answer(
            form=self,
            fields=values,
            topics=tuple(chosen.values()),
            measuring=self.measures and _ticked(given.get("measuring", [])),
            young=young,
            parent=parent,
            dropped=tuple(sorted(set(given) - set(self.fields) - _OURS)),
            trapped=bool("".join(given.get(HONEYPOT, [])).strip()),
            lang=given.get("lang", [""])[0],
        )

    def _age(
        self, given: Mapping[str, list[str]], values: Mapping[str, str], problems: dict[str, str]
    ) -> tuple[bool, str]:
        if not self.children:
            return False, ""
        age = given.get("age", [""])[0]
        if age not in ("under16", "16plus"):
            problems["age"] = "needed"
        if age != "under16":
            return False, ""
        parent = clean(given.get("parent_email", [""])[0])
        if not parent:
            problems["parent_email"] = "needed"
        elif wrong := _not_an_address(parent):
            problems["parent_email"] = wrong
        elif parent.casefold() == values.get("email", "").casefold():
            problems["parent_email"] = "same"
        return True, parent


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What somebody filled in, as far as it was asked.

    Args:
        topics: what was agreed to. measuring: opens and clicks may be measured.
        young: under 16, so a parent has to agree first. parent: where the parent is asked.
        dropped: the names of fields that nobody declared; their contents are gone.
        trapped: the field that people don't see was filled in.
        lang: the language that the form was in, where it says so.
    """

    form: Form
    fields: Mapping[str, str]
    topics: tuple[Topic, ...]
    measuring: bool
    young: bool
    parent: str
    dropped: tuple[str, ...] = ()
    trapped: bool = False
    lang: str = ""

    def agreed(self, topic: str) -> bool:
        """Whether a topic (`nieuwsbrief`, `use.analysis`, `partner.klik`) was ticked."""
        return any(one.id == topic for one in self.topics)


def of_list(settings: Settings, id: str) -> Form:
    """The sign-up form of a list: the one that it names, else e-mail only, with the other lists to tick."""
    own = settings.lists[id]
    if own.form:
        form = settings.forms[own.form]
        return _build(settings, own.form, form, own=id, also=form.lists)
    return _build(settings, id, FormSettings(title=own.title), own=id, also=settings.lists)


def declared(settings: Settings, id: str) -> Form:
    """A form of the host's own, by its id in the configuration, with all that must stand at it.

    Raises:
        KeyError: there is none. SettingsError: it does not say what its answers are used for (GDPR art. 13(1)(c)).
    """
    if not settings.forms[id].purpose:
        raise SettingsError([f"forms.{id}.purpose: {NO_PURPOSE}"], source=settings.source)
    return named(settings, id)


def named(settings: Settings, id: str) -> Form:
    """The same whatever it lacks, for what was asked through it before."""
    form = settings.forms[id]
    return _build(settings, id, form, own=None, also=form.lists)


def _build(settings: Settings, id: str, form: FormSettings, *, own: str | None, also: Iterable[str]) -> Form:
    return Form(
        id=id,
        fields=form.fields,
        optional=frozenset(form.optional),
        labels=form.labels,
        title=form.title,
        purpose=form.purpose,
        retention=form.retention,
        own=list_topic(settings, own) if own else None,
        also=tuple(list_topic(settings, other) for other in also if other != own and not settings.lists[other].pupils),
        uses=tuple(Topic(f"use.{use}", "use", text, text) for use, text in form.uses.items()),
        partners=tuple(
            Topic(
                f"partner.{partner}",
                "partner",
                dict.fromkeys(each.purpose, each.name),
                each.purpose,
                sender=each.name,
                webhook=each.webhook,
            )
            for partner, each in form.partners.items()
        ),
        children=form.children,
    )


def list_topic(settings: Settings, id: str) -> Topic:
    """A list as something to agree to."""
    own = settings.lists[id]
    return Topic(id, "list", own.title, own.about, own.frequency, sender=settings.sender_of(id) or "", valid=own.valid)


def every_topic(settings: Settings) -> dict[str, Topic]:
    """Everything that the configuration lets people agree to, by id."""
    found: dict[str, Topic] = {id: list_topic(settings, id) for id in settings.lists}
    for id in settings.forms:
        found |= {topic.id: topic for topic in named(settings, id).topics if topic.kind != "list"}
    return found


def clean(text: str, *, multiline: bool = False) -> str:
    """Without control and invisible signs, and halves of signs, which no database takes; one line, but a message."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    kept = "".join(
        sign if (multiline and sign == "\n") or unicodedata.category(sign) not in _NO_SIGNS else " " for sign in text
    )
    return kept.strip()


def _not_an_address(text: str) -> str | None:
    try:
        Address.parse(text)
    except AddressError:
        return "no_address"
    return None


def _ticked(values: Any) -> bool:
    return any(value.strip().casefold() in _TICKED for value in values)

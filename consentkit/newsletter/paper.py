"""What one site says about its lists: forms, notices, links and senders, in each of its languages."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from functools import cached_property
from typing import Any, Final

from consentkit.errors import TokenError
from consentkit.evidence import Notice
from consentkit.newsletter import forms
from consentkit.newsletter.forms import HONEYPOT, Form, Topic
from consentkit.render import Renderer, Texts
from consentkit.render.markup import words
from consentkit.service import Duration
from consentkit.settings import Settings
from consentkit.settings import Site as SiteSettings
from consentkit.tokens import Tokens, Use

MARK: Final = 16
"""So many hexadecimal digits of a notice's hash name its text in a form."""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_MOST_RENDERED: Final = 256
_SECONDS = struct.Struct(">I")
_KINDS = {"email": ("email", "email"), "phone": ("tel", "tel"), "postcode": ("text", "postal-code")}
_AUTOCOMPLETE = {
    "name": "name",
    "first_name": "given-name",
    "last_name": "family-name",
    "organisation": "organization",
    "city": "address-level2",
}


class TokenTooOld(TokenError):
    """A link that was good, too long ago."""


class Paper:
    """One site's newsletter texts. Made once at the start.

    Args:
        site, settings: of the configuration. renderer: of the site. tokens: signs links that expire.
    """

    def __init__(self, site: SiteSettings, settings: Settings, renderer: Renderer, tokens: Tokens) -> None:
        self.site = site
        self.settings = settings
        self.renderer = renderer
        self._tokens = tokens
        self._notices: dict[tuple[str, str, str], Notice] = {}
        self._rendered: dict[tuple[str, ...], str] = {}

    @property
    def scope(self) -> str:
        """The chain of this site's newsletter events: apart from its cookie choices, which are kept less long."""
        return f"{self.site.name}/newsletter"

    @cached_property
    def topics(self) -> Mapping[str, Topic]:
        """Everything that can be agreed to, by id."""
        return forms.every_topic(self.settings)

    @cached_property
    def _forms(self) -> Mapping[str, Form]:
        return {id: forms.of_list(self.settings, id) for id, each in self.settings.lists.items() if not each.pupils}

    def form(self, list: str) -> Form | None:
        """The sign-up form of a list; None where there is no such list, or nobody can sign up for it."""
        return self._forms.get(list)

    def form_of(self, id: str, list: str) -> Form | None:
        """The form with this id through which a list was asked for; None where it is gone."""
        found = self.form(list)
        if found is not None and found.id == id:
            return found
        return forms.named(self.settings, id) if id in self.settings.forms else found

    @cached_property
    def lists(self) -> Sequence[Topic]:
        """The lists that people can sign up for."""
        return tuple(form.own for form in self._forms.values() if form.own is not None)

    def url(self, route: str, *, lang: str | None = None) -> str:
        """A route of ours as it stands in a mail."""
        query = f"?lang={lang}" if lang else ""
        return f"{self.site.base_url}{self.site.prefix}/{route}{query}"

    def sender(self, topic: str) -> str:
        """Who writes the mails about a topic, as `Name <address>`."""
        return self.settings.sender_of(topic) or ""

    # -- links that expire --

    def link(self, use: Use, payload: bytes, now: datetime) -> str:
        """A signed token that carries its own time."""
        return self._tokens.sign(use, _SECONDS.pack(int((now - _EPOCH).total_seconds())) + payload)

    def read(self, use: Use, token: str, now: datetime, *, most: timedelta | None) -> bytes:
        """The payload of a link.

        Raises:
            TokenTooOld: it is older than `most`. TokenError: it is not ours.
        """
        payload = self._tokens.read(use, token)
        if len(payload) <= _SECONDS.size:
            raise TokenError("not a signed value of ours")
        made = _EPOCH + timedelta(seconds=_SECONDS.unpack_from(payload)[0])
        if most is not None and now - made > most:
            raise TokenTooOld("this link is too old")
        return payload[_SECONDS.size :]

    # -- what is shown --

    def topic_view(self, topic: Topic, lang: str) -> dict[str, Any]:
        """One topic in words."""
        say = self.renderer.say
        return {
            "id": topic.id,
            "value": topic.value,
            "kind": topic.kind,
            "title": say(topic.title, lang),
            "about": say(topic.about, lang),
            "frequency": say(topic.frequency, lang) if topic.frequency else "",
            "sender": parseaddr(topic.sender)[0] or topic.sender,
        }

    def form_view(self, form: Form, lang: str) -> dict[str, Any]:
        """A form in words: everything that stands at it."""
        lang = self.renderer.language(lang)
        texts = self.renderer.texts(lang)
        view = {
            "id": form.id,
            "lang": lang,
            "title": self.renderer.say(form.title, lang) if form.title else "",
            "own": self.topic_view(form.own, lang) if form.own else None,
            "fields": [self._field(form, name, lang) for name in form.fields],
            "purpose": self.renderer.say(form.purpose, lang) if form.purpose else texts("form.purpose_newsletter"),
            "kept": self._kept(form, texts),
            "measures": form.measures,
            "children": form.children,
            "honeypot": HONEYPOT,
        }
        for name in ("also", "uses", "partners"):
            view[name] = [self.topic_view(topic, lang) for topic in getattr(form, name)]
        return view

    def _kept(self, form: Form, texts: Texts) -> str:
        """How long: a sign-up while it lasts, which we see to; the answers of a form of the host's as declared."""
        if form.own is None:
            return texts.duration(Duration.parse(form.retention))
        keep = self.settings.retention
        periods = {"left": keep.left, "unconfirmed": keep.unconfirmed}
        return texts("form.kept_until_left", **{k: texts.duration(Duration.parse(v)) for k, v in periods.items()})

    def _field(self, form: Form, name: str, lang: str) -> dict[str, Any]:
        texts = self.renderer.texts(lang)
        kind, complete = _KINDS.get(name, ("textarea" if name == "message" else "text", _AUTOCOMPLETE.get(name, "")))
        label = self.renderer.say(form.labels[name], lang) if name in form.labels else ""
        if not label:
            label = texts(f"form.field_{name}") if texts.has(f"form.field_{name}") else name.replace("_", " ")
        return {
            "name": name,
            "label": label,
            "type": kind,
            "autocomplete": complete,
            "optional": name in form.optional,
        }

    def form_html(self, form: Form, lang: str, *, action: str = "", root: str = "", marked: bool = True) -> str:
        """A form as it stands in a page of the host's.

        Args:
            action: where it is sent, for a form of the host's own; a sign-up goes to its route here.
            root: the path that the app is mounted under.
            marked: it says which text it shows, so that one that was changed since is shown anew. Not for a copy that
                stands in a page for years.
        """
        spoken = self.renderer.language(lang)
        action = action or self.action(form, root)
        mark = self.mark(form, spoken) if marked else ""
        key = (form.id, form.own.id if form.own else "", spoken, action, root, mark)
        found = self._rendered.get(key)
        if found is None:
            found = self._empty_form(form, spoken, action=action, root=root, mark=mark, headings=False)
            if len(self._rendered) >= _MOST_RENDERED:
                self._rendered.clear()
            self._rendered[key] = found
        return found

    def _empty_form(self, form: Form, lang: str, *, action: str, root: str = "", mark: str = "", headings: bool) -> str:
        return self.renderer.fragment(
            "form.html",
            lang,
            form=self.form_view(form, lang),
            action=action,
            root=root,
            mark=mark,
            values={},
            ticked=frozenset(),
            problems={},
            headings=headings,
        )

    def action(self, form: Form, root: str = "") -> str:
        """Where a sign-up form is sent."""
        return f"{root}{self.site.prefix}/newsletter/{form.own.id}" if form.own else ""

    def notice(self, form: Form, lang: str) -> Notice:
        """What is asked, as evidence: the form, the page that confirms it and the mail in between (EVI-01)."""
        lang = self.renderer.language(lang)
        key = (form.id, form.own.id if form.own else "", lang)
        found = self._notices.get(key)
        if found is None:
            found = self._notices[key] = self._notice(form, lang)
        return found

    def mark(self, form: Form, lang: str) -> str:
        """Names the text of a form, so that one that was changed since can be told apart."""
        return self.notice(form, lang).hash[:MARK]

    def _notice(self, form: Form, lang: str) -> Notice:
        view = self.form_view(form, lang)
        html = self._empty_form(form, lang, action=self.action(form), headings=True)
        answer: dict[str, Any] = {
            "topics": [self.topic_view(topic, lang) for topic in form.topics],
            "measuring": form.measures,
        }
        asked = self.renderer.fragment("confirm.html", lang, **answer, controller=self.site.controller.name)
        mail, _ = self.renderer.mail("confirm", lang, **answer, link="…", list=view["own"] or view, young=False)
        controller = self.site.controller
        return Notice.build(
            {
                "kind": "newsletter",
                "site": self.site.name,
                "language": lang,
                "controller": {"name": controller.name, "address": controller.address, "email": controller.email},
                "form": form.id,
                "list": form.own.id if form.own else "",
                "texts": words(html),
                "html": html,
                "confirm": words(asked),
                "mail": mail,
                "topics": {topic.id: self.topic_view(topic, lang) for topic in form.topics},
                "ui_build": self.renderer.ui_build,
                "version": self.renderer.view.version,
            }
        )

    def agreed(self, topics: Sequence[Topic], lang: str, *, measuring: bool) -> dict[str, Any]:
        """What somebody agrees to, in words."""
        return {
            "topics": [self.topic_view(topic, lang) for topic in topics],
            "measuring": measuring,
            "controller": self.site.controller.name,
        }

"""What a visitor reads: the banner, the placeholders, the pages. Rendered from `templates/`, in complete languages.

What is put into other people's pages (head, banner, footer, placeholder) is pure ASCII, so that it fits any page
whose encoding contains ASCII, and holds marks that are filled per request:

- `@@ROOT@@`: what stands before a path of this site (the root path, or `//host` and the root path);
- `@@TOKEN@@`: the notice token; `@@NEXT@@`: the page's own path, escaped;
- `@@NONCE@@`: ` nonce="…"` or nothing;
- `@@GRANTED@@`: the granted purposes, separated by spaces; `@@DECIDED@@`: ` data-decided` where the visitor answered;
- `@@WAKE@@`: how the script may wake a script: `here`; `policy` where Trusted Types are required and allow a policy
  called `consentkit`; `reload` where they don't; `form` where the page may not fetch, so that forms go their plain way.

What a configuration or the catalogue says can never become such a mark.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote

from markupsafe import Markup, escape

from consentkit import assets
from consentkit.choice import Policy, Purpose, State, Status, signals
from consentkit.choice.imported import OLD_COOKIES
from consentkit.render.late import Hosts
from consentkit.render.markup import (
    bare,
    compact,
    hashed_asset,
    make_environment,
    make_text_environment,
    one_line,
    safe_link,
    sentence,
    strip_script,
    strip_style,
    to_ascii,
    words,
)
from consentkit.render.texts import Texts, languages, load_texts
from consentkit.service import BOT_CHECKS, NECESSARY, Item, Service, Text
from consentkit.theme import Theme

_CACHE_ENTRIES = 1024
_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
}


# -- the site -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """What the renderer knows of a site.

    `hosts` are those that the guard in the browser holds back. `url_passthrough` lets Google put identifiers in links.
    `texts` holds the owner's own `title` and `intro` of the first layer per language. `cookie` is the name of the
    choice cookie, `version` the release of consentkit.
    """

    name: str
    prefix: str
    base_url: str
    controller: str
    privacy_statement: str
    languages: tuple[str, ...]
    policy: Policy
    address: str = ""
    email: str = ""
    theme: Theme = field(default_factory=Theme)
    mode: Literal["private", "shared"] = "private"
    url_passthrough: bool = False
    hosts: Hosts = field(default_factory=Hosts)
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cookie: str = "consentkit"
    version: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    """Items that are told in one breath: they live as long, do the same, and the same party reads them."""

    names: str
    about: str


@dataclass(frozen=True, slots=True)
class _ServiceView:
    title: str
    by: str
    purpose: str
    exempt: str
    groups: tuple[_Group, ...]
    after: str


@dataclass(frozen=True, slots=True)
class _PurposeView:
    id: str
    title: str
    about: str
    embed: bool
    services: tuple[_ServiceView, ...]


class Renderer:
    """Renders everything of one site. Immutable once made; what it made it remembers.

    Args:
        view: the site.

    Raises:
        ValueError: the theme breaks a rule.
        KeyError: a language of the site has no texts.
    """

    def __init__(self, view: SiteView) -> None:
        self.view = view
        self._texts = {lang: load_texts(lang) for lang in view.languages}
        self._jinja = make_environment()
        folder = assets.directory("static")
        theme = view.theme.css()
        scripts = ("consentkit-shared.js", "consentkit.js") if view.mode == "shared" else ("consentkit.js",)
        parts = [strip_script((folder / name).read_text("utf-8")) for name in scripts]
        script = "".join(parts)
        self.css_text = theme + strip_style((folder / "consentkit.css").read_text("utf-8"))
        self.pages_css_text = theme + strip_style((folder / "consentkit-pages.css").read_text("utf-8"))
        self._css = hashed_asset("consentkit", "css", self.css_text)
        self._pages_css = hashed_asset("consentkit-pages", "css", self.pages_css_text)
        self._js = hashed_asset("consentkit", "js", script)
        hand_in = strip_script((folder / "consentkit-import.js").read_text("utf-8"))
        parts.insert(-1, hand_in.replace("@@OLD@@", " ".join(OLD_COOKIES)))
        self._import_js = hashed_asset("consentkit-import", "js", "".join(parts))
        self._embed_js = hashed_asset(
            "consentkit-embed", "js", strip_script((folder / "consentkit-embed.js").read_text("utf-8"))
        )
        self._signals_js = self._make_signals()
        self._others = hashed_asset("consentkit-hosts", "json", _plain_json(view.hosts.far))
        self._guard_js = self._make_guard()
        self._placeholders: dict[tuple[str, str | None, bool, bool], str] = {}

    def _make_signals(self) -> tuple[str, bytes] | None:
        """The script that tells the vendors, with what they are told in it; None where no service has an interface."""
        told = signals(self.view.policy)
        if not told:
            return None
        mapping = json.dumps({"vendors": told, "passthrough": self.view.url_passthrough}, separators=(",", ":"))
        folder = assets.directory("static")
        names = ("consentkit-shared.js", "consentkit-signals.js")[self.view.mode != "shared" :]
        script = "".join(strip_script((folder / name).read_text("utf-8")) for name in names)
        return hashed_asset("consentkit-signals", "js", script.replace("'@@SIGNALS@@'", mapping))

    def _make_guard(self) -> tuple[str, bytes]:
        """The script that holds back what other scripts insert and fetch, with the hosts it must know at once."""
        hosts = self.view.hosts
        told = _plain_json({"registry": hosts.near, "strict": hosts.strict, "others": self._others[0]})
        folder = assets.directory("static")
        names = ("consentkit-shared.js", "consentkit-guard.js")[self.view.mode != "shared" :]
        script = "".join(strip_script((folder / name).read_text("utf-8")) for name in names)
        return hashed_asset("consentkit-guard", "js", script.replace("'@@GUARD@@'", told))

    # -- assets --

    def stylesheet(self) -> tuple[str, bytes]:
        """Name and bytes of the stylesheet that goes with the banner."""
        return self._css

    def script(self) -> tuple[str, bytes]:
        """Name and bytes of the script."""
        return self._js

    def asset(self, name: str) -> tuple[bytes, str] | None:
        """The bytes and the media type of an asset by its content-hashed name."""
        for known, body in self._assets:
            if known == name:
                return body, _MEDIA_TYPES[name.rpartition(".")[2]]
        return None

    @property
    def _assets(self) -> list[tuple[str, bytes]]:
        made = (
            self._css,
            self._pages_css,
            self._js,
            self._import_js,
            self._embed_js,
            self._signals_js,
            self._guard_js,
            self._others,
        )
        return [one for one in made if one is not None]

    @cached_property
    def ui_build(self) -> str:
        """SHA-256 (hex) over templates, stylesheets and script: which build of the interface was shown (EVI-01)."""
        digest = hashlib.sha256()
        templates = assets.directory("templates")
        for path in sorted(path for path in templates.rglob("*") if path.is_file()):
            if templates / "console" in path.parents:  # which no visitor sees
                continue
            body = path.read_bytes()
            digest.update(f"{path.relative_to(templates).as_posix()}\0{len(body)}\0".encode())
            digest.update(body)
        for name, body in self._assets:
            digest.update(f"{name}\0{len(body)}\0".encode())
            digest.update(body)
        return digest.hexdigest()

    # -- languages --

    def language(self, lang: str | None) -> str:
        """The language to speak on a page in `lang`: that one, its main language, or the site's first.

        A language in which the text of any purpose or service is missing is not spoken at all (BAN-12).
        """
        wanted = (lang or "").lower()
        for one in (wanted, wanted.partition("-")[0]):
            if one in self._texts and self._complete(one):
                return one
        return self.view.languages[0]

    def texts(self, lang: str | None) -> Texts:
        """The texts for a page in `lang`."""
        return self._texts[self.language(lang)]

    def _complete(self, lang: str) -> bool:
        policy = self.view.policy
        told: list[Text] = [text for purpose in policy.purposes for text in (purpose.title, purpose.about)]
        for service in policy.services:
            told += [service.purpose, *(item.purpose for item in service.items)]
            told += [service.exempt] if service.exempt is not None else []
        return all(lang in text for text in told)

    def _say(self, text: Text, lang: str) -> str:
        return (
            text.get(lang)
            or next((text[one] for one in self.view.languages if one in text), "")
            or next(iter(text.values()), "")
        )

    # -- what goes into other people's pages --

    def head(self, *, banner: bool = True, importing: bool = False) -> str:
        """The script for the head of a page, and where the page shows the banner also its stylesheet.

        Args:
            importing: the script that also hands in what an earlier consent tool kept.
        """
        js = self._import_js if importing else self._js
        return self._insert("head.html", banner=banner, css=self._css[0], js=js[0], view=self.view)

    def signals(self) -> str:
        """The script that tells the vendors what was decided, for before anything of theirs; may be empty."""
        if self._signals_js is None:
            return ""
        return self._insert(
            "signals.html",
            js=self._signals_js[0],
            view=self.view,
            policy=self.view.policy,
            shared=self.view.mode == "shared",
            fingerprints=self._fingerprints,
        )

    def guard(self, *, asks: bool) -> str:
        """The script that holds back what scripts insert and fetch; it must run before any other of the page.

        Args:
            asks: the page shows the question, so that what is held back waits for the answer.
        """
        return self._insert(
            "guard.html",
            js=self._guard_js[0],
            view=self.view,
            policy=self.view.policy,
            shared=self.view.mode == "shared",
            fingerprints=self._fingerprints,
            asks=asks,
        )

    @cached_property
    def _fingerprints(self) -> str:
        """What a script needs to read the choice from the cookie."""
        return " ".join(
            f"{purpose.id}={purpose.fingerprint.hex()}{'+' if purpose.kind == 'opt_out' else ''}"
            for purpose in self.view.policy.purposes
        )

    def banner(self, lang: str | None, *, settled: frozenset[str] = frozenset()) -> str:
        """The banner: one section, a form that works by itself.

        Args:
            settled: the purposes that it leaves out.
        """
        spoken = self.language(lang)
        return self._banner(spoken, settled) if settled else self._banners[spoken]

    @cached_property
    def _banners(self) -> Mapping[str, str]:
        return {lang: self._banner(lang) for lang in dict.fromkeys(map(self.language, self.view.languages))}

    def _banner(self, lang: str, settled: frozenset[str] = frozenset()) -> str:
        view, texts = self.view, self._texts[lang]
        own = view.texts.get(lang, {})
        opt_outs = [purpose for purpose in view.policy.purposes if purpose.kind == "opt_out"]
        return self._insert(
            "banner.html",
            t=texts,
            view=view,
            policy=view.policy,
            shared=view.mode == "shared",
            title=one_line(own.get("title") or texts("banner.title")),
            intro=one_line(own.get("intro") or texts("banner.intro")),
            asked=self._purposes([one for one in view.policy.asked if one.id not in settled], lang),
            exempt=texts.join(self._say(purpose.title, lang) for purpose in opt_outs),
            fingerprints=self._fingerprints,
            privacy=safe_link(view.privacy_statement),
            privacy_local=view.privacy_statement.startswith("/"),
        )

    def footer(
        self, lang: str | None, *, granted: bool, own_settings: bool, signal: str | None, asks: bool = True
    ) -> str:
        """What stands at the end of every page: the way back to the choice.

        Args:
            granted: whether consent is active, so that it can be withdrawn here in one activation.
            own_settings: the page has a `data-consentkit="settings"` element of its own.
            signal: the browser's own refusal that holds here: `gpc`, `dnt` or None.
            asks: the page also has the banner, so that consent can become active on it; the form is there, hidden.
        """
        form = granted or asks or self.view.mode == "shared"
        if own_settings and not form:
            return ""
        return self._insert(
            "footer.html",
            t=self.texts(lang),
            view=self.view,
            granted=granted,
            own_settings=own_settings,
            signal=signal,
            form=form,
        )

    def placeholder(self, lang: str | None, service: Service | None, answerable: bool, *, own: bool = True) -> str:
        """A document for the `srcdoc` of a frame that is held back: who it is from, and how to let it in.

        Args:
            service: whose content it is, as far as known. answerable: the site names it, so that consent can be given.
            own: that service is a choice of its own and all that is needed. Else more must be agreed to than one
                click may give, and it leads to the settings.
        """
        spoken = self.language(lang)
        own = own and answerable and service is not None and service.purpose_id == service.id
        key = (spoken, service.id if service else None, answerable, own)
        found = self._placeholders.get(key)
        if found is None:
            found = self._placeholder(spoken, service, answerable, own=own)
            if len(self._placeholders) >= _CACHE_ENTRIES:
                self._placeholders.clear()
            self._placeholders[key] = found
        return found

    def _placeholder(self, lang: str, service: Service | None, answerable: bool, *, own: bool) -> str:
        texts = self._texts[lang]
        named = answerable and service is not None
        title = texts("embed.title", service=service.title) if named and service else texts("embed.closed_title")
        return self._insert(
            "placeholder.html",
            t=texts,
            view=self.view,
            service=service,
            answerable=answerable,
            own=own,
            shared=self.view.mode == "shared",
            guards_form=service is not None and service.id in BOT_CHECKS,
            title=one_line(title),
            purpose=bare(self._say(service.purpose, lang)) if service else "",
            pages_css=self._pages_css[0],
            embed_js=self._embed_js[0],
        )

    def place(self, lang: str | None, service: Service, needs: Iterable[str], document: str) -> str:
        """A frame that stands before what a script of `service` would have filled.

        Args:
            needs: the purposes that take it away again. document: its placeholder.
        """
        title = self.texts(lang)("embed.title", service=service.title)
        inside = Markup(escape(document))  # noqa: S704  escaped, with its marks as they are
        return self._insert("place.html", title=one_line(title), needs=" ".join(sorted(needs)), document=inside)

    def _insert(self, name: str, **values: Any) -> str:
        return to_ascii(compact(self._jinja.get_template(name).render(**values)))

    # -- pages --

    def page(self, name: str, lang: str | None, *, root: str = "", **context: Any) -> bytes:
        """One of the pages under the prefix, in UTF-8.

        Args:
            name: `settings`, `cookies` or `message`, for which what else is to be given stands with `_settings`,
                `_cookies` and `_message`; any other template of `templates/pages/` gets the context as it is.
            lang: the wanted language. root: the path that the app is mounted under.
        """
        spoken = self.language(lang)
        makers: Mapping[str, Callable[..., Mapping[str, Any]]] = {
            "settings": self._settings,
            "cookies": self._cookies,
            "message": self._message,
        }
        make = makers.get(name)
        values = make(self._texts[spoken], root=root, **context) if make else context
        html = self._jinja.get_template(f"pages/{name}.html").render(
            t=self._texts[spoken],
            view=self.view,
            policy=self.view.policy,
            root=root,
            pages_css=self._pages_css[0],
            js=self._js[0],
            languages=list(self._texts.values()) if len(self._texts) > 1 else [],
            privacy=safe_link(self.view.privacy_statement),
            privacy_local=self.view.privacy_statement.startswith("/"),
            **values,
        )
        return html.encode()

    def fragment(self, name: str, lang: str | None, *, root: str = "", **context: Any) -> str:
        """A piece of HTML for a host's own page, from `templates/`."""
        spoken = self.language(lang)
        return self._jinja.get_template(name).render(t=self._texts[spoken], view=self.view, root=root, **context)

    def mail(self, name: str, lang: str | None, **context: Any) -> tuple[str, str]:
        """Plain text and HTML of a service mail, from `templates/mail/`."""
        spoken = self.language(lang)
        values = {"t": self._texts[spoken], "view": self.view, **context}
        text = make_text_environment().get_template(f"mail/{name}.txt").render(**values)
        html = self._jinja.get_template(f"mail/{name}.html").render(**values)
        return text.strip() + "\n", html

    def say(self, text: Text, lang: str | None) -> str:
        """One of several translations, else the first that the site speaks."""
        return one_line(self._say(text, self.language(lang)))

    def _settings(
        self, texts: Texts, *, root: str, state: State, token: str, next: str, saved: bool = False
    ) -> Mapping[str, Any]:
        """The settings page.

        Args:
            state: what holds for this visitor. token: the notice token of this showing.
            next: where a saved choice leads, usually this page with `saved=1`. saved: that just happened.
        """
        del root
        policy, lang = self.view.policy, texts.lang
        opt_outs = [purpose for purpose in policy.purposes if purpose.kind == "opt_out"]
        consents = [purpose for purpose in policy.asked if purpose.id in state.granted]
        titles = {purpose.id: self._say(purpose.title, lang) for purpose in policy.purposes}
        decided = state.day is not None and state.status is not Status.EXPIRED
        if state.signal and not decided:
            now = texts("settings.status_signal")
        else:
            now = texts(
                f"settings.status_{state.status}", **{"purposes": texts.join(titles[one.id] for one in consents)}
            )
        signal = ""
        if state.signal:
            signal = texts("settings.signal_overruled" if consents else f"settings.signal_{state.signal}")
        return {
            "state": state,
            "token": token,
            "next": next,
            "saved": saved,
            "now": now,
            "signal": signal,
            "consents": consents,
            "changed": texts.join(titles[name] for name in state.changed if name in titles),
            "asked": self._purposes(policy.asked, lang),
            "opt_outs": self._purposes(opt_outs, lang),
            "necessary": self._services(policy.necessary, lang),
        }

    def _cookies(
        self,
        texts: Texts,
        *,
        root: str,
        since: date,
        state: State | None = None,
        seen: Sequence[object] | None = None,
        away: bool = False,
    ) -> Mapping[str, Any]:
        """The cookie statement, from the registry that gates.

        Args:
            since: the day from which this version holds. state: not used; every visitor reads the same.
            seen: for the owner only, what was seen and is not declared. away: that could not be read.
        """
        del root, state
        lang, policy = texts.lang, self.view.policy
        tables = []
        if policy.necessary:
            words = texts.category(NECESSARY)
            tables.append(self._table(texts, words.title, words.about, policy.necessary))
        tables += [
            self._table(texts, self._say(p.title, lang), self._say(p.about, lang), p.services) for p in policy.purposes
        ]
        names = ("name", "service", "purpose", "category", "duration", "reader", "country", "basis")
        return {
            "tables": tables,
            "since": since,
            "columns": [texts(f"cookies.column_{name}") for name in names],
            "version": policy.fingerprint[:12],
            "mailto": quote(self.view.email, safe="@"),
            "seen": seen,
            "away": away,
        }

    def _message(
        self,
        texts: Texts,
        *,
        root: str,
        state: State | None = None,
        reason: str | None = None,
        title: str | None = None,
        sentence: str | None = None,
        href: str | None = None,
        label: str | None = None,
    ) -> Mapping[str, Any]:
        """A page that says one thing.

        Args:
            reason: why a choice was refused (`ChoiceRefused.reason`), or None for a confirmation.
            title, sentence: instead of the words that go with the reason.
            href, label: the way on; without them to the settings, or to the site where a page doesn't exist.
        """
        del state
        lost = reason in ("not_found", "method")
        if title is None:
            title = texts("errors.not_found_title" if lost else "errors.title" if reason else "message.saved_title")
        if sentence is None:
            sentence = texts.error(reason) if reason else texts("message.saved", settings=texts("banner.settings"))
        settings = f"{root}{self.view.prefix}/settings?lang={texts.lang}"
        target = safe_link(href or "") or (f"{root}/" if lost or not reason else settings)
        way = label or texts("message.to_settings" if target == settings else "message.go_on")
        return {"reason": reason, "title": title, "sentence": sentence, "href": target, "label": way}

    def _purposes(self, purposes: Iterable[Purpose], lang: str) -> list[_PurposeView]:
        return [
            _PurposeView(
                purpose.id,
                one_line(self._say(purpose.title, lang)),
                sentence(self._say(purpose.about, lang)),
                purpose.embed,
                self._services(purpose.services, lang),
            )
            for purpose in purposes
        ]

    def _services(self, services: Iterable[Service], lang: str) -> tuple[_ServiceView, ...]:
        texts = self._texts[lang]
        return tuple(
            _ServiceView(
                title=one_line(service.title),
                by=texts(
                    "banner.by",
                    provider=one_line(service.provider),
                    country=texts.country(service.country),
                    transfer=texts(f"transfer.{service.transfer}"),
                ),
                purpose=sentence(self._say(service.purpose, lang)),
                exempt=bare(self._say(service.exempt or {}, lang)),
                groups=self._groups(service, lang),
                after=self._one_reader(service, texts) if service.items else texts("banner.stores_nothing"),
            )
            for service in services
        )

    def _groups(self, service: Service, lang: str) -> tuple[_Group, ...]:
        """What a service keeps; who reads it is said per group only where it is not the same for all."""
        texts = self._texts[lang]
        told = not self._one_reader(service, texts)
        groups = []
        for items in _grouped(service.items):
            about = texts(
                "banner.item",
                duration=texts.duration(items[0].duration),
                purpose=bare(self._say(items[0].purpose, lang)),
            )
            if told:
                about += " " + texts("banner.reader", reader=self._reader(items[0], service, texts))
            groups.append(_Group(texts.join(item.name for item in items), about))
        return tuple(groups)

    def _one_reader(self, service: Service, texts: Texts) -> str:
        readers = {self._reader(item, service, texts) for item in service.items}
        return texts("banner.reader", reader=readers.pop()) if len(readers) == 1 else ""

    def _reader(self, item: Item, service: Service, texts: Texts) -> str:
        provider = one_line(service.provider)
        if item.party == "third":
            return texts("cookies.reader_provider", provider=provider)
        if provider == one_line(self.view.controller):
            return texts("cookies.reader_site")
        return texts("cookies.reader_both", provider=provider)

    def _category(self, service: Service, texts: Texts) -> str:
        if texts.has(f"categories.{service.category}.title"):
            return texts.category(service.category).title
        own = next((p for p in self.view.policy.purposes if p.id == service.category), None)
        return self._say(own.title, texts.lang) if own else service.category

    def _table(self, texts: Texts, title: str, about: str, services: Iterable[Service]) -> Mapping[str, Any]:
        return {
            "title": one_line(title),
            "about": sentence(about),
            "rows": [row for service in services for row in self._rows(service, texts)],
        }

    def _rows(self, service: Service, texts: Texts) -> list[Mapping[str, Any]]:
        lang = texts.lang
        shared = {
            "service": service.title,
            "provider": service.provider,
            "privacy_url": safe_link(service.privacy_url),
            "category": self._category(service, texts),
            "country": texts.country(service.country),
            "transfer": texts(f"transfer.{service.transfer}"),
            "basis": texts("cookies.exempt", reason=bare(self._say(service.exempt, lang)))
            if service.exempt
            else texts("cookies.needs_consent")
            if service.asks
            else texts("cookies.exempt", reason=texts("settings.necessary_about")),
        }
        rows: list[Mapping[str, Any]] = [
            {
                **shared,
                "names": [item.name for item in items],
                "kind": texts(f"cookies.kind_{items[0].kind}"),
                "purpose": sentence(self._say(items[0].purpose, lang)),
                "duration": texts.duration(items[0].duration),
                "reader": self._reader(items[0], service, texts),
            }
            for items in _grouped(service.items)
        ]
        return rows or [
            {
                **shared,
                "names": [],
                "kind": "",
                "purpose": sentence(self._say(service.purpose, lang)),
                "duration": texts("cookies.not_applicable"),
                "reader": texts("cookies.reader_loads", provider=service.provider),
            }
        ]

    # -- evidence --

    def notice_body(self, lang: str | None) -> dict[str, Any]:
        """All that the question consists of in one language, as plain JSON values (EVI-01, EVI-02).

        The banner and the placeholders are kept as HTML with their marks, the styles as text: enough to show the
        question again with nothing else at hand.
        """
        spoken = self.language(lang)
        view, banner = self.view, self._banners[spoken]
        embeds = [
            {"title": service.title, "html": self.placeholder(spoken, service, True)}
            for purpose in view.policy.asked
            if purpose.embed
            for service in purpose.services
        ]
        return {
            "site": view.name,
            "language": spoken,
            "controller": {"name": view.controller, "address": view.address, "email": view.email},
            "policy": view.policy.fingerprint,
            "days": view.policy.days,
            "texts": words(banner),
            "purposes": [
                {
                    "id": purpose.id,
                    "kind": purpose.kind,
                    "title": self._say(purpose.title, spoken),
                    "about": self._say(purpose.about, spoken),
                    "services": [self._declared(service, spoken) for service in purpose.services],
                }
                for purpose in view.policy.purposes
            ],
            "necessary": [self._declared(service, spoken) for service in view.policy.necessary],
            "banner": banner,
            "css": self.css_text,
            "embeds": embeds,
            "pages_css": self.pages_css_text,
            "ui_build": self.ui_build,
            "version": view.version,
        }

    def imported_body(self, lang: str | None, tool: str) -> dict[str, Any]:
        """What stands for the question where a grant was taken over from another consent tool: that nobody knows it.

        Args:
            tool: whose cookie it was.
        """
        spoken = self.language(lang)
        view = self.view
        return {
            "kind": "imported",
            "tool": tool,
            "site": view.name,
            "language": spoken,
            "controller": {"name": view.controller, "address": view.address, "email": view.email},
            "policy": view.policy.fingerprint,
            "texts": [load_texts(spoken)("message.notice_imported", tool=tool)],
            "ui_build": self.ui_build,
            "version": view.version,
        }

    def _declared(self, service: Service, lang: str) -> dict[str, Any]:
        return {
            "id": service.id,
            "title": service.title,
            "provider": service.provider,
            "country": service.country,
            "transfer": str(service.transfer),
            "category": service.category,
            "purpose": self._say(service.purpose, lang),
            "exempt": self._say(service.exempt, lang) if service.exempt else None,
            "items": [
                {
                    "name": item.name,
                    "kind": item.kind,
                    "duration": str(item.duration),
                    "party": item.party,
                    "purpose": self._say(item.purpose, lang),
                }
                for item in service.items
            ],
        }

    def show_notice(self, body: Mapping[str, Any]) -> bytes:
        """A page that shows a stored notice as it looked; of this release it takes only the words around it.

        The stored HTML stands in frames without scripts, forms or origin, so that a notice which somebody changed
        in the database can do nothing but look wrong.
        """
        lang = body["language"] if body["language"] in languages() else self.view.languages[0]
        if body.get("kind") == "imported":
            template = self._jinja.get_template("notice_imported.html")
            own_css = Markup(_NOTICE_CSS)  # noqa: S704  a constant
            return template.render(t=load_texts(lang), body=body, own_css=own_css).encode()
        if body.get("kind") == "newsletter":
            form = f'<!DOCTYPE html><html lang="{escape(lang)}"><meta charset="utf-8"><title>{escape(lang)}</title>'
            shown = self._jinja.get_template("notice_newsletter.html").render(
                t=load_texts(lang),
                body=body,
                own_css=Markup(_NOTICE_CSS),  # noqa: S704  a constant
                form=form + body["html"],
            )
            return shown.encode()
        html = self._jinja.get_template("notice.html").render(
            t=load_texts(lang),
            body=body,
            own_css=Markup(_NOTICE_CSS),  # noqa: S704  a constant
            banner=_framed(body["banner"], body["css"], body["language"]),
            embeds=[
                {"title": embed["title"], "document": _unmarked(_styled(embed["html"], body["pages_css"]))}
                for embed in body["embeds"]
            ],
            purposes=json.dumps(
                {"purposes": body["purposes"], "necessary": body["necessary"]}, ensure_ascii=False, indent=1
            ),
        )
        return html.encode()


_NOTICE_CSS = (
    "body{margin:2rem auto;max-width:64rem;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color-scheme:light dark}"
    "iframe{width:100%;height:44rem;border:1px solid}dl div{display:flex;gap:1rem;flex-wrap:wrap}dt{font-weight:600}"
    "dd{margin:0;overflow-wrap:anywhere}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
)


def _plain_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _style_text(css: str) -> str:
    return css.replace("</", r"<\/")


def _styled(document: str, css: str) -> str:
    return re.sub(r"<link [^>]*>", lambda _: f"<style>{_style_text(css)}</style>", document, count=1)


def _unmarked(html: str) -> str:
    return re.sub(r"@@[A-Z]+@@", "", html)


def _framed(banner: str, css: str, lang: str) -> str:
    shown = banner.replace(" hidden>", ">", 1) if "data-purposes=" in banner else banner
    head = f'<!DOCTYPE html><html lang="{escape(lang)}"><meta charset="utf-8">'
    return _unmarked(f"{head}<title>{escape(lang)}</title><style>{_style_text(css)}</style><body>{shown}")


def _grouped(items: Sequence[Item]) -> list[list[Item]]:
    groups: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        key = (item.kind, item.duration, item.party, tuple(sorted(item.purpose.items())))
        groups.setdefault(key, []).append(item)
    return list(groups.values())

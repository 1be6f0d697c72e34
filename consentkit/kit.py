"""Puts everything together: settings in, one object out that wraps an app. Nothing else builds things."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from markupsafe import Markup
from starlette.types import ASGIApp

from consentkit import assets, catalogue, render
from consentkit.address import AddressKeys
from consentkit.afgemeld import Afgemeld, Links, headers
from consentkit.audit import Audit
from consentkit.choice import Choices, OldChoices, Policy, cookie_name, once_name, unasked
from consentkit.evidence import Evidence, Notice
from consentkit.gate import Gate
from consentkit.gate.csp import ContentPolicy
from consentkit.gate.dialects import Dialects
from consentkit.gate.urls import without_port
from consentkit.mail import Mailer, Server, SMTPMailer, Wire
from consentkit.mailing import (
    Carrier,
    Draft,
    Drafts,
    Engine,
    Inbox,
    Limits,
    Mailings,
    Marks,
    Measuring,
    Release,
    Scoring,
    Turn,
)
from consentkit.mailing.webhooks import hooks
from consentkit.newsletter import Answer, Form, Letters, Newsletter, Outbox, Paper, Parcel, declared
from consentkit.newsletter.recipients import WITHDRAWAL, Recipients, derived_secret
from consentkit.render import Hosts, Renderer, SiteView
from consentkit.service import NECESSARY, Duration, Item, Service, Text
from consentkit.settings import Settings, ephemeral_key, is_local
from consentkit.settings import Site as SiteSettings
from consentkit.staff import Accounts
from consentkit.store import Store
from consentkit.tokens import Tokens, Use
from consentkit.web import notices
from consentkit.web.console import Console
from consentkit.web.console.shell import ConsoleUser
from consentkit.web.flow import PageFlow
from consentkit.web.inserts import Inserts
from consentkit.web.middleware import ConsentMiddleware
from consentkit.web.pages import Pages
from consentkit.web.reports import ROUTE as REPORTS
from consentkit.web.seen import Declared, Sightings
from consentkit.web.site import Site

log = logging.getLogger("consentkit")


def _clock() -> datetime:
    return datetime.now(UTC)


class ConsentKit:
    """The consent layer of one app.

    Args:
        settings: a path to `consentkit.toml`, or `Settings`; without it `CONSENTKIT_CONFIG`, and without that
            defaults for loopback, with a warning.
        clock: tells the time, aware and in UTC; for tests.
        mailer: sends service mails; for tests. Default: the server of `[mail] smtp`.
        console_user: your own log-in for the console: called with a request, it gives the name and the role (or roles)
            of who asks, or None; it may be a coroutine function. Default: accounts of the console's own.

    Raises:
        SettingsError: the configuration can't be used; the message names file, key and remedy.
    """

    def __init__(
        self,
        settings: Settings | Path | str | None = None,
        *,
        clock: Callable[[], datetime] = _clock,
        mailer: Mailer | None = None,
        console_user: ConsoleUser | None = None,
    ) -> None:
        self.settings = settings if isinstance(settings, Settings) else Settings.load(settings)
        self.now = clock
        keys = [key.encode() for key in self.settings.secret_keys]
        if not keys:
            log.warning("no CONSENTKIT_SECRET_KEYS: choices are forgotten at every restart (development only)")
        for advice in self.settings.advice:
            log.warning("%s", advice)
        keys = keys or [ephemeral_key().encode()]
        self.tokens = Tokens(keys)
        self.store = Store(self.settings.database_url)
        ends = self.settings.console
        self.accounts = Accounts(
            self.store,
            self.tokens,
            keys,
            clock,
            idle=timedelta(days=Duration.parse(ends.idle).days),
            absolute=timedelta(days=Duration.parse(ends.absolute).days),
        )
        self.evidence = Evidence(self.store, journal=self.settings.path("consentkit-journal"))
        secrets = [key.encode() for key in self.settings.afgemeld_keys]
        self.afgemeld = Afgemeld(
            self.store,
            AddressKeys(secrets) if secrets else None,
            tombstones=self.settings.path("consentkit-tombstones"),
            clock=clock,
        )
        self.closed = Gate(catalogue.load().values(), configured=(), categories=())
        self._sites = [self._build(site) for site in self.settings.all_sites]
        self.audit = Audit(self.store, {site.settings.name: site.flow.seen for site in self._sites})
        papers = {
            site.settings.name: Paper(site.settings, self.settings, site.renderer, self.tokens) for site in self._sites
        }
        self.newsletter = Newsletter(self.store, self.evidence, self.afgemeld, papers, clock=clock)
        self.outbox = self.newsletter.outbox = self._make_outbox(mailer)
        self.recipients = Recipients(
            {site.settings.name: site.policy.services for site in self._sites},
            self.outbox,
            secret=self._webhook_secret,
            clock=clock,
        )
        if self.recipients:
            self.evidence.on_taken_back(self.recipients.taken_back)
        keep = timedelta(days=Duration.parse(self.settings.retention.tracking).days)
        self.measuring = Measuring(self.store, lambda: self.links, keep=keep, clock=clock)
        self.newsletter.unmeasure, self.newsletter.forget = self.measuring.unmeasure, self.measuring.forget
        stale = timedelta(days=Duration.parse(self.settings.mailing.bounce_stale).days)
        scoring = Scoring(self.settings.mailing.bounce_limit, stale)
        self.inbox = Inbox(self.store, self.afgemeld, lambda: self.links, clock=clock, scoring=scoring)
        self.hooks = hooks(self.settings)
        self.mailings = Mailings(
            self.store,
            self.afgemeld,
            papers,
            self.settings,
            links=lambda: self.links,
            measuring=self.measuring,
            inbox=self.inbox,
            clock=clock,
        )
        self.drafts = Drafts(self.store, self.mailings, clock)
        self.marks = Marks(self.store, self.afgemeld, clock=clock)
        self.afgemeld.compare = self.marks.compare
        self.engine = self._make_engine(self._wire)
        self._by_host = {host: site for site in self._sites for host in _hosts(site.settings)}
        only = self._sites[0]
        self._elsewhere = replace(only, flow=replace(only.flow, secure=False))
        self.console = Console(self, self._sites, console_user=console_user)
        self.pages: ASGIApp = Pages(self)

    def wrap(self, app: ASGIApp) -> ConsentMiddleware:
        """`app` behind the consent layer: any ASGI application."""
        return ConsentMiddleware(app, kit=self)

    def wrap_wsgi(self, app: Any) -> ConsentMiddleware:
        """The same for a WSGI application (Flask, Django under WSGI): an ASGI app comes out."""
        return self.wrap(cast("ASGIApp", WSGIMiddleware(app)))

    def today(self) -> date:
        """The day by the kit's clock, in UTC."""
        return self.now().date()

    def find_site(self, host: str) -> Site | None:
        """The site that a `Host` header asks for; None where no site may answer.

        A single site also answers under names that it does not know (127.0.0.1 during development): there without
        the `__Host-` cookie, which only https on its own name can promise.
        """
        name = without_port(host)
        found = self._by_host.get(name.lower().rstrip("."))
        if found:
            return found
        if len(self._sites) > 1 or (self.settings.development and not is_local(name)):
            return None
        return self._elsewhere

    def site(self, host: str) -> PageFlow | None:
        """What a page view on this host needs."""
        found = self.find_site(host)
        return found.flow if found else None

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site, as built."""
        return tuple(self._sites)

    def unsubscribe_url(
        self, address: str, *, list: str | None = None, delivery: int | None = None, site: str | None = None
    ) -> str:
        """The link with which `address` leaves a list; needs no database, works for as long as the mail exists.

        Args:
            address: who would leave. list: what; None for all marketing.
            delivery: the number of the delivery in a mailing, so that its report can tell who left by it.
            site: whose page it opens, by name; default the first.

        Raises:
            AddressError: `address` is none.
            AfgemeldUnavailable: there is no afgemeld key, so no mail with such a link may go out.
        """
        token = self.links.token(address, list, delivery=delivery)
        return self.paper(site).url(f"afmelden/{token}")

    def list_unsubscribe_headers(
        self, address: str, *, list: str | None = None, delivery: int | None = None, site: str | None = None
    ) -> dict[str, str]:
        """The two headers of one-click unsubscribing (RFC 8058), ready to set on a mail to `address`.

        Sign both with DKIM (RFC 8058 section 4). They stay whole in an `EmailMessage` of any policy; a library that
        takes them as plain text and writes headers itself must fold them at the comma only. See docs/guard.md.

        Raises:
            AddressError, AfgemeldUnavailable: as `unsubscribe_url`.
        """
        mailbox = self.settings.mail.unsubscribe
        mailto = self.links.mailto(mailbox, address, list) if mailbox else None
        return headers(self.unsubscribe_url(address, list=list, delivery=delivery, site=site), mailto)

    @cached_property
    def links(self) -> Links:
        """Makes and reads the links with which people leave.

        Raises:
            AfgemeldUnavailable: there is no afgemeld key.
        """
        return Links(self.afgemeld.keys)

    def paper(self, site: str | None = None) -> Paper:
        """What a site says about its lists; by name, default the first."""
        return self.newsletter.papers[site or self._sites[0].settings.name]

    def healthy(self) -> Mapping[str, bool]:
        """Whether the database answers and what the keys sign can be read again."""
        keys = self.tokens.read(Use.NOTICE, self.tokens.sign(Use.NOTICE, b"health")) == b"health"
        found = {"database": self.store.healthy(), "keys": keys}
        return {**found, "afgemeld": self.afgemeld.healthy()} if self.settings.lists else found

    def close(self) -> None:
        """Write what is queued and let go of the database."""
        self.stop()
        self.console.close()
        self.evidence.close()
        self.afgemeld.close()
        self.store.close()

    @cached_property
    def version(self) -> str:
        """The release of consentkit that runs."""
        return version("consentkit")

    def start(self) -> None:
        """Begin to send what waits, service mails and mailings; a middleware does so when its app starts."""
        if self.settings.lists or self.recipients:
            self.outbox.wake()
        if self.settings.lists:
            self.engine.wake()

    def work_queue(self, *, once: bool = False) -> None:
        """Send what is due until SIGTERM, sharing mailings with any number of workers. Needs `consentkit[queue]`.

        Args:
            once: end when nothing is due.

        Raises:
            SettingsError: the extra is missing, the database is not PostgreSQL, or its role may not make a schema.
            DatabaseUnavailable, SchemaOutdated: at the start; later on it waits.
        """
        from consentkit.mailing.queue import Queue  # noqa: PLC0415  # of an extra

        queue = Queue(self.store, due=self.mailings.due, engine=self._make_engine, wire=self._wire, clock=self.now)
        queue.prepare()
        if self.settings.lists and not once:
            self.outbox.wake()
        queue.run(once=once)

    def stop(self) -> None:
        """Finish what is being sent, and send nothing more until `start`; a middleware does so when its app ends."""
        self.engine.close()
        self.outbox.close()
        self.measuring.close()
        self.audit.close()

    async def test_mailing(self, id: int, addresses: Sequence[str]) -> None:
        """Send a mailing to a few addresses of one's own, marked as a test.

        Raises:
            MailingError, AddressError: it can't be sent there. Suppressed: one of them left; nobody got anything.
            AfgemeldUnavailable: nobody can tell who left. MailError: the mail server did not take it.
        """
        wire = self._wire()
        try:
            await self.mailings.test(id, addresses, wire)
        finally:
            await wire.close()

    async def test_draft(self, draft: Draft, site: str | None, addresses: Sequence[str]) -> None:
        """The same with a mailing that is not kept yet."""
        wire = self._wire()
        try:
            await self.mailings.test_of(draft, site, addresses, wire)
        finally:
            await wire.close()

    def newsletter_form(self, list: str, *, lang: str | None = None, site: str | None = None, root: str = "") -> Markup:
        """The sign-up form of a list, for a template of the host's own; works in Jinja, Django and any other.

        Args:
            list: of `[lists.<id>]`. lang: default the site's first. site: by name, where there are several.
            root: the path that the app is mounted under, where there is one.

        Raises:
            KeyError: nobody can sign up for such a list.
        """
        paper = self.paper(site)
        form = paper.form(list)
        if form is None:
            raise KeyError(f"there is no list {list!r} to sign up for: [lists.<id>] names them")
        html = paper.form_html(form, lang or paper.site.languages[0], root=root)
        return Markup(html)  # noqa: S704  escaped by its template

    def form(self, id: str) -> Form:
        """A form of the host's own as `[forms.<id>]` declares it; `Form.read` takes what was declared and no more.

        Raises:
            KeyError: it is not declared. SettingsError: it does not say what its answers are used for.
        """
        return declared(self.settings, id)

    def form_html(self, id: str, *, action: str, lang: str | None = None, site: str | None = None) -> Markup:
        """A form of the host's own with all that must stand at it: fields, purpose, retention, unticked choices.

        Args:
            id: of `[forms.<id>]`. action: the host's own address that takes it. lang: default the site's first.
            site: by name, where there are several.

        Raises:
            KeyError: it is not declared.
        """
        paper = self.paper(site)
        html = paper.form_html(self.form(id), lang or paper.site.languages[0], action=action)
        return Markup(html)  # noqa: S704  escaped by its template

    async def sign_up(self, answer: Answer, *, lang: str | None = None, site: str | None = None) -> None:
        """Ask by mail to confirm what was ticked in a form of the host's own; nothing where nothing was.

        Args:
            answer: what `Form.read` gave. lang: default that of the form. site: by name, where there are several.

        Raises:
            AfgemeldUnavailable, NewsletterUnavailable: it could not be stored.
        """
        paper = self.paper(site)
        spoken = paper.renderer.language(lang or answer.lang)
        await asyncio.to_thread(self.newsletter.sign_up, paper, answer, spoken)

    def install_jinja(self, environment: Environment) -> None:
        """Let the host's templates say `{% from "consentkit/macros.html" import newsletter, form %}`."""
        ours = PrefixLoader({"consentkit": FileSystemLoader(assets.directory("templates"))})
        own = environment.loader
        environment.loader = ChoiceLoader([own, ours]) if own else ours
        environment.globals["consentkit"] = self

    def _wire(self) -> Wire:
        settings = self.settings
        user, password = settings.smtp_user, settings.smtp_password
        servers = [Server(url, user, password) for url in settings.mail.smtp]
        return Wire(servers, settings.mailing.connections)

    def _make_engine(self, wire: Callable[[], Carrier]) -> Engine:
        own = self.settings.mailing
        limits = Limits(own.per_second, own.per_hour, own.per_domain_hour, own.domains)
        release = Release(
            self.store,
            self.mailings.readers,
            limits=limits,
            stop_after=own.stop_after,
            connections=own.connections,
            marks=self.marks,
        )
        return Engine(self.mailings, release, lambda: Turn(self.store), wire=wire, clock=self.now)

    def _make_outbox(self, mailer: Mailer | None) -> Outbox:
        settings = self.settings
        letters = Letters(
            self.store,
            self.afgemeld,
            self.newsletter,
            lambda: self.links,
            unsubscribe=settings.mail.unsubscribe,
            secret=(settings.secret_keys[0] if settings.secret_keys else ephemeral_key()).encode(),
            clock=self.now,
        )

        def call(parcel: Parcel) -> None:
            (self.recipients.call if parcel.kind == WITHDRAWAL else letters.call)(parcel)

        # Sooner than a row of the outbox goes to another process; a service mail that comes twice does little harm.
        server = mailer or SMTPMailer(
            settings.mail.smtp, user=settings.smtp_user, password=settings.smtp_password, verdict=120.0
        )
        return Outbox(self.store, server, write=letters.write, call=call, purge=self._purge_newsletter, clock=self.now)

    def _webhook_secret(self, service: str) -> bytes:
        own = self.settings.webhook_secrets.get(service)
        keys = self.settings.secret_keys
        return own.encode() if own else derived_secret((keys[0] if keys else ephemeral_key()).encode(), service)

    def _purge_newsletter(self) -> None:
        keep = self.settings.retention
        unconfirmed, left, proof = (
            timedelta(days=Duration.parse(text).days) for text in (keep.unconfirmed, keep.left, keep.newsletter)
        )
        self.newsletter.purge(self.now(), unconfirmed=unconfirmed, left=left, proof=proof)

    def _build(self, site: SiteSettings) -> Site:
        named = self.settings.services_of(site)
        loading = unasked(named) if site.google.mode == "advanced" else frozenset()
        named = tuple(_loads_unasked(service, site) if service.id in loading else service for service in named)
        services = (self._own_cookie(site, once=any(service.embed for service in named)), *named)
        policy = Policy.build(
            site=site.name,
            controller=site.controller.name,
            days=site.choice_days,
            services=services,
            categories=self._categories(site),
            wording={lang: own.model_dump(exclude_none=True) for lang, own in site.texts.items()},
        )
        choices = Choices(policy, self.tokens)
        known = {**catalogue.load(), **{service.id: service for service in services}}
        dialects = Dialects(
            site.dialects,
            categories=(*catalogue.CATEGORIES, *self.settings.categories),
            services={service.id: service.title for service in known.values()},
        )
        gate = Gate(
            known.values(),
            configured={service.id for service in services},
            categories={purpose.id for purpose in policy.purposes},
            own_hosts=(site.host, *site.hosts),
            strict=site.strict,
            dialects=dialects,
            remove_old_tool=site.remove_old_tool,
            unasked=loading,
        )
        hosts = Hosts.of(known.values(), gate.needs, own_hosts=_with_domain(site), strict=site.strict)
        renderer = Renderer(replace(self._view(site, policy), hosts=hosts))
        made = {lang: Notice.build(renderer.notice_body(lang)) for lang in site.languages}
        inserts = Inserts(
            renderer,
            languages=site.languages,
            shared=site.html == "shared",
            notice_token=lambda lang: notices.issue(self.tokens, made[lang].hash, now=self.now()),
            script_deletes=lambda granted: any(
                service.vendor or any(item.kind != "cookie" for item in service.items)
                for purpose in policy.purposes
                if purpose.id in granted
                for service in purpose.services
            ),
            old=site.old_choices != "ignore",
        )
        csp = None if site.csp == "off" else self._content_policy(site, gate, known.values(), services)
        enforced = csp.fingerprint if csp else ""
        flow = PageFlow(
            gate=gate,
            choices=choices,
            policy=policy,
            prefix=site.prefix,
            mode=site.html,
            gpc=site.gpc,
            secure=site.secure,
            shared_domain=site.cookie_domain is not None,
            html_etag=f"{renderer.ui_build[:8]}{policy.fingerprint[:8]}{enforced}".encode("ascii"),
            csp=csp,
            old=(
                None
                if site.old_choices == "ignore"
                else OldChoices(policy, dialects, site.old_choices == "all", site.cookie_domain)
            ),
            inserts=inserts,
            seen=Sightings(
                Declared(services, (site.host, *site.hosts)),
                today=self.today,
                wake=lambda: self.audit.wake(),  # noqa: PLW0108  the audit is made after its sites
            ),
        )
        return Site(site, policy, choices, renderer, inserts, made, flow)

    def _content_policy(
        self, site: SiteSettings, gate: Gate, known: Iterable[Service], services: Iterable[Service]
    ) -> ContentPolicy:
        return ContentPolicy(
            known,
            configured={service.id for service in services},
            allows=gate.allows,
            own_hosts=_with_domain(site),
            enforce=site.csp == "enforce",
            everybody=site.html == "shared",
            strict=site.strict,
            path=f"{site.prefix}/{REPORTS}",
        )

    def _categories(self, site: SiteSettings) -> dict[str, tuple[Text, Text]]:
        shipped = {
            name: (
                {lang: render.load_texts(lang).category(name).title for lang in site.languages},
                {lang: render.load_texts(lang).category(name).about for lang in site.languages},
            )
            for name in catalogue.CATEGORIES
            if name != NECESSARY
        }
        return {**shipped, **{name: (own.title, own.about) for name, own in self.settings.categories.items()}}

    def _view(self, site: SiteSettings, policy: Policy) -> SiteView:
        return SiteView(
            name=site.name,
            prefix=site.prefix,
            base_url=site.base_url,
            controller=site.controller.name,
            address=site.controller.address,
            email=site.controller.email,
            privacy_statement=site.privacy_statement,
            languages=site.languages,
            policy=policy,
            theme=site.look,
            mode=site.html,
            url_passthrough=site.google.url_passthrough,
            texts={lang: own.model_dump(exclude_none=True) for lang, own in site.texts.items()},
            cookie=cookie_name(secure=site.secure, shared_domain=site.cookie_domain is not None),
            version=self.version,
        )

    def _own_cookie(self, site: SiteSettings, *, once: bool) -> Service:
        """consentkit's own cookies: on the statement like everybody's, with the reason why they need no consent.

        Args:
            once: there is content of others, which can be let in for one load.
        """
        purpose = {lang: render.load_texts(lang).own_cookie.purpose for lang in site.languages}
        let_in = {lang: render.load_texts(lang).own_cookie.once for lang in site.languages}
        return Service(
            id="consentkit",
            title="consentkit",
            provider=site.controller.name,
            country=site.controller.country,
            category=NECESSARY,
            purpose=purpose,
            exempt={lang: render.load_texts(lang).own_cookie.exempt for lang in site.languages},
            items=(
                Item(
                    cookie_name(secure=site.secure, shared_domain=site.cookie_domain is not None),
                    Duration(site.choice_days, "day"),
                    purpose,
                ),
                *(
                    [Item(once_name(secure=site.secure), Duration(1, "minute"), let_in)]
                    if once and site.html == "private"
                    else []
                ),
            ),
        )


def _loads_unasked(service: Service, site: SiteSettings) -> Service:
    """The service as visitors must be told of it where it loads before they agree; told otherwise, it asks again."""
    said = {lang: render.load_texts(lang)("vendors.unasked") for lang in site.languages}
    purpose = {
        lang: f"{text.rstrip('.')}; {said[lang]}" if lang in said else text for lang, text in service.purpose.items()
    }
    return replace(service, purpose=purpose)


def _hosts(site: SiteSettings) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*site.hosts, site.host.lower())))


def _with_domain(site: SiteSettings) -> tuple[str, ...]:
    """The same, with the domain that its choice counts on."""
    return (*_hosts(site), site.cookie_domain) if site.cookie_domain else _hosts(site)

"""The configuration: one TOML file and the environment, checked once, every error with its remedy.

`Settings` has the tables of `consentkit.toml` as its fields. Secrets never stand in the file: they come from
the environment or from the key file that `consentkit init` makes.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from email.utils import parseaddr
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from consentkit import assets, catalogue
from consentkit.address import Address
from consentkit.choice.wording import vague
from consentkit.errors import AddressError, SettingsError
from consentkit.gate.dialects import DIALECTS
from consentkit.service import NECESSARY, Duration, Service
from consentkit.theme import Theme
from consentkit.tokens import MIN_KEY_BYTES

log = logging.getLogger("consentkit")

CONFIG_FILE = "consentkit.toml"
KEY_FILE = "consentkit.keys"
MAX_CHOICE_DAYS = 396
ADVISED_CHOICE_DAYS = 182
MAX_RETENTION_YEARS = 10
_LOCAL = re.compile(r"(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|.*\.test)\Z")
_MISSING_KEYS = (
    "CONSENTKIT_SECRET_KEYS is missing: without a secret of your own anybody could forge a choice. "
    f"Run `consentkit init`, which makes {KEY_FILE}, or set the variable to a random text of 32 bytes or more"
)
NO_PURPOSE = (
    "is missing: whoever fills the form in must read what the answers are used for (GDPR art. 13(1)(c)). "
    'Write purpose = { nl = "…", en = "…" }'
)

Text = dict[str, str]


def is_local(host: str) -> bool:
    """Whether a host name (without port) is this machine's or reserved for tests (RFC 6761)."""
    return _LOCAL.match(host.lower()) is not None


def shipped_languages() -> tuple[str, ...]:
    """The languages whose texts come with the package."""
    return tuple(sorted(path.stem for path in (assets.directory("templates") / "texts").glob("*.toml")))


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("consentkit", "{message}", {"message": message})


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Controller(_Table):
    """Who asks: the controller of GDPR art. 4(7), as it is named on the first layer."""

    name: str = Field(min_length=1, description="the legal name of the organisation")
    address: str = Field(default="", description="street, postcode and town")
    email: str = Field(default="", description="an address that answers questions about privacy")
    country: str = Field(default="NL", pattern=r"[A-Z]{2}", description='two capitals, such as "NL"')


class Wording(_Table):
    """The owner's own words on the first layer; purposes and buttons stay as they are."""

    title: str | None = Field(default=None, min_length=1, max_length=120, description="at most 120 characters")
    intro: str | None = Field(default=None, min_length=1, max_length=400, description="at most 400 characters")

    @field_validator("title", "intro")
    @classmethod
    def _concrete(cls, text: str | None) -> str | None:
        if text and (phrase := vague(text)):
            raise _wrong(f'"{phrase}" says nothing or praises: say what happens, such as "we count visits per page"')
        return text


class GoogleMode(_Table):
    """How Google's tags are told: nothing loads before consent (basic), or it loads and holds back (advanced)."""

    mode: Literal["basic", "advanced"] = Field(default="basic", description='"basic" or "advanced" (loads unasked)')
    url_passthrough: bool = Field(
        default=False, strict=True, description="true or false: whether Google may put identifiers in links"
    )

    @property
    def risks(self) -> list[str]:
        """What the law says against what is switched on here (GAT-10): EDPB guidelines 2/2023 v2, par. 47-53."""
        found = []
        if self.mode == "advanced":
            found.append(
                'legal risk: [site.google] mode = "advanced" loads Google\'s tags before consent and after a refusal. '
                "They then send the IP address, the page and the browser without cookies, which the EDPB counts as "
                "access to the device that needs consent (Guidelines 2/2023, par. 47-53; Tw 11.7a). "
                '"basic" is the safe choice'
            )
        if self.url_passthrough:
            found.append(
                "legal risk: [site.google] url_passthrough puts identifiers of a click in links without consent, which "
                "the EDPB counts as storing and reading that needs consent (Guidelines 2/2023, par. 47-53; Tw 11.7a). "
                "Without it nothing is kept in links"
            )
        return found


class Site(_Table):
    """One website: who it is, where it stands, how it asks."""

    name: str = Field(min_length=1, description="the name that visitors know the site by")
    base_url: str = Field(description='"https://example.nl"; http only for loopback and .test')
    controller: Controller = Field(description="a table [site.controller] with name, address and email")
    hosts: tuple[str, ...] = Field(default=(), description="the host names that this site answers to")
    languages: tuple[str, ...] = Field(default=("nl", "en"), min_length=1, description='["nl", "en"]; default first')
    privacy_statement: str = Field(description="a path or URL that answers 200")
    prefix: str = Field(default="/privacy", description='a path such as "/privacy"')
    choice_days: int = Field(
        default=ADVISED_CHOICE_DAYS,
        ge=1,
        le=MAX_CHOICE_DAYS,
        strict=True,
        description=f"1 to {MAX_CHOICE_DAYS} days: every answer expires; {ADVISED_CHOICE_DAYS} is good practice",
    )
    html: Literal["private", "shared"] = Field(default="private", description='"private" or "shared"')
    csp: Literal["off", "report", "enforce"] = Field(
        default="off", description='"off", "report" (the browser tells what it would block) or "enforce" (it blocks)'
    )
    strict: bool = Field(
        default=False, strict=True, description="true or false: whether third parties that are not declared are blocked"
    )
    dialects: dict[str, bool | dict[str, str]] = Field(
        default={},
        description="[site.dialects]: cookiebot = false, or a table of its words and what they mean here; "
        "see docs/dialects.md",
    )
    old_choices: Literal["ignore", "refusals", "all"] = Field(
        default="refusals", description='"refusals", "all" (grants too, recorded as imported) or "ignore"'
    )
    remove_old_tool: bool = Field(
        default=False,
        strict=True,
        description="true or false: whether an earlier consent tool's own script is kept out",
    )
    google: GoogleMode = Field(default=GoogleMode(), description="[site.google]: consent mode; see docs/vendors.md")
    gpc: bool = Field(
        default=True, strict=True, description="true or false: whether /.well-known/gpc.json is published"
    )
    cookie_domain: str | None = Field(default=None, description="a parent domain whose subdomains share the choice")
    advertising: Literal["allowed", "never"] = Field(
        default="allowed", description='"never" refuses every marketing service'
    )
    services: tuple[str, ...] | None = Field(default=None, description="the services of this site; default: all named")
    texts: dict[str, Wording] = Field(default={}, description="[site.texts.nl] with title and intro")
    theme: dict[str, Any] = Field(default={}, description="[site.theme]: see docs/theming.md")

    @field_validator("base_url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise _wrong(f'"{url}" is no base URL: write scheme and host alone, such as "https://example.nl"')
        if parts.scheme == "http" and not is_local(parts.hostname):
            raise _wrong(f'"{url}" is not encrypted: write https:// (http is for loopback and .test)')
        return url.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _path(cls, prefix: str) -> str:
        if not re.fullmatch(r"(/[A-Za-z0-9_~.-]+)+", prefix):
            raise _wrong(f'"{prefix}" is no path: write something like "/privacy", without a slash at the end')
        return prefix

    @field_validator("languages")
    @classmethod
    def _shipped(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            if language not in shipped_languages():
                known = ", ".join(shipped_languages())
                raise _wrong(f'there are no texts for "{language}": choose from {known}')
        return tuple(dict.fromkeys(languages))

    @field_validator("privacy_statement")
    @classmethod
    def _no_dead_end(cls, target: str) -> str:
        if not re.match(r"/(?!/)|https?://[^/]", target):
            raise _wrong(f'"{target}" leads nowhere: write a path such as "/privacyverklaring" or a URL')
        return target

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
                raise _wrong(f'"{host}" is no host name: write it without scheme, port or path')
        return tuple(host.lower() for host in hosts)

    @field_validator("dialects")
    @classmethod
    def _understood(cls, dialects: dict[str, bool | dict[str, str]]) -> dict[str, bool | dict[str, str]]:
        for name in dialects:
            if name not in DIALECTS:
                close = get_close_matches(name, DIALECTS, 1)
                remedy = f'Did you mean "{close[0]}"?' if close else f"Known here: {', '.join(DIALECTS)}"
                raise _wrong(f'there is no dialect "{name}". {remedy}')
        return dialects

    @field_validator("theme")
    @classmethod
    def _fair_theme(cls, table: dict[str, Any]) -> dict[str, Any]:
        try:
            problems = Theme.from_table(table).problems()
        except ValueError as error:
            raise _wrong(str(error)) from error
        if problems:
            raise _wrong("; ".join(problems))
        return table

    @model_validator(mode="before")
    @classmethod
    def _no_way_around(cls, table: Any) -> Any:
        if isinstance(table, Mapping):
            if "reject" in table:
                raise _wrong("`reject` can't be set: refusing is as easy as accepting, always. Remove the key")
            if table.get("choice_days", 1) in ("unlimited", None, "never") or table.get("choice_days") == 0:
                raise _wrong(f"`choice_days` can't be unlimited: write 1 to {MAX_CHOICE_DAYS}")
        return table

    @model_validator(mode="after")
    def _domain(self) -> Site:
        host = self.host
        if self.cookie_domain and host != self.cookie_domain and not host.endswith("." + self.cookie_domain):
            raise _wrong(f'`cookie_domain` "{self.cookie_domain}" is no parent of {host}')
        for language in self.texts:
            if language not in self.languages:
                raise _wrong(f"`texts.{language}`: the site does not speak it; add it to `languages` or remove it")
        return self

    @property
    def host(self) -> str:
        """The host name of `base_url`."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether the site is served over https."""
        return self.base_url.startswith("https:")

    @cached_property
    def look(self) -> Theme:
        """The checked theme."""
        return Theme.from_table(self.theme)


class Category(_Table):
    """A category of the site's own, beside the four that every site has."""

    title: Text = Field(description='title = { nl = "…", en = "…" }')
    about: Text = Field(description='about = { nl = "…", en = "…" }: what happens, in concrete words')


class ExemptAnalytics(_Table):
    """What an owner declares to measure without consent (Tw 11.7a(3)(b); the CNIL's and AP's conditions)."""

    own_use_only: Literal[True] = Field(description="true: only for the site's own statistics")
    no_cross_site_identifier: Literal[True] = Field(description="true: visitors can't be followed to other sites")
    no_user_id: Literal[True] = Field(description="true: no customer or login number is sent along")
    ip_masked: Literal[True] = Field(description="true: the IP address is cut before it is stored")
    data_months: int = Field(ge=1, le=25, description="1 to 25 months that measurements are kept")


class MailingList(_Table):
    """One list that people can sign up for: what they read before they do (Tw 11.7, GDPR art. 13)."""

    title: Text = Field(min_length=1, description='title = { nl = "Nieuwsbrief", en = "Newsletter" }')
    about: Text = Field(min_length=1, description='about = { nl = "…", en = "…" }: what it is about')
    frequency: Text = Field(min_length=1, description='frequency = { nl = "elke maand", en = "monthly" }')
    sender: str | None = Field(default=None, description='"De Linde <nieuws@delinde.example>", when not [mail] sender')
    form: str | None = Field(default=None, description="the [forms.<id>] that its sign-up shows; default: e-mail only")
    valid: str = Field(default="10 years", description='how long a consent holds, at most "10 years"')
    pupils: bool = Field(default=False, description="true: these are pupils' data, and no mailing ever goes out")

    @field_validator("sender")
    @classmethod
    def _from(cls, text: str | None) -> str | None:
        return _sender(text)

    @field_validator("valid")
    @classmethod
    def _ends(cls, text: str) -> str:
        return _ending(text)


class Partner(_Table):
    """Somebody else who may get an address, where its owner agreed to exactly that (GDPR art. 13(1)(e))."""

    name: str = Field(min_length=1, description="the legal name of the partner")
    purpose: Text = Field(min_length=1, description="what the partner does with it, per language")
    webhook: str | None = Field(
        default=None, pattern=r"https?://[^/]", description="an URL that is told when somebody withdraws"
    )

    @field_validator("webhook")
    @classmethod
    def _private(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("https:") and not is_local(urlsplit(url).hostname or ""):
            raise _wrong(f'"{url}" would send addresses in clear: write https://')
        return url


class Form(_Table):
    """One form: what it collects, what for, how long it is kept. What is not named here is not taken."""

    title: Text = Field(default={}, description='title = { nl = "…", en = "…" }')
    fields: tuple[str, ...] = Field(default=("email",), description='["email", "name"]')
    optional: tuple[str, ...] = Field(default=(), description="fields that may stay empty")
    labels: dict[str, Text] = Field(default={}, description="[forms.<id>.labels]: words for fields of your own")
    purpose: Text = Field(
        default={}, description="what the answers are used for, per language; a list's own sign-up has words for it"
    )
    retention: str = Field(default="12 months", description='how long you keep the answers, such as "12 months"')
    lists: tuple[str, ...] = Field(default=(), description='the [lists.<id>] that it offers, such as ["nieuwsbrief"]')
    uses: dict[str, Text] = Field(default={}, description="[forms.<id>.uses]: other purposes, each a box of its own")
    partners: dict[str, Partner] = Field(default={}, description="[forms.<id>.partners.<id>] with name and purpose")
    children: bool = Field(default=False, description="true asks for the age, and a parent's consent below 16")

    @field_validator("retention")
    @classmethod
    def _ends(cls, text: str) -> str:
        return _ending(text)

    @field_validator("fields", "optional")
    @classmethod
    def _names(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for field in fields:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", field):
                raise _wrong(f'"{field}" is no field name: write small letters, digits and underscores')
        return tuple(dict.fromkeys(fields))

    @field_validator("uses", "partners")
    @classmethod
    def _ids(cls, table: dict[str, Any]) -> dict[str, Any]:
        for id in table:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", id):
                raise _wrong(f'"{id}" is no id: write small letters, digits, dashes and underscores')
        return table

    @model_validator(mode="after")
    def _known(self) -> Form:
        for field in self.optional:
            if field not in self.fields:
                raise _wrong(f"`optional` names {field}, which is not one of the `fields`: add it there")
        for use, text in self.uses.items():
            if phrase := next(filter(None, map(vague, text.values())), None):
                raise _wrong(f'`uses.{use}`: "{phrase}" is vague: say what is done with which data')
        return self


class Mail(_Table):
    """How mail leaves. User and password stand in the environment."""

    smtp: tuple[str, ...] = Field(
        default=("smtp://127.0.0.1:25",),
        min_length=1,
        description='"smtp://host:587"; or several, and each stands in for those before it',
    )
    sender: str | None = Field(default=None, description='"De Linde <nieuws@delinde.example>"')
    unsubscribe: str | None = Field(
        default=None, description='a mailbox such as "afmelden@delinde.example", which also gets afmelden+…@'
    )
    bounces: str | None = Field(
        default=None, description='a mailbox such as "bounces@delinde.example", which also gets bounces+…@'
    )
    signups_per_hour: int = Field(default=600, ge=1, description="how many sign-ups the whole site takes in an hour")

    @field_validator("smtp", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("smtp")
    @classmethod
    def _servers(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not re.fullmatch(r"smtps?://[^/@]+/?", url):
                raise _wrong(f'"{url}" is no mail server: write "smtp://host:587", user and password elsewhere')
        return tuple(dict.fromkeys(urls))

    @field_validator("sender")
    @classmethod
    def _from(cls, text: str | None) -> str | None:
        return _sender(text)

    @field_validator("unsubscribe")
    @classmethod
    def _leaves(cls, text: str | None) -> str | None:
        return _token_mailbox(text, "afmelden@delinde.example", most=15)

    @field_validator("bounces")
    @classmethod
    def _returns(cls, text: str | None) -> str | None:
        return _token_mailbox(text, "bounces@delinde.example", most=11)


def _token_mailbox(text: str | None, example: str, *, most: int) -> str | None:
    """A mailbox whose name leaves room for a token after a plus (RFC 5321 section 4.5.3.1.1: 64 octets in all)."""
    if text is None:
        return None
    try:
        local, _, domain = Address.parse(text).deliver_to.rpartition("@")
    except AddressError as error:
        raise _wrong(f"{error} Write a mailbox such as {example}") from error
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{most}}}", local):
        raise _wrong(
            f"the part before the @ takes 1 to {most} letters or digits: a token of {64 - most} signs follows it"
        )
    return f"{local}@{domain}"


def _sender(text: str | None) -> str | None:
    if text is None:
        return None
    name, address = parseaddr(text)
    if any(ord(sign) < 32 for sign in text) or not name:
        raise _wrong(f'"{text}" names nobody: write "De Linde <nieuws@delinde.example>"')
    try:
        found = Address.parse(address)
    except AddressError as error:
        raise _wrong(f'"{text}": {error} Write "De Linde <nieuws@delinde.example>"') from error
    if found.needs_smtputf8:
        raise _wrong(f'"{text}": the part before the @ takes ASCII only, or many servers refuse the mail')
    return _mailbox(name, found)


def _mailbox(name: str, address: Address) -> str:
    """`Name <address>` as a header takes it."""
    shown = name if re.fullmatch(r"[\w !#$%&'*+/=?^`{|}~-]+", name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"{shown} <{address.deliver_to}>"


def _ending(text: str) -> str:
    try:
        duration = Duration.parse(text)
    except ValueError as error:
        raise _wrong(f"{error}; nothing is kept without an end (GDPR art. 5(1)(e))") from error
    if duration.days > MAX_RETENTION_YEARS * 366 or not duration.days:
        raise _wrong(f'"{text}" is no period up to {MAX_RETENTION_YEARS} years: write one such as "12 months"')
    return text


class Signature(_Table):
    """One key that mailings are signed with (DKIM, RFC 6376)."""

    domain: str = Field(pattern=r"[a-z0-9.-]+", description='"delinde.example": the domain that answers for the mail')
    selector: str = Field(pattern=r"[A-Za-z0-9._-]+", description='"nieuws": its key stands at nieuws._domainkey')
    key_file: Path = Field(
        description="a private key in PEM, RSA of 2048 bits or more or Ed25519, readable by you alone"
    )


class Webhook(_Table):
    """One provider that posts what came back. Its secret stands in the environment."""

    kind: Literal["generic", "ses", "postmark", "mailgun"] = Field(
        description='"generic", "ses", "postmark" or "mailgun"'
    )
    topic: str = Field(
        default="",
        pattern=r"^(arn:aws(-cn|-us-gov)?:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?)?$",
        description='"arn:aws:sns:eu-west-1:123456789012:bounces": the topic of Amazon SNS, for "ses"',
    )


class Mailing(_Table):
    """How mailings go out: how many at once, how fast, and when to stop."""

    connections: int = Field(default=10, ge=1, le=200, description="open connections to the mail server")
    per_second: int = Field(default=0, ge=0, description="messages in a second; 0 for no limit")
    per_hour: int = Field(default=0, ge=0, description="messages in an hour; 0 for no limit")
    per_domain_hour: int = Field(default=0, ge=0, description="messages in an hour to one domain; 0 for no limit")
    domains: dict[str, int] = Field(default={}, description='messages in an hour to some: { "gmail.com" = 2000 }')
    stop_after: int = Field(default=25, ge=1, description="refusals in a row that stop a mailing")
    not_after: str = Field(default="3 days", description="how long after its start a mailing may still go out")
    attachments_mb: int = Field(default=5, ge=0, le=25, description="megabytes of attachments and images in a mailing")
    dkim: tuple[Signature, ...] = Field(default=(), description="[[mailing.dkim]] with domain, selector and key_file")
    bounce_limit: float = Field(default=5.0, ge=1, le=100, description="how often mail may fail before it stops")
    bounce_stale: str = Field(default="7 days", description="so long without a failure, and they are counted anew")
    webhooks: dict[str, Webhook] = Field(default={}, description="[mailing.webhooks.<name>] tables")

    @field_validator("webhooks")
    @classmethod
    def _called(cls, webhooks: dict[str, Webhook]) -> dict[str, Webhook]:
        for name, webhook in webhooks.items():
            if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
                raise _wrong(f'"{name}" is no name: write small letters, digits and dashes, at most 32')
            if bool(webhook.topic) != (webhook.kind == "ses"):
                raise _wrong(f'{name}: `topic` is for kind = "ses", which needs it, and for no other')
        return webhooks

    @field_validator("not_after", "bounce_stale")
    @classmethod
    def _ends(cls, text: str) -> str:
        return _ending(text)

    @field_validator("domains")
    @classmethod
    def _names(cls, limits: dict[str, int]) -> dict[str, int]:
        for domain, count in limits.items():
            if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) or count < 1:
                raise _wrong(f'"{domain} = {count}" is no limit: write a domain in small letters and 1 or more')
        return limits


class Console(_Table):
    """The console for staff, under the prefix."""

    enabled: bool = Field(default=True, description="false: there is no console")
    four_eyes: bool = Field(default=False, description="true: who wrote a mailing can't release it")
    login: str | None = Field(
        default=None,
        description='the path of your own log-in page, such as "/inloggen", where your app knows the staff',
    )
    idle: str = Field(default="30 minutes", description="so long without a click, and one is logged out")
    absolute: str = Field(default="10 hours", description="so long after logging in, one logs in again")
    upload_mb: int = Field(default=25, ge=1, le=100, description="megabytes that an uploaded file may have")

    @field_validator("idle", "absolute")
    @classmethod
    def _ends(cls, text: str) -> str:
        return _ending(text)

    @field_validator("login")
    @classmethod
    def _local(cls, path: str | None) -> str | None:
        if path is not None and not re.match(r"/(?![/\\])", path):
            raise _wrong(f'"{path}" is no path of this site. Write one such as "/inloggen"')
        return path


class Retention(_Table):
    """How long what is kept; each a duration."""

    consent: str = Field(default="12 months", description="consent events, counted from the end of their validity")
    counters: str = Field(default="25 months", description="the daily counts of refusals")

    unconfirmed: str = Field(default="7 days", description="sign-ups that nobody confirmed")
    left: str = Field(default="30 days", description="address and fields of who left every list, from that day")
    newsletter: str = Field(default="5 years", description="proof of newsletter consents, from the day of leaving")
    tracking: str = Field(default="90 days", description="single openings and clicks; then totals are left")
    mailings: str = Field(default="24 months", description="who got which mailing; then totals are left")
    staff_log: str = Field(default="5 years", description="what staff did and read in the console")

    @field_validator("*")
    @classmethod
    def _ends(cls, text: str) -> str:
        return _ending(text)


class Database(_Table):
    """Where evidence is kept."""

    url: str = Field(
        default="sqlite:///consentkit.db",
        pattern=r"(sqlite|postgres|postgresql)(\+\w+)?://",
        description='"sqlite:///consentkit.db" or "postgresql://…"',
    )


class Settings(_Table):
    """Everything that can be configured; the fields are the tables of `consentkit.toml`.

    Args:
        site: the `[site]` table; or `sites`, several of them, told apart by their `hosts`.
        services: `[services.<id>]`: catalogue ids, with what differs; or services declared whole.
        secret_keys: signing keys, newest first, 32 bytes or more each.
        folder: what relative paths start from.

    Raises:
        SettingsError: naming file, key and remedy.
    """

    site: Site | None = Field(default=None, description="a table [site], or several [[sites]]")
    sites: tuple[Site, ...] = Field(default=(), description="[[sites]], each with hosts = […]")
    categories: dict[str, Category] = Field(default={}, description="[categories.<id>] with title and about")
    services: dict[str, dict[str, Any]] = Field(default={}, description="[services.<id>] tables")
    lists: dict[str, MailingList] = Field(default={}, description="[lists.<id>] tables")
    forms: dict[str, Form] = Field(default={}, description="[forms.<id>] tables")
    mail: Mail = Field(default=Mail(), description="the table [mail]")
    mailing: Mailing = Field(default=Mailing(), description="the table [mailing]")
    console: Console = Field(default=Console(), description="the table [console]")
    retention: Retention = Field(default=Retention(), description="the table [retention]")
    database: Database = Field(default=Database(), description="the table [database]")
    secret_keys: tuple[str, ...] = Field(default=(), description="set CONSENTKIT_SECRET_KEYS", repr=False)
    afgemeld_keys: tuple[str, ...] = Field(default=(), description="set CONSENTKIT_AFGEMELD_KEYS", repr=False)
    smtp_user: str = Field(default="", description="set CONSENTKIT_SMTP_USER", repr=False)
    smtp_password: str = Field(default="", description="set CONSENTKIT_SMTP_PASSWORD", repr=False)
    webhook_secrets: dict[str, str] = Field(default={}, description="set CONSENTKIT_WEBHOOK_<NAME>", repr=False)
    folder: Path = Field(default=Path(), description="what relative paths start from")
    source: str = Field(default="settings", description="where the settings came from")
    development: bool = Field(default=False, description="made up because there was no file; loopback only")

    def __init__(self, **tables: Any) -> None:
        try:
            super().__init__(**tables)
        except ValidationError as error:
            source = str(tables.get("source", "settings"))
            problems = [line for detail in error.errors() for line in _problem(detail).split("\n")]
            raise SettingsError(problems, source=source) from error

    @field_validator("secret_keys", "afgemeld_keys")
    @classmethod
    def _strong(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        remedy = f"Set a random one in the environment or in {KEY_FILE}; `consentkit init` makes them"
        for key in keys:
            if len(key.encode()) < MIN_KEY_BYTES or len(set(key)) < 10:
                raise _wrong(f"a key is too weak: each needs {MIN_KEY_BYTES} random bytes. {remedy}")
            if re.search(r"change.?me|secret.?key|your.?key|default|example|password", key, re.IGNORECASE):
                raise _wrong(f"a key looks like a placeholder. {remedy}")
        return keys

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        if bool(self.site) == bool(self.sites):
            raise _wrong("write one table [site], or several [[sites]], not both and not none")
        for each in self.sites:
            if len(self.sites) > 1 and not each.hosts:
                raise _wrong(f'site "{each.name}" needs hosts = ["…"], so that it can be told from the others')
        if not self.secret_keys and not all(is_local(each.host) for each in self.all_sites):
            raise _wrong(_MISSING_KEYS)
        names = [each.name for each in self.all_sites]
        if len(set(names)) < len(names):
            raise _wrong("two [[sites]] have one name: it names their evidence, so give each a name of its own")
        self._check_lists()
        self._check_webhooks()
        self._check_dialects()
        named = self.named_services  # parsed here, so that a mistake is found at the start
        for each in self.all_sites:
            for id in each.services or ():
                if id not in named:
                    raise _wrong(f'site "{each.name}" names the service "{id}", which has no [services.{id}]')
            if each.advertising == "never":
                for service in self.services_of(each):
                    if service.category == "marketing":
                        raise _wrong(
                            f"services.{service.id}: {service.title} is marketing, and the site has "
                            'advertising = "never". Remove one of the two'
                        )
        return self

    def _check_lists(self) -> None:
        for id, form in self.forms.items():
            for list in form.lists:
                if list not in self.lists:
                    raise _wrong(f"forms.{id}.lists: there is no [lists.{list}]: add it, or remove the name")
            if form.lists and "email" not in form.fields:
                raise _wrong(f'forms.{id}.fields: a form that offers lists needs "email"')
            of_a_list = any(each.form == id for each in self.lists.values())
            if form.model_fields_set and not form.purpose and not of_a_list:
                raise _wrong(f"forms.{id}.purpose: {NO_PURPOSE}")
        if self.lists and (without := next((site for site in self.all_sites if not site.controller.address), None)):
            raise _wrong(
                f'lists: site "{without.name}" has no postal address, and every mail must say where a stop request can '
                "be sent (Tw 11.7(7)). Write `address` under its controller"
            )
        for id, each in self.lists.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", id):
                raise _wrong(f'lists.{id}: "{id}" is no id: write letters, digits, dashes and underscores')
            if each.form is not None and each.form not in self.forms:
                raise _wrong(f"lists.{id}.form: there is no [forms.{each.form}]: add it, or remove `form`")
            if each.form is not None and "email" not in self.forms[each.form].fields:
                raise _wrong(f'forms.{each.form}.fields: a form that signs up for a list needs "email"')
            if self.sender_of(id) is None:
                raise _wrong(
                    f"lists.{id}.sender: nobody sends it. Write [mail] sender, or an email under [site.controller]"
                )

    def _check_dialects(self) -> None:
        """Each word of another tool must mean a category or a service that the site has."""
        for site in self.all_sites:
            named = self.services if site.services is None else site.services
            known = (*catalogue.CATEGORIES, *self.categories, *named)
            for dialect, words in site.dialects.items():
                for word, meant in words.items() if isinstance(words, dict) else ():
                    if meant not in known:
                        close = get_close_matches(meant, known, 1)
                        guess = f' Did you mean "{close[0]}"?' if close else ""
                        raise _wrong(
                            f'site.dialects.{dialect}.{word}: "{meant}" is neither a category nor a service that is '
                            f"named here.{guess} Write one of: {', '.join(known)}"
                        )

    def _check_webhooks(self) -> None:
        for name, webhook in self.mailing.webhooks.items():
            secret = self.webhook_secrets.get(name, "")
            if webhook.kind == "ses":
                continue
            if len(secret) < MIN_KEY_BYTES or len(set(secret)) < 10:
                raise _wrong(
                    f"mailing.webhooks.{name}: its secret is missing or weaker than {MIN_KEY_BYTES} random signs. Set "
                    f"{_webhook_variable(name)} to {_WEBHOOK_SECRETS[webhook.kind]}"
                )
            if webhook.kind == "postmark" and not all(secret.partition(":")):
                raise _wrong(f"mailing.webhooks.{name}: write {_webhook_variable(name)} as user:password")

        for id in self._told_by_webhook():
            secret = self.webhook_secrets.get(id, "")
            if secret and (len(secret) < MIN_KEY_BYTES or len(set(secret)) < 10):
                weak = f"{_webhook_variable(id)} is weaker than {MIN_KEY_BYTES} random signs"
                raise _wrong(f"services.{id}.webhook: {weak}. Make a longer one, and give it to the recipient too")

    def _told_by_webhook(self) -> list[str]:
        return [id for id, table in self.services.items() if table.get("webhook")]

    def sender_of(self, list: str) -> str | None:
        """Who sends the mail of a list: its own sender, `[mail] sender`, else the first site's controller."""
        site = self.all_sites[0]
        own = self.lists[list].sender if list in self.lists else None
        if own or self.mail.sender:
            return own or self.mail.sender
        try:
            return _mailbox(site.name, Address.parse(site.controller.email))
        except AddressError:
            return None

    @property
    def all_sites(self) -> tuple[Site, ...]:
        """Every configured site."""
        return (self.site,) if self.site else self.sites

    @cached_property
    def named_services(self) -> Mapping[str, Service]:
        """The services that the file names, whole."""
        known = catalogue.load()
        found: dict[str, Service] = {}
        problems: list[str] = []
        categories = (*catalogue.CATEGORIES, *self.categories)
        for id, table in self.services.items():
            own = dict(table)
            try:
                exempt = ExemptAnalytics(**own.pop("exempt_analytics")) if "exempt_analytics" in own else None
                service = catalogue.parse(id, own, known.get(id), categories=categories)
                found[id] = _exempted(service, exempt) if exempt else service
                if service.exempt and service.category != NECESSARY:
                    problems.append(
                        f"services.{id}.exempt: only a necessary service can be exempt; for statistics without consent "
                        "use exempt_analytics"
                    )
                if phrase := next(filter(None, map(vague, service.purpose.values())), None):
                    problems.append(f'services.{id}.purpose: "{phrase}" is vague: say what is done with which data')
            except catalogue.CatalogueError as error:
                problems += error.problems
            except ValidationError as error:
                problems += [f"services.{id}.exempt_analytics.{_problem(detail)}" for detail in error.errors()]
            except ValueError as error:
                problems.append(f"services.{id}: {error}")
        if problems:
            raise _wrong("\n".join(problems))
        return found

    def services_of(self, site: Site) -> tuple[Service, ...]:
        """The services of one site."""
        chosen = self.named_services if site.services is None else site.services
        return tuple(self.named_services[id] for id in chosen)

    @property
    def advice(self) -> list[str]:
        """What is allowed but deserves a second thought; told at the start and by `consentkit check`."""
        found = [
            f"{site.name}: choice_days = {site.choice_days} is longer than the {ADVISED_CHOICE_DAYS} days that "
            "supervisory authorities call good practice"
            for site in self.all_sites
            if site.choice_days > ADVISED_CHOICE_DAYS
        ]
        found += [f"{site.name}: {risk}" for site in self.all_sites for risk in site.google.risks]
        if self.lists and not self.afgemeld_keys:
            found.append(
                "no CONSENTKIT_AFGEMELD_KEYS: nobody can sign up and nothing is sent. Put back the key that the "
                "afgemeld table was made with; a new site gets one from `consentkit init`"
            )
        if self.development:
            found.append(
                "no consentkit.toml: running on made-up defaults, for this machine only. Run `consentkit init`"
            )
        return found

    def path(self, name: str) -> Path:
        """A path of the configuration, from the folder of its file."""
        return self.folder / name

    @property
    def database_url(self) -> str:
        """The database URL, with a relative SQLite file placed beside the configuration."""
        url = self.database.url
        name = url.removeprefix("sqlite:///")
        if url.startswith("sqlite:///") and name not in {"", ":memory:"} and not name.startswith("/"):
            return f"sqlite:///{self.path(name).resolve()}"
        return url

    @classmethod
    def load(cls, path: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the file and the environment.

        Args:
            path: the TOML file; without it `CONSENTKIT_CONFIG`, and without that defaults for loopback.
            environ: the environment; default `os.environ`.

        Raises:
            SettingsError: the file is missing, is no TOML, or holds a wrong value.
        """
        environ = os.environ if environ is None else environ
        found = path or environ.get("CONSENTKIT_CONFIG")
        table: dict[str, Any] = _read(Path(found)) if found else _development()
        file = Path(found) if found else None
        folder = file.resolve().parent if file else Path.cwd()
        keys = _key_file(folder, environ)
        for field, variable in (
            ("secret_keys", "CONSENTKIT_SECRET_KEYS"),
            ("afgemeld_keys", "CONSENTKIT_AFGEMELD_KEYS"),
        ):
            if field in table:
                raise SettingsError([f"{field}: secrets do not belong in the file. Set {variable}"], source=str(found))
            text = environ.get(variable, keys.get(variable, ""))
            table[field] = tuple(part.strip() for part in text.split(",") if part.strip())
        for field, variable in (
            ("smtp_user", "CONSENTKIT_SMTP_USER"),
            ("smtp_password", "CONSENTKIT_SMTP_PASSWORD"),
        ):
            if field in table:
                raise SettingsError([f"{field}: secrets do not belong in the file. Set {variable}"], source=str(found))
            table[field] = environ.get(variable, keys.get(variable, ""))
        table["webhook_secrets"] = _webhook_secrets(table, environ, keys, source=str(found))
        if url := environ.get("CONSENTKIT_DATABASE_URL", keys.get("CONSENTKIT_DATABASE_URL")):
            table["database"] = {"url": url}
        return cls(**table, folder=folder, source=str(found or "defaults"), development=file is None)


_WEBHOOK_SECRETS: dict[str, str] = {
    "generic": "a random text that you give to whoever signs",
    "mailgun": "the HTTP webhook signing key of your Mailgun account",
    "postmark": "user:password, and post to https://user:password@…",
}


def _webhook_variable(name: str) -> str:
    return f"CONSENTKIT_WEBHOOK_{name.upper().replace('-', '_')}"


def _webhook_secrets(
    table: dict[str, Any], environ: Mapping[str, str], keys: Mapping[str, str], *, source: str
) -> dict[str, str]:
    """The secret of each webhook that the file names, where there is one."""
    if "webhook_secrets" in table:
        problem = "webhook_secrets: secrets do not belong in the file. Set CONSENTKIT_WEBHOOK_<NAME>"
        raise SettingsError([problem], source=source)
    mailing = table.get("mailing")
    named = mailing.get("webhooks") if isinstance(mailing, dict) else None
    services = table.get("services")
    own = services if isinstance(services, dict) else {}
    told = [id for id, one in own.items() if isinstance(one, dict) and one.get("webhook")]
    names = [*(named if isinstance(named, dict) else ()), *told]
    variables = {name: _webhook_variable(name) for name in names}
    found = {name: environ.get(variable, keys.get(variable, "")) for name, variable in variables.items()}
    return {name: secret for name, secret in found.items() if secret}


def ephemeral_key() -> str:
    """A signing key for this process alone, for development without keys."""
    return secrets.token_urlsafe(48)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        problem = "no such file. `consentkit init` writes one, or name another with --config or CONSENTKIT_CONFIG"
        raise SettingsError([problem], source=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError([f"can't be read as TOML: {error}"], source=str(path)) from error
    for field in ("folder", "source", "development"):
        if field in table:
            raise SettingsError([f"{field}: unknown key. Remove it"], source=str(path))
    return table


def _development() -> dict[str, Any]:
    return {
        "site": {
            "name": "Ontwikkeling",
            "base_url": "http://127.0.0.1",
            "privacy_statement": "/privacy/cookies",
            "controller": {"name": "Ontwikkeling (consentkit.toml ontbreekt)"},
        },
        "services": {"google-analytics": {}, "youtube": {}},
    }


def _key_file(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    path = Path(environ.get("CONSENTKIT_KEY_FILE", folder / KEY_FILE))
    try:
        if not path.is_file():
            return {}
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsError(["others can read the keys. Run `chmod 600` on it"], source=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"the keys can't be read ({error.strerror}). Run this as the user who owns them"
        raise SettingsError([problem], source=str(path)) from error
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _of_google(service: Service) -> bool:
    """Whether it loads from a host of one of Google's own tags, under whatever name it was declared."""
    hosts = [host for known in catalogue.load().values() if "google" in known.vendor for host in known.hosts]
    names = {host.partition("/")[0] for host in hosts}
    return any(f".{host.partition('/')[0]}".endswith(f".{name}") for host in service.hosts for name in names)


def _exempted(service: Service, declared: ExemptAnalytics) -> Service:
    """The service as one that measures without consent, or a reason why it can't be.

    Raises:
        ValueError: it is no statistics service, is Google's, or keeps something longer than 13 months.
    """
    if service.category != "analytics":
        raise ValueError("exempt_analytics is for services of the category analytics only")
    if service.id.startswith("google-") or "google" in service.vendor or _of_google(service):
        raise ValueError("Google Analytics can't be exempt: Google uses the data too. Remove exempt_analytics")
    for item in service.items:
        if item.duration.days > Duration(13, "month").days:
            raise ValueError(
                f'"{item.name}" lives longer than 13 months: shorten it, and list under `cookies` what your set-up '
                "really keeps; or ask for consent"
            )
    months = declared.data_months
    reason = {
        "nl": "Beperkte statistiek, alleen voor deze site, met ingekort IP-adres en zonder profiel; "
        f"metingen worden na {months} maanden gewist. Je kunt bezwaar maken.",
        "en": "Limited statistics, for this site only, with a shortened IP address and no profile; "
        f"measurements are erased after {months} months. You can object.",
    }
    return replace(service, exempt=reason)


def _problem(detail: ErrorDetails) -> str:
    """One pydantic error as a sentence that names key, mistake and remedy."""
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    field = _field(path)
    remedy = f" Write {field.description}." if field is not None and field.description else ""
    if detail["type"] == "extra_forbidden":
        known = _siblings(path)
        close = get_close_matches(path[-1], known, 1)
        guess = f" Did you mean `{close[0]}`?" if close else f" Known here: {', '.join(known)}."
        return f"{key}: unknown key.{guess}"
    if detail["type"] == "missing":
        return f"{key}: is missing.{remedy}"
    if detail["type"] == "consentkit":
        return f"{key}: {detail['msg']}" if key else detail["msg"]
    return f"{key}: {detail['msg']} (found {detail['input']!r}).{remedy}"


def _model(path: list[str]) -> type[BaseModel] | None:
    """The table that a key path lies in."""
    tables: dict[str, type[BaseModel]] = {
        "site": Site, "sites": Site, "categories": Category, "lists": MailingList, "forms": Form, "partners": Partner,
        "mail": Mail, "mailing": Mailing, "dkim": Signature, "webhooks": Webhook, "retention": Retention,
        "console": Console, "database": Database, "controller": Controller, "texts": Wording,
    }  # fmt: skip
    for part in reversed(path[:-1]):
        if part in tables:
            return tables[part]
    return ExemptAnalytics if len(path) == 1 and path[0] in ExemptAnalytics.model_fields else Settings


def _field(path: list[str]) -> Any:
    model = _model(path) if path else None
    return model.model_fields.get(path[-1]) if model else None


def _siblings(path: list[str]) -> list[str]:
    model = _model(path)
    elsewhere = {"secret_keys", "afgemeld_keys", "smtp_user", "smtp_password", "webhook_secrets"}
    hidden = {"folder", "source", "development", *elsewhere}
    return [name for name in model.model_fields if name not in hidden] if model else []

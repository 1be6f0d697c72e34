"""What a service is: data only, shared by the gate (what to hold back) and the choice (what to ask).

A *service* is one party's product that loads from, or stores on, the visitor's device: Google Analytics,
YouTube, the site's own session cookie. The catalogue and the configuration both produce these values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from typing import Literal

Text = Mapping[str, str]
"""The same sentence per language code: `{"nl": "…", "en": "…"}`."""

NECESSARY = "necessary"
"""The category that needs no consent and can't be gated (Tw 11.7a(3), ePrivacy 5(3))."""

BOT_CHECKS = frozenset({"cloudflare-turnstile", "friendly-captcha", "google-recaptcha", "hcaptcha", "mtcaptcha"})
"""Services without which the form that they stand in can't be sent. A visitor is told so, and a site that loads them
only where a form is filled in may call them necessary."""

_DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}
_SPELLING = re.compile(r"(?P<amount>\d+)\s+(?P<unit>minute|hour|day|week|month|year)s?\Z")


@dataclass(frozen=True, slots=True)
class Duration:
    """How long something is kept: an amount of a unit, or the browser session."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `"13 months"`, `"1 day"` or `"session"`.

        Raises:
            ValueError: for anything else, and so for "unlimited" (CJEU C-673/17: the duration must be told).
        """
        if text.strip() == "session":
            return cls(0, "session")
        found = _SPELLING.match(text.strip())
        if not found or int(found["amount"]) == 0:
            raise ValueError(f'"{text}" is no duration: write "session", or a number and a unit such as "13 months"')
        return cls(int(found["amount"]), found["unit"])

    @property
    def days(self) -> float:
        """The length in days; a session counts as 0."""
        return 0.0 if self.unit == "session" else self.amount * _DAYS[self.unit]

    def __str__(self) -> str:
        if self.unit == "session":
            return "session"
        return f"{self.amount} {self.unit}{'' if self.amount == 1 else 's'}"


class Transfer(StrEnum):
    """On what basis data may leave the EEA (GDPR chapter V)."""

    NONE = "none"
    ADEQUACY = "adequacy"
    DPF = "dpf"
    SCC = "scc"


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(translate(name.replace("[", "[[]").replace("?", "[?]")))


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a service keeps on the device: a cookie or a storage key. `name` may hold `*` for any run."""

    name: str
    duration: Duration
    purpose: Text
    kind: Literal["cookie", "local", "session", "indexeddb"] = "cookie"
    party: Literal["first", "third"] = "first"

    def matches(self, name: str) -> bool:
        """Whether this entry is the declaration of the cookie or key called `name`."""
        return self.name == name or ("*" in self.name and _pattern(self.name).match(name) is not None)


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the catalogue or the configuration declares it.

    `hosts` are host names, matching themselves and their subdomains; a path prefix may follow
    (`www.google.com/maps`). `inline` are byte strings of which any one gives an inline script away.
    An `embed` (video, map) is a choice of its own. `exempt` is the reason why no consent is needed,
    given for necessary services and for privacy-friendly audience measurement (Tw 11.7a(3)(b)).
    `vendor` names the vendor's own consent interface and what it is told, for example `{"google":
    ["analytics_storage"]}`. `calls` are beginnings of calls that many pages have (`gtag(`): an inline script with
    one belongs to the service only on a page that also loads it. `places` are classes of elements in which a script
    of the service shows something (`twitter-tweet`). `connects` are hosts that the service needs once it is granted
    and that aren't its own (`www.gstatic.com`). `nocookie`: its frames are asked for from a host that keeps less,
    where it has one. `files` give it away on any host, for what sites serve themselves (`matomo.php`). `webhook` is
    told of each withdrawal.
    """

    id: str
    title: str
    provider: str
    country: str
    category: str
    purpose: Text
    transfer: Transfer = Transfer.NONE
    hosts: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    embed: bool = False
    exempt: Text | None = None
    privacy_url: str = ""
    vendor: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calls: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    connects: tuple[str, ...] = ()
    nocookie: bool = False
    files: tuple[str, ...] = ()
    webhook: str = ""

    @property
    def asks(self) -> bool:
        """Whether this service needs the visitor's consent before anything of it loads or is stored."""
        return self.exempt is None and self.category != NECESSARY

    @property
    def purpose_id(self) -> str:
        """The id of the choice that releases it: its category, or its own id where it is a choice of its own."""
        return self.id if self.embed or (self.exempt is not None and self.category != NECESSARY) else self.category

    def cookie(self, name: str) -> Item | None:
        """The declaration of the cookie called `name`, if it is one of this service's."""
        return next((item for item in self.items if item.kind == "cookie" and item.matches(name)), None)

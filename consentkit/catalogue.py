"""The services catalogue: what is known of each service, read from one TOML file a service.

The same reader takes the `[services.…]` tables of a site's configuration, so that an own service is held to
exactly the rules that the shipped ones are: nobody can agree to what isn't told (GDPR art. 13, CJEU C-673/17).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from consentkit.service import BOT_CHECKS, NECESSARY, Duration, Item, Service, Text, Transfer

CATEGORIES = (NECESSARY, "preferences", "analytics", "marketing")
"""The category ids that every site has."""

LANGUAGES = ("nl", "en")
"""The languages that every text of the catalogue is written in."""

FOLDER = Path(__file__).parent / "gate" / "services"
"""Where the shipped files are; the file's name is the service's id."""

VENDORS: Mapping[str, tuple[str, ...]] = {
    "google": (
        "ad_storage",
        "ad_user_data",
        "ad_personalization",
        "analytics_storage",
        "functionality_storage",
        "personalization_storage",
        "security_storage",
    ),
    "clarity": ("ad_Storage", "analytics_Storage"),
    "uet": ("ad_storage",),
    "matomo": ("consent",),
    "meta": ("consent",),
    "tiktok": ("consent",),
    "pinterest": ("consent",),
}
"""The vendors' own consent interfaces, and what each can be told."""

_INSIDE = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK"
_OUTSIDE = (
    "AD AE AF AG AI AL AM AO AQ AR AS AU AW AX AZ BA BB BD BF BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF "
    "CG CH CI CK CL CM CN CO CR CU CV CW CX DJ DM DO DZ EC EG EH ER ET FJ FK FM FO GA GB GD GE GF GG GH GI GL GM GN GP "
    "GQ GS GT GU GW GY HK HM HN HT ID IL IM IN IO IQ IR JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LK LR LS "
    "LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MU MV MW MX MY MZ NA NC NE NF NG NI NP NR NU NZ OM PA PE PF PG "
    "PH PK PM PN PR PS PW PY QA RE RS RU RW SA SB SC SD SG SH SJ SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK "
    "TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)

EEA = frozenset(_INSIDE.split())
"""Where data may go without a transfer basis: the European Economic Area (GDPR art. 44)."""

COUNTRIES = EEA | frozenset(_OUTSIDE.split())
"""ISO 3166-1 alpha-2."""

KEYS = (
    "title",
    "provider",
    "country",
    "transfer",
    "category",
    "embed",
    "privacy_url",
    "hosts",
    "inline",
    "calls",
    "places",
    "connects",
    "nocookie",
    "files",
    "webhook",
    "vendor",
    "purpose",
    "exempt",
    "cookies",
    "storage",
)
_ITEM_KEYS = ("name", "duration", "party", "purpose")
_OWN_MUST_HAVE = ("provider", "country", "category", "purpose")

_NO_OTHER_BASIS = (
    "storing or reading on a device needs consent and has no other basis, legitimate interest least of all "
    "(ePrivacy 5(3), Tw 11.7a); leave it out"
)
_NEVER_TICKED = "a choice starts switched off: a box ticked beforehand is no consent (CJEU C-673/17); leave it out"
_REFUSED = {
    **dict.fromkeys(
        ("basis", "legal_basis", "legitimate_interest", "legitimate_interests", "legint", "grondslag"), _NO_OTHER_BASIS
    ),
    **dict.fromkeys(
        ("default", "prechecked", "preticked", "pre_ticked", "ticked", "checked", "enabled", "granted", "opt_out"),
        _NEVER_TICKED,
    ),
    "required": 'what a site can\'t do without is category = "necessary"; leave it out',
}

_NECESSARY_REASON = {
    "nl": "Strikt noodzakelijk om de site te laten werken of veilig te houden (Telecommunicatiewet art. 11.7a lid 3)",
    "en": "Strictly necessary to make the site work or keep it safe (Dutch Telecommunications Act art. 11.7a(3))",
}

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]+)*\Z")
_HOST = re.compile(
    r"(?:localhost|(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?::\d{1,5})?\Z"
)
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z:{}<>@/()?=\[\]-]+\Z")

_Kind = Literal["cookie", "local", "session", "indexeddb"]


class CatalogueError(ValueError):
    """A service's table can't be used.

    Args:
        problems: one sentence each: the key, what is wrong, and what to write instead.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@cache
def load() -> Mapping[str, Service]:
    """Every shipped service by its id, in the ids' order. Read once a process.

    Raises:
        CatalogueError: for a shipped file that breaks a rule, naming the file.
    """
    services: dict[str, Service] = {}
    problems: list[str] = []
    for path in sorted(FOLDER.glob("*.toml")):
        try:
            services[path.stem] = parse(path.stem, tomllib.loads(path.read_text("utf-8")), None)
        except CatalogueError as error:
            problems += [f"{path.name}: {problem}" for problem in error.problems]
        except tomllib.TOMLDecodeError as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise CatalogueError(problems)
    return MappingProxyType(services)


def parse(
    id: str,
    table: Mapping[str, object],
    base: Service | None,
    *,
    categories: Collection[str] = CATEGORIES,
    languages: Collection[str] = LANGUAGES,
) -> Service:
    """Read one service's table.

    Args:
        id: the service's id, as in `[services.<id>]`.
        table: its keys; each key given replaces what `base` says, whole.
        base: the catalogue's service of this id; without one the table must declare everything.
        categories: the category ids that the site has.
        languages: the languages that every given text must have.

    Raises:
        CatalogueError: with all problems at once.
    """
    return _Reader(id, table, base, categories, tuple(languages)).service()


class _Reader:
    """One table being read; problems gather until the end, so that one start shows all of them."""

    def __init__(
        self,
        id: str,
        table: Mapping[str, object],
        base: Service | None,
        categories: Collection[str],
        languages: tuple[str, ...],
    ) -> None:
        self.id = id
        self.table = table
        self.base = base
        self.categories = categories
        self.languages = languages
        self.problems: list[str] = []

    def service(self) -> Service:
        self._id_and_keys()
        base = self.base or Service(self.id, self.id.replace("-", " ").capitalize(), "", "", "", {})
        items = (
            *(self._items("cookies") if "cookies" in self.table else _kept(base, cookies=True)),
            *(self._items("storage") if "storage" in self.table else _kept(base, cookies=False)),
        )
        service = Service(
            id=self.id,
            title=self._string("title", base.title),
            provider=self._string("provider", base.provider),
            country=self._country(base.country),
            category=self._category(base.category),
            purpose=self._text("purpose", self.table["purpose"]) if "purpose" in self.table else base.purpose,
            transfer=self._transfer(base.transfer),
            hosts=self._hosts("hosts") if "hosts" in self.table else base.hosts,
            inline=self._inline("inline") if "inline" in self.table else base.inline,
            calls=self._inline("calls", 3) if "calls" in self.table else base.calls,
            places=self._places() if "places" in self.table else base.places,
            connects=self._hosts("connects") if "connects" in self.table else base.connects,
            nocookie=self._nocookie(base.nocookie),
            files=self._files() if "files" in self.table else base.files,
            webhook=self._webhook(base.webhook),
            items=items,
            embed=self._embed(base.embed),
            exempt=base.exempt,
            privacy_url=self._privacy_url(base.privacy_url),
            vendor=self._vendor() if "vendor" in self.table else base.vendor,
        )
        exempt = self._exempt(service)
        self._as_a_whole(service)
        if self.problems:
            raise CatalogueError(self.problems)
        return service if exempt is service.exempt else replace(service, exempt=exempt)

    def _say(self, key: str, problem: str) -> None:
        self.problems.append(f"services.{self.id}.{key}: {problem}" if key else f"services.{self.id}: {problem}")

    def _id_and_keys(self) -> None:
        if not _ID.match(self.id):
            self._say("", 'an id is lower-case letters, digits and hyphens, such as "own-counter"')
        elif self.id in self.categories:
            self._say("", "this is the name of a category; call the service something else")
        self._known("", self.table, KEYS)
        if self.base is None:
            for key in _OWN_MUST_HAVE:
                if key not in self.table:
                    self._say(key, "is missing; a service that isn't in the catalogue must say it")

    def _known(self, under: str, table: Mapping[str, object], keys: Collection[str]) -> None:
        for key in table:
            if key in keys:
                continue
            if reason := _REFUSED.get(key.replace("-", "_")):
                self._say(under + key, reason)
            elif near := get_close_matches(key, keys, 1):
                self._say(under + key, f'is unknown; did you mean "{near[0]}"?')
            else:
                self._say(under + key, f"is unknown; known are {', '.join(keys)}")

    def _string(self, key: str, otherwise: str) -> str:
        if key not in self.table:
            return otherwise
        value = self.table[key]
        if isinstance(value, str) and value.strip():
            return value.strip()
        self._say(key, "must be a text that isn't empty")
        return otherwise

    def _text(self, key: str, value: object) -> Text:
        if not isinstance(value, Mapping):
            example = ", ".join(f'{language} = "…"' for language in self.languages)
            self._say(key, f"must be given per language: {{ {example} }}")
            return {}
        text: dict[str, str] = {}
        for language, sentence in value.items():
            if not _LANGUAGE.match(language):
                self._say(f"{key}.{language}", 'is no language code such as "nl"')
            elif not isinstance(sentence, str) or not sentence.strip():
                self._say(f"{key}.{language}", "must be a text that isn't empty")
            else:
                text[language] = sentence.strip()
        for language in self.languages:
            if language not in value:
                self._say(key, f'has no text for "{language}"; add {language} = "…"')
        return text

    def _country(self, otherwise: str) -> str:
        country = self._string("country", otherwise)
        if country and country not in COUNTRIES:
            near = f'; write "{country.upper()}"' if country.upper() in COUNTRIES else ', such as "NL" or "US"'
            self._say("country", f'"{country}" is no ISO 3166 code of two capitals{near}')
        return country

    def _category(self, otherwise: str) -> str:
        category = self._string("category", otherwise)
        if category and category not in self.categories:
            near = get_close_matches(category.lower(), self.categories, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"choose one of {', '.join(self.categories)}"
            self._say("category", f'"{category}" is no category here; {hint}')
        if category == NECESSARY and self.base is not None and self.base.category in ("analytics", "marketing"):
            self._say("category", f"{self.base.title} measures or advertises, which is never necessary; leave it out")
        return category

    def _transfer(self, otherwise: Transfer) -> Transfer:
        moved = self.base is not None and self.table.get("country", self.base.country) != self.base.country
        if moved and "transfer" not in self.table:
            return Transfer.NONE  # the basis belonged to the other country
        value = self._string("transfer", otherwise.value)
        try:
            return Transfer(value)
        except ValueError:
            self._say("transfer", f'"{value}" is no transfer basis; choose one of {", ".join(Transfer)}')
            return otherwise

    def _embed(self, otherwise: bool) -> bool:
        if self.id in BOT_CHECKS and self.table.get("category") == NECESSARY and "embed" not in self.table:
            return False
        value = self.table.get("embed", otherwise)
        if not isinstance(value, bool):
            self._say("embed", "must be true or false")
            return otherwise
        if otherwise and not value:
            self._say("embed", "embedded content is a choice of its own and can't be merged into another; leave it out")
        return value

    def _privacy_url(self, otherwise: str) -> str:
        url = self._string("privacy_url", otherwise)
        if url and not re.match(r"https?://[^\s/]+\.[^\s]+\Z", url):
            self._say("privacy_url", f'"{url}" is no page to read; write a full address that starts with https://')
        return url

    def _strings(self, key: str) -> list[str]:
        value = self.table[key]
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        self._say(key, 'must be a list of texts: ["…", "…"]')
        return []

    def _nocookie(self, otherwise: bool) -> bool:
        value = self.table.get("nocookie", otherwise)
        if not isinstance(value, bool):
            self._say("nocookie", "must be true or false")
        elif value and self.id != "youtube":
            self._say("nocookie", "is for youtube only: no other has such a host; leave it out")
        else:
            return value
        return otherwise

    def _webhook(self, otherwise: str) -> str:
        url = self._string("webhook", otherwise)
        if url and not re.match(r"https://[^\s/]+|http://(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|\Z)", url):
            self._say("webhook", f'"{url}" is not encrypted; write a full address that starts with https://')
        return url

    def _files(self) -> tuple[str, ...]:
        names = self._strings("files")
        for name in names:
            if not re.fullmatch(r"[\w-]{3,}(?:\.[\w-]+)+", name):
                self._say("files", f'"{name}" is no name of a file, such as "matomo.php"')
        return tuple(name.lower() for name in names)

    def _places(self) -> tuple[str, ...]:
        names = self._strings("places")
        for name in names:
            if not re.fullmatch(r"[A-Za-z][\w-]{3,}", name):
                self._say("places", f'"{name}" is no class of an element, such as "twitter-tweet"')
        return tuple(names)

    def _hosts(self, key: str) -> tuple[str, ...]:
        hosts = []
        for given in self._strings(key):
            host, slash, path = given.partition("/")
            if "://" in given or given.startswith("//"):
                plain = given.partition("//")[2]
                self._say(key, f'"{given}" has a scheme; write "{plain}"')
            elif "*" in given:
                plain = host.removeprefix("*.") if "*" not in path else "example.com/folder"
                self._say(key, f'"{given}" has a wildcard; subdomains and longer paths match anyway: "{plain}"')
            elif not _HOST.match(host.lower()):
                self._say(key, f'"{given}" is no host name; write one such as "teller.example" or "teller.example/js"')
            elif re.search(r"[\s#]", path):
                self._say(key, f'"{given}" has a space or "#" in its path, which no address has')
            else:
                hosts.append(host.lower() + slash + path if path else host.lower())
        return tuple(hosts)

    def _inline(self, key: str, least: int = 5) -> tuple[str, ...]:
        markers = self._strings(key)
        for marker in markers:
            if len(marker.strip()) < least:
                few = f"give {least} characters or more"
                self._say(key, f'"{marker}" is too short to tell one script from another; {few}')
        return tuple(markers)

    def _vendor(self) -> Mapping[str, tuple[str, ...]]:
        value = self.table["vendor"]
        if not isinstance(value, Mapping):
            self._say("vendor", 'must be a table such as { google = ["analytics_storage"] }')
            return {}
        self._known("vendor.", value, tuple(VENDORS))
        signals: dict[str, tuple[str, ...]] = {}
        for name, words in value.items():
            known = VENDORS.get(name, ())
            if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
                self._say(f"vendor.{name}", "must be a list of what the vendor is told")
            elif known and (wrong := [word for word in words if word not in known]):
                self._say(f"vendor.{name}", f'"{wrong[0]}" is unknown there; known are {", ".join(known)}')
            else:
                signals[name] = tuple(words)
        return signals

    def _items(self, key: str) -> list[Item]:
        value = self.table[key]
        if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
            self._say(key, 'must be a list of tables: [{ name = "…", duration = "…", purpose = { … } }]')
            return []
        items = [self._item(f"{key}[{number}].", row, key == "cookies") for number, row in enumerate(value)]
        return [item for item in items if item is not None]

    def _item(self, under: str, row: Mapping[str, object], is_cookie: bool) -> Item | None:
        before = len(self.problems)
        self._known(under, row, _ITEM_KEYS if is_cookie else (*_ITEM_KEYS, "kind"))
        for key in ("name", "duration", "purpose"):
            if key not in row:
                self._say(under + key, "is missing; the visitor must be told (CJEU C-673/17)")
        name, duration = row.get("name", ""), Duration(0, "session")
        if not isinstance(name, str) or ("name" in row and not name.strip("* ")):
            self._say(
                f"{under}name", 'must be a name, or a pattern such as "_teller*"; "*" alone would claim everything'
            )
        elif is_cookie and name and not _COOKIE_NAME.match(name):
            self._say(f"{under}name", f"\"{name}\" can't be a cookie's name: no spaces, commas, semicolons or quotes")
        try:
            duration = _duration(str(row.get("duration", "session")))
        except ValueError as error:
            self._say(f"{under}duration", f"{error}; without an end isn't allowed")
        party, kind = row.get("party", "first"), row.get("kind", "cookie" if is_cookie else "local")
        if party not in ("first", "third"):
            self._say(f"{under}party", 'must be "first" (stored under the site\'s name) or "third" (the provider\'s)')
        if kind not in get_args(_Kind):
            self._say(f"{under}kind", 'must be "local", "session" or "indexeddb"')
        purpose = self._text(f"{under}purpose", row["purpose"]) if "purpose" in row else {}
        if len(self.problems) > before:
            return None
        return Item(str(name), duration, purpose, kind, party)  # type: ignore[arg-type]  # both checked above

    def _exempt(self, service: Service) -> Text | None:
        """Why no consent is needed; a necessary service always says it."""
        if "exempt" not in self.table:
            return service.exempt or (_NECESSARY_REASON if service.category == NECESSARY else None)
        if service.category == NECESSARY:
            return self._text("exempt", self.table["exempt"])
        self._say(
            "exempt",
            "only a necessary service needs no consent; for statistics without consent declare exempt_analytics",
        )
        return None

    def _as_a_whole(self, service: Service) -> None:
        if service.country in COUNTRIES - EEA and service.transfer is Transfer.NONE and "transfer" not in self.table:
            self._say("transfer", f'is missing; data to {service.country} leaves the EEA: "adequacy", "dpf" or "scc"')
        elif service.country in COUNTRIES - EEA and service.transfer is Transfer.NONE:
            self._say("transfer", f'can\'t be "none": {service.country} is outside the EEA; "adequacy", "dpf" or "scc"')
        if service.transfer is Transfer.DPF and service.country in COUNTRIES - {"US"}:
            self._say("transfer", f'"dpf" is the framework with the US and says nothing of {service.country}')
        if service.embed and service.category == NECESSARY:
            self._say("embed", "embedded content of others is never necessary; give it another category")


_duration = cache(Duration.parse)  # a handful of spellings, hundreds of entries


def _kept(base: Service, *, cookies: bool) -> tuple[Item, ...]:
    return tuple(item for item in base.items if (item.kind == "cookie") is cookies)

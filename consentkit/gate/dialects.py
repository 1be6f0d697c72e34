"""The marks of other consent tools: which tags they hold back, for what, and how such a tag looks when it runs.

A site that comes from another tool keeps its pages: what is annotated for that tool is understood here, live or
parked (`type="text/plain"`, `data-src`). Each tool has words of its own, and one word means different things to
different tools, so every word is read in its own dialect. What can't be read is granted to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from consentkit.gate.scanner import ATTRIBUTE, Attribute, name_end, text, words
from consentkit.gate.urls import parents, target
from consentkit.service import NECESSARY

UNKNOWN: Final = "-"
"""Stands for a word that nobody can grant."""

COOKIEBOT: Final = "cookiebot"
VANILLA: Final = "vanilla-cookieconsent"
KLARO: Final = "klaro"
COMPLIANZ: Final = "complianz"
COOKIEYES: Final = "cookieyes"
ONETRUST: Final = "onetrust"
USERCENTRICS: Final = "usercentrics"
IUBENDA: Final = "iubenda"
COOKIE_SCRIPT: Final = "cookie-script"
C15T: Final = "c15t"

_P, _A, _M = "preferences", "analytics", "marketing"
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    COOKIEBOT: {"necessary": NECESSARY, "preferences": _P, "statistics": _A, "marketing": _M},
    # The site chooses its names; these are the ones of its documentation and examples.
    VANILLA: {
        "necessary": NECESSARY,
        "functional": _P,
        "functionality": _P,
        "preferences": _P,
        "personalization": _P,
        "analytics": _A,
        "statistics": _A,
        "performance": _A,
        "measurement": _A,
        "marketing": _M,
        "ads": _M,
        "advertisement": _M,
        "advertising": _M,
        "targeting": _M,
        "social": _M,
    },
    KLARO: {},
    COMPLIANZ: {
        "functional": NECESSARY,
        "preferences": _P,
        "statistics": _A,
        "statistics-anonymous": _A,
        "marketing": _M,
    },
    COOKIEYES: {
        "necessary": NECESSARY,
        "functional": _P,
        "analytics": _A,
        "performance": _A,
        "advertisement": _M,
        "other": _M,
    },
    # The numbers without a C are those of older scripts.
    ONETRUST: {"c0001": NECESSARY, "c0002": _A, "c0003": _P, "c0004": _M, "c0005": _M, "2": _A, "3": _P, "4": _M},
    USERCENTRICS: {},
    IUBENDA: {"1": NECESSARY, "2": _P, "3": _P, "4": _A, "5": _M},
    COOKIE_SCRIPT: {"strict": NECESSARY, "performance": _A, "targeting": _M, "functionality": _P, "unclassified": _M},
    C15T: {"necessary": NECESSARY, "functionality": _P, "experience": _P, "measurement": _A, "marketing": _M},
}
DIALECTS: Final = tuple(_WORDS)
"""The tools whose marks are understood, by the names that the settings use."""

_BY_SERVICE: Final = frozenset({KLARO, USERCENTRICS})
"""They name services where others name categories."""

_ALIASES: Final[Mapping[str, str]] = {
    "adsense": "google-adsense",
    "adwords": "google-ads",
    "bing": "bing-ads",
    "clarity": "microsoft-clarity",
    "doubleclick": "google-ads",
    "facebookconnect": "facebook",
    "facebookpixel": "meta-pixel",
    "facebooksocialplugins": "facebook",
    "fbpixel": "meta-pixel",
    "ga": "google-analytics",
    "ga4": "google-analytics",
    "gmaps": "google-maps",
    "googleadsconversion": "google-ads",
    "googleadsconversiontracking": "google-ads",
    "googleadsremarketing": "google-ads",
    "googleadwords": "google-ads",
    "googleanalytics4": "google-analytics",
    "googlemap": "google-maps",
    "googletag": "google-tag-manager",
    "gtag": "google-analytics",
    "gtm": "google-tag-manager",
    "linkedininsighttag": "linkedin-insight",
    "matomoselfhosted": "matomo",
    "microsoftadvertising": "bing-ads",
    "microsoftadvertisingremarketing": "bing-ads",
    "microsoftads": "bing-ads",
    "msclarity": "microsoft-clarity",
    "openstreetmaps": "openstreetmap",
    "piwik": "matomo",
    "recaptcha": "google-recaptcha",
    "tiktok": "tiktok-pixel",
    "tiktokadvertising": "tiktok-pixel",
    "twitter": "x-embeds",
    "twitterpixel": "x-ads",
    "twitterplugin": "x-embeds",
    "xadvertising": "x-ads",
    "universalanalytics": "google-analytics",
    "youtubevideo": "youtube",
}

# The URL attributes that the tools park, and what they are called when they load. The first always win from what
# stands in the real one meanwhile (a placeholder); the second are everybody's, so only where nothing stands there.
_PARKED: Final = {
    "data-cookieblock-src": "src",
    "data-cookieblock-srcset": "srcset",
    "data-src-cmplz": "src",
    "data-cmplz-src": "src",
    "data-suppressedsrc": "src",
    "suppressedsrc": "src",
    "uc-src": "src",
    "data-uc-src": "src",
    "data-srcset-cmplz": "srcset",
}
_SHARED: Final = {"data-src": "src", "data-srcset": "srcset", "data-href": "href"}
_EMPTY: Final = re.compile(r"(?:about:|data:|javascript:|#|$)", re.IGNORECASE)
_PARKED_TYPES: Final = frozenset({"text/plain", "javascript/blocked", "opt-in"})
_OLD_TYPES: Final = ("data-type", "data-script-type", "data-original-type")
_SCRIPT_TYPE: Final = re.compile(
    r"module|(?:application|text)/(?:x-)?(?:java|ecma|j|live)script[\d.]*|application/(?:ld\+)?json|importmap"
    r"|speculationrules",
    re.IGNORECASE,
)

_APART: Final = (b" ", b"\n", b"\t", b"\r", b"\f")
_CLASSES: Final = re.compile(r"optanon-|ot-vscat|_iub_cs_activate|cmplz-")
_OPTANON: Final = re.compile(r"(?:optanon-category|ot-vscat)-(.+)")
_COMPLIANZ_SIGNS: Final = words(
    "data-src-cmplz data-cmplz-src data-srcset-cmplz data-cmplz-target data-waitfor data-script-type"
    " data-post_scribe_id data-placeholder-image data-deferlazy"
)
_COMPLIANZ_CLASSES: Final = {"cmplz-script": "marketing", "cmplz-iframe": "marketing", "cmplz-stats": "statistics"}
_KLARO_SIGNS: Final = ("data-modified-by-klaro", "data-original-display")
_NAMES: Final = (
    words(
        "data-cookieconsent data-cookieyes data-usercentrics data-iub-purposes data-cookiescript data-cookiecategory"
        " data-category data-name data-ot-ignore data-c15t-category data-c15t-vendor"
    )
    | _COMPLIANZ_SIGNS
    | _PARKED.keys()
)

LOADERS: Final[Mapping[str, str]] = {
    "consent.cookiebot.com": COOKIEBOT,
    "consent.cookiebot.eu": COOKIEBOT,
    "consentcdn.cookiebot.com": COOKIEBOT,
    "consentcdn.cookiebot.eu": COOKIEBOT,
    "cdn.cookielaw.org": ONETRUST,
    "cookie-cdn.cookiepro.com": ONETRUST,
    "cdn.cookiepro.com": ONETRUST,
    "optanon.blob.core.windows.net": ONETRUST,
    "geolocation.onetrust.com": ONETRUST,
    "cdn-cookieyes.com": COOKIEYES,
    "app.cookieyes.com": COOKIEYES,
    "cdn.iubenda.com": IUBENDA,
    "cs.iubenda.com": IUBENDA,
    "embeds.iubenda.com": IUBENDA,
    "idb.iubenda.com": IUBENDA,
    "app.usercentrics.eu": USERCENTRICS,
    "app.eu.usercentrics.eu": USERCENTRICS,
    "web.cmp.usercentrics.eu": USERCENTRICS,
    "web.eu1.cmp.usercentrics.eu": USERCENTRICS,
    "privacy-proxy.usercentrics.eu": USERCENTRICS,
    "sdp.eu.usercentrics.eu": USERCENTRICS,
    "cookie-script.com": COOKIE_SCRIPT,
    "cdn.cookie-script.com": COOKIE_SCRIPT,
    "report.cookie-script.com": COOKIE_SCRIPT,
    "cdn.kiprotect.com": KLARO,
    "c15t.dev": C15T,
}
"""The hosts that the tools load themselves from, and whose they are."""

# The same tools where they are served by the site itself or by a host of everything.
_LOADER_PATH: Final = re.compile(
    r"/complianz-gdpr(?:-premium)?/|/cookie-law-info/|/iubenda_cs\.js|/otsdkstub\.js|/cookieconsent(?:@[\d.]+)?/"
    r"|/vanilla-cookieconsent[@/]|/cookieconsent(?:\.umd|\.esm)?(?:\.min)?\.(?:js|css)$|/klaro(?:-no-css|-no-translations)*"
    r"(?:-[\w.]+)?(?:\.min)?\.(?:js|css)$|/klaro(?:@[\w.]+)?/|/tarteaucitron(?:js)?[@/]|/tarteaucitron(?:\.min)?\.js$|/@c15t/",
    re.IGNORECASE,
)
_LOADER_SIGNS: Final = frozenset({"data-cbid", "data-domain-script"})
_LOADER_IDS: Final = frozenset({"cookiebot", "cookieyes", "usercentrics-cmp", "cmplz-cookiebanner-js"})


class Mark(NamedTuple):
    """What a tag is annotated with.

    `words` are category ids of ours, or "-" for what nobody can grant; all are needed. `services` are service ids of
    ours. `ignored`: the author told the other tool to let it through. `parked`: it does not load as it stands.
    `silent`: it does not say for what; then `words` is "-", which counts only where nothing else tells.
    """

    dialect: str
    words: tuple[str, ...]
    services: tuple[str, ...]
    ignored: bool
    parked: bool
    silent: bool = False


class _Said(NamedTuple):
    """What one tool would read off a tag: its own words for categories and for services."""

    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    ignored: bool = False


def _plain(name: str) -> str:
    """A name as people mean it: letters and digits, lower case."""
    return "".join(filter(str.isalnum, name.lower()))


def _split(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").lower().split())


class Dialects:
    """Reads the marks of other consent tools for one site.

    Args:
        settings: `[site.dialects]`: per tool whether its marks are read, or the site's own words with what they mean
            here: a category or a service id. A tool that is not named is read.
        categories: the ids of the site's categories.
        services: the known services, the title by id.
    """

    def __init__(
        self,
        settings: Mapping[str, bool | Mapping[str, str]],
        *,
        categories: Collection[str],
        services: Mapping[str, str],
    ) -> None:
        self._off = frozenset(name for name, value in settings.items() if value is False)
        self._named = frozenset(name for name, value in settings.items() if value is not False)
        self._categories = frozenset(categories)
        self._services = frozenset(services)
        self._own: dict[str, dict[str, str]] = {
            name: {key: meant for word, meant in value.items() for key in (word.strip().lower(), _plain(word))}
            for name, value in settings.items()
            if not isinstance(value, bool)
        }
        self._titles = {alias: id for alias, id in _ALIASES.items() if id in self._services}
        self._titles.update((_plain(title), id) for id, title in services.items())
        self._titles.update((_plain(id), id) for id in services)

    # -- words

    def reads(self, dialect: str) -> bool:
        """Whether this tool's marks and choices are read."""
        return dialect not in self._off

    def meaning(self, dialect: str, word: str) -> str | None:
        """What a word of this tool stands for here: a category id or a service id of ours; None when unknown."""
        own = self._own.get(dialect, {})
        if dialect in _BY_SERVICE:
            return self._named_service(dialect, word)
        word = word.lower()
        found = own.get(word) or _WORDS[dialect].get(word)
        if found is None and word != NECESSARY and word in self._categories:
            return word
        return found or (self._titles.get(_plain(word)) if dialect == COMPLIANZ else None)

    def _named_service(self, dialect: str, name: str) -> str | None:
        plain = _plain(name)
        found = self._own.get(dialect, {}).get(plain) or self._titles.get(plain)
        if found is None and name.lower() != NECESSARY and name.lower() in self._categories:
            return name.lower()
        return found

    # -- tags

    def read(self, name: str, first: Mapping[str, str]) -> Mark | None:
        """What this tag is annotated with; None when no tool that is read would know it.

        Args:
            name: the element. first: its attributes, of several with one name the first.
        """
        said = self._said(name, first)
        if not said:
            return None
        words: dict[str, None] = {}
        services: dict[str, None] = {}
        ignored = False
        for dialects, one in said:
            ignored |= one.ignored
            self._understand(dialects, one, words, services)
        silent = all(not (one.words or one.names or one.ignored) for _, one in said)
        return Mark(said[0][0][0], tuple(words), tuple(services), ignored, _parked(name, first), silent)

    def off(self, name: str, first: Mapping[str, str]) -> str | None:
        """The tool that parked this tag but is not read here, so that nothing will ever release it."""
        if not self._off or not _parked(name, first):
            return None
        for dialect, reader in _READERS.items():
            if dialect in self._off and reader(self, name, first) is not None:
                return dialect
        among = self._of_category(name, first)
        return next((dialect for dialect in among if dialect in self._off), None) if among else None

    def _said(self, name: str, first: Mapping[str, str]) -> list[tuple[tuple[str, ...], _Said]]:
        """What the tools that are read would read, each with the dialects in which it can be meant."""
        if _NAMES.isdisjoint(first) and not _CLASSES.search(first.get("class", "")):
            return []
        found: list[tuple[tuple[str, ...], _Said]] = []
        for dialect, reader in _READERS.items():
            if dialect not in self._off and (one := reader(self, name, first)) is not None:
                found.append(((dialect,), one))
        among = tuple(dialect for dialect in self._of_category(name, first) if dialect not in self._off)
        if among and (one := self._categorised(name, first, among)) is not None:
            found.append((among, one))
        return [pair for pair in found if pair[1] != _Said()] or found

    def _understand(
        self, dialects: Sequence[str], said: _Said, words: dict[str, None], services: dict[str, None]
    ) -> None:
        known = False
        for name in said.names:
            found = next(filter(None, (self._named_service(dialect, name) for dialect in dialects)), None)
            if found is None and not said.words:
                words[UNKNOWN] = None
            if found in self._services:
                services[found] = None
                known = True
            elif found is not None:
                words[found] = None
                known = True
        if not said.words and not said.names and not said.ignored and not known:
            words[UNKNOWN] = None
        for word in said.words:
            for found in self._strictest(dialects, word):
                if found in self._services and found not in self._categories:
                    services[found] = None
                else:
                    words[found] = None

    def _strictest(self, dialects: Sequence[str], word: str) -> Iterable[str]:
        """What the word asks for in any of the dialects it can be meant in: more rather than less."""
        found = dict.fromkeys(filter(None, (self.meaning(dialect, word) for dialect in dialects)))
        if len(found) > 1:
            found.pop(NECESSARY, None)
        return found or (UNKNOWN,)

    # -- `data-category`, which three tools share

    def _of_category(self, name: str, first: Mapping[str, str]) -> tuple[str, ...]:
        """The tools whose mark this can be, told by what else stands there; several when it can't be told."""
        if _complianz(first):
            return (COMPLIANZ,)
        if "data-category" not in first:
            return ()
        if "data-vendor" in first:
            return (C15T,)
        if not _parked(name, first) and _split(first["data-category"]) == ("functional",):
            return (COMPLIANZ,)  # no other tool says so of what is live: it is never to be blocked
        if name not in ("script", "link", "iframe"):
            return ()  # any shop says of its pictures which category they are of
        among = (VANILLA, COMPLIANZ, C15T) if name == "iframe" else (VANILLA, COMPLIANZ)
        named = tuple(dialect for dialect in among if dialect in self._named)
        return named if len(named) == 1 else among

    def _categorised(self, name: str, first: Mapping[str, str], among: Sequence[str]) -> _Said | None:
        said = _split(first.get("data-category", ""))
        service = first.get("data-service") or first.get("data-vendor") or ""
        names = (service,) if service and service != "general" else ()
        if _complianz(first):
            if "data-category" in first:
                return _Said(said, names)
            classes = first.get("class", "").split()
            said = tuple(_COMPLIANZ_CLASSES[one] for one in classes if one in _COMPLIANZ_CLASSES)
            return _Said(said, names) if said or names or not _PARKED.keys().isdisjoint(first) else None
        if name == "script" and _parked(name, first):
            return _Said(said, names)
        # What is live, or parked as anything may be, must say a word that a tool says.
        known = said and all(UNKNOWN not in self._strictest(among, word) for word in said)
        return _Said(said, names) if known else None

    # -- `data-name`, which is everybody's

    def named(self, name: str, first: Mapping[str, str]) -> _Said | None:
        """Klaro's mark. On what is not parked the way it parks, the name must be one that means something here."""
        service = first.get("data-name")
        if not service:
            return None
        known = self._named_service(KLARO, service) is not None
        if name in ("script", "iframe"):
            told = known or _parked(name, first)
        else:
            signs = not first.keys().isdisjoint(_KLARO_SIGNS) or KLARO in self._named
            told = _parked(name, first) and (known or signs)
        return _Said(names=(service,)) if told else None

    # -- the tag as it runs

    def open(self, raw: bytes, name: str, every: list[Attribute], mark: Mark) -> bytes:
        """The start tag as it runs: its type given back, its parked addresses under their real names.

        All else keeps its place and its bytes. A tag that is live comes back as it is.

        Args:
            raw: the start tag. name: the element. every: its attributes. mark: what `read` gave.
        """
        if not mark.parked or mark.ignored:
            return raw
        first: dict[str, str] = {}
        for key, value in ((item.name, item.value) for item in every):
            first.setdefault(key, value)
        renamed: dict[str, str] = {}
        if name == "script" and _type(first) in _PARKED_TYPES:
            old = next((one for one in _OLD_TYPES if _SCRIPT_TYPE.fullmatch(first.get(one, "").strip())), "")
            renamed[old] = "type"
        renamed.update(_moves(first))
        real = frozenset(renamed.values())
        out: list[bytes] = []
        at = 0
        for item in ATTRIBUTE.finditer(raw, name_end(raw)):
            if not item.lastindex:
                continue
            key = text(item[1].lower())
            if key in real:
                out.append(raw[at : item.start()])
                at = item.end()
                apart = raw[at : at + 1] in _APART
                if not apart and raw[at : at + 1] != b">":
                    out.append(b" ")
                elif apart and raw[item.start() - 1 : item.start()] in _APART:
                    at += 1
            elif new := renamed.pop(key, None):
                out += [raw[at : item.start(1)], new.encode()]
                at = item.end(1)
        return b"".join([*out, raw[at:]])

    # -- the tools themselves

    def loader(self, name: str, first: Mapping[str, str]) -> bool:
        """Whether this tag loads another consent tool itself, from its own host or from the site's.

        Args:
            name: the element. first: its attributes, of several with one name the first.
        """
        if name not in ("script", "link", "iframe"):
            return False
        if name == "script" and (
            not _LOADER_SIGNS.isdisjoint(first) or first.get("id", "").strip().lower() in _LOADER_IDS
        ):
            return True
        url = first.get("src") or first.get("href") or ""
        if not url:
            return False
        place = target(url)
        if place is None:
            return _LOADER_PATH.search(url.partition("?")[0].partition("#")[0]) is not None
        if not LOADERS.keys().isdisjoint(parents(place.host)):
            return True
        return _LOADER_PATH.search(place.path) is not None


def _complianz(first: Mapping[str, str]) -> bool:
    return not _COMPLIANZ_SIGNS.isdisjoint(first) or "cmplz-" in first.get("class", "")


def _type(first: Mapping[str, str]) -> str:
    return first.get("type", "").strip().lower()


def _parked(name: str, first: Mapping[str, str]) -> bool:
    """Whether the tag does not load as it stands because a tool keeps it so."""
    return (name == "script" and _type(first) in _PARKED_TYPES) or any(True for _ in _moves(first))


def _moves(first: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The parked attributes that get their real names back."""
    taken = set()
    for parked, real in _PARKED.items():
        if parked in first and real not in taken:
            taken.add(real)
            yield parked, real
    for parked, real in _SHARED.items():
        if parked in first and real not in taken and _EMPTY.match(first.get(real, "").strip()):
            yield parked, real


# -- what each tool reads off a tag


def _cookiebot(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    value = first.get("data-cookieconsent")
    if value is None:
        return _Said() if "data-cookieblock-src" in first else None
    words = _split(value)
    return _Said(ignored=True) if words == ("ignore",) else _Said(tuple(word for word in words if word != "ignore"))


def _vanilla_2(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    if "data-cookiecategory" not in first or "data-cookiescript" in first:
        return None
    return _Said(_split(first["data-cookiecategory"]))


def _cookieyes(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    if "data-cookieyes" not in first:
        return None
    return _Said(tuple(word.removeprefix("cookieyes-") for word in _split(first["data-cookieyes"])))


def _onetrust(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    found = [match[1].lower() for one in first.get("class", "").split() if (match := _OPTANON.fullmatch(one))]
    words = tuple(word for one in found for word in one.split("-") if word)
    ignored = "data-ot-ignore" in first
    return _Said(words, ignored=ignored) if found or ignored else None


def _usercentrics(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    if value := first.get("data-usercentrics"):
        return _Said(names=(value,))
    return None if {"uc-src", "data-uc-src"}.isdisjoint(first) else _Said()


def _iubenda(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    classes = first.get("class", "").split()
    if "data-iub-purposes" in first:
        return _Said(tuple(word for word in _split(first["data-iub-purposes"]) if word != "s") or ("5",))
    marked = any(one.startswith("_iub_cs_activate") and not one.endswith("-activated") for one in classes)
    if not marked and {"data-suppressedsrc", "suppressedsrc"}.isdisjoint(first):
        return None
    return _Said(("5",))  # without a purpose it may be any: the widest


def _cookie_script(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    if "data-cookiescript" not in first:
        return None
    return _Said(_split(first.get("data-cookiecategory", "")) or ("targeting",))


def _c15t(_: Dialects, name: str, first: Mapping[str, str]) -> _Said | None:
    category, vendor = first.get("data-c15t-category"), first.get("data-c15t-vendor")
    if category is None and vendor is None:
        return None
    return _Said(_split(category or ""), (vendor,) if vendor else ())


_READERS: Final[Mapping[str, Callable[[Dialects, str, Mapping[str, str]], _Said | None]]] = {
    COOKIEBOT: _cookiebot,
    VANILLA: _vanilla_2,
    KLARO: Dialects.named,
    COOKIEYES: _cookieyes,
    ONETRUST: _onetrust,
    USERCENTRICS: _usercentrics,
    IUBENDA: _iubenda,
    COOKIE_SCRIPT: _cookie_script,
    C15T: _c15t,
}

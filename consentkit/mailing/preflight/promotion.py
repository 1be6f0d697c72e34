"""Does a service mail promote something? (GDPR art. 21(3), Tw 11.7; checklist UNS-07.)

No single ordinary word decides: an order may mention a discount, an account may be free. Signals are weighed, each
once, and three points make it promotion. An element that says of itself that it promotes decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from consentkit.mailing.preflight.emitted import split

ENOUGH: Final = 3
"""So many points make a mail promotional."""

_AMOUNT = r"(?:€|\$|£|eur) ?\d+"

_WORDS: Final[Sequence[tuple[int, Sequence[str]]]] = (
    # nl
    (3, [r"(?:super|top|zomer|winter|lente|herfst|kerst|kennismakings)-?(?:aanbieding|actie|korting|deal)\w*"]),
    (3, [r"(?:bestel|koop|shop) (?:nu|vandaag|direct|snel|meteen)"]),
    (3, [r"\d ?(?:\+|plus) ?\d gratis", r"(?:2e|tweede) halve prijs"]),
    (2, [r"\d{1,2} ?%(?: \w+)? (?:korting|voordeel|goedkoper)", r"korting van (?:€ ?)?\d+"]),
    (2, [r"nu (?:te )?(?:bestellen|kopen|boeken)", r"boek (?:nu|vandaag|snel)"]),
    (2, [r"(?:korting|actie|promo|promotie|coupon|voucher)s?[- ]?codes?"]),
    (2, [r"aanbieding(?:en)?", r"op ?= ?op", r"uitverkoop", r"opruiming", r"koopjes?", r"actieprij\w+"]),
    (2, [r"korting(?:en)?(?! ?(?:[:(€\d-]))"]),
    (2, [r"profiteer", r"mis (?:het|dit|deze|niets|hem) niet", r"grijp je kans", r"laatste kans", r"wees er snel bij"]),
    (2, [r"alleen (?:vandaag|dit weekend|deze week)", r"zolang de voorraad strekt", r"nog maar \d+ (?:dagen|uur)"]),
    (
        2,
        [
            r"(?:schrijf|meld) (?:je|jullie|u) (?:nu|vandaag|snel|direct|gratis) (?:in|aan)",
            r"(?:schrijf|meld) (?:je|u) (?:\w+ )?(?:in|aan) voor (?:\w+ )?(?:nieuwsbrief|cursus|workshop|webinar)",
        ],
    ),
    (1, [r"schrijf (?:je|jullie|u) in"]),
    (
        2,
        [
            r"gratis (?:proef\w*|verzending|verzonden|proberen|uitproberen|cadeau\w*|e-?book|maand\w*|kennismaking\w*)",
            r"(?:probeer|test) .{0,30}gratis",
        ],
    ),
    (1, [r"gratis"]),
    (1, [r"(?<!in )acties?(?! (?:vereist|nodig|van jou|van u|onder|is nodig|is vereist))"]),
    (2, [r"nieuwe (?:collectie|modellen|producten)", r"(?:ons|het nieuwe) aanbod"]),
    (2, [r"(?:bekijk|shop|ontdek) (?:ook |nu |snel )?(?:onze|ons|de nieuwe|het nieuwe|alle)"]),
    (2, [r"(?:exclusief|speciaal|aanbevolen|cadeautje) voor (?:jou|je|jullie|u)"]),
    (
        2,
        [
            r"vindt? (?:je|u) misschien ook",
            r"anderen (?:kochten|bestelden|bekeken) ook",
            r"maak (?:je|uw) bestelling compleet",
        ],
    ),
    (2, [r"(?:nu|slechts|maar) (?:voor )?(?:slechts )?" + _AMOUNT, r"van " + _AMOUNT + r"[\d.,]* voor"]),
    (1, [r"vanaf " + _AMOUNT]),
    (2, [r"upgrade (?:nu|vandaag|naar)", r"stap (?:nu|vandaag) over"]),
    (1, [r"volg ons op", r"vertel het (?:je|uw) vrienden", r"open dag"]),
    # en
    (3, [r"(?:special|exclusive|limited[- ]time|introductory|holiday|summer|winter|spring) (?:offer|deal|discount)s?"]),
    (
        3,
        [
            r"(?:summer|winter|spring|autumn|flash|clearance|holiday|weekend|season) sale",
            r"sale (?:ends|now on|starts)",
        ],
    ),
    (
        3,
        [
            r"(?:buy|shop|book) (?:now|today)",
            r"(?<!your )order (?:now|today)",
            r"get yours",
            r"grab (?:it|yours|a bargain)",
        ],
    ),
    (3, [r"buy one,? get one", r"half[- ]price", r"save (?:up to )?(?:\d+ ?%|" + _AMOUNT + r")"]),
    (2, [r"\d{1,2} ?% (?:off|discount)", _AMOUNT + r"[\d.,]* off"]),
    (2, [r"(?:discount|promo|promotion|promotional|coupon|voucher) codes?"]),
    (2, [r"(?:our|this|latest|these) offers?", r"bargains?"]),
    (2, [r"(?<!of )(?<!for )sale(?! (?:of|agreement|contract))"]),
    (2, [r"discounts?(?! ?(?:[:(€$£\d-]))"]),
    (2, [r"don't miss", r"last chance", r"today only", r"this weekend only", r"while (?:stocks?|supplies) lasts?"]),
    (2, [r"(?<!no )hurry", r"act now", r"ends (?:soon|tonight|at midnight|this week)", r"limited time"]),
    (
        2,
        [
            r"(?:sign up|subscribe|join|register|enrol|enroll) (?:now|today|for free)",
            r"(?:subscribe|sign up) (?:to|for) our",
        ],
    ),
    (2, [r"free (?:trial|shipping|delivery|gift|sample|month|e-?book|webinar)", r"try .{0,30}for free"]),
    (1, [r"(?<!feel )(?<!toll )(?<!toll-)free(?! (?:of|to|from))"]),
    (
        2,
        [
            r"new (?:collection|arrivals|range|products)",
            r"(?:check out|discover|browse|explore|shop) (?:our|the new|all)",
        ],
    ),
    (
        2,
        [
            r"you (?:may|might) also like",
            r"(?:picked|recommended|just|exclusively|specially) for you",
            r"customers also bought",
        ],
    ),
    (2, [r"upgrade (?:now|today|to)", r"go premium"]),
    (1, [r"(?:from|only|just) (?:only |just )?" + _AMOUNT]),
    (2, [r"refer a friend", r"tell your friends"]),
    (1, [r"follow us on"]),
    (2, [r"black friday", r"cyber monday"]),
)
_SIGNS = (
    *((points, re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)) for points, words in _WORDS),
    (1, re.compile("!{2,}")),
)
_DEDUCTION = re.compile(r"[-−–] ?(?:€|\$|£)|(?:€|\$|£) ?[-−–] ?\d")
_SHOP = re.compile(
    r"/(?:shop|webshop|winkel|store|sale|deals|aanbieding(?:en)?|acties?|offers?|korting(?:en)?|discounts?|collecties?|"
    r"collections?|producten|products?|pricing|prijzen|abonnementen|plans)(?:/|\Z)",
    re.IGNORECASE,
)
_OF_AN_ORDER = re.compile(
    r"order|bestelling|account|invoice|factuur|return|retour|track|receipt|bezorg|deliver|review", re.IGNORECASE
)
_CAMPAIGN = re.compile(r"(?:^|[?&])utm_(?:campaign|medium|source)=", re.IGNORECASE)
_SPELLING = str.maketrans({"’": "'", "‘": "'", "\u00a0": " ", "\u202f": " "})


@dataclass(frozen=True, slots=True)
class Signal:
    """What promotes: its `words` as they stand there, its `points`, and the source line (0 for the subject)."""

    points: int
    words: str
    line: int


def promotion(
    subject: str, lines: Iterable[tuple[int, str]], links: Iterable[tuple[int, str]], marked: Iterable[int]
) -> Sequence[Signal]:
    """The signals that together make a mail promotional, the strongest first; empty where they weigh too little.

    Args:
        lines: what one reads, with line numbers. links: where links lead, the same.
        marked: lines of elements with `data-promotion` or a class such as `promo`.
    """
    spoken = [(0, _plain(subject)), *((line, _plain(words)) for line, words in lines)]
    spoken = [(line, words) for line, words in spoken if not _DEDUCTION.search(words)]  # an invoice's own line
    found = [signal for points, sign in _SIGNS if (signal := _first(points, sign, spoken))]
    found += _links(links)
    found += [Signal(ENOUGH, "data-promotion", line) for line in marked]
    found = _apart(found)
    in_subject = any(signal.points > 1 and not signal.line for signal in found)
    if sum(signal.points for signal in found) + in_subject < ENOUGH:
        return ()
    return sorted(found, key=lambda signal: -signal.points)


def _plain(words: str) -> str:
    return words.translate(_SPELLING)


def _first(points: int, sign: re.Pattern[str], spoken: Iterable[tuple[int, str]]) -> Signal | None:
    return next((Signal(points, hit[0], line) for line, words in spoken if (hit := sign.search(words))), None)


def _links(links: Iterable[tuple[int, str]]) -> list[Signal]:
    shop = campaign = None
    for line, href in links:
        parts = split(href)
        if _SHOP.search(parts.path) and not _OF_AN_ORDER.search(parts.path):
            shop = shop or Signal(1, parts.path, line)
        if _CAMPAIGN.search(parts.query):
            campaign = campaign or Signal(1, "utm_campaign", line)
    return [signal for signal in (shop, campaign) if signal]


def _apart(found: Sequence[Signal]) -> list[Signal]:
    """Signals of which none says over again what a stronger one says."""
    kept: list[Signal] = []
    for signal in sorted(found, key=lambda signal: -signal.points):
        if not any(signal.line == other.line and signal.words.lower() in other.words.lower() for other in kept):
            kept.append(signal)
    return kept

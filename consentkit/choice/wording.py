"""Finds the words that say nothing: a purpose must be told so that a visitor knows what happens (BAN-06).

"To improve your experience" is the Article 29 Working Party's own example of a purpose that is too vague, and the
Dutch authority asks for texts without persuasion. Such a phrase passes only where the concrete purpose follows it.
"""

from __future__ import annotations

import re

_DUTCH = (
    r"(?:gebruiks|gebruikers|klant|bezoekers|surf|site|web|online)[ -]?ervaring(?:en)?",
    r"(?:optimale|optimaal|beste|betere|fijnere|prettige(?:re)?|leukste|mooiste|persoonlijke(?:re)?) ervaring",
    r"(?:jouw|je|uw|de) (?:\w+ )?ervaring (?:te )?(?:\w+ )?(?:verbeter|optimaliser|verrijk|personaliser)\w*",
    r"(?:verbeter|optimaliser)\w* (?:we |wij )?(?:onze|de|deze|je|uw) (?:\w+ )?(?:ervaring|(?:web)?site|dienst\w*)",
    r"optimaal (?:te )?(?:laten )?(?:werk|functioner|gebruik)\w*",
    r"(?:onze|de) dienst(?:en|verlening) (?:te )?(?:verbeter|optimaliser)\w*",
    r"(?:onze|deze|de) (?:web)?(?:site|winkel|shop|app|pagina.?s) (?:\w+ )?(?:te )?(?:verbeter|optimaliser|verfijn)\w*",
    r"(?:onze|de) (?:producten|inhoud|communicatie|service) (?:te )?(?:verbeter|optimaliser)\w*",
    r"verbeter(?:en|ing) van (?:de|onze|jouw|uw) (?:\w+ )?(?:ervaring|(?:web)?site|dienst\w*|service|kwaliteit)",
    r"optimaliser(?:en|ing) van (?:de|onze|jouw|uw) (?:\w+ )?(?:ervaring|(?:web)?site|dienst\w*|service)",
    r"(?:beter|optimaal|goed) van dienst (?:te )?(?:\w+ )?zijn",
    r"(?:nog )?beter(?:e)? (?:te )?(?:help|bedien)en",
    r"betere (?:service|dienstverlening|website|site)",
    r"op maat(?: gemaakte?)? (?:\w+ )?(?:ervaring|inhoud|aanbod)",
    r"relevante(?:re)? (?:inhoud|content|informatie|aanbiedingen|ervaring)",
    r"(?:inhoud|content) (?:\w+ )?personaliser\w*",
    r"gepersonaliseerde (?:inhoud|content|ervaring)",
    r"afgestemd op (?:jouw|uw|je) (?:interesses|wensen|voorkeuren)",
    r"(?:voor )?analyse(?:doeleinden| doeleinden|s)",
    r"marketing[ -]?doeleinden",
    r"commerciële doeleinden",
    r"statistische doeleinden",
    r"(?:interne )?(?:markt|gebruikers)(?:onderzoek|analyses?)",
    r"(?:voor )?toekomstig onderzoek",
    r"nieuwe diensten (?:te )?ontwikkelen",
    r"(?:diverse|verschillende|andere|overige) doeleinden",
    r"en dergelijke doeleinden",
    r"gerechtvaardigde? belang(?:en)?",
    r"inzicht(?:en)? (?:te )?(?:krijgen|verkrijgen|vergaren)",
    r"(?:website|site) (?:\w+ )?(?:leuker|mooier|fijner|beter) (?:te )?maken",
    r"wij houden van (?:koekjes|cookies)",
    r"(?:lekkere|heerlijke) (?:koekjes|cookies)",
    r"wij (?:waarderen|respecteren) (?:jouw|uw|je) privacy",
    r"(?:jouw|uw|je) privacy is (?:voor ons |ons )?belangrijk",
    r"het beste uit (?:de|onze|deze) (?:web)?site",
)
_ENGLISH = (
    r"(?:user|customer|browsing|visitor|web|site|online|shopping) experience",
    r"(?:optimal|best|better|great|richer|smooth(?:er)?|personal(?:i[sz]ed)?|tailored) experience",
    r"(?:enhance|improve|optimi[sz]e|enrich|personali[sz]e|tailor|customi[sz]e) (?:your|the|our) (?:\w+ )?experience",
    r"(?:improve|enhance|optimi[sz]e) (?:our|the|this) (?:\w+ )?(?:services?|products?|(?:web)?site|app|content)",
    r"(?:improving|enhancing|optimi[sz]ing) (?:our|the|your|this) (?:\w+ )?(?:services?|products?|(?:web)?site)",
    r"improvement of (?:our|the|your) (?:\w+ )?(?:services?|(?:web)?site|experience)",
    r"(?:serve|help|assist) you better",
    r"better (?:service|website|site)",
    r"relevant (?:content|information|offers?|experience)",
    r"personali[sz]ed? (?:content|experience)",
    r"tailored (?:content|offers?|to your)",
    r"(?:for )?(?:analytical|analytics|statistical) purposes",
    r"(?:for )?marketing purposes",
    r"(?:for )?(?:commercial|business|research|other|various|similar) purposes",
    r"(?:for )?future research",
    r"develop(?:ing)? new (?:services|products)",
    r"legitimate interests?",
    r"(?:gain|get|obtain|collect) insights?",
    r"make (?:our|the|this) (?:web)?site (?:better|nicer|more fun)",
    r"we (?:value|respect|care about) your privacy",
    r"your privacy (?:is important|matters) to us",
    r"(?:delicious|tasty|yummy) cookies",
    r"get the (?:best|most) (?:out )?of (?:our|the|this) (?:web)?site",
    r"(?:website|site) (?:to )?(?:works?|function)\w* (?:optimally|at its best|properly)",
)
PHRASES = (*_DUTCH, *_ENGLISH)
"""The vague and the flattering phrases, as regular expressions over lower-case text."""

_PHRASE = re.compile("|".join(rf"\b(?:{phrase})\b" for phrase in PHRASES))

_CONCRETE = re.compile(
    r"(?:[:(–—]|\b(?:door|doordat|namelijk|want|bijvoorbeeld|by|namely|because|for example|for instance)\b)"
    r".*\b(?:"
    r"tel(?:len|t)|meten|meet|gemeten|bijhouden|onthoud(?:en|t)|toon(?:t)?|tonen|laten zien|herken(?:nen|t)"
    r"|volg(?:en|t)|bewaren|bewaart?|vergelijk(?:en|t)|opnemen|opslaan|registreren|vastleggen|kijken"
    r"|count(?:s|ing)?|measur(?:e|es|ing)|remember(?:s|ing)?|show(?:s|ing)?|recogni[sz](?:e|es|ing)|follow(?:s|ing)?"
    r"|stor(?:e|es|ing)|keep(?:s|ing)?|compar(?:e|es|ing)|record(?:s|ing)?|track(?:s|ing)?|log(?:s|ging)?"
    r")\b"
)


def vague(text: str) -> str | None:
    """The phrase that makes `text` say nothing, or praise instead of tell; None when there is none.

    A phrase passes where the same sentence goes on with a concrete purpose: a colon, a dash, a bracket, or a word
    such as "door", "namelijk", "by" or "for example", and after it a verb for what is done ("tellen", "onthouden",
    "count", "show"): "We verbeteren onze site door te tellen welke pagina's je bekijkt".
    """
    plain = " ".join(text.lower().replace("’", "'").split())
    for found in _PHRASE.finditer(plain):
        rest = re.split(r"[.!?](?:\s|$)", plain[found.end() :], maxsplit=1)[0]
        if not _CONCRETE.search(rest):
            return found[0]
    return None

"""What the school has to tell. A real site would read this from its database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Article:
    """One news item; `video` is the id of an embedded film that belongs to it."""

    slug: str
    title: str
    date: str
    group: str
    picture: str
    intro: str
    text: tuple[str, ...]
    video: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the calendar."""

    day: str
    month: str
    title: str
    about: str


NEWS = (
    Article(
        "moestuin",
        "De moestuin is klaar voor de winter",
        "18 november",
        "Groep 5 en 6",
        "moestuin.svg",
        "Boerenkool, prei en een hotel voor insecten: groep 5 en 6 hebben de bakken op het plein winterklaar gemaakt.",
        (
            "Met kruiwagens vol compost en een flinke portie modder is onze moestuin dinsdag klaargemaakt voor de winter. "
            "De laatste pompoenen zijn geoogst; daar koken we in de week van 1 december soep van, voor de hele school.",
            "De kinderen van groep 6 bouwden een insectenhotel van bamboe, dennenappels en oude bakstenen. De eerste "
            "gasten hebben zich al gemeld: drie lieveheersbeestjes en een oorworm.",
            "Wie in de kerstvakantie een ochtend wil helpen met water geven in de kas, meldt zich bij juf Marieke.",
        ),
    ),
    Article(
        "lampionoptocht",
        "Honderd lichtjes door de Lindelaan",
        "11 november",
        "Hele school",
        "lampion.svg",
        "De optocht van Sint-Maarten was dit jaar langer dan ooit. De buurt stond klaar met mandarijnen en warme melk.",
        (
            "Om zes uur ging het licht op het plein uit, en honderdtwaalf lampionnen gingen aan. Met groep 8 voorop liepen "
            "we door de Lindelaan en de Eikstraat, en langs verzorgingshuis De Boomgaard.",
            "Bedankt aan alle buren die de deur openden, en aan de ouders die bij de oversteekplaatsen stonden.",
        ),
    ),
    Article(
        "voorleeskampioen",
        "Noor uit groep 7 is voorleeskampioen",
        "4 november",
        "Groep 7 en 8",
        "boek.svg",
        "Met een hoofdstuk over een walvis in een gracht won Noor de schoolronde. In januari leest ze voor de hele stad.",
        (
            "Acht kinderen lazen voor in de aula, en de jury had het moeilijk. Noor won met haar rust en met vier "
            "verschillende stemmen voor vier dieren.",
            "In januari doet zij mee aan de stadsronde in de bibliotheek aan de Neude. Komen luisteren mag!",
        ),
    ),
    Article(
        "muziekles",
        "Een orkest van emmers en bezems",
        "28 oktober",
        "Groep 3 en 4",
        "muziek.svg",
        "Kijk mee hoe groep 3 en 4 met spullen uit het schoonmaakhok een echt slagwerkstuk maakten.",
        (
            "Muziekdocent Tarik nam drie emmers, twee bezems en een doos wasknijpers mee. Meer was niet nodig.",
            "De film van het optreden staat hierboven.",
        ),
        video="emmerorkest",
    ),
    Article(
        "fietskeuring",
        "Bijna alle fietsen goedgekeurd",
        "14 oktober",
        "Groep 6 tot en met 8",
        "fiets.svg",
        "Van de 94 fietsen kregen er 89 een sticker. De andere vijf zijn inmiddels gemaakt.",
        (
            "Vrijwilligers van Veilig Verkeer controleerden remmen, bellen en lichten. Vooral de achterlichten vielen tegen.",
            "Fietsenmaker Van Dam hielp ter plekke: vijf lampjes, twee remblokken en een losse ketting verder kon iedereen "
            "weer veilig naar huis.",
        ),
    ),
)

AGENDA = (
    Event("25", "nov", "Inloopochtend", "Van 8.30 tot 9.00 uur in alle groepen"),
    Event("1", "dec", "Soepweek", "Pompoensoep uit eigen tuin, elke dag een andere groep"),
    Event("5", "dec", "Sinterklaas op school", "Alle kinderen zijn om 12.00 uur vrij"),
    Event("18", "dec", "Kerstdiner", "Van 17.30 tot 19.00 uur, in de klas"),
    Event("19", "dec", "Start kerstvakantie", "Tot en met 2 januari"),
)

RESULTS = (
    ("Groep 3", 24, "86%", "Technisch lezen"),
    ("Groep 4", 27, "81%", "Technisch lezen, spelling"),
    ("Groep 5", 25, "84%", "Rekenen, begrijpend lezen"),
    ("Groep 6", 28, "79%", "Rekenen, studievaardigheden"),
    ("Groep 7", 26, "88%", "Rekenen, begrijpend lezen, spelling"),
    ("Groep 8", 23, "91%", "Doorstroomtoets"),
)


def article(slug: str) -> Article | None:
    """The news item with this address."""
    return next((item for item in NEWS if item.slug == slug), None)

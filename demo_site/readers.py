"""The readers of the school's newsletter, all of them made up: 500 of them, there from the first start on.

They come by the ways in which real ones do: from a file with a route and its proof, and by the form with a mail to
confirm. Some of them left by one click, some never confirmed, and for some nobody knows where they came from.
"""

from __future__ import annotations

import csv
import random
import re
import time
import unicodedata
from datetime import datetime, timedelta
from io import BytesIO, StringIO
from itertools import groupby
from typing import TYPE_CHECKING, Final

from consentkit.newsletter import Importer, Route, read_proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from consentkit import ConsentKit
    from consentkit.mail import MemoryMailer
    from consentkit.newsletter import Form
    from demo_site.past import Clock

Person = tuple[str, str]
"""An address, and a name or nothing."""

LIST: Final = "nieuwsbrief"

EVERYBODY: Final = 500
ON_PAPER: Final = 381
CUSTOMERS: Final = 24
UNPROVEN: Final = 14
CONFIRMED: Final = 72
UNCONFIRMED: Final = 9
MEASURED: Final = 4
"""Of the readers who confirmed, all but every fourth also agreed that opens and clicks are measured."""

LEFT: Final = 23
"""So many of those on paper."""

DAYS: Final = 61
"""So many days people signed up by the form."""

_PATIENCE: Final = 20.0
_FIRST = (
    "Aisha Amira Anna Anouk Bas Bram Carla Chantal Daan Dilan Eline Emma Esra Eva Fatima Femke Floor Frank Gijs "
    "Hanna Hassan Ilse Imane Ingrid Iris Jasmijn Jesse Joost Joris Karim Kevin Koen Lars Leila Lies Lotte Maarten "
    "Manon Marieke Marjan Mehmet Mila Milan Naima Nienke Noor Omar Petra Pim Roos Ruben Said Samira Sara Selma "
    "Sem Stijn Tess Thijs Tom Wouter Yara Yusuf Zoë"
)
_LAST = (
    "Aydın|de Boer|Bos|van den Brink|de Bruin|Çelik|Dekker|van Dijk|Dijkstra|el Amrani|van den Heuvel|Hendriks|"
    "de Graaf|Hoekstra|de Jong|Jacobs|Kaya|Koning|Kok|Kramer|van Leeuwen|Maas|Meijer|Mensah|Nowak|Öztürk|Peters|"
    "Pinas|Postma|de Ruiter|Scholten|Schouten|van der Veen|Verhoeven|Vermeulen|Vos|de Wit|Willems|Yıldız|Zuidema"
)
_HOSTS = ("gezin.example", "thuis.example", "brievenbus.example", "lindepost.example")


def come(kit: ConsentKit, clock: Clock) -> Sequence[str]:
    """Those who came from a file, in the year before; the addresses of those on paper. Nobody comes twice."""
    people = iter(everybody())
    year = clock.today.year
    files = (
        (280, Route.CONSENT, f"papieren inschrijfformulier, open dag {year}", ON_PAPER),
        (150, Route.CUSTOMER, f"sale=kaarten voor het zomerfeest, {year}; opt_out_offered=yes", CUSTOMERS),
        (2, Route.UNPROVEN, "", UNPROVEN),  # what nobody proves is erased after a week
    )
    came = []
    for ago, route, proof, count in files:
        some = [next(people) for _ in range(count)]
        _import(kit, some, route, proof, now=clock.put(ago))
        came.append(some)
    return [address for address, _ in came[0]]


def sign_up(kit: ConsentKit, clock: Clock, mailer: MemoryMailer, *, since: float, until: float) -> None:
    """Those who signed up by the form from so many days ago until so many; who did so before does not again."""
    people = [*everybody()][-CONFIRMED - UNCONFIRMED :]
    chance = random.Random(1901)  # noqa: S311
    days = sorted((chance.uniform(3, DAYS) for _ in range(CONFIRMED)), reverse=True)
    days += [2.4 - 2 * number / UNCONFIRMED for number in range(UNCONFIRMED)]
    some = [
        (clock.put(ago, 8 + number % 13), number, person)
        for number, (ago, person) in enumerate(zip(days, people, strict=True))
        if since >= ago > until and kit.newsletter.why_not(person[0], LIST) is not None
    ]
    for _, together in groupby(sorted(some), key=lambda one: one[0].toordinal() // 3):
        _sign_up_together(kit, clock, mailer, [*together])  # their links hold for 72 hours


def everybody() -> Iterator[Person]:
    """Address and name of each, the same at every start; some gave no name."""
    chance = random.Random(2026)  # noqa: S311  # made-up people are no secret
    firsts, lasts = _FIRST.split(), _LAST.split("|")
    seen: set[str] = set()
    while len(seen) < EVERYBODY:
        first, last = chance.choice(firsts), chance.choice(lasts)
        plain = unicodedata.normalize("NFD", f"{first}.{last}".lower().replace("ı", "i")).encode("ascii", "ignore")
        address = f"{plain.decode().replace(' ', '')}@{chance.choice(_HOSTS)}"
        name = f"{first} {last}" if chance.random() < 0.85 else ""
        if address not in seen:
            seen.add(address)
            yield address, name


def _import(kit: ConsentKit, people: Iterable[Person], route: Route, proof: str, *, now: datetime) -> None:
    file = StringIO()
    csv.writer(file).writerows([("email", "name"), *people])
    paper = kit.paper()
    importer = Importer(
        kit.store, kit.afgemeld, topic=paper.topics[LIST], form=_form(kit), site=paper.site.name, route=route,
        proof=read_proof(route, proof), language="nl", now=now,
    )  # fmt: skip
    importer.read(BytesIO(file.getvalue().encode()))


def _sign_up_together(
    kit: ConsentKit, clock: Clock, mailer: MemoryMailer, people: Sequence[tuple[datetime, int, Person]]
) -> None:
    """Each asks and gets a mail; all but the last of all confirm, half an hour later."""
    paper, form = kit.paper(), _form(kit)
    mailer.sent.clear()
    for at, number, (address, name) in people:
        clock.set(at)
        given = {"email": address, "name": name, "measuring": "yes" if number % MEASURED else ""}
        kit.newsletter.sign_up(paper, form.read(given.items()), "nl")
    _delivered(kit)
    tokens = {mail.to: re.search(r"/confirm/([^\s?]+)", mail.text) for mail in mailer.sent}
    for at, number, (address, _) in people:
        clock.set(at + timedelta(minutes=30))
        token = tokens.get(address)
        if token and number < CONFIRMED:
            kit.newsletter.confirm(paper, token[1])
    _delivered(kit)


def _delivered(kit: ConsentKit) -> None:
    """Wait until every mail is in its mailbox, which is in memory."""
    end = time.monotonic() + _PATIENCE
    while kit.outbox.waiting() and time.monotonic() < end:
        time.sleep(0.002)


def _form(kit: ConsentKit) -> Form:
    form = kit.paper().form(LIST)
    assert form is not None  # noqa: S101  # consentkit.toml beside this file has one
    return form

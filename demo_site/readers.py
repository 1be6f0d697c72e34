"""The readers of the school's newsletter, all of them made up: 500 at the first start, and a mailing that waits.

They come by the ways in which real ones do: from a file with a route and its proof, and by the form with a mail to
confirm. Some of them left by one click, some never confirmed, and for some nobody knows where they came from.
"""

from __future__ import annotations

import csv
import logging
import random
import re
import time
import unicodedata
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.mail import MemoryMailer
from consentkit.mailing import read_folder
from consentkit.newsletter import Importer, Route, read_proof

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consentkit.newsletter import Form
    from consentkit.settings import Settings

log = logging.getLogger("demo")

LIST: Final = "nieuwsbrief"
FOLDER: Final = Path(__file__).with_name("mailing")

EVERYBODY: Final = 500
ON_PAPER: Final = (Route.CONSENT, "papieren inschrijfformulier, open dag 2025", 413)
CUSTOMERS: Final = (Route.CUSTOMER, "sale=kaarten voor het zomerfeest, 2026; opt_out_offered=yes", 24)
UNPROVEN: Final = (Route.UNPROVEN, "", 14)
CONFIRMED: Final = 40
MEASURED: Final = 32
"""So many of those who confirmed also agreed that opens and clicks are measured."""

UNCONFIRMED: Final = 9
LEFT: Final = 23
"""So many of those on paper."""

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


def is_empty(settings: Settings) -> bool:
    """Whether a demo has had no mailing yet.

    Raises:
        ConsentKitError: the database can't be used.
    """
    kit = ConsentKit(settings)
    try:
        return not kit.mailings.all()
    finally:
        kit.close()


def settle(settings: Settings) -> None:
    """Put readers and a mailing into an empty demo. One that was interrupted is done again, and nobody comes twice.

    Args:
        settings: those of the demo. Mails that readers get for signing up are read here and go nowhere.

    Raises:
        ConsentKitError: the database can't be used.
    """
    mailer = MemoryMailer()
    kit = ConsentKit(settings, mailer=mailer)
    try:
        people = iter(everybody())
        for route, proof, count in (ON_PAPER, CUSTOMERS, UNPROVEN):
            some = [next(people) for _ in range(count)]
            _import(kit, some, route, proof)
            if route is Route.CONSENT:
                _leave(kit, [address for address, _ in some[:: len(some) // LEFT][:LEFT]])
        _sign_up(kit, mailer, [next(people) for _ in range(CONFIRMED + UNCONFIRMED)])
        draft(kit)  # last, because it tells the next start that all is there
    finally:
        kit.close()


def draft(kit: ConsentKit) -> int:
    """Keep the mailing of the folder as a draft; its number."""
    return kit.mailings.new(read_folder(FOLDER, attachments_mb=kit.settings.mailing.attachments_mb))


def everybody() -> Iterator[tuple[str, str]]:
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


def _import(kit: ConsentKit, people: Sequence[tuple[str, str]], route: Route, proof: str) -> None:
    file = StringIO()
    csv.writer(file).writerows([("email", "name"), *people])
    paper = kit.paper()
    importer = Importer(
        kit.store, kit.afgemeld, topic=paper.topics[LIST], form=_form(kit), site=paper.site.name, route=route,
        proof=read_proof(route, proof), language="nl", now=kit.now(),
    )  # fmt: skip
    importer.read(BytesIO(file.getvalue().encode()))


def _leave(kit: ConsentKit, addresses: Sequence[str]) -> None:
    for address in addresses:
        leaving = kit.links.read(kit.links.token(address, LIST))
        kit.newsletter.leave(leaving, reason=Reason.ONE_CLICK, channel="one-click")


def _sign_up(kit: ConsentKit, mailer: MemoryMailer, people: Sequence[tuple[str, str]]) -> None:
    """Each asks, gets a mail, and all but the last confirm."""
    paper, form = kit.paper(), _form(kit)
    for number, (address, name) in enumerate(people):
        given = {"email": address, "name": name, "measuring": "yes" if number < MEASURED else ""}
        kit.newsletter.sign_up(paper, form.read(given.items()), "nl")
    _delivered(kit)
    tokens = {mail.to: re.search(r"/confirm/([^\s?]+)", mail.text) for mail in mailer.sent}
    for address, _ in people[:CONFIRMED]:
        if token := tokens.get(address):
            kit.newsletter.confirm(paper, token[1])
    _delivered(kit)


def _delivered(kit: ConsentKit) -> None:
    """Wait until every mail is in its mailbox, which is in memory."""
    end = time.monotonic() + _PATIENCE
    while kit.outbox.waiting() and time.monotonic() < end:
        time.sleep(0.01)


def _form(kit: ConsentKit) -> Form:
    form = kit.paper().form(LIST)
    assert form is not None  # noqa: S101  # consentkit.toml beside this file has one
    return form

"""Programs that follow every link in a mail, before its reader does: whatever they fetch, nothing changes."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consentkit.tokens import Use
from tests.hosts.driver import exchange, scope_of
from tests.newsletter.desk import JAN, LISTS, Desk
from tests.newsletter.desk import desk as open_desk

REQUESTS = 10_000
AT_ONCE = 20
SCANNERS = [
    # Microsoft Defender and Safe Links fetch as a browser, and run its scripts.
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "Mozilla/5.0 (compatible; Proofpoint URL Defense)",
    "Mozilla/5.0 (compatible; Mimecast URL Protect)",
    "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))",
    "BarracudaCentral/1.0",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slackbot 1.0 (+https://api.slack.com/robots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "Twitterbot/1.0",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
    "curl/8.5.0",
    "Wget/1.21.4",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "Amazon CloudFront",
    "",
]
HINTS: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"sec-purpose", b"prefetch")],
    [(b"sec-purpose", b"prefetch;prerender"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")],
    [(b"purpose", b"prefetch")],
    [(b"x-moz", b"prefetch")],
    [(b"x-purpose", b"preview")],
    [(b"referer", b"https://eur01.safelinks.protection.outlook.com/"), (b"sec-fetch-site", b"cross-site")],
    [(b"sec-fetch-site", b"same-origin"), (b"origin", b"http://delinde.test")],
    [(b"x-http-method-override", b"POST")],
    [(b"range", b"bytes=0-1023")],
    [(b"if-none-match", b"*")],
]
QUERIES = ["", "?lang=en", "?List-Unsubscribe=One-Click", "?action=all", "?action=erase", "?action=confirm", "?utm_x=1"]


def dump(path: Path) -> str:
    """All there is of people in the database, by a hash of the statements that would make it.

    What the host's own pages turned out to have is counted whoever asks for them.
    """
    with closing(sqlite3.connect(path)) as connection:
        text = "\n".join(line for line in connection.iterdump() if not line.startswith('INSERT INTO "seen"'))
    assert "INSERT INTO" in text
    return hashlib.sha256(text.encode()).hexdigest()


def links(desk: Desk) -> dict[str, str]:
    """Every kind of link that a mail of ours can hold, of people who are at every stage."""
    kit = desk.kit
    paper = kit.newsletter.papers["Basisschool De Linde"]
    welcome = desk.subscribe(lists="agenda")
    found = {
        "used confirmation": desk.link("confirm", desk.mailer.sent[-2]),
        "unsubscribe": desk.link("afmelden", welcome),
        "preferences": desk.link("voorkeuren", welcome),
        "unsubscribe from all": urlsplit(kit.unsubscribe_url(JAN)).path,
        "unsubscribe in a mailing": urlsplit(kit.unsubscribe_url(JAN, list="agenda", delivery=12)).path,
        "unsubscribe of a stranger": urlsplit(kit.unsubscribe_url("nooit@voorbeeld.nl", list="agenda")).path,
    }
    digest = kit.afgemeld.keys.digest(JAN)
    found["own data"] = "/privacy/voorkeuren/" + kit.newsletter.preferences_token(paper, digest, fresh=True)
    desk.ask("piet@voorbeeld.nl")
    desk.mails()
    found["confirmation"] = desk.link("confirm")
    desk.ask("kind@voorbeeld.nl", list="jeugd", age="under16", parent_email="ouder@voorbeeld.nl")
    desk.mails()
    found["parent"] = desk.link("confirm")
    desk.ask("weg@voorbeeld.nl")
    desk.mails()
    found["late confirmation"] = "/privacy/confirm/" + paper.link(Use.CONFIRM, b"x" * 16, desk.clock())
    found = {kind: urlsplit(link).path for kind, link in found.items()}
    assert len(set(found.values())) == len(found)
    return found


@pytest.mark.checklist("UNS-03", "NEW-03")
def test_ten_thousand_visits_of_link_scanners_change_nothing(tmp_path: Path) -> None:
    lists = {**LISTS, "jeugd": {**LISTS["agenda"], "form": "jeugd"}}
    forms = {"jeugd": {"title": {"nl": "Jeugd", "en": "Youth"}, "children": True}}
    url = f"sqlite:///{tmp_path / 'all.db'}"
    with open_desk(tmp_path, lists=lists, forms=forms, database={"url": url}) as desk:
        paths = [*links(desk).values()]
        before = dump(tmp_path / "all.db")
        tombstones = (tmp_path / "consentkit-tombstones").read_bytes()
        with closing(sqlite3.connect(tmp_path / "all.db")) as watching:
            version = watching.execute("PRAGMA data_version").fetchone()  # it tells of any commit of others
            answered = asyncio.run(storm(desk, paths))
            assert watching.execute("PRAGMA data_version").fetchone() == version
        assert dump(tmp_path / "all.db") == before
        assert (tmp_path / "consentkit-tombstones").read_bytes() == tombstones
        assert desk.mails() == []
        assert sum(answered.values()) == REQUESTS
        assert set(answered) == {200, 410}  # 410: a request that is not there any more
        assert answered[200] > REQUESTS * 0.7
        assert desk.why_not() is None

        desk.post(paths[1])  # what was watched does tell a change
        assert dump(tmp_path / "all.db") != before
        assert desk.why_not() == "afgemeld"


async def storm(desk: Desk, paths: list[str]) -> dict[int, int]:
    app: Any = desk.kit.pages
    dice = random.Random(8058)
    left = [None] * REQUESTS
    answered: dict[int, int] = {}

    async def scanner() -> None:
        while left:
            left.pop()
            headers = [(b"user-agent", dice.choice(SCANNERS).encode()), (b"accept", b"*/*"), *dice.choice(HINTS)]
            method = "GET" if dice.random() < 0.6 else "HEAD"
            scope = scope_of(dice.choice(paths) + dice.choice(QUERIES), method, headers)
            scope["headers"][0] = (b"host", b"school.test")
            answer = await exchange(app, scope)
            answered[answer.status] = answered.get(answer.status, 0) + 1

    app = desk.kit.wrap(app)
    await asyncio.gather(*(scanner() for _ in range(AT_ONCE)))
    return answered

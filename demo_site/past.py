"""What the school did before anybody looks at the demo: two months, written by the kit itself under a clock put back.

Nothing is put into a table by hand. Choices are recorded and counted, people sign up and confirm, a mailing goes out,
is opened and left, pages turn out to have what nobody declared; so `records verify` finds nothing wrong.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING, Final

from consentkit import ConsentKit
from consentkit.afgemeld import Reason
from consentkit.evidence import ConsentEvent
from consentkit.mail import MailRefused, MemoryMailer, Stage
from consentkit.mailing import Engine, Limits, Release, Turn
from consentkit.settings import Wording
from demo_site import readers, staff
from demo_site.post import Letter

if TYPE_CHECKING:
    from consentkit.mail import Envelope
    from consentkit.settings import Settings
    from consentkit.web.seen import Kind
    from consentkit.web.site import Site

HERFST: Final = Path(__file__).with_name("herfst")
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

MAILED: Final = 24
"""So many days ago the mailing went out."""

REWORDED: Final = 33
"""So many days ago the banner got its present words, and asked about the map too."""

BOUNCED: Final = 3
PIXEL: Final = re.compile(r'src="(http[^"]+/o/([^"]+))"')
CLICK: Final = re.compile(r'href="(http[^"]+/l/[^"]+)"')
"""Where a mail tells that it was opened, and which link was followed, of whoever agreed to that."""

_TICK: Final = timedelta(milliseconds=40)
_MESSAGE = re.compile(r"<\d+\.(\d+)")
_SEEN: Final[tuple[tuple[Kind, str, str, int, int, int], ...]] = (
    ("cookie", "_hjSessionUser_2843127", "/ouders", 40, 1, 212),
    ("cookie", "_hjSession_2843127", "/ouders", 40, 1, 187),
    ("cookie", "leesplein_id", "/nieuws/voorleeskampioen", 21, 2, 38),
    ("host", "static.hotjar.com", "/ouders", 40, 1, 140),
    ("host", "weer.utrecht-oost.example", "/", 52, 0, 431),
    ("host", "fonts.gstatic.com", "/archief", 12, 3, 9),
    ("storage", "leesplein.stand", "/nieuws/voorleeskampioen", 21, 2, 35),
    ("tag", "hotjar", "/ouders", 40, 1, 140),
)
"""Kind, name, page, first and last day ago, how often: what the templates turn out to have and nobody declared."""


class Clock:
    """Stands where it is put, and moves on a little each time that it is asked.

    Args:
        today: the moment that the demo starts.
    """

    def __init__(self, today: datetime) -> None:
        self.today = today
        self._at = today

    def __call__(self) -> datetime:
        self._at += _TICK
        return self._at

    def put(self, days: float, hour: float = 10.0) -> datetime:
        """Put it so many days back, at an hour of that day; it never stands later than it is."""
        day = datetime.combine((self.today - timedelta(days=days)).date(), time(tzinfo=UTC))
        self._at = min(day + timedelta(hours=hour), self.today)
        return self._at

    def set(self, at: datetime) -> None:
        """Put it at a moment."""
        self._at = min(at, self.today)


def settle(settings: Settings, *, empty: bool = False, tell: Callable[[], None] = lambda: None) -> None:
    """See to it that there are accounts, readers, mailings and all that went before, where there are none.

    A first start that was interrupted is done again, and nobody comes twice.

    Args:
        settings: those of the demo. Mails that readers get for signing up are read here and go nowhere.
        empty: accounts alone. tell: called where it takes a moment.

    Raises:
        ConsentKitError: the database can't be used.
    """
    clock, mailer = Clock(datetime.now(UTC)), MemoryMailer()
    kit = ConsentKit(settings, clock=clock, mailer=mailer)
    try:
        if empty or staff.is_at_work(kit):
            staff.hire(kit)
            return
        tell()
        _live(kit, clock, mailer, settings)
    finally:
        kit.close()


def _live(kit: ConsentKit, clock: Clock, mailer: MemoryMailer, settings: Settings) -> None:
    on_paper = readers.come(kit, clock)
    readers.sign_up(kit, clock, mailer, since=readers.DAYS, until=MAILED)
    letters = mail(kit, clock)
    read(kit, clock, letters)
    leavers = on_paper[BOUNCED :: len(on_paper) // readers.LEFT][: readers.LEFT]
    leave(kit, clock, leavers, letters)
    readers.sign_up(kit, clock, mailer, since=MAILED, until=0)
    choose(kit, settings, clock.today)
    look(kit, clock)
    staff.work(
        kit, clock, leavers[0], sent=staff.write(kit, HERFST)
    )  # last, because it tells the next start that all is there


# -- the banner -------------------------------------------------------------------------------------------------------


def choose(kit: ConsentKit, settings: Settings, today: datetime) -> None:
    """Two months of choices: most at the banner, some later at the settings, some taken back. Does so once."""
    site = kit.sites[0]
    if any(one.site == site.settings.name for one in kit.evidence.counts()):
        return
    earlier = ConsentKit(_earlier(settings))
    try:
        choices = sorted(_choices(site, earlier.sites[0], today), key=lambda one: one.at)
        asyncio.run(_record(kit, choices))
    finally:
        earlier.close()


def _earlier(settings: Settings) -> Settings:
    """The settings as they were before the contact page had its map."""
    assert settings.site is not None  # noqa: S101  # consentkit.toml beside this file has one
    asked = {name: service for name, service in settings.services.items() if name != "google-maps"}
    words = Wording(
        title="De Linde vraagt je toestemming",
        intro="Op deze site staan films van YouTube, en we meten met Google Analytics en Meta welke pagina's je leest.",
    )
    site = settings.site.model_copy(update={"texts": {"nl": words}})
    return settings.model_copy(update={"services": asked, "site": site})


@dataclass(frozen=True, slots=True)
class _Choice:
    """One answer; `record` is None for a refusal, which is counted and no more."""

    at: datetime
    site: Site
    lang: str
    method: str
    state: str
    record: str | None
    granted: frozenset[str]


def _choices(site: Site, earlier: Site, today: datetime) -> Iterator[_Choice]:
    chance = random.Random(1892)  # noqa: S311  # made-up visitors are no secret
    reworded = today - timedelta(days=REWORDED)

    def asking(at: datetime) -> Site:
        return earlier if at < reworded else site

    for ago in range(readers.DAYS, -1, -1):
        day = today - timedelta(days=ago)
        busy = 6 if day.weekday() > 4 else 14
        for _ in range(chance.randint(busy // 2, busy + busy // 2)):
            at = _hour(day, chance.triangular(7, 22, 16))
            if at < today - timedelta(minutes=1):
                yield from _visitor(asking, at, today, chance)


def _visitor(
    asking: Callable[[datetime], Site], at: datetime, today: datetime, chance: random.Random
) -> Iterator[_Choice]:
    """What one visitor answers, and perhaps takes back; `asking` gives the site as it was at a moment."""
    site = asking(at)
    lang = "en" if chance.random() < 0.08 else "nl"
    every = frozenset(purpose.id for purpose in site.policy.asked)
    what = chance.random()
    if what > 0.58:
        yield _Choice(at, site, lang, "banner.refuse", "refused", None, frozenset())
        return
    some = frozenset(one for one in sorted(every) if chance.random() < 0.5) or frozenset(sorted(every)[:1])
    granted, method = (every, "banner.accept") if what < 0.44 else (some, "banner.save")
    record = f"{chance.getrandbits(128):032x}"
    yield _Choice(at, site, lang, method, "given", record, granted)
    back = at + timedelta(days=chance.expovariate(1 / 6))
    if chance.random() < 0.09 and back < today:
        yield _Choice(back, asking(back), lang, "footer.withdraw", "withdrawn", record, frozenset())


async def _record(kit: ConsentKit, choices: Sequence[_Choice]) -> None:
    """All at once, as many visitors at once are: the writer keeps their order."""
    await asyncio.gather(*(_answer(kit, one) for one in choices))


async def _answer(kit: ConsentKit, one: _Choice) -> None:
    site, notice = one.site, one.site.notices[one.lang]
    name, nonce = site.settings.name, secrets.token_hex(16)
    if one.record is None:
        await kit.evidence.count(name, one.at, one.method, notice.hash, nonce, notice=notice)
        return
    given = one.state == "given"
    event = ConsentEvent(
        site=name,
        record_id=one.record,
        state=one.state,
        at=one.at,
        purposes={purpose.id: purpose.id in one.granted for purpose in site.policy.asked},
        notice_hash=notice.hash,
        language=notice.language,
        ui_build=site.renderer.ui_build,
        method=one.method,
        policy=site.policy.fingerprint,
        valid_until=one.at + timedelta(days=site.policy.days) if given else None,
        controller=site.settings.controller.name,
        nonce=nonce if given else None,
    )
    await kit.evidence.record(event, notice)


# -- the mailing ------------------------------------------------------------------------------------------------------


class _Away:
    """A mail server that takes everything, but for mailboxes that are not there any more; nothing leaves this process.

    Args:
        gone: how many mailboxes are.
    """

    capacity = 20
    trouble: str | None = None

    def __init__(self, gone: int) -> None:
        self.taken: list[Letter] = []
        self._gone = gone

    def ready_in(self) -> float:
        """There is always a server to try."""
        return 0.0

    async def send(self, envelope: Envelope) -> None:
        """Take a message; of the first few the mailbox is gone."""
        if self._gone:
            self._gone -= 1
            raise MailRefused("no such mailbox", stage=Stage.RCPT, code=550, status="5.1.1")
        message = message_from_bytes(envelope.payload, policy=policy.compat32)
        at = datetime.now().astimezone()
        self.taken.append(Letter(len(self.taken), at, envelope.sender, (envelope.to,), message))

    async def close(self) -> None:
        """There is nothing to hang up."""


def mail(kit: ConsentKit, clock: Clock) -> Sequence[Letter]:
    """Send the mailing of the autumn, weeks ago; what arrived. One that was interrupted goes on."""
    clock.put(MAILED + 1, 11)
    id = staff.write(kit, HERFST)
    clock.put(MAILED, 15.5)
    again = kit.mailings.get(id).frozen_at is not None
    kit.mailings.send(id, dns=False)
    server = _Away(0 if again else BOUNCED)
    release = Release(
        kit.store, kit.mailings.readers, limits=Limits(), stop_after=25, connections=server.capacity, marks=kit.marks
    )
    engine = Engine(kit.mailings, release, lambda: Turn(kit.store), wire=lambda: server, clock=clock)
    asyncio.run(engine.work(id))
    return server.taken


def read(kit: ConsentKit, clock: Clock, letters: Sequence[Letter]) -> None:
    """Those who agreed to be measured open their mail, most of them within two days, and some follow a link."""
    chance = random.Random(1917)  # noqa: S311
    headers = {"user-agent": BROWSER}
    sent = clock.put(MAILED, 15.6)
    acts: list[tuple[datetime, Callable[[], object]]] = []
    for letter in sorted(letters, key=lambda one: one.to):
        pixel = PIXEL.search(letter.html)
        if pixel is None or chance.random() > 0.66:
            continue
        at = sent + timedelta(hours=0.1 + chance.expovariate(1 / 20))
        acts.append((at, lambda token=pixel[2]: kit.measuring.opened(token, headers)))  # type: ignore[misc]
        for url in CLICK.findall(letter.html)[:3]:
            if chance.random() < 0.16:
                later = at + timedelta(minutes=1 + chance.random() * 4)
                token = url.rpartition("/")[2]
                acts.append((later, lambda token=token: kit.measuring.clicked(token, headers)))  # type: ignore[misc]
    for at, act in sorted(acts, key=lambda one: one[0]):
        clock.set(at)
        act()
    kit.measuring.flush()


def leave(kit: ConsentKit, clock: Clock, addresses: Sequence[str], letters: Sequence[Letter]) -> None:
    """Some leave by the mailing that they just got, the others by one click in an older one, in the weeks since."""
    chance = random.Random(1954)  # noqa: S311
    got = {letter.to[0]: letter for letter in letters}
    for number, address in enumerate(addresses):
        letter = got.get(address) if number % 2 else None
        clock.put(MAILED - 1 - (chance.expovariate(1 / 2) % 5 if letter else chance.random() * 20), 8 + number / 2)
        delivery = int(found[1]) if letter and (found := _MESSAGE.match(letter.header("Message-ID"))) else None
        leaving = kit.links.read(kit.links.token(address, readers.LIST, delivery=delivery))
        mailing = None if delivery is None else kit.measuring.mailing_of(delivery, leaving.digest)
        new = kit.newsletter.leave(
            leaving,
            reason=Reason.ONE_CLICK if delivery is None else Reason.UNSUBSCRIBE,
            channel="one-click" if delivery is None else "page",
            mailing=None if mailing is None else str(mailing),
        )
        if new and delivery is not None:
            kit.measuring.left(delivery)
    kit.measuring.flush()


# -- the pages --------------------------------------------------------------------------------------------------------


def look(kit: ConsentKit, clock: Clock) -> None:
    """The pages that went out had cookies and hosts that nobody declared; the audit notes them, as it always does."""
    if kit.audit.read():
        return
    seen = kit.sites[0].flow.seen
    for kind, name, place, first, last, times in _SEEN:
        for ago, count in ((first, times - times // 3), (last, times // 3)):
            clock.put(ago)
            for _ in range(count):
                seen.note(kind, name, place)
    clock.put(0, 24)
    kit.audit.flush()


def _hour(day: datetime, hour: float) -> datetime:
    return datetime.combine(day.date(), time(tzinfo=UTC)) + timedelta(hours=hour)

"""Who works at the school's office: their accounts, what they did in those weeks, and what waits on their desks.

The names and passwords are printed at the start. They are the demo's, which listens to this machine alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from consentkit.afgemeld import MARKETING, Lifting, Reason, list_scope
from consentkit.mailing import Sketch, read_folder
from consentkit.staff import Role, StaffLog
from consentkit.staff.accounts import COMMAND_LINE
from demo_site import readers

if TYPE_CHECKING:
    from consentkit import ConsentKit
    from demo_site.past import Clock

PASSWORDS: Final = {role: f"linde-{role}" for role in Role}
"""Each is called after its only role."""

MAILING: Final = Path(__file__).with_name("mailing")
BY_PHONE: Final = "b.mulder@voorbeeld.example"
KERSTDINER: Final = Sketch(
    list=readers.LIST,
    subject="Wie kookt er mee met het kerstdiner?",
    markup="md",
    body="\n\n".join(
        (
            "# Wie kookt er mee?",
            "Dag {{ name }},",
            "Op 18 december eten we in de klas, van half zes tot zeven. Elke groep zoekt nog iemand voor de soep, het "
            "hoofdgerecht en het toetje.",
            "## Wat er nog nodig is",
            "- groep 3:\n- groep 4:",
            "(Nog navragen bij juf Marieke: hoe laat mag er iemand in de keuken?)",
        )
    ),
    defaults={"name": "lezer"},
    measured=True,
)


def hire(kit: ConsentKit) -> None:
    """One account for each role, where there is none at all."""
    if kit.accounts.any():
        return
    for role, password in PASSWORDS.items():
        kit.accounts.add(role.value, frozenset({role}), password, by=COMMAND_LINE)


def is_at_work(kit: ConsentKit) -> bool:
    """Whether the office has its mailings in hand already."""
    return any(one.subject == _subject(MAILING) for one in kit.mailings.all()) and kit.accounts.any()


def write(kit: ConsentKit, folder: Path) -> int:
    """Write the mailing of a folder and put it ready, as redactie does; its number. One that is there is not written
    again.
    """
    known = [one.id for one in kit.mailings.all() if one.subject == _subject(folder)]
    if known:
        return known[0]
    draft = read_folder(folder, attachments_mb=kit.settings.mailing.attachments_mb)
    site = kit.sites[0].settings.name
    made = kit.drafts.make(site, Sketch.of(draft), Role.REDACTIE.value, draft.files)
    return kit.drafts.ready(made, Role.REDACTIE.value)


def work(kit: ConsentKit, clock: Clock, left: str, *, sent: int) -> None:
    """What they did, each thing with its line in the log, and what they leave lying.

    Args:
        left: the address of somebody who left the newsletter, and says she did not mean to.
        sent: the number of the mailing that went out.
    """
    clock.put(64, 9)
    hire(kit)
    lifting = Lifting(kit.afgemeld, kit.store, clock)
    if not lifting.waiting():
        _go_on(kit, clock, lifting, left, sent=sent)
    clock.put(1, 16)
    if not kit.drafts.open():
        kit.drafts.make(kit.sites[0].settings.name, KERSTDINER, Role.REDACTIE.value)
    write(kit, MAILING)  # last, because it tells the next start that all is there


def _go_on(kit: ConsentKit, clock: Clock, lifting: Lifting, left: str, *, sent: int) -> None:
    log, keys, scope = StaffLog(kit.store, clock), kit.afgemeld.keys, list_scope(readers.LIST)
    clock.put(24, 15.4)
    log.note(Role.VERZENDEN, "mailing.release", f"mailing {sent}")
    clock.put(9, 11)
    log.note(Role.PRIVACY, "afgemeld.add", f"{MARKETING} (phone)", person=keys.digest(BY_PHONE))
    kit.afgemeld.add_sync(BY_PHONE, scope=MARKETING, reason=Reason.PHONE, channel="phone")
    clock.put(3, 14)
    log.note(Role.PRIVACY, "person.search", person=keys.digest(left))
    log.note(Role.PRIVACY, "person.read", person=keys.digest(left))
    clock.put(1, 10)
    log.note(Role.BEHEER, "afgemeld.lift_ask", scope, person=keys.digest(left))
    reason = "Drukte in haar mail op de verkeerde knop, zegt ze aan de telefoon. Ze wil de nieuwsbrief houden."
    lifting.ask(keys.digests(left), scope, reason, Role.BEHEER)


def _subject(folder: Path) -> str:
    return read_folder(folder).subject

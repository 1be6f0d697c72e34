"""Who may do what in the console. Pure: one table from role to rights, asked before everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody is in the console for; one person may have several."""

    REDACTIE = "redactie"
    VERZENDEN = "verzenden"
    PRIVACY = "privacy"
    BEHEER = "beheer"


class Right(StrEnum):
    """One thing that may be done; each page and each button names the one it needs."""

    MAILINGS = "mailings"  # see mailings, who gets them, what was found, what became of them
    WRITE = "write"  # write a mailing
    TEST = "test"  # send one to oneself
    RELEASE = "release"  # send, pause, go on, cancel
    LISTS = "lists"  # see lists and their numbers, copy a sign-up form
    IMPORT = "import"  # bring addresses in
    PEOPLE = "people"  # read what is kept of one person, and erase it
    AFGEMELD = "afgemeld"  # look up, add, import, export, scrub, ask to lift
    CONSENT = "consent"  # rates, records, the chain, exports, what is not declared
    LOG = "log"  # who did and read what in the console
    STAFF = "staff"  # accounts and roles


RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.REDACTIE: frozenset({Right.MAILINGS, Right.WRITE, Right.TEST, Right.LISTS}),
    Role.VERZENDEN: frozenset({Right.MAILINGS, Right.TEST, Right.RELEASE, Right.LISTS}),
    Role.PRIVACY: frozenset({Right.LISTS, Right.IMPORT, Right.PEOPLE, Right.AFGEMELD, Right.CONSENT, Right.LOG}),
    Role.BEHEER: frozenset(Right),
}
"""What each role may (checklist SEC-06)."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody of the staff who is logged in.

    Args:
        name: what the log calls them; unique. roles: what they are here for.
        session: names the log-in; two of one person differ. Empty where the host app knows who they are.
        account: whether it is one of our own accounts, which has a password here.
        must_change: the password was given out by somebody else, and is to be changed before anything else.
    """

    name: str
    roles: frozenset[Role]
    session: str = ""
    account: bool = False
    must_change: bool = False

    def may(self, right: Right) -> bool:
        """Whether one of their roles gives this right."""
        return any(right in RIGHTS[role] for role in self.roles)


def read_roles(given: str | Iterable[str]) -> frozenset[Role]:
    """Roles from their names.

    Raises:
        ValueError: one of them is no role; the sentence names those that there are.
    """
    names = [given] if isinstance(given, str) else [*given]
    known = {role.value: role for role in Role}
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no role: write {', '.join(known)}")
    return frozenset(known[name] for name in names)

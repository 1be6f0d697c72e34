"""Every error consentkit raises, with what was wrong as data and a sentence to act on."""

from __future__ import annotations


class ConsentKitError(Exception):
    """The base of all of them."""


class SettingsError(ConsentKitError):
    """The configuration can't be used.

    Args:
        problems: one sentence each, naming the key, what is wrong and what to write instead.
        source: the file the settings came from, or `environment`.
    """

    def __init__(self, problems: list[str], *, source: str) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.problems = problems
        self.source = source


class TokenError(ConsentKitError):
    """A signed value is not ours, was changed, or was made for another purpose."""


class AddressError(ConsentKitError):
    """A text is no e-mail address that mail could be sent to. The sentence says why and does not quote it."""


class AfgemeldUnavailable(ConsentKitError):
    """The afgemeld table can't be asked: no key, a wrong key, or no database. Nothing may be sent; the site goes on."""


class NewsletterUnavailable(ConsentKitError):
    """A sign-up, a confirmation or a preference could not be stored; nothing changed."""


class LiftRefused(ConsentKitError):
    """A request to lift that can't be taken or decided: `reason` is a text key."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this can't be lifted: {reason}")
        self.reason = reason


class Suppressed(ConsentKitError):
    """Somebody who left would have got this message; it was not sent."""


class UnguardedMail(ConsentKitError):
    """A marketing message went round the guard (strict mode); it was not sent."""


class FormRefused(ConsentKitError):
    """A form that can't be taken: `problems` has a text key for each field that has to be mended."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(", ".join(f"{field}: {problem}" for field, problem in problems.items()))
        self.problems = problems


class ChoiceRefused(ConsentKitError):
    """A choice that can't be taken as one: `reason` is a text key, `status` the HTTP status to answer."""

    def __init__(self, reason: str, *, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class NoticeSpent(ChoiceRefused):
    """The notice was answered before: one notice gives one record (GDPR art. 7(1))."""

    def __init__(self) -> None:
        super().__init__("spent", status=409)


class EvidenceUnavailable(ConsentKitError):
    """Neither the database nor the local journal could keep the event; the choice must not be taken."""


class DatabaseUnavailable(ConsentKitError):
    """The database does not answer: a command can't do its work now. Pages are served all the while."""


class ForeignTables(ConsentKitError):
    """The SQLite file belongs to another application, whose tables have the names of ours."""


class SchemaOutdated(ConsentKitError):
    """The database has an older schema than this release; `consentkit db upgrade` brings it up to date."""


class MailingError(ConsentKitError):
    """A mailing can't be made or filled in as it is written.

    Args:
        problems: one sentence each: the file and line or the key, what is wrong, and what to write instead.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

"""A test of a mailing to oneself, and what went wrong with it in words."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from consentkit.address import Address
from consentkit.errors import AddressError, MailingError, Suppressed
from consentkit.mail import MailDeferred, MailError, MailRefused
from consentkit.mailing import Problem
from consentkit.mailing.mailings import MOST_TESTS
from consentkit.render import Texts
from consentkit.web.console.ask import Ask
from consentkit.web.console.jobs import said as sentence_said


async def send_test(ask: Ask, about: str, typed: str, send: Callable[[Sequence[str]], Awaitable[None]]) -> str:
    """Send a test; what went wrong in words, empty where nothing did.

    Args:
        about: what the log calls the mailing. typed: addresses, with commas or spaces between them.
        send: sends it to addresses.
    """
    addresses = [part for part in re.split(r"[\s,;]+", typed) if part]
    if not 0 < len(addresses) <= MOST_TESTS:
        return ask.t("sending.test_how_many", most=MOST_TESTS)
    try:
        keys = ask.kit.afgemeld.keys
        for digest in [keys.digest(Address.parse(address).canonical) for address in addresses]:
            await ask.note("mailing.test", about, person=digest)
        await send(addresses)
    except AddressError:
        return ask.t("base.no_address")
    except Suppressed:
        return ask.t("sending.test_left")
    except MailingError as error:
        return " ".join(said(problem, ask.t) for problem in error.problems)
    except MailError as error:
        kind = "refused" if isinstance(error, MailRefused) else "later" if isinstance(error, MailDeferred) else "away"
        return ask.t(f"sending.test_{kind}", detail=str(error))
    return ""


def said(problem: str, t: Texts) -> str:
    """A problem of a mailing in the language of the page, with its line; a sentence that is none stays as it is."""
    if not isinstance(problem, Problem):
        return problem
    own = f"drafts.problem_{problem.code}"
    values = {name: _value(name, value, t) for name, value in problem.values.items()}
    problem = Problem(problem.place, problem.code, problem.line, **values)
    told = t(own, **values) if t.has(own) else problem.told(t)
    return t("drafts.line", line=problem.line, told=told) if problem.line else told


def _value(name: str, value: object, t: Texts) -> object:
    """What fills a place of a problem: numbers and what a template says in the language of the page."""
    if name == "told" and isinstance(value, str):
        return sentence_said(t, value)
    if name in ("size", "most") and isinstance(value, str) and t.lang == "nl":
        return value.translate(_DECIMALS)
    return value


_DECIMALS: Final = str.maketrans(".,", ",.")

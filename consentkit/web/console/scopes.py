"""What stands in the afgemeld table, in words: how widely, why, and how it came in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from consentkit.afgemeld import MAIL, MARKETING, list_scope, scope_of
from consentkit.web.console.ask import Ask


def scope_said(ask: Ask, scope: str) -> str:
    """A scope in words; a list by its title."""
    if scope in (MAIL, MARKETING):
        return ask.t(f"afgemeld.scope_{scope}")
    return ask.t("afgemeld.scope_list", list=list_said(ask, scope.removeprefix("list:")))


def list_said(ask: Ask, id: str) -> str:
    """The title of a list; its id where the settings no longer have it."""
    found = ask.kit.settings.lists.get(id)
    return ask.visit.site.renderer.say(found.title, ask.t.lang) if found else id


def reason_said(ask: Ask, reason: str) -> str:
    """A reason in words."""
    key = f"afgemeld.reason_{reason.replace('-', '_')}"
    return ask.t(key) if ask.t.has(key) else reason


def how_said(ask: Ask, channel: str) -> str:
    """How it came in, in words; what the texts do not know stays as it is."""
    key = f"afgemeld.channel_{channel.replace('-', '_')}"
    return ask.t(key) if ask.t.has(key) else channel


def scope_options(ask: Ask, *, also: str = "") -> Sequence[tuple[str, str]]:
    """Every scope that can be chosen, with its words.

    Args:
        also: one that somebody found in the table: of a list that the settings no longer have.
    """
    scopes = [MARKETING, *(list_scope(id) for id in ask.kit.settings.lists), MAIL]
    if also.startswith("list:") and also not in scopes:
        with suppress(ValueError):
            scopes.append(scope_of(also))
    return [(scope, scope_said(ask, scope)) for scope in scopes]

"""The two headers of one-click unsubscribing, ready to set on any message.

Python's own writer turns a URI of more than 75 characters into an encoded-word (CPython #85725); a mail client then
finds no unsubscribe button. A header that is made here folds at its commas only, whatever policy the message has.
"""

from __future__ import annotations

import re
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.policy import SMTP, Policy
from typing import Final

ONE_CLICK: Final = "List-Unsubscribe=One-Click"
"""The body of a one-click POST and the value of the header, to the letter (RFC 8058 section 3.1)."""

_LINE = 78
_MAX_LINE = 998
_COMMA = re.compile(r",\s*(?=<)")
_WHOLE = (
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-help",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
)


def headers(url: str, mailto: str | None) -> dict[str, str]:
    """The two headers, as texts that stay whole in a message of any policy (RFC 8058 section 3.1, RFC 2369).

    Args:
        url: the https link. mailto: the second way, where there is a mailbox for it.
    """
    made = {"List-Unsubscribe": ways_out(url, mailto), "List-Unsubscribe-Post": ONE_CLICK}
    return {name: whole(name, value) for name, value in made.items()}


def ways_out(url: str, mailto: str | None) -> str:
    """The value of `List-Unsubscribe`, for a writer that folds at commas itself."""
    return f"<{url}>" if mailto is None else f"<{url}>, <{mailto}>"


class _Whole(UnstructuredHeader, BaseHeader):
    """A header with URIs, folded at its commas."""

    max_count = 1

    def fold(self, *, policy: Policy) -> str:
        """The header as lines.

        Raises:
            ValueError: a URI is longer than a line may be.
        """
        value = str(self)
        if not value.isascii() or not value.isprintable():
            return super().fold(policy=policy)
        line = f"{self.name}: {value}"
        if len(line) > _LINE:
            line = _COMMA.sub(f",{policy.linesep} ", line)
        if any(len(part) > _MAX_LINE for part in line.split(policy.linesep)):
            raise ValueError(f"{self.name} holds a URI that is longer than the {_MAX_LINE} signs of a line")
        return line + policy.linesep


def _registry() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in _WHOLE:
        registry.map_to_type(name, _Whole)
    return registry


_headers: Final = _registry()

POLICY: Final = SMTP.clone(header_factory=_headers)
"""`email.policy.SMTP` that leaves the URIs of `List-…` headers whole: `EmailMessage(policy=POLICY)`."""


def whole(name: str, value: str) -> str:
    """A header value that stays whole in a message of any policy: a `str` that knows how it folds."""
    made: BaseHeader = _headers(name, value)
    return made

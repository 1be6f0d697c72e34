"""The headers of a message that came in: who it was sent to, and whether a machine wrote it. Pure, and never fails.

The library's parser takes the first line that it does not like for the end of the headers, which would hide an opt-out
behind a stray byte; and it climbs down into MIME of any depth. Here only the first headers are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

MAX_MESSAGE: Final = 1024 * 1024
"""How much of a message is looked at; its headers are far within it."""

MAX_TOKENS: Final = 20
"""How many tokens of a message are tried: who fills a header with thousands gets no further."""

LONG_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_.-])[A-Za-z0-9_-]{44,250}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
"""Finds the token of a link in any text."""

_SENT_TO = (
    "to",
    "cc",
    "delivered-to",
    "x-delivered-to",
    "x-original-to",
    "envelope-to",
    "x-envelope-to",
    "x-envelope-recipient",
)
_HEAD_END = re.compile(rb"(?:\A|\n)\r?\n")
_FOLD = re.compile(r"\r?\n[ \t]+")
_BY_MACHINE = frozenset({"bulk", "junk", "list", "auto_reply"})

Headers = Mapping[str, Sequence[str]]


def split(raw: bytes) -> tuple[bytes, bytes]:
    """The headers and what follows the empty line after them."""
    end = _HEAD_END.search(raw)
    return (raw, b"") if end is None else (raw[: end.start()], raw[end.end() :])


def headers(raw: bytes) -> Headers:
    """The headers of a message by their names in lower case, unfolded."""
    found: dict[str, list[str]] = {}
    head = _HEAD_END.split(raw, maxsplit=1)[0].decode("ascii", "replace")
    for line in _FOLD.sub(" ", head).split("\n"):
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def first(head: Headers, name: str) -> str:
    """The first header of a name; empty where there is none."""
    return next(iter(head.get(name, ())), "")


def media_type(head: Headers) -> str:
    """What the body is, in lower case: `multipart/report`."""
    return first(head, "content-type").partition(";")[0].strip().lower()


def sent_to(head: Headers, pattern: re.Pattern[str]) -> list[str]:
    """The tokens that `pattern` finds in the addresses that the message was sent to, in lower case, each once."""
    values = (value for name in _SENT_TO for value in head.get(name, ()))
    return distinct(found.lower() for value in values for found in pattern.findall(value))


def distinct(tokens: Iterable[str]) -> list[str]:
    """The first `MAX_TOKENS` of them, each once."""
    return list(dict.fromkeys(tokens))[:MAX_TOKENS]


def automatic(head: Headers) -> bool:
    """Whether a machine wrote it, as an answer or to many (RFC 3834 section 2, and what older software sends)."""
    submitted = first(head, "auto-submitted").partition(";")[0].strip().lower()
    return submitted not in ("", "no") or first(head, "precedence").strip().lower() in _BY_MACHINE


def from_nobody(head: Headers) -> bool:
    """Whether it came without a return path, so that nothing may be answered (RFC 5321 section 4.5.5)."""
    return re.sub(r"\s", "", first(head, "return-path")) == "<>"

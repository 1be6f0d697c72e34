"""What was typed while a log-in ran out: carried through the log-in page as text, and offered again afterwards."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from typing import Final

from consentkit.web.console.ask import Sent

MOST: Final = 8 * 1024 * 1024
"""Bytes that a carried form may have when it is unpacked."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A form that was sent and not taken: its fields, and the names of the files that have to be chosen again."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What somebody typed, as far as it is worth showing."""
        return tuple(value for _, value in self.fields if value.strip())


def kept(sent: Sent) -> Carried:
    """What is worth keeping of what a form sent: all but its spent token, and passwords."""
    fields = tuple((name, value) for name, value in sent.fields if name != "form" and not name.startswith("password"))
    return Carried(fields, tuple(upload.name for _, upload in sent.uploads if upload.name))


def carried(sent: Sent) -> str:
    """What a form sent, as text that can be carried through the log-in; files are left behind. Never empty."""
    found = kept(sent)
    packed = zlib.compress(json.dumps([found.fields, found.files]).encode())
    return base64.urlsafe_b64encode(packed).decode("ascii")


def uncarried(text: str) -> Carried:
    """What `carried` made; nothing where somebody changed it."""
    try:
        unpacked = zlib.decompressobj().decompress(base64.urlsafe_b64decode(text.encode()), MOST)
        fields, files = json.loads(unpacked)
        return Carried(tuple((str(name), str(value)) for name, value in fields), tuple(map(str, files)))
    except (binascii.Error, zlib.error, ValueError, TypeError, RecursionError):
        return Carried()

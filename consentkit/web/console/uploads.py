"""A CSV that somebody of the staff chose: what it is in truth, before any work begins on it.

Called what it likes, a file is known by how it begins. What is no text is refused here, with a sentence that says what
to do; everything else is for whoever reads it line by line.
"""

from __future__ import annotations

import codecs
from typing import Final

from consentkit.errors import ConsentKitError
from consentkit.web.console.ask import Sent, Upload

_LOOKED_AT: Final = 4096
_KNOWN: Final = (
    (b"%PDF", "pdf"),
    (b"PK\x03\x04", "sheet"),  # Excel and LibreOffice since 2005
    (b"\xd0\xcf\x11\xe0", "sheet"),  # Excel before
    (b"{\\rtf", "other"),
    (b"\x89PNG", "other"),
    (b"\xff\xd8\xff", "other"),
    (b"GIF8", "other"),
    (b"\x1f\x8b", "other"),
    (codecs.BOM_UTF32_LE, "wide"),
    (codecs.BOM_UTF32_BE, "wide"),
)
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HTML: Final = (b"<!doctype", b"<html", b"<?xml")


class NoCsv(ConsentKitError):
    """What was chosen is no CSV: `key` is the text that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no CSV: {reason}")
        self.key = f"jobs.upload_{reason}"


def csv_of(sent: Sent, field: str = "file") -> tuple[str, bytes]:
    """The name and the bytes of a CSV that was sent. Blocks: call it in a thread.

    Args:
        field: of the form.

    Raises:
        NoCsv: nothing was chosen, it is empty, or it is another kind of file.
    """
    upload = sent.upload(field)
    if upload is None:
        raise NoCsv("none")
    upload.file.seek(0)
    data = upload.file.read()
    if reason := _wrong(data[:_LOOKED_AT]):
        raise NoCsv(reason)
    return _name(upload), data


def _wrong(head: bytes) -> str:
    for mark, reason in _KNOWN:
        if head.startswith(mark):
            return reason
    if not head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        return "empty"
    if head.lstrip(codecs.BOM_UTF8).lower().lstrip().startswith(_HTML):
        return "other"
    if head.startswith(_UTF16) or b"\0" not in head:
        return ""
    return "wide" if head.count(b"\0") * 3 > len(head) else "other"


def _name(upload: Upload) -> str:
    return upload.name[-120:]

"""Reading what a form of the console sends: fields, and files that go to disk as they arrive."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from consentkit.errors import ChoiceRefused
from consentkit.web.console.ask import Sent, Upload
from consentkit.web.forms import read_fields, refuse_charset

MAX_FORM: Final = 2 * 1024 * 1024
"""Bytes of a form without files: a mailing as somebody writes it."""

MB: Final = 1024 * 1024

_READ_AWAY: Final = 256 * MB

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]")


async def read_sent(request: Request, *, uploads_mb: int) -> Sent:
    """What a form sent.

    Args:
        uploads_mb: how many megabytes it may have with its files; 0: it has none.

    Raises:
        ChoiceRefused: it is too large, or no form.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data" or not uploads_mb:
        return Sent(tuple((name, _text(value)) for name, value in await read_fields(request, most=MAX_FORM)))
    refuse_charset(request.headers)
    most = uploads_mb * MB + MAX_FORM
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        await _read_away(request)
        raise ChoiceRefused("too_large", status=413)
    bounded = _Bounded(request, most)
    try:
        form = await Request(request.scope, bounded).form(max_files=20, max_fields=200, max_part_size=MAX_FORM)
    except (MultiPartException, HTTPException) as error:
        if bounded.too_large:
            raise ChoiceRefused("too_large", status=413) from error
        raise ChoiceRefused("wrong_type", status=400) from error
    fields: list[tuple[str, str]] = []
    uploads: list[tuple[str, Upload]] = []
    if sum(len(value) for _, value in form.multi_items() if isinstance(value, str)) > MAX_FORM:
        await form.close()
        raise ChoiceRefused("too_large", status=413)
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            bare = re.split(r"[/\\]", value.filename or "")[-1]
            uploads.append((name, Upload(_CONTROL.sub("", bare), value.size or 0, value.file)))
        else:
            fields.append((name, _text(value)))
    return Sent(tuple(fields), tuple(uploads))


class _Bounded:
    """Receives a body up to so many bytes; then it ends as one that the parser refuses, which closes its files."""

    def __init__(self, request: Request, most: int) -> None:
        self._request = request
        self._left = most
        self.too_large = False

    async def __call__(self) -> Message:
        message = await self._request.receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            raise MultiPartException("too large")
        return message


async def _read_away(request: Request) -> None:
    """Take in what is refused: a browser that can't send it all would never show the answer."""
    left = _READ_AWAY
    async for chunk in request.stream():
        left -= len(chunk)
        if left < 0:
            return


def _text(value: str) -> str:
    """As typed, with `\\n` for line breaks; a NUL, which no database takes, is shown as what it is: unreadable."""
    return value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")

"""Reading what a form sends, and refusing what another site's page sends."""

from __future__ import annotations

from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from consentkit.errors import ChoiceRefused

MAX_BODY = 16 * 1024
"""A choice or a sign-up is a few hundred bytes; more is neither."""

Fields = list[tuple[str, str]]


def same_origin(request: Request, *, secure: bool, keyed: bool = False) -> None:
    """Refuse what another site's page sends. A client without either header is no browser.

    Args:
        secure: the site is on https. keyed: the address is a key that no other site knows, and its page sends no
            referrer, so that an older browser says "null".
    """
    sent = request.headers.get("sec-fetch-site")
    if sent is not None:
        allowed = sent in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        allowed = origin in (None, f"https://{host}") or (origin == f"http://{host}" and not secure)
        allowed = allowed or (keyed and origin == "null")
    if not allowed:
        raise ChoiceRefused("cross_site", status=403)


async def read_fields(request: Request, *, most: int = MAX_BODY, untyped: bool = False) -> Fields:
    """The form's fields, of at most `most` bytes in all.

    Args:
        untyped: also from a client that does not say of what type they are.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if untyped and not media_type:
        media_type = "application/x-www-form-urlencoded"
    if media_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise ChoiceRefused("wrong_type", status=415)
    body = await read_body(request, most)
    if media_type == "application/x-www-form-urlencoded":
        try:
            return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=200)
        except ValueError as error:
            raise ChoiceRefused("too_large", status=413) from error
    return await _multipart(request.headers, body)


async def read_body(request: Request, most: int) -> bytes:
    """The body as it came, of at most `most` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise ChoiceRefused("too_large", status=413)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ChoiceRefused("too_large", status=413)
    return bytes(body)


def refuse_charset(headers: Headers) -> None:
    """Refuse a multipart form in anything but UTF-8, in which every browser sends ours.

    The parser would decode by whatever codec is named: some give halves of signs, which no database takes, and some
    take the square of the length.
    """
    _, options = parse_options_header(headers.get("content-type", ""))
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise ChoiceRefused("wrong_type", status=415)


async def _multipart(headers: Headers, body: bytes) -> Fields:
    refuse_charset(headers)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request({"type": "http", "headers": headers.raw}, receive).form(max_files=0, max_fields=200)
    except MultiPartException as error:
        raise ChoiceRefused("wrong_type", status=400) from error
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def first(fields: Fields, name: str) -> str:
    """The first value of a field; empty where there is none."""
    return next((value for key, value in fields if key == name), "")

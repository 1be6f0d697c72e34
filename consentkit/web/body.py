"""A page's bytes between the app's encodings and the gate, which reads ASCII-compatible text.

Content codings are undone as a stream and, for visitors who accept it, made again as gzip. Charsets in which a
tag is not written in ASCII bytes are read as text, gated as UTF-8 and written back. Nothing here raises on what
an app sends: broken data is served as far as it can be read.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

GZIP_LEVEL = 1
"""What an app compressed is compressed again on its way out; the cheapest level, for it costs time twice."""

_TRANSCODED = {  # WHATWG Encoding section 4.2 and 12; UTF-32 is none of theirs but some apps send it
    **dict.fromkeys(("utf-16", "utf-16le", "unicode", "ucs-2", "csunicode", "iso-10646-ucs-2"), "utf-16-le"),
    **dict.fromkeys(("unicodefeff",), "utf-16-le"),
    **dict.fromkeys(("utf-16be", "unicodefffe"), "utf-16-be"),
    **dict.fromkeys(("utf-32", "utf-32le", "ucs-4"), "utf-32-le"),
    "utf-32be": "utf-32-be",
    **dict.fromkeys(("iso-2022-jp", "csiso2022jp"), "iso2022_jp"),
}
_UNREADABLE = re.compile(
    r"utf-?7|.*utf-7|iso-2022-.*|csiso2022.*|hz|hz-gb-2312|replacement|scsu|bocu.*|utf-ebcdic|ebcdic.*"
)
_META = re.compile(rb"charset\s*=\s*[\"']?\s*(?:iso-2022-jp|csiso2022jp)", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?'?([^\s;\"']+)", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_MARKS = (*(bom for bom, _ in _BOMS), codecs.BOM_UTF32_BE)
_PRESCAN = 1024

Through = Callable[[bytes, bool], bytes]
"""Takes the next bytes and whether they are the last; gives back what goes out now."""


class Decoder(Protocol):
    """Undoes one content coding. What can't be read ends the stream and is left out."""

    def feed(self, data: bytes) -> bytes: ...


class _Inflate:
    """gzip, with any number of members (RFC 1952 section 2.2), or deflate with or without its zlib frame."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._engine = zlib.decompressobj(31 if gzip else 15)
        self._start: bytes | None = None if gzip else b""
        self._over = False

    def feed(self, data: bytes) -> bytes:
        if self._start is not None:  # the two bytes of a zlib header; browsers read data without one too
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return b""
            self._start = None
            if data[0] & 15 != 8 or (data[0] << 8 | data[1]) % 31:
                self._engine = zlib.decompressobj(-15)
        out: list[bytes] = []
        while data and not self._over:
            before = self._engine.copy()
            try:
                out.append(self._engine.decompress(data))
            except zlib.error:
                self._over = True
                out.extend(_until_broken(before, data))
                break
            if not self._engine.eof:
                break
            data = self._engine.unused_data
            self._over = not self._gzip or (data != b"" and data[0] != 0x1F)  # padding after the last member
            self._engine = zlib.decompressobj(31)
        return b"".join(out)


def _until_broken(engine: Any, data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        try:
            yield engine.decompress(data[at : at + 1])
        except zlib.error:
            return


class _Foreign:
    """A decoder of an optional module, whose errors end the stream."""

    def __init__(self, decompress: Callable[[bytes], bytes]) -> None:
        self._decompress = decompress
        self._over = False

    def feed(self, data: bytes) -> bytes:
        if self._over or not data:
            return b""
        try:
            return self._decompress(data)
        except Exception:
            self._over = True
            return b""


def _first_module(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


@lru_cache(maxsize=1)
def _brotli() -> Callable[[], Callable[[bytes], bytes]] | None:
    module = _first_module("brotli", "brotlicffi")
    return (lambda: module.Decompressor().process) if module else None


@lru_cache(maxsize=1)
def _zstd() -> Callable[[], Callable[[bytes], bytes]] | None:
    module = _first_module("compression.zstd", "backports.zstd")
    if module:
        return lambda: module.ZstdDecompressor().decompress
    module = _first_module("zstandard")
    return (lambda: module.ZstdDecompressor().decompressobj().decompress) if module else None


def _decoder(coding: str) -> Decoder | None:
    if coding in ("gzip", "x-gzip"):
        return _Inflate(gzip=True)
    if coding == "deflate":
        return _Inflate(gzip=False)
    make = _brotli() if coding == "br" else _zstd() if coding == "zstd" else None
    return _Foreign(make()) if make else None


def decoders(codings: bytes) -> list[Decoder] | None:
    """What undoes a `Content-Encoding`, the last coding first; None when one of them can't be undone here."""
    names = [name.strip() for name in codings.decode("latin-1").lower().split(",")]
    found = [_decoder(name) for name in reversed(names) if name not in ("", "identity")]
    readable = [decoder for decoder in found if decoder]
    return readable if len(readable) == len(found) else None


class Gzip:
    """Compresses a stream so that every piece can be shown as soon as it arrives."""

    def __init__(self) -> None:
        self._engine = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)

    def feed(self, data: bytes, last: bool) -> bytes:
        """The next bytes; after the last ones the stream is complete."""
        out = self._engine.compress(data)
        if last:
            return out + self._engine.flush()
        return out + self._engine.flush(zlib.Z_SYNC_FLUSH) if data else out


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether an `Accept-Encoding` takes gzip (RFC 9110 section 12.5.3)."""
    weights: dict[str, str] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = parameter.replace(" ", "").removeprefix("q=")
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return weight.strip("0.") != "" or weight == ""


@lru_cache(maxsize=256)
def charset_of(content_type: bytes) -> str | None:
    """The charset a `Content-Type` names, in lower case."""
    found = _CHARSET.search(content_type.decode("latin-1"))
    return found[1].lower() if found else None


def readable(charset: str | None) -> bool:
    """Whether a page in this charset can be gated at all."""
    return charset is None or _UNREADABLE.fullmatch(charset) is None or charset in _TRANSCODED


def plain(charset: str | None, start: bytes) -> bool:
    """Whether a page that begins with these bytes is known to be compatible with ASCII, as nearly all are."""
    return charset is not None and charset not in _TRANSCODED and start[:1] not in (b"", b"\xff", b"\xfe", b"\x00")


class Charset:
    """Reads a page in whatever charset it is in, hands ASCII-compatible bytes to `through`, and writes it back.

    The charset is that of a byte order mark, else of the header, else, for ISO-2022-JP, of a `<meta>` in the first
    kilobyte (WHATWG HTML section 13.2.3.2). All others are compatible with ASCII where it matters to a tokenizer.
    """

    def __init__(self, charset: str | None, through: Through) -> None:
        self._charset = charset
        self._through = through
        self._start: bytes | None = b""
        self._head: bytes | None = b"" if charset is None else None
        self._codecs: tuple[codecs.IncrementalDecoder, codecs.IncrementalDecoder, codecs.IncrementalEncoder] | None
        self._codecs = None

    def feed(self, data: bytes, last: bool) -> bytes:
        """The next bytes of the page, and what goes out now."""
        mark = b""
        if self._start is not None:
            data = self._start + data
            if len(data) < 4 and not last and any(bom.startswith(data) for bom in _MARKS):
                self._start = data
                return b""
            self._start = None
            mark, data = self._recognise(data)
        if self._head is not None:  # until a <meta> names it, a page in ISO-2022-JP is in ASCII
            self._head += data[:_PRESCAN]
            if self._codecs is None and _META.search(self._head[:_PRESCAN]):
                self._use("iso2022_jp")
            if len(self._head) >= _PRESCAN or self._codecs:
                self._head = None
        if self._codecs is None:
            return mark + self._through(data, last)
        read, back, write = self._codecs
        gated = self._through(read.decode(data, last).encode("utf-8", "replace"), last)
        return mark + write.encode(back.decode(gated, last), last)

    def _recognise(self, data: bytes) -> tuple[bytes, bytes]:
        for bom, codec in _BOMS:
            if data.startswith(bom):
                self._use(codec)
                return bom, data[len(bom) :]
        codec = _TRANSCODED.get(self._charset or "", "")
        if codec.startswith("utf-32") and data.startswith(codecs.BOM_UTF32_BE):
            self._use("utf-32-be")
            return codecs.BOM_UTF32_BE, data[4:]
        if codec and not data.startswith(codecs.BOM_UTF8):
            self._use(codec)
        return b"", data

    def _use(self, codec: str) -> None:
        self._codecs = (
            codecs.getincrementaldecoder(codec)("replace"),
            codecs.getincrementaldecoder("utf-8")("replace"),
            codecs.getincrementalencoder(codec)("replace"),
        )

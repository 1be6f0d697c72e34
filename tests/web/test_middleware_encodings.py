"""Pages that an app sends compressed, or in a charset in which a tag is not written in ASCII bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import brotli
import pytest

from consentkit.web.body import Charset, accepts_gzip, charset_of, decoders
from consentkit.web.headers import FALLBACK_CSP
from tests.web.minikit import DOCUMENT, PAGE, Answer, MiniKit, answering, leaks, visit

HTML = b"text/html; charset=utf-8"


def _bare_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


def _members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 97]) for at in range(0, len(data), 97))


CODINGS: list[tuple[str, bytes, Callable[[bytes], bytes]]] = [
    ("gzip", b"gzip", gzip.compress),
    ("upper case, with its old name", b"X-GZIP", gzip.compress),
    ("several gzip members", b"gzip", _members),
    ("gzip with padding after it", b"gzip", lambda data: gzip.compress(data) + b"\0" * 512),
    ("deflate", b"deflate", zlib.compress),
    ("deflate without its frame", b"deflate", _bare_deflate),
    ("brotli", b"br", brotli.compress),
    ("two codings", b"gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    ("a coding that is none", b"identity", bytes),
]


@pytest.fixture
def kit() -> MiniKit:
    return MiniKit()


def _plain(answer: Answer) -> bytes:
    return gzip.decompress(answer.body) if answer.header(b"content-encoding") == b"gzip" else answer.body


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("step", [None, 1, 100])
@pytest.mark.parametrize("accepts", [b"gzip, br", b"br", b""])
@pytest.mark.parametrize(("what", "coding", "encode"), CODINGS, ids=[what for what, _, _ in CODINGS])
def test_a_compressed_page_is_gated_and_compressed_again(
    kit: MiniKit, *, what: str, coding: bytes, encode: Callable[[bytes], bytes], accepts: bytes, step: int | None
) -> None:
    data = encode(PAGE)
    pieces = [data] if step is None else [data[at : at + step] for at in range(0, len(data), step)]
    app = answering(*pieces, headers=[(b"Content-Encoding", coding), (b"Vary", b"Accept")])
    headers = [(b"accept", b"text/html"), (b"sec-fetch-dest", b"document"), (b"accept-encoding", accepts)]
    answer = visit(kit.wrap(app), page=False, headers=headers)
    assert _plain(answer) == visit(kit.wrap(answering(PAGE))).body
    if coding != b"identity":
        assert answer.header(b"content-encoding") == (b"gzip" if b"gzip" in accepts else None)
        assert answer.header(b"vary") == b"Accept, Cookie, Accept-Encoding"
    assert len(answer.messages) == len(pieces) + 1
    assert answer.header(b"content-length") == (str(len(answer.body)).encode() if step is None else None)


def test_each_compressed_piece_can_be_shown_when_it_arrives(kit: MiniKit) -> None:
    engine = zlib.compressobj(wbits=31)
    parts = [b"<!doctype html><html><body><p>een</p>", b"<p>twee</p>", b"<p>drie</p>"]
    pieces = [engine.compress(part) + engine.flush(zlib.Z_SYNC_FLUSH) for part in parts] + [engine.flush()]
    answer = visit(kit.wrap(answering(*pieces, length=False, headers=[(b"content-encoding", b"gzip")])))
    reader = zlib.decompressobj(31)
    for part, message in zip(parts, answer.messages[1:], strict=False):
        assert part[-9:] in reader.decompress(message["body"])


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(PAGE)[:150],
        gzip.compress(PAGE)[:150] + b"\xff" * 100,
        b"no gzip at all" + PAGE,
        gzip.compress(PAGE)[:-8] + b"\0" * 8,
        b"",
        b"\x1f",
    ],
)
@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br"])
def test_broken_compressed_data_is_served_as_far_as_it_reads(
    kit: MiniKit, coding: bytes, data: bytes, trailing: bool
) -> None:
    headers = [(b"content-encoding", coding)]
    for pieces in ([data], [data[at : at + 7] for at in range(0, len(data), 7)]):
        answer = visit(kit.wrap(answering(*pieces, trailing=trailing, headers=headers)))
        assert answer.messages[-1].get("more_body") is False
        assert leaks(_plain(answer)) == []


def test_what_came_before_the_break_is_shown(kit: MiniKit) -> None:
    data = gzip.compress(b"<!doctype html><html><body>" + bytes(range(32, 60)) * 40)
    for step in (len(data), 11):
        broken = data[:-20] + b"\xff" * 20
        pieces = [broken[at : at + step] for at in range(0, len(broken), step)]
        body = _plain(visit(kit.wrap(answering(*pieces, headers=[(b"content-encoding", b"gzip")]))))
        assert b"<html>" in body


@pytest.mark.parametrize("coding", [b"compress", b"aes128gcm", b"gzip, secret"])
def test_a_page_in_a_coding_that_nobody_reads_may_load_nothing_from_elsewhere(kit: MiniKit, coding: bytes) -> None:
    app = answering(b"\x00\x01", headers=[(b"Content-Encoding", coding), (b"Content-Security-Policy", b"img-src *")])
    answer = visit(kit.wrap(app))
    assert answer.body == b"\x00\x01"
    assert answer.all(b"content-security-policy") == [b"img-src *", FALLBACK_CSP]
    assert answer.header(b"content-length") == b"2"
    assert answer.header(b"content-encoding") == coding


def test_zstandard_is_read_where_python_has_it_and_else_may_load_nothing(kit: MiniKit) -> None:
    readable = any(find_spec(name) for name in ("compression.zstd", "backports.zstd", "zstandard") if _parent(name))
    assert (decoders(b"zstd") is not None) == readable
    answer = visit(kit.wrap(answering(b"\x28\xb5\x2f\xfd", headers=[(b"content-encoding", b"zstd")])))
    assert (FALLBACK_CSP in answer.all(b"content-security-policy")) is not readable


def _parent(name: str) -> bool:
    return "." not in name or find_spec(name.partition(".")[0]) is not None


@pytest.mark.parametrize(
    ("accepts", "gzipped"),
    [
        (b"gzip", True),
        (b"GZIP;q=0.5, br", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000, *", False),
        (b"br, *;q=0", False),
        (b"", False),
        (b"identity", False),
        (b"x-gzip", True),
    ],
)
def test_accept_encoding_is_weighed(accepts: bytes, gzipped: bool) -> None:
    assert accepts_gzip(accepts) is gzipped


# Charsets

TEXT = PAGE.decode()
CHARSETS: list[tuple[str, bytes | None, bytes]] = [
    ("UTF-16 by its mark", None, TEXT.encode("utf-16")),
    ("UTF-16 by its mark against the header", b"utf-8", TEXT.encode("utf-16")),
    ("UTF-16BE by its mark", b"utf-8", b"\xfe\xff" + TEXT.encode("utf-16-be")),
    ("UTF-16 by the header", b"UTF-16", TEXT.encode("utf-16-le")),
    ("UTF-16LE by the header", b'"utf-16le"', TEXT.encode("utf-16-le")),
    ("UTF-16BE by the header", b"utf-16be", TEXT.encode("utf-16-be")),
    ("UTF-32 by its mark", None, TEXT.encode("utf-32")),
    ("UTF-32BE by the header and its mark", b"utf-32", b"\x00\x00\xfe\xff" + TEXT.encode("utf-32-be")),
    ("UTF-32LE by the header", b"utf-32le", TEXT.encode("utf-32-le")),
    ("ISO-2022-JP by the header", b"iso-2022-jp", TEXT.replace("é", "学校").encode("iso2022_jp")),
    ("ISO-2022-JP by its meta", None, TEXT.replace("é", "学校<meta charset=ISO-2022-JP>").encode("iso2022_jp")),
]
CODECS = {"UTF-16BE": "utf-16-be", "UTF-16": "utf-16-le", "UTF-32BE": "utf-32-be", "UTF-32": "utf-32-le"}


def _read(what: str, data: bytes) -> bytes:
    codec = next((codec for name, codec in CODECS.items() if what.startswith(name)), "iso2022_jp")
    codec = "utf-16-le" if what.startswith("UTF-16LE") else codec
    return data.decode(codec).removeprefix("\ufeff").encode()


@pytest.mark.checklist("GAT-06")
@pytest.mark.parametrize("step", [None, 1, 3])
@pytest.mark.parametrize(("what", "charset", "data"), CHARSETS, ids=[what for what, _, _ in CHARSETS])
def test_a_page_in_any_charset_is_gated_and_stays_in_it(
    kit: MiniKit, what: str, charset: bytes | None, data: bytes, step: int | None
) -> None:
    content_type = b"text/html" + (b"; charset=" + charset if charset else b"")
    pieces = [data] if step is None else [data[at : at + step] for at in range(0, len(data), step)]
    answer = visit(kit.wrap(answering(*pieces, type=content_type)))
    body = _read(what, answer.body)
    assert leaks(body) == []
    assert b"data-consentkit-src" in body
    assert b"id=consentkit" in body
    assert answer.header(b"content-type") == content_type
    granted = kit.cookie("analytics", "marketing", "youtube")
    as_written = _read(what, visit(kit.wrap(answering(*pieces, type=content_type)), cookie=granted).body)
    link = b'<a data-consentkit="settings" href="/privacy/settings">Cookie-instellingen</a>'
    assert as_written.replace(link, b"") == _read(what, data)


@pytest.mark.parametrize("charset", [b"utf-7", b"UNICODE-1-1-UTF-7", b"hz-gb-2312", b"iso-2022-kr", b"iso-2022-cn"])
def test_a_page_in_a_charset_that_hides_its_tags_may_load_nothing_from_elsewhere(kit: MiniKit, charset: bytes) -> None:
    answer = visit(kit.wrap(answering(PAGE, type=b"text/html; charset=" + charset)))
    assert answer.body == PAGE
    assert answer.all(b"content-security-policy") == [FALLBACK_CSP]


@pytest.mark.parametrize("charset", ["latin-1", "windows-1252", "shift_jis", "gb18030", "euc-jp", "big5", "koi8-r"])
def test_charsets_that_write_tags_in_ascii_pass_byte_for_byte(kit: MiniKit, charset: str) -> None:
    page = TEXT.replace("é", "").encode(charset)
    granted = kit.cookie("analytics", "marketing", "youtube")
    app = kit.wrap(answering(page, type=b"text/html; charset=" + charset.encode()))
    link = b'<a data-consentkit="settings" href="/privacy/settings">Cookie-instellingen</a>'
    assert visit(app, cookie=granted).body.replace(link, b"") == page
    assert leaks(visit(app).body) == []


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (b"text/html", None),
        (b"text/html; charset=UTF-8", "utf-8"),
        (b'text/html;charset="utf-16"', "utf-16"),
        (b"text/html; boundary=x; charset = utf-16 ; y", "utf-16"),
        (b"text/html; charset='utf-16'", "utf-16"),
    ],
)
def test_the_charset_is_read_from_the_type(content_type: bytes, charset: str | None) -> None:
    assert charset_of(content_type) == charset


def test_a_short_start_waits_for_its_byte_order_mark_and_then_goes_out() -> None:
    through = Charset(None, lambda data, last: data)
    assert [through.feed(piece, False) for piece in (b"", b"\xff", b"\xfe", b"<\0p\0")] == [
        b"",
        b"",
        b"",
        b"\xff\xfe<\0p\0",
    ]
    other = Charset(None, lambda data, last: data)
    assert [other.feed(piece, False) for piece in (b"\xfe", b"x")] == [b"", b"\xfex"]
    assert Charset(None, lambda data, last: data).feed(b"\xff", True) == b"\xff"


def test_compressed_and_in_utf_16_at_once(kit: MiniKit) -> None:
    data = gzip.compress(TEXT.encode("utf-16"))
    answer = visit(kit.wrap(answering(data, headers=[(b"content-encoding", b"gzip")])))
    assert leaks(_plain(answer).decode("utf-16").encode()) == []


def test_a_huge_page_from_few_bytes_still_streams(kit: MiniKit) -> None:
    data = gzip.compress(b"<!doctype html><html><body>" + b"<p>x</p>" * 500_000)
    answer: Any = visit(kit.wrap(answering(data, headers=[(b"content-encoding", b"gzip")])), headers=DOCUMENT[:0])
    assert _plain(answer).count(b"<p>x</p>") == 500_000

"""The mail pages of the demo: whatever arrives is shown, and nothing in it runs."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from aiosmtpd.smtp import Envelope
from starlette.testclient import TestClient

from demo_site.post import KEPT, SHOWN, Post, pages
from demo_site.site import AFGEMELD_KEYS, CONFIG, settings

HOSTILE = (
    b"From: <img src=x onerror=alert(1)>\r\nTo: a@post.example\r\nSubject: <script>alert(1)</script>\r\n"
    b'X-Odd: "><b>\r\nList-Unsubscribe: <javascript:alert(1)>, <mailto:a@b.example"><script>?x>\r\n'
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n"
    b'<script>1</script> http://a.example/?q="><script> javascript:alert(1) http://b.example/x.\r\n'
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<html><HEAD lang=nl><title>x</title></head><body><script>alert(1)</script></body></html>\r\n--b--\r\n"
)


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def reader(post: Post) -> TestClient:
    return TestClient(pages(post), base_url="http://127.0.0.1:8000")


def arrive(post: Post, raw: bytes, to: str = "a@post.example") -> str:
    envelope = Envelope()
    envelope.mail_from, envelope.rcpt_tos, envelope.original_content = "nieuws@delinde.example", [to], raw
    return asyncio.run(post.handle_DATA(None, None, envelope))


def test_nothing_of_a_hostile_mail_becomes_markup(post: Post, reader: TestClient) -> None:
    arrive(post, HOSTILE, to="<b>@post.example")

    for page in (reader.get("/post").text, reader.get("/post/1").text):
        assert "<script>" not in page
        assert "<img" not in page
        assert "<b>@" not in page
        assert 'href="javascript:' not in page
        assert 'action="javascript:' not in page
    assert '<a href="http://a.example/?q=">http://a.example/?q=</a>&#34;&gt;&lt;script&gt;' in page
    assert '<a href="http://b.example/x">http://b.example/x</a>.' in page


def test_the_html_of_a_mail_is_shut_in_and_its_links_open_outside(post: Post, reader: TestClient) -> None:
    arrive(post, HOSTILE)

    inside = reader.get("/post/1/html")
    policy = inside.headers["Content-Security-Policy"]

    assert policy.startswith("sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';")
    assert "script" not in policy
    assert inside.text.startswith('<html><HEAD lang=nl><base target="_blank"><title>')
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in reader.get("/post/1").text


def test_headers_are_read_as_words_and_what_cannot_be_read_is_shown_as_it_is(post: Post, reader: TestClient) -> None:
    arrive(post, "Subject: =?utf-8?q?caf=C3=A9?=\r\nX-Odd: =?nonsense?q?=FF?=\r\n\r\nCafé".encode())

    page = reader.get("/post/1").text

    assert "<h1>café</h1>" in page
    assert "=?nonsense?q?=FF?=" in page
    assert "Café" in page
    assert "<iframe" not in page


def test_the_newest_are_shown_first_and_others_are_found_until_they_are_wiped(post: Post, reader: TestClient) -> None:
    for number in range(KEPT + 3):
        arrive(post, f"Subject: nr {number + 1}.\r\n\r\n".encode(), to=f"lezer{number + 1}@post.example")

    box = reader.get("/post").text
    assert box.count("<li>") == SHOWN
    assert box.index(f"nr {KEPT + 3}.<") < box.index(f"nr {KEPT + 2}.<")
    assert f"De nieuwste {SHOWN} van {KEPT}." in box
    assert reader.get("/post/3").status_code == 404
    assert reader.get(f"/post/{KEPT + 3}").status_code == 200
    for words in ("LEZER77@", "nr 77."):
        found = reader.get("/post", params={"zoek": words}).text
        assert found.count("<li>") == 1
        assert 'href="/post/77"' in found
    assert "Hierover is geen post" in reader.get("/post?zoek=niemand").text

    assert reader.post("/post/wissen", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert "Er is nog geen post" in reader.post("/post/wissen", headers={"Sec-Fetch-Site": "same-origin"}).text
    assert not post.letters


def test_what_arrived_is_there_after_a_restart_but_for_what_nobody_got_an_answer_for(tmp_path: Path) -> None:
    file = tmp_path / "post.jsonl"
    raw = "Subject: caf\xe9\r\n\r\nCaf\xe9".encode("latin-1")
    first = Post(file)
    arrive(first, raw, to="a@post.example")
    arrive(first, raw, to="b@post.example")
    file.write_text(file.read_text("ascii")[:-20], "ascii")  # killed while it wrote

    second = Post(file)
    arrive(second, raw, to="c@post.example")

    assert [letter.to for letter in second.letters] == [("c@post.example",), ("a@post.example",)]
    assert [bytes(letter.message) for letter in second.letters] == [raw.replace(b"\r\n", b"\n")] * 2
    assert [(one.number, one.at) for one in Post(file).letters] == [(one.number, one.at) for one in second.letters]


def test_pictures_that_came_along_are_shown_and_others_are_not(post: Post, reader: TestClient) -> None:
    parts = (
        b'Content-Type: text/html\r\n\r\n<img src="cid:a@b"><img src="cid:c@d"><img src="http://x.example/y">\r\n'
        b"--b\r\nContent-Type: image/png\r\nContent-ID: <a@b>\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n"
        b"--b\r\nContent-Type: text/html\r\nContent-ID: <c@d>\r\n\r\n<script>1</script>\r\n"
    )
    arrive(post, b'Content-Type: multipart/related; boundary="b"\r\n\r\n--b\r\n' + parts + b"--b--\r\n")

    inside = reader.get("/post/1/html")

    assert '<img src="data:image/png;base64,aGk="><img src="cid:c@d"><img src="http://x.example/y">' in inside.text
    assert "img-src data:;" in inside.headers["Content-Security-Policy"]


def test_the_script_gets_the_list_alone(post: Post, reader: TestClient) -> None:
    arrive(post, b"Subject: hoi\r\n\r\n")

    piece = reader.get("/post", headers={"HX-Request": "true"}).text

    assert piece.startswith('<ol class="letters">')


def test_an_opt_out_is_handed_over_with_the_address_it_was_for_and_others_are_not(post: Post) -> None:
    taken: list[bytes] = []
    post.hand_over("afmelden@delinde.example", lambda raw: taken.append(raw) or "gedaan")

    arrive(post, b"Subject: 1\r\n\r\n", to="Afmelden+abc@DeLinde.example")
    arrive(post, b"Subject: 2\r\n\r\n", to="afmelden@delinde.example")
    arrive(post, b"Subject: 3\r\n\r\n", to="sanne@voorbeeld.example")

    assert taken == [
        b"X-Original-To: Afmelden+abc@DeLinde.example\r\nSubject: 1\r\n\r\n",
        b"X-Original-To: afmelden@delinde.example\r\nSubject: 2\r\n\r\n",
    ]
    assert [letter.note for letter in post.letters] == ["", "gedaan", "gedaan"]


def test_an_opt_out_that_could_not_be_stored_is_left_with_its_sender(post: Post) -> None:
    def away(raw: bytes) -> str:
        raise OSError("the database is away")

    post.hand_over("afmelden@delinde.example", away)

    assert arrive(post, b"\r\n", to="afmelden+abc@delinde.example").startswith("451 ")
    assert not post.letters


def test_the_keys_of_an_older_demo_get_the_one_that_the_newsletter_needs_once(tmp_path: Path) -> None:
    config = tmp_path / "consentkit.toml"
    config.write_bytes(CONFIG.read_bytes())
    keys = tmp_path / "consentkit.keys"
    old = "CONSENTKIT_SECRET_KEYS=mZ5v8Kq1Xr4Wt7Lb0Ny3Hc6Jd9Fg2Sa-P-one-for-the-tests"
    keys.write_text(old)
    keys.chmod(0o600)

    first = settings(port=8000, config=config, environ={})
    second = settings(port=8000, config=config, environ={})

    assert keys.read_text().startswith(f"{old}\n{AFGEMELD_KEYS}=")
    assert first.afgemeld_keys == second.afgemeld_keys != ()
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600

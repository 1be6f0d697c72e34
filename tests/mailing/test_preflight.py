"""Each thing that can be wrong with a mailing is found in its bytes, and nothing else is found with it."""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.exception
import dns.resolver
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from consentkit.mail import Message
from consentkit.mailing import preflight
from consentkit.mailing.dkim import Key, Signer
from consentkit.mailing.frame import About, Frame, Slip
from consentkit.mailing.preflight import DNSUnavailable, Expected, blocks, check, lookup, promotion
from consentkit.mailing.source import Draft
from consentkit.mailing.states import Purpose
from consentkit.render import load_texts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE = "https://delinde.example/privacy"
TOKENS = {"Anna": ("tok-a", "pref-a", "stil-a"), "Bart": ("tok-b", "pref-b", "stil-b")}

GOOD = """\
From: De Linde <nieuws@delinde.example>
To: NAME@voorbeeld.example
Subject: Nieuws uit de tuin
Date: Sun, 01 Mar 2026 12:00:00 +0000
Message-ID: <7.NUMBER@delinde.example>
List-Id: Nieuwsbrief <nieuwsbrief.delinde.example>
List-Unsubscribe: <https://delinde.example/privacy/afmelden/TOKEN>,
 <mailto:afmelden@delinde.example>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Feedback-ID: 7:nieuwsbrief:marketing:delinde
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="=_grens"

--=_grens
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 8bit

Beste NAME, de tuin is weer open. Kom kijken in mei.

Bekijk de agenda: https://delinde.example/agenda?utm_campaign=mei

Stichting De Linde
Lindelaan 1, 1234 AB Ons Dorp

Afmelden: https://delinde.example/privacy/afmelden/TOKEN
Voorkeuren: https://delinde.example/privacy/voorkeuren/PREFERENCES

--=_grens
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: 8bit

<!DOCTYPE html>
<html lang="nl"><head><title>Nieuws</title><style>a{color:#00f}</style></head>
<body>
<div style="display:none;font-size:0">De tuin is open</div>
<p>Beste NAME, de tuin is weer open. Kom kijken in mei.</p>
<p><img src="https://delinde.example/tuin.jpg" width="600" height="300" alt="De tuin in mei"></p>
<table><tr><td style="font-size:0"><p style="font-size:16px">
<a href="https://delinde.example/agenda?utm_campaign=mei">Bekijk de agenda</a></p></td></tr></table>
<p>Stichting De Linde<br>Lindelaan 1, 1234&nbsp;AB Ons&nbsp;Dorp</p>
<p><a href="https://delinde.example/privacy/afmelden/TOKEN">Afmelden</a></p>
<p><a href="https://delinde.example/privacy/voorkeuren/PREFERENCES">Voorkeuren</a></p>
</body></html>
--=_grens--
"""
_LISTED = "List-Id|List-Unsubscribe|List-Unsubscribe-Post|Feedback-ID"
SERVICE = re.sub(rf"^(?:{_LISTED}): .*\n(?: .*\n)*|^.*afmelden/.*\n", "", GOOD, flags=re.MULTILINE)

Edit = tuple[str, str]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    path = tmp_path_factory.mktemp("keys") / "dkim.pem"
    path.touch(mode=0o600)
    private = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Key.load("delinde.example", "nieuws", path)


def written(source: str, name: str) -> bytes:
    """The message for one reader, on the wire."""
    token, preferences, quiet = TOKENS[name]
    values = {"NAME": name, "NUMBER": str(len(token) + ord(name[0])), "TOKEN": token, "PREFERENCES": preferences}
    for hole, value in (values | {"QUIET": quiet}).items():
        source = source.replace(hole, value)
    return source.replace("\n", "\r\n").encode()


def expected(name: str, key: Key, **other: Any) -> Expected:
    """What the message for one reader should be."""
    token, preferences, quiet = TOKENS[name]
    made = Expected(
        purpose=Purpose.MARKETING,
        list="nieuwsbrief",
        sender="De Linde <nieuws@delinde.example>",
        envelope_sender="bounces@mail.delinde.example",
        controller="Stichting De Linde",
        address="Lindelaan 1\n1234 AB Ons Dorp",
        base_url="https://delinde.example",
        unsubscribe_url=f"{SITE}/afmelden/{token}",
        preferences_url=f"{SITE}/voorkeuren/{preferences}",
        quiet_url=f"{SITE}/meten/{quiet}",
        keys=(key,),
    )
    return replace(made, **other)


def looked(
    key: Key, source: str = GOOD, *, edits: Sequence[Edit] = (), late: Sequence[Edit] = (), **other: Any
) -> list[str]:
    """What is found in the messages for two readers: level, code and place. `late` edits come after signing."""
    for old, new in edits:
        assert old in source, old
        source = source.replace(old, new)
    samples = []
    for name in TOKENS:
        payload = (
            Signer([key], clock=lambda: NOW).sign(written(source, name))
            if "keys" not in other
            else written(source, name)
        )
        for old, new in late:
            assert old.encode() in payload, old
            payload = payload.replace(old.encode(), new.encode())
        samples.append((payload, expected(name, key, **other)))
    return [f"{one.level} {one.code}: {one.where}" for one in check(samples, dns=False, now=NOW)]


@pytest.mark.checklist("UNS-01", "UNS-08")
@pytest.mark.parametrize(
    ("source", "purpose"), [(GOOD, Purpose.MARKETING), (SERVICE, Purpose.SERVICE)], ids=["marketing", "service"]
)
def test_a_good_mailing_gives_no_finding(key: Key, source: str, purpose: Purpose) -> None:
    assert looked(key, source, purpose=purpose) == []


DRAFTS = {
    "mailing.html": "<p>Beste {{ naam }},</p><p><a href='https://delinde.example/agenda'>Naar de agenda</a></p>",
    "mailing.md": "# Beste {{ naam }}\n\nDe tuin is weer open: [naar de agenda](https://delinde.example/agenda).",
    "mailing.mjml": (
        "<mjml><mj-body><mj-section><mj-column><mj-text>Beste {{ naam }}, de tuin is open</mj-text>"
        "<mj-button href='https://delinde.example/agenda'>Naar de agenda</mj-button>"
        "</mj-column></mj-section></mj-body></mjml>"
    ),
}


@pytest.mark.checklist("UNS-01", "UNS-08", "TRK-01")
@pytest.mark.parametrize("file", DRAFTS)
def test_a_mailing_as_consentkit_makes_it_gives_no_finding(key: Key, file: str) -> None:
    draft = Draft(list="nieuwsbrief", subject="Nieuws", html=DRAFTS[file], file=file, fields=("naam",))
    about = About(
        site_name="De Linde",
        site_url="https://delinde.example",
        controller="Stichting De Linde",
        address="Lindelaan 1, 1234 AB Ons Dorp",
        list_title="Nieuwsbrief",
        list_id="Nieuwsbrief <nieuwsbrief.delinde.example>",
        feedback_id="7:nieuwsbrief:marketing:delinde",
        sender="De Linde <nieuws@delinde.example>",
        language="nl",
        texts=load_texts("nl"),
    )
    frame, samples = Frame(draft, about), []
    for name in TOKENS:
        told = expected(name, key)
        told = replace(told, list_unsubscribe=f"<{told.unsubscribe_url}>, <mailto:afmelden+abc@delinde.example>")
        slip = Slip(
            to=f"{name.lower()}@voorbeeld.example",
            message_id=f"7.{name}@delinde.example",
            date=NOW,
            unsubscribe_url=told.unsubscribe_url,
            list_unsubscribe=told.list_unsubscribe,
            preferences_url=told.preferences_url,
            fields={"naam": name},
        )
        samples.append((Signer([key], clock=lambda: NOW).sign(frame.fill(slip)), told))

    assert check(samples, dns=False, now=NOW) == []


AGENDA = 'https://delinde.example/agenda?utm_campaign=mei">'
IMAGE = "https://delinde.example/tuin.jpg"
HEADER = "List-Unsubscribe: <https://delinde.example/privacy"
LINK = '<p><a href="https://delinde.example/privacy/afmelden/TOKEN">Afmelden</a></p>'
LONG = "w" * 1000
BODY = "de tuin is weer open. Kom kijken in mei."
BROKEN: Mapping[str, tuple[Edit | list[Edit], list[str]]] = {
    # lines and parts
    "a line that is too long": ((BODY + "\n\n", BODY + LONG + "\n\n"), ["error line-long: line 25"]),
    "a boundary that is not there": (
        ("\n--=_grens", "\n--=_gracht"),
        ["error mime-broken: message", "error text-missing: text"],
    ),
    "text that is no UTF-8": (
        [('plain; charset="utf-8"', 'plain; charset="us-ascii"'), ("Kom kijken in mei.\n\n", "Café!\n\n")],
        ["error mime-broken: message"],
    ),
    "no sender": (("From: De Linde <nieuws@delinde.example>\n", ""), ["error header-missing: header From"]),
    "no date": (("Date: Sun, 01 Mar 2026 12:00:00 +0000\n", ""), ["error header-missing: header Date"]),
    "a date that can't be read": (("Sun, 01 Mar 2026", "zondag"), ["error date-wrong: header Date"]),
    "a date of last week": (("Sun, 01 Mar", "Sun, 22 Feb"), ["error date-wrong: header Date"]),
    "two subjects": (("Subject:", "Subject: Ha\nSubject:"), ["error header-repeated: header Subject"]),
    "an id of somebody else": (
        ("NUMBER@delinde.example", "NUMBER@elders.example"),
        ["error message-id-invalid: header Message-ID"],
    ),
    "an id that was used before": (("<7.NUMBER@", "<7.1@"), ["error message-id-repeated: header Message-ID"]),
    "two readers in one message": (("To: ", "To: x@voorbeeld.example, "), ["error recipients: header To"]),
    "a reader in copy": (("Subject:", "Cc: x@voorbeeld.example\nSubject:"), ["error recipients: header To"]),
    # the subject
    "no subject": (("Subject: Nieuws uit de tuin", "Subject: "), ["error subject-empty: header Subject"]),
    "a subject that shouts": (
        ("Nieuws uit de tuin", "NIEUWS UIT DE TUIN"),
        ["warning subject-capitals: header Subject"],
    ),
    "a subject without end": (("Nieuws uit de tuin", "tuin " * 40), ["warning subject-long: header Subject"]),
    "a subject that answers nothing": (("Nieuws uit", "RE: Nieuws uit"), ["error subject-reply: header Subject"]),
    "an encoded subject that answers nothing": (
        ("Nieuws uit de tuin", "=?utf-8?q?Antw=3A_caf=C3=A9?="),
        ["error subject-reply: header Subject"],
    ),
    # the sender
    "another sender": (("From: De Linde <nieuws@", "From: De Linde <info@"), ["error sender-unknown: header From"]),
    # ways out
    "no List-Unsubscribe": (
        (
            "List-Unsubscribe: <https://delinde.example/privacy/afmelden/TOKEN>,\n <mailto:afmelden@delinde.example>\n",
            "",
        ),
        ["error dkim-covers: header DKIM-Signature", "error unsubscribe-missing: header List-Unsubscribe"],
    ),
    "two of them": (
        ("List-Id:", "List-Unsubscribe: <https://x.example/y>\nList-Id:"),
        ["error header-repeated: header List-Unsubscribe", "error unsubscribe-differs: header List-Unsubscribe"],
    ),
    "an encoded-word": (
        (HEADER, "List-Unsubscribe: =?utf-8?q?=3Chttps=3A//delinde?=\n <"),
        ["error unsubscribe-encoded: header List-Unsubscribe"],
    ),
    "broken in the middle of a link": (
        ("List-Unsubscribe: <https://delinde.example/", "List-Unsubscribe: <https://delinde.example/\n "),
        ["error unsubscribe-folded: header List-Unsubscribe"],
    ),
    "http only": (
        ("List-Unsubscribe: <https:", "List-Unsubscribe: <http:"),
        ["error unsubscribe-insecure: header List-Unsubscribe"],
    ),
    "mailto only": (
        ("<https://delinde.example/privacy/afmelden/TOKEN>,\n <mailto:", "<mailto:"),
        ["error unsubscribe-insecure: header List-Unsubscribe"],
    ),
    "somebody else's link": (
        (HEADER + "/afmelden/TOKEN", HEADER + "/afmelden/x"),
        ["error unsubscribe-differs: header List-Unsubscribe"],
    ),
    "no one-click": (
        ("List-Unsubscribe-Post: List-Unsubscribe=One-Click\n", ""),
        ["error dkim-covers: header DKIM-Signature", "error one-click-missing: header List-Unsubscribe-Post"],
    ),
    "one-click spelled otherwise": (
        ("=One-Click", "=one-click"),
        ["error one-click-value: header List-Unsubscribe-Post"],
    ),
    "no link in the text": (
        ("Afmelden: https://delinde.example/privacy/afmelden/TOKEN\n", ""),
        ["error unsubscribe-link: text"],
    ),
    "a longer link in the text": (
        ("afmelden/TOKEN\nVoor", "afmelden/TOKENS\nVoor"),
        [
            "error unsubscribe-link: text",
            "error personal-link: text line 8",
            "error tracking-link: text line 8",
        ],
    ),
    "a link in the HTML that shows nothing": (
        (">Afmelden<", "><"),
        ["error unsubscribe-link: html", "warning link-empty: html line 10"],
    ),
    "a link that is hidden": (
        (">Afmelden<", " style='display: none !important'>Afmelden<"),
        ["error unsubscribe-link: html"],
    ),
    "a link too small to see": ((">Afmelden<", " style='font-size:1px'>Afmelden<"), ["error unsubscribe-link: html"]),
    "a link as pale as the page": (
        (">Afmelden<", " style='color:#FFF;background:#fff'>Afmelden<"),
        ["error unsubscribe-link: html"],
    ),
    "a link in a comment": (
        (LINK, "<!-- https://delinde.example -->"),
        ["error unsubscribe-link: html"],
    ),
    # lists
    "no List-Id": (
        ("List-Id: Nieuwsbrief <nieuwsbrief.delinde.example>\n", ""),
        ["error list-id-missing: header List-Id"],
    ),
    "the id of another list": (("<nieuwsbrief.", "<agenda."), ["error list-id-invalid: header List-Id"]),
    "an id without brackets": (
        ("Nieuwsbrief <nieuwsbrief.delinde.example>", "nieuwsbrief.delinde.example"),
        ["error list-id-invalid: header List-Id"],
    ),
    "an id without end": (
        (".delinde.example>\nList-U", ".x" * 150 + ">\nList-U"),
        ["error list-id-invalid: header List-Id"],
    ),
    "no Feedback-ID": (
        ("Feedback-ID: 7:nieuwsbrief:marketing:delinde\n", ""),
        ["warning feedback-id: header Feedback-ID"],
    ),
    "a Feedback-ID of three fields": ((":marketing:delinde", ":delinde"), ["warning feedback-id: header Feedback-ID"]),
    # identity
    "no name in the text": (("Stichting De Linde\n", "Wij\n"), ["error identity-missing: text"]),
    "no name in the HTML": (("Stichting De Linde<br>", ""), ["error identity-missing: html"]),
    "a name in a comment": (
        ("Stichting De Linde<br>", "<!-- Stichting De Linde -->"),
        ["error identity-missing: html"],
    ),
    "a hidden name": (
        ("Stichting De Linde<br>", '<span style="visibility:hidden">Stichting De Linde</span><br>'),
        ["error identity-missing: html"],
    ),
    "no address in the text": (("Lindelaan 1, 1234 AB Ons Dorp\n", "\n"), ["error address-missing: text"]),
    "half an address in the HTML": (("1234&nbsp;AB ", ""), ["error address-missing: html"]),
    # text and HTML
    "hardly a text": (
        ("</body>", "<p>" + "Er is nog veel meer te lezen. " * 20 + "</p></body>"),
        ["error text-missing: text"],
    ),
    "no text": (
        ("text/plain", "text/x-other"),
        ["error text-missing: text"],
    ),
    "another text": (
        (f"<p>Beste NAME, {BODY}</p>", "<p>" + " ".join(f"bladzijde{i}x" for i in range(30)) + "</p>"),
        ["warning text-differs: text"],
    ),
    "a hole in the subject": (("Nieuws uit de tuin", "Nieuws voor {{ naam }}"), ["error placeholder: header Subject"]),
    "a hole in the text": (
        ("Beste NAME, de", "Beste *|VNAAM|*, de"),
        ["error placeholder: text line 1", "error placeholder: html line 5"],
    ),
    "a hole in a link": (('/agenda?utm_campaign=mei"', '/%7B%7Bpad%7D%7D"'), ["error placeholder: html line 8"]),
    # links
    "a link without address": ((AGENDA, '">'), ["error link-nowhere: html line 8"]),
    "a link to a hash": ((AGENDA, '#">'), ["error link-nowhere: html line 8"]),
    "a link to no anchor": ((AGENDA, '#onder">'), ["error link-nowhere: html line 8"]),
    "a script": ((AGENDA, 'JavaScript:alert(1)">'), ["error link-nowhere: html line 8"]),
    "a link without host": ((AGENDA, '/agenda">'), ["error link-relative: html line 8"]),
    "a link without scheme": ((AGENDA, '//delinde.example/">'), ["error link-relative: html line 8"]),
    "a link without text": ((">Bekijk de agenda<", "> <"), ["warning link-empty: html line 8"]),
    "a link copied from a mail of one's own": (
        ('"https://delinde.example/agenda?utm_campaign=mei"', f'"{SITE}/voorkeuren/van-mij"'),
        ["error personal-link: html line 8"],
    ),
    # images
    "an image that is nowhere": ((IMAGE, "tuin.jpg"), ["error image-missing: html line 6"]),
    "an image that is no part": ((IMAGE, "cid:tuin"), ["error image-missing: html line 6"]),
    "an image without alt": ((' alt="De tuin in mei"', ""), ["warning image-alt: html line 6"]),
    "an image over http": (
        ("https://delinde.example/tuin", "http://delinde.example/tuin"),
        ["warning image-insecure: html line 6"],
    ),
    "a pixel": (('width="600" height="300"', 'width="1" height="1"'), ["error pixel: html line 6"]),
    "a pixel by style": (('width="600" height="300"', 'style="width:1px;height:0"'), ["error pixel: html line 6"]),
    "an image that hides": (('width="600"', 'style="display:none"'), ["error pixel: html line 6"]),
    "the pixel of a provider": ((IMAGE, "https://u1.provider.example/wf/open?upn=x"), ["error pixel: html line 6"]),
    # measuring
    "a reader's number in a link": (
        ("utm_campaign=mei", "utm_campaign=mei&mc_eid=1"),
        ["error tracking-parameter: text line 3", "error tracking-parameter: html line 8"],
    ),
    "a link that says who follows it": (
        ('agenda?utm_campaign=mei">', 'agenda?voor=NAME">'),
        ["error tracking-link: html line 8"],
    ),
    "an image that says who loads it": (("/tuin.jpg", "/tuin-TOKEN.jpg"), ["error tracking-link: html line 6"]),
    "a style that says who loads it": (
        ("a{color:#00f}", "a{background:url(https://x.example/TOKEN)}"),
        ["error tracking-link: html line 2"],
    ),
    "a comment that says who loads it": (
        ("<body>", '<body><!--[if mso]><img src="https://x.example/TOKEN"><![endif]-->'),
        ["error tracking-link: html line 3"],
    ),
    "an address in the text that says who follows it": (
        ("Kom kijken in mei.\n\n", "Kom: HTTPS://x.example/NAME.\n\n"),
        ["error tracking-link: text line 1"],
    ),
}


@pytest.mark.checklist("UNS-01", "UNS-08", "TRK-01")
@pytest.mark.parametrize(("edit", "wanted"), BROKEN.values(), ids=BROKEN)
def test_one_thing_that_is_wrong_is_found_and_nothing_else(
    key: Key, edit: Edit | list[Edit], wanted: list[str]
) -> None:
    edits = edit if isinstance(edit, list) else [edit]

    assert looked(key, edits=edits) == wanted


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (("\r\nSubject:", "\nSubject:"), "error line-end: line 9"),
        (("Bekijk de agenda: ", "Bekijk de\ragenda: "), "error line-end: line 27"),
    ],
    ids=["LF", "CR"],
)
def test_a_line_that_does_not_end_by_crlf_is_found(key: Key, edit: Edit, wanted: str) -> None:
    assert [one for one in looked(key, late=[edit]) if "dkim" not in one] == [wanted]


def test_each_of_our_keys_must_have_signed_rightly_and_covered_one_click(key: Key) -> None:
    place = "header DKIM-Signature"

    assert looked(key, late=[("Kom kijken", "Kom niet")]) == [f"error dkim-broken: {place}"]
    assert looked(key, late=[("s=nieuws;", "s=oud;")]) == [f"error dkim-missing: {place}"]
    assert looked(key, late=[("list-unsubscribe-post:", "")]) == [
        f"error dkim-broken: {place}",
        f"error dkim-covers: {place}",
    ]


@pytest.mark.checklist("UNS-01")
def test_where_the_mail_server_signs_it_is_told_what_the_signature_must_cover(key: Key) -> None:
    (found,) = check([(written(GOOD, "Anna"), expected("Anna", key, keys=()))], dns=False, now=NOW)

    assert (found.level, found.code) == ("warning", "dkim-relay")
    assert "delinde.example" in found.what
    assert "List-Unsubscribe and List-Unsubscribe-Post" in found.what


@pytest.mark.parametrize(
    ("envelope", "wanted"),
    [
        ("bounces@delinde.example", []),
        ("bounces@b.delinde.example", []),
        ("bounces@provider.example", ["error from-unaligned: header From"]),
        ("bounces@notdelinde.example", ["error from-unaligned: header From"]),
    ],
)
def test_without_a_key_the_sender_s_domain_must_be_that_of_the_bounces(
    key: Key, envelope: str, wanted: list[str]
) -> None:
    found = looked(key, envelope_sender=envelope, keys=())

    assert [one for one in found if "from-" in one] == wanted


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ("bounces.school.example", "warning from-sibling: header From"),
        ("mail.elders.example", "error from-unaligned: header From"),
        ("example", "error from-unaligned: header From"),
    ],
)
def test_subdomains_beside_each_other_are_a_question_and_strangers_an_error(key: Key, domain: str, wanted: str) -> None:
    source = GOOD.replace("delinde.example", "nieuws.school.example")
    other = {"sender": "De Linde <nieuws@nieuws.school.example>", "envelope_sender": f"b@{domain}"}

    found = looked(key, source, **other, keys=())

    assert [one for one in found if "from-" in one] == [wanted]


def test_names_below_a_shared_suffix_are_strangers(key: Key) -> None:
    other = {"sender": "De Linde <nieuws@delinde.co.uk>", "envelope_sender": "b@elders.co.uk", "keys": ()}

    assert "error from-unaligned: header From" in looked(key, GOOD.replace("delinde.example", "delinde.co.uk"), **other)


def test_a_message_larger_than_the_server_takes_is_an_error_and_html_that_gmail_cuts_a_warning(key: Key) -> None:
    assert looked(key, size_limit=1024) == ["error size-limit: message"]
    assert looked(key, edits=[("<body>", "<body>" + "<!-- wit -->\n" * 9000)]) == ["warning html-clipped: html"]


def test_on_a_real_site_a_link_to_an_example_or_to_this_machine_is_a_question(key: Key) -> None:
    source = GOOD.replace("https://delinde.example", "https://delinde.nl")
    tokens = {"base_url": "https://delinde.nl", "list_unsubscribe": ""}
    edits = [('https://delinde.nl/agenda?utm_campaign=mei">', 'https://localhost:8000/agenda">')]

    found = looked(key, source, edits=edits, **tokens)

    assert "warning link-test-host: html line 8" in found


def test_the_whole_value_of_the_header_is_compared_where_it_is_known(key: Key) -> None:
    exact = f"<{SITE}/afmelden/tok-a>, <mailto:afmelden@delinde.example>"
    other = f"<{SITE}/afmelden/tok-a>, <mailto:elders@delinde.example>"
    signed = Signer([key], clock=lambda: NOW).sign(written(GOOD, "Anna"))

    assert check([(signed, expected("Anna", key, list_unsubscribe=exact))], dns=False, now=NOW) == []
    (found,) = check([(signed, expected("Anna", key, list_unsubscribe=other))], dns=False, now=NOW)
    assert found.code == "unsubscribe-differs"


def test_http_will_do_for_the_link_on_this_machine(key: Key) -> None:
    source = GOOD.replace("https://delinde.example/privacy/afmelden", "http://127.0.0.1:8000/privacy/afmelden")
    samples = [
        (
            Signer([key], clock=lambda: NOW).sign(written(source, name)),
            expected(name, key, unsubscribe_url=f"http://127.0.0.1:8000/privacy/afmelden/{tokens[0]}"),
        )
        for name, tokens in TOKENS.items()
    ]

    assert check(samples, dns=False, now=NOW) == []


def test_a_controller_without_an_address_can_send_nothing(key: Key) -> None:
    assert looked(key, address="") == ["error address-missing: text", "error address-missing: html"]


def test_a_reader_who_agreed_is_measured_and_can_end_it_in_both_parts(key: Key) -> None:
    pixel = '<img src="https://delinde.example/privacy/o/TOKEN" width="1" height="1" alt="">'
    stop = [("</body>", f'<p><a href="{SITE}/meten/QUIET">Niet meer meten</a></p>{pixel}</body>')]
    both = [*stop, ("Voorkeuren: ", f"Niet meer meten: {SITE}/meten/QUIET\nVoorkeuren: ")]

    assert looked(key, edits=both, measured=True) == []
    assert looked(key, edits=stop, measured=True) == ["error quiet-link: text"]
    assert looked(key, edits=[("</body>", f"{pixel}</body>")]) == [
        "error pixel: html line 12",
        "error tracking-link: html line 12",
    ]


@pytest.mark.checklist("TRK-01")
def test_an_image_that_only_some_readers_get_differs_too(key: Key) -> None:
    samples = [
        (Signer([key], clock=lambda: NOW).sign(written(source, name)), expected(name, key))
        for name, source in (("Anna", GOOD), ("Bart", re.sub(r"<p><img.*?</p>", "", GOOD)))
    ]

    found = check(samples, dns=False, now=NOW)

    assert [(one.code, one.where) for one in found] == [("tracking-link", "html line 6")]


# -- in words --


def test_errors_come_first_and_block_while_warnings_ask(key: Key) -> None:
    shouting = written(GOOD.replace("Nieuws uit de tuin", "NIEUWS UIT DE TUIN"), "Anna")
    both = shouting.replace(b"Stichting De Linde<br>", b"")

    asked = check([(shouting, expected("Anna", key, keys=()))], dns=False, now=NOW)
    found = check([(both, expected("Anna", key, keys=()))], dns=False, now=NOW)

    assert [one.level for one in found] == ["error", "warning", "warning"]
    assert blocks(found)
    assert not blocks(asked)
    assert not blocks([])


def test_a_finding_says_where_what_and_what_to_do_in_the_language_that_is_asked_for(key: Key) -> None:
    sample = (written(GOOD.replace('alt="De tuin in mei"', ""), "Anna"), expected("Anna", key, keys=()))

    dutch = check([sample], dns=False, now=NOW, lang="nl")[-1]
    english = check([sample], dns=False, now=NOW)[-1]

    assert (dutch.where, dutch.what) == ("html regel 6", "De afbeelding heeft geen alt-tekst.")
    assert (english.where, english.what) == ("html line 6", "The image has no alt text.")
    assert english.remedy == 'Say what it shows; alt="" where it only decorates.'


def test_every_finding_has_its_words_its_line_in_the_documentation_and_nothing_is_left_over() -> None:
    source = "\n".join(path.read_text("utf-8") for path in Path(preflight.__file__).parent.glob("*.py"))
    raised = set(re.findall(r"(?:error|warning|return|else)\(?\s*\"([a-z0-9-]+)\"", source))
    raised |= set(re.findall(r'\("((?:identity|address)-missing)"', source))
    told = {key.split(".")[1] for key in load_texts("en")._entries if re.match(r"preflight\..*\.what\Z", key)}
    page = (Path(__file__).parents[2] / "docs" / "mailings.md").read_text("utf-8")
    rows = page.partition("\n## Preflight\n")[2].partition("\n## ")[0].partition("|---")[2]
    documented = set(re.findall(r"`([a-z0-9-]+)`", rows.partition("\n\n")[0]))

    assert raised - {"html", "text"} == told  # the keys of two places
    assert documented == told


def test_neither_an_address_nor_a_token_is_told(key: Key) -> None:
    edits = [
        ('agenda?utm_campaign=mei">', 'agenda?email=NAME@voorbeeld.example&t=TOKEN">'),
        ("List-Unsubscribe: <https://delinde.example", "List-Unsubscribe: <https://elders.example"),
        ("From: De Linde <nieuws@", "From: De Linde <geheim@"),
        ('voorkeuren/PREFERENCES">', 'voorkeuren/PREFERENCESx">'),
    ]
    source = GOOD
    for old, new in edits:
        source = source.replace(old, new)

    samples = [(written(source, name), expected(name, key, keys=())) for name in TOKENS]
    said = str(check(samples, dns=False, now=NOW))

    assert all(code in said for code in ("tracking-link", "unsubscribe-differs", "sender-unknown", "personal-link"))
    assert not re.search(r"tok-|pref-|geheim|Anna|voorbeeld", said)


@given(cut=st.integers(0, len(GOOD)), noise=st.binary(max_size=12))
def test_no_message_is_too_broken_to_be_judged(key: Key, cut: int, noise: bytes) -> None:
    payload = written(GOOD, "Anna")
    broken = payload[:cut] + noise + payload[cut + len(noise) :]

    check([(broken, expected("Anna", key, keys=())), (noise, expected("Bart", key))], dns=False, now=NOW)


# -- service mail --


def service(subject: str, body: str) -> list[str]:
    """What is found in a service mail with these words."""
    html = "".join(f"<p>{line}</p>\n" for line in body.splitlines())
    message = Message(
        sender="De Linde <nieuws@delinde.example>", to="anna@voorbeeld.example", subject=subject,
        text=re.sub(r"<[^>]+>", "", body) + "\n\nStichting De Linde\nLindelaan 1, 1234 AB Ons Dorp\n",
        html=f"<!DOCTYPE html><body>{html}<p>Stichting De Linde, Lindelaan 1, 1234 AB Ons Dorp</p></body>",
        message_id="8.1@delinde.example", date=NOW, language="nl",
    )  # fmt: skip
    told = Expected(
        purpose=Purpose.SERVICE, list="", sender="De Linde <nieuws@delinde.example>",
        envelope_sender="nieuws@delinde.example", controller="Stichting De Linde",
        address="Lindelaan 1, 1234 AB Ons Dorp", base_url="https://delinde.example",
    )  # fmt: skip
    found = check([(message.as_bytes(), told)], dns=False, now=NOW)
    return [one.code for one in found if one.code != "dkim-relay"]


def mails(kind: str) -> list[Any]:
    """The cases of that kind: subject and body."""
    cases = tomllib.loads((Path(__file__).parents[1] / "cases" / "service_mails.toml").read_text("utf-8"))[kind]
    return [pytest.param(case["subject"], case["body"], id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("subject", "body"), mails("service"))
def test_ordinary_words_of_a_service_mail_promote_nothing(subject: str, body: str) -> None:
    assert service(subject, body) == []


@pytest.mark.checklist("UNS-07")
@pytest.mark.parametrize(("subject", "body"), mails("promotional"))
def test_a_promotional_mail_declared_as_service_is_refused(subject: str, body: str) -> None:
    assert service(subject, body) == ["promotion"]


@pytest.mark.checklist("UNS-07")
def test_marketing_may_promote_and_the_refusal_names_what_it_saw(key: Key) -> None:
    edit = (BODY, "Bestel nu met 20% korting. Alleen vandaag!")
    sample = (written(SERVICE.replace(*edit), "Anna"), expected("Anna", key, keys=(), purpose=Purpose.SERVICE))

    (found, _) = check([sample], dns=False, now=NOW)

    assert looked(key, edits=[edit]) == []
    assert (found.code, found.where) == ("promotion", "html line 5")
    assert found.what.endswith("this one does: “Bestel nu”, “20% korting”, “Alleen vandaag”, “utm_campaign”.")
    assert found.remedy.startswith("Declare it marketing")


def test_weak_signals_count_once_however_often_they_occur() -> None:
    lines = [(number, "Gratis entree, gratis koffie.") for number in range(1, 9)]

    assert promotion("Gratis", lines, [], []) == ()
    assert [signal.words for signal in promotion("Korting", lines, [], [])] == ["Korting", "Gratis"]


# -- the DNS --


@dataclass
class Zone:
    """A DNS that has these records; it answers nothing about `silent` names."""

    records: Mapping[tuple[str, str], Sequence[str]]
    silent: frozenset[str] = frozenset()

    def __call__(self, name: str, kind: str) -> Sequence[str]:
        if name in self.silent:
            raise DNSUnavailable("no answer")
        return self.records.get((name, kind), ())


def whole_zone(key: Key) -> dict[tuple[str, str], Sequence[str]]:
    """Everything as it should be."""
    return {
        ("mail.delinde.example", "TXT"): ["hello", "v=spf1 ip4:192.0.2.1 -all"],
        ("_dmarc.delinde.example", "TXT"): ["v=DMARC1; p=quarantine; rua=mailto:dmarc@delinde.example"],
        ("delinde.example", "MX"): ["mx.delinde.example"],
        ("mail.delinde.example", "MX"): ["mx.delinde.example"],
        (key.name, "TXT"): [key.record().replace("p=", "p = ")],
    }


def asked(key: Key, ask: Callable[[str, str], Sequence[str]], **other: Any) -> list[str]:
    """What is found about the domain."""
    samples = [
        (Signer([key], clock=lambda: NOW).sign(written(GOOD, name)), expected(name, key, **other)) for name in TOKENS
    ]
    return [f"{one.level} {one.code}: {one.where}" for one in check(samples, ask=ask, now=NOW)]


FOREIGN_KEY = "error dkim-record: DNS nieuws._domainkey.delinde.example"
ZONES: Mapping[str, tuple[str, str, Sequence[str], list[str]]] = {
    "whole": ("x", "TXT", [], []),
    "no SPF": ("mail.delinde.example", "TXT", ["v=spf10"], ["warning spf: DNS mail.delinde.example"]),
    "two SPF": ("mail.delinde.example", "TXT", ["v=spf1 -all"] * 2, ["warning spf: DNS mail.delinde.example"]),
    "no DMARC": ("_dmarc.delinde.example", "TXT", [], ["warning dmarc-missing: DNS _dmarc.delinde.example"]),
    "no policy": (
        "_dmarc.delinde.example",
        "TXT",
        ["v=DMARC1; rua=mailto:x@delinde.example"],
        ["warning dmarc-policy: DNS _dmarc.delinde.example"],
    ),
    "no MX": ("delinde.example", "MX", ["."], ["warning mx-missing: DNS delinde.example"]),
    "another key": ("KEY", "TXT", ["v=DKIM1; k=rsa; p=AAAA"], [FOREIGN_KEY]),
    "a key taken back": ("KEY", "TXT", ["v=DKIM1; k=ed25519; p="], [FOREIGN_KEY]),
}


@pytest.mark.parametrize(("name", "kind", "records", "wanted"), ZONES.values(), ids=ZONES)
def test_what_is_wrong_in_the_dns_is_found(
    key: Key, name: str, kind: str, records: Sequence[str], wanted: list[str]
) -> None:
    name = key.name if name == "KEY" else name

    assert asked(key, Zone({**whole_zone(key), (name, kind): records})) == wanted


def test_a_policy_of_a_parent_domain_counts(key: Key) -> None:
    zone = whole_zone(key)
    zone["_dmarc.school.example", "TXT"] = ["v=DMARC1;p=none"]
    zone["nieuws.school.example", "MX"] = ["mx.school.example"]
    zone["nieuws.school.example", "TXT"] = ["v=spf1 mx -all"]
    sender = "De Linde <nieuws@nieuws.school.example>"
    told = expected("Anna", key, sender=sender, envelope_sender="b@nieuws.school.example", keys=())

    found = check(
        [(written(GOOD, "Anna").replace(b"nieuws@delinde", b"nieuws@nieuws.school"), told)], ask=Zone(zone), now=NOW
    )

    assert [one.code for one in found] == ["message-id-invalid", "dkim-relay"]


def test_a_dns_that_does_not_answer_is_one_question_and_never_an_error(key: Key) -> None:
    names = {name for name, _ in whole_zone(key)}

    assert asked(key, Zone({}, frozenset(names))) == ["warning dns-unreachable: DNS delinde.example"]


def test_the_rest_is_judged_when_one_answer_is_missing(key: Key) -> None:
    zone = {**whole_zone(key), ("mail.delinde.example", "TXT"): []}

    assert asked(key, Zone(zone, frozenset({key.name}))) == [
        "warning dns-unreachable: DNS delinde.example",
        "warning spf: DNS mail.delinde.example",
    ]


def test_all_questions_are_asked_at_once(key: Key) -> None:
    zone, waiting = Zone(whole_zone(key)), threading.Barrier(5)

    def slow(name: str, kind: str) -> Sequence[str]:
        waiting.wait(5)
        return zone(name, kind)

    assert asked(key, slow) == []


def test_nobody_is_asked_about_a_domain_for_tests_or_where_that_is_switched_off(key: Key) -> None:
    def never(name: str, kind: str) -> Sequence[str]:
        raise AssertionError("asked")

    test = expected("Anna", key, sender="De Linde <nieuws@delinde.test>", envelope_sender="b@delinde.test", keys=())
    source = written(GOOD.replace("nieuws@delinde.example", "nieuws@delinde.test"), "Anna")

    check([(source, test)], ask=never, now=NOW)
    check([(written(GOOD, "Anna"), expected("Anna", key))], ask=never, dns=False, now=NOW)


class Record:
    """A record as dnspython gives it."""

    def __init__(self, value: str) -> None:
        self.strings = (value[:3].encode(), value[3:].encode())
        self.exchange = self
        self._value = value

    def to_text(self, omit_final_dot: bool) -> str:
        return self._value.rstrip(".")


@pytest.mark.parametrize(
    ("kind", "given", "wanted"), [("TXT", "v=spf1 -all", "v=spf1 -all"), ("MX", "mx.x.example.", "mx.x.example")]
)
def test_the_resolver_of_the_machine_is_asked_briefly(
    monkeypatch: pytest.MonkeyPatch, kind: str, given: str, wanted: str
) -> None:
    seen = {}

    def resolve(name: str, kind: str, **options: Any) -> list[Record]:
        seen.update(options)
        return [Record(given)]

    monkeypatch.setattr(dns.resolver, "resolve", resolve)

    assert lookup("delinde.example", kind) == [wanted]
    assert seen == {"lifetime": 3.0, "search": False}


@pytest.mark.parametrize("error", [dns.resolver.NXDOMAIN, dns.resolver.NoAnswer])
def test_a_name_without_records_has_none(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def resolve(*_: Any, **__: Any) -> None:
        raise error.__new__(error)

    monkeypatch.setattr(dns.resolver, "resolve", resolve)

    assert lookup("delinde.example", "TXT") == ()


@pytest.mark.parametrize("error", [dns.exception.Timeout, dns.resolver.NoResolverConfiguration, OSError])
def test_a_resolver_in_trouble_says_nothing_about_the_name(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def resolve(*_: Any, **__: Any) -> None:
        raise error()

    monkeypatch.setattr(dns.resolver, "resolve", resolve)

    with pytest.raises(DNSUnavailable):
        lookup("delinde.example", "TXT")

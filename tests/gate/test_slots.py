"""Where the page gets something of ours."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import pytest

from consentkit.gate import Slot
from tests.gate.samples import DENIED, gate, marks, through

PAGES = {
    "a whole page": (
        "<!doctype html><html><head><meta charset=utf-8><title>a</title><link rel=icon href=/i></head><body class=x><p>y</body></html>",
        "<!doctype html><html><head><meta charset=utf-8><title>a</title>[head]<link rel=icon href=/i></head><body class=x>[banner]<p>y[footer]</body></html>",
    ),
    "an empty head": ("<html><head></head><body></body></html>", "<html><head>[head]</head><body>[banner][footer]</body></html>"),
    "no tags of structure": ("<!doctype html><title>a</title><p>x", "<!doctype html><title>a</title>[head][banner]<p>x[footer]"),
    "text first": ("<!doctype html>x", "<!doctype html>[head][banner]x[footer]"),
    "no head": ("<html><body>x</body></html>", "<html>[head]<body>[banner]x[footer]</body></html>"),
    "a script in the head": ("<html><head><script>a</script></head><p>x", "<html><head>[head][early]<script>a</script></head>[banner]<p>x[footer]"),
    "a body in a comment and in a template": (
        "<html><head><!--<body>--><template><body></body></template></head><body>x</body>",
        "<html><head><!--<body>-->[head]<template><body></body></template></head><body>[banner]x[footer]</body>",
    ),
    "a body in a script's text": ("<html><body><script>'</body>'</script></body>", "<html>[head]<body>[banner][early]<script>'</body>'</script>[footer]</body>"),
    "two bodies": ("<html><body>a</body><body>b</body></html>", "<html>[head]<body>[banner]a[footer]</body><body>b</body></html>"),
    "a frameset": ("<html><head></head><frameset><frame src=/a></frameset></html>", "<html><head>[head]</head><frameset><frame src=/a></frameset></html>"),
    "a stray end tag in the head": ("<html></p><body>x", "<html></p>[head]<body>[banner]x[footer]"),
    "an end tag that opens the body": ("<html></br>x", "<html>[head][banner]</br>x[footer]"),
    "only an end of body": ("<html></body>", "<html>[head][banner][footer]</body>"),
    "a settings link of its own": (
        "<html><body><a data-consentkit=settings href=/s>c</a></body>",
        "<html>[head]<body>[banner]<a data-consentkit=settings href=/s>c</a>[footer]</body>",
    ),
    "a settings link in a template": (
        "<html><body><template><a data-consentkit=settings></a></template></body>",
        "<html>[head]<body>[banner]<template><a data-consentkit=settings></a></template>[footer]</body>",
    ),
    "a cut tag at the end": ("<html><body>x<div cla", "<html>[head]<body>[banner]x[footer]<div cla"),
    "a comment that never ends": ("<html><body>x<!-- y", "<html>[head]<body>[banner]x<!-- y"),
    "scripts of the site itself": (
        "<html><head><link rel=icon href=/i><script type='application/json'>{}</script><script src=\"/a.js\"></script><script>b</script></head><body>x</body>",
        "<html><head>[head]<link rel=icon href=/i><script type='application/json'>{}</script>[early]<script src=\"/a.js\"></script><script>b</script></head><body>[banner]x[footer]</body>",
    ),
    "a script of the site in the body": (
        "<html><body><p>x<script src=\"/a.js\"></script></body>",
        "<html>[head]<body>[banner]<p>x[early]<script src=\"/a.js\"></script>[footer]</body>",
    ),
    "code in an attribute that runs by itself": (
        "<html><head></head><body onload='a(`/x`)'>x</body>",
        "<html><head>[head]</head>[early]<body onload='a(`/x`)'>[banner]x[footer]</body>",
    ),
    "scripts where none runs": (
        "<html><body><template><script>a</script></template><svg><script>b</script></svg><noscript><script>c</script></noscript></body>",
        "<html>[head]<body>[banner]<template><script>a</script></template><svg><script>b</script></svg><noscript><script>c</script></noscript>[footer]</body>",
    ),
    "a script that never ends": ("<html><body>x<script>y", "<html>[head]<body>[banner]x[early]<script>y"),
    "a textarea that never ends": ("<html><body><textarea>y</body>", "<html>[head]<body>[banner]<textarea>y</body>"),
    "an open svg": ("<html><body><svg>", "<html>[head]<body>[banner]<svg>"),
    "an open template": ("<html><body><template>", "<html>[head]<body>[banner]<template>"),
    "noscript in the head": (
        "<html><head><noscript><body><p></noscript></head><body>x",
        "<html><head>[head]<noscript><body><p></noscript></head><body>[banner]x[footer]",
    ),
    "a byte order mark": ("\ufeff<!doctype html><p>x", "\ufeff<!doctype html>[head][banner]<p>x[footer]"),
    "an old comment before the doctype": ("<!-- x --><?xml?><!DOCTYPE html><p>", "<!-- x --><?xml?><!DOCTYPE html>[head][banner]<p>[footer]"),
    "a less-than sign first": ("<html>< x", "<html>[head][banner]< x[footer]"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_the_places_of_ours_in(name: str) -> None:
    page, expected = PAGES[name]
    assert through(page, document=None) == expected
    assert through(page, document=True) == expected
    assert through(page, document=False) == page
    rewriter = gate().rewriter(DENIED, marks, document=None)
    cut = b"".join(rewriter.feed(bytes([byte])) for byte in page.encode()) + rewriter.close()
    assert cut.decode() == expected


@pytest.mark.parametrize(
    "page", ["<p>x</p>", "x<html><body>", "<!-- c --><div>", "", "  ", "<script>a</script><body>", "</p>"]
)
def test_a_fragment_gets_nothing(page: str) -> None:
    assert through(page, document=None) == page


def test_a_document_by_declaration_gets_everything() -> None:
    assert through("<p>x</p>", document=True) == "[head][banner]<p>x</p>[footer]"
    assert through("", document=True) == ""


def test_a_slot_tells_what_is_known_of_the_page() -> None:
    slots: list[Slot] = []

    def fill(slot: Slot) -> bytes:
        slots.append(slot)
        return b""

    page = b"<html lang=' EN-gb '><base href=/x/><p><img src=//hotjar.com></html><html lang=nl>"
    gate().rewrite(page, DENIED, fill, document=None)
    assert slots == [
        Slot("head", "en-gb", based=True, gated=False),
        Slot("banner", "en-gb", based=True, gated=False),
        Slot("footer", "en-gb", based=True, gated=True),
    ]

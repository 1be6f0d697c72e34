"""What happens at the memory bound: the gate never opens there."""

from __future__ import annotations

import pytest

from consentkit.gate import MAX_HOLD, rewrite
from tests.gate.harm import live, readings
from tests.gate.samples import DENIED, EVERYTHING, gate, marks, nothing

BOUND = 400


@pytest.fixture(autouse=True)
def _low_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "MAX_HOLD", BOUND)
    monkeypatch.setattr(rewrite, "_PIECE", 64)


def outputs(page: bytes, *granted: str, configured_too: tuple[str, ...] = ()) -> set[bytes]:
    found = set()
    one = gate(configured_too=configured_too)
    for size in (1, 7, 64, 399, 400, 401, 5000):
        rewriter = one.rewriter(frozenset(granted), marks, document=True)
        out = b"".join(rewriter.feed(page[at : at + size]) for at in range(0, len(page), size)) + rewriter.close()
        found.add(out)
    return found


LONG = b"x" * (BOUND + 50)


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize(
    "page",
    [
        b"<script a=%b src=//bad.example></script><p>",
        b"<iframe a='%b' src=//bad.example></iframe>",
        b"<iframe a='%b' srcdoc='<img src=//bad.example>'></iframe>",
        b"<img alt=%b src=//bad.example>",
        b"<link a=%b rel=stylesheet href=//bad.example>",
        b"<meta a=%b http-equiv=refresh content='0;url=//bad.example'>",
        b"<object a=%b data=//bad.example></object>",
        b"<a b=%b ping=//bad.example>x</a>",
        b"<base a=%b href=//bad.example/><script src=x.js></script>",
        b"<svg><image a=%b href=//bad.example /></svg>",
        b"<svg><use a=%b xlink:href=//bad.example /></svg>",
        b"<script>/*%b*/badTracker(1)</script><p>",
        b"<script data-consent=analytics>/*%b*/x()</script>",
        b"<noscript><p a=%b><img src=//bad.example></noscript><p>",
        b"<svg><script>/*%b*/badTracker(1)</script></svg>",
        b"<body a=%b background=//bad.example>",
    ],
)
def test_past_the_bound_nothing_of_a_tracker_is_live_however_it_was_cut(page: bytes) -> None:
    found = outputs(page.replace(b"%b", LONG))
    assert len(found) == 1
    out = found.pop().decode()
    for _, elements in readings(out):
        assert live(elements) == []
    assert out.count("[banner]") == 1
    assert LONG.decode() in out or "noscript" in out or "<svg><script" in out


@pytest.mark.parametrize("length", range(BOUND - 60, BOUND + 10, 3))
def test_the_bound_is_the_same_for_every_cut(length: int) -> None:
    for page in (b"<p a=%b>", b"<script>%b</script>", b"<noscript>%b</noscript>", b"</p %b>", b"<%b>", b"<a%b ping=x>"):
        assert len(outputs(page.replace(b"%b", b"x" * length) + b"<img src=//bad.example>")) == 1


def test_past_the_bound_what_all_is_granted_still_comes_out_as_it_went_in() -> None:
    for page in (b"<p a=%b>", b"<script>%b</script>x", b"<noscript>%b</noscript>", b"<noscript><p %b</noscript>y"):
        body = page.replace(b"%b", LONG)
        one = gate(configured_too=("unnamed",))
        assert one.rewrite(body, EVERYTHING, nothing, document=None) == body


def test_a_long_tag_still_opens_what_it_opens() -> None:
    page = b"<html><body " + LONG + b"><textarea " + LONG + b"><img src=//bad.example></textarea></body " + LONG + b">"
    out = outputs(page).pop()
    assert out.count(b"[banner]") == out.count(b"[footer]") == 1
    assert b"><img src=//bad.example></textarea>" in out


def test_the_real_bound_is_a_mebibyte() -> None:
    assert MAX_HOLD == 1 << 20
    rewriter = gate().rewriter(DENIED, nothing, document=False)
    assert rewriter.feed(b"<p>") == b"<p>"

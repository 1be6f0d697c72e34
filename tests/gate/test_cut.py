"""The output does not depend on how the input was cut, and what is granted comes out as it went in."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consentkit.gate import MAX_HOLD, Gate
from tests.gate.harm import BEARERS, CARRIERS, IN_STYLE, OPENERS, SAFE, SCRIPTS, URLS
from tests.gate.samples import DENIED, EVERYTHING, gate, marks, nothing

ONE = gate()
OPEN = gate(configured_too=("unnamed",))
SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

pieces = st.one_of(
    st.sampled_from(OPENERS + SCRIPTS),
    st.builds(lambda bearer, quote, url: bearer.format(quote + url + quote), st.sampled_from(BEARERS), st.sampled_from(['"', ""]), st.sampled_from(URLS + SAFE)),
    st.builds(lambda carrier, url: carrier.format(url), st.sampled_from(CARRIERS), st.sampled_from(URLS + IN_STYLE)),
    st.text(alphabet="<>/!-?=\"' ab\n&;\0[]", max_size=6),
)  # fmt: skip
pages = st.lists(pieces, max_size=14).map(lambda parts: "".join(parts).encode())


def fed(one: Gate, page: bytes, sizes: list[int], granted: frozenset[str], document: bool | None) -> bytes:
    rewriter = one.rewriter(granted, marks, document=document)
    out, at, turn = [], 0, 0
    while at < len(page):
        size = sizes[turn % len(sizes)]
        out.append(rewriter.feed(page[at : at + size]))
        at += size
        turn += 1
    return b"".join(out) + rewriter.close()


@SOME
@given(
    page=pages,
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    document=st.sampled_from([None, True, False]),
)
def test_cuts_do_not_show(page: bytes, sizes: list[int], document: bool | None) -> None:
    whole = fed(ONE, page, [len(page) or 1], DENIED, document)
    assert fed(ONE, page, sizes, DENIED, document) == whole
    assert fed(ONE, page, [1], DENIED, document) == whole
    assert ONE.rewrite(page, DENIED, marks, document=document) == whole


@SOME
@given(page=pages, sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_when_all_is_granted_and_nothing_put_in_the_bytes_are_the_same(page: bytes, sizes: list[int]) -> None:
    assert fed(OPEN, page, sizes, EVERYTHING, False) == page
    assert OPEN.rewrite(page, EVERYTHING, nothing, document=None) == page


def test_slots_are_filled_at_most_once_a_page() -> None:
    pick = random.Random(7)
    for _ in range(300):
        page = "<!doctype html>" + "".join(pick.choice(OPENERS) for _ in range(12))
        out = ONE.rewrite(page.encode(), DENIED, marks, document=None)
        assert all(out.count(mark) <= 1 for mark in (b"[head]", b"[banner]", b"[footer]"))


class Counting(bytearray):
    """Bytes that count how many were looked at through slices."""


@pytest.mark.parametrize(
    "page",
    [b"<p>x</p>" * 30_000, b"<p title='" + b"a" * 250_000, b"<!--" + b"-" * 250_000, b"<script>" + b"x<!-" * 60_000, b"<" + b"a" * 250_000, b"<a " + b"b " * 120_000],
    ids=["text", "attribute", "comment", "script", "name", "attributes"],
)  # fmt: skip
def test_one_byte_at_a_time_is_linear(page: bytes) -> None:
    """Twice the input may take about twice the steps; a quadratic rescan would take four times as many."""
    import time

    def spent(data: bytes) -> float:
        rewriter = ONE.rewriter(DENIED, nothing, document=False)
        start = time.thread_time()
        for at in range(len(data)):
            rewriter.feed(data[at : at + 1])
        rewriter.close()
        return time.thread_time() - start

    quarter = len(page) // 4
    assert spent(page) < 16 * spent(page[:quarter])  # 4 when linear, 16 when quadratic


@pytest.mark.parametrize(
    "unit", [b"<!--" + b"x" * 1_000_000, b"<p a='" + b"x" * 1_000_000, b"<style>" + b"</styl" * 170_000]
)
def test_a_construct_that_never_ends_is_not_read_again_with_every_piece(unit: bytes) -> None:
    import time

    def spent(size: int) -> float:
        rewriter = ONE.rewriter(DENIED, nothing, document=False)
        start = time.thread_time()
        for at in range(0, len(unit), size):
            rewriter.feed(unit[at : at + size])
        rewriter.close()
        return time.thread_time() - start

    assert spent(4096) < 20 * max(spent(len(unit)), 0.002)  # rescanning takes some 128 times as long


@pytest.mark.checklist("GAT-16")
@pytest.mark.parametrize(
    "page",
    [
        b"<script>" * 3,
        b"<p title=" + b"x" * 1_100_000,
        b"\0<\0a\0 \0=\0>\0" * 50,
        b"<b>" * 100_000,
        b"<svg>" * 100_000 + b"</svg>" * 50_000,
        b"<svg><foreignObject>" * 20_000,
        b"<template>" * 50_000,
        b"<noscript>" * 1000,
        b"<body><body></body></body>",
        b"</" * 1000 + b"<!" * 1000 + b"<?" * 1000 + b"<![CDATA[" * 1000,
        bytes(range(256)) * 20,
    ],
)
def test_hostile_input_streams_through_without_an_exception(page: bytes) -> None:
    for document in (None, True, False):
        out = fed(ONE, page, [60_000], DENIED, document)
        assert len(out) + 2_000_000 > len(page)
    assert len(page) < 2 * MAX_HOLD

"""The report: figures that say what they count, the same after single events became totals, about no single reader."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from consentkit.errors import ConsentKitError
from consentkit.mailing.chart import bars, ceiling
from consentkit.mailing.report import LEAST, Followed, Link, Report, Slot, as_csv, as_html, as_json, as_rows, report
from consentkit.mailing.tables import deliveries, events, inbox, links, totals
from consentkit.render import load_texts
from tests.mailing.post import URLS, Post, posted
from tests.newsletter.desk import desk as open_desk

SUBJECT = "=Nieuws & <b>meer</b>"
ROWS = [
    *[("sent", "", True)] * 6,
    *[("sent", "", False)] * 4,
    *[("excluded", "afgemeld", False)] * 2,
    ("excluded", "field:school", False),
    ("suppressed", "afgemeld", False),
    ("failed", "bounced 5.1.1", True),
    ("failed", "550 5.7.1 at data", False),
    ("in_doubt", "its sender died", False),
    ("deferred", "451 4.7.1 at rcpt", False),
    ("queued", "", False),
]


def fill(post: Post, rows: Any = ROWS) -> None:
    """A mailing as it stands after some hours: who got it, who opened it, what came back."""
    now = post.desk.clock()
    with post.desk.kit.store.begin() as connection:
        connection.execute(deliveries.delete())
        column = deliveries.c
        made = [
            connection.execute(
                deliveries.insert().returning(column.id),
                {
                    "mailing_id": post.mailing, "subscriber_id": number, "state": state, "reason": reason,
                    "tries": 1, "measured": measured, "at": now,
                },
            ).scalar_one()
            for number, (state, reason, measured) in enumerate(rows)
        ]  # fmt: skip
        hour = timedelta(hours=1)
        seen = [
            (0, "open", -1, False, 2 * hour), (0, "open", -1, False, 30 * hour), (1, "open", -1, False, 2 * hour),
            (2, "open", -1, True, hour), (0, "click", 0, False, 2 * hour), (0, "click", 1, False, 30 * hour),
            (1, "click", 0, False, 3 * hour), (3, "click", 0, True, hour), (3, "click", 1, True, hour),
        ]  # fmt: skip
        for place, kind, link, machine, after in seen:
            row = {"delivery_id": made[place], "kind": kind, "link": link, "machine": machine, "at": now + after}
            connection.execute(events.insert().values(mailing_id=post.mailing, **row))
        for number, (kind, place) in enumerate([("complaint", 4), ("left", 5), ("hard", 14), ("nothing", 0)]):
            if place < len(made):
                row = {"key": str(number), "source": "mail", "kind": kind, "delivery_id": made[place], "status": ""}
                connection.execute(inbox.insert().values(at=now, **row))
        left = {"mailing_id": post.mailing, "kind": "left", "link": -1, "day": "2026-03-02", "count": 2, "people": 2}
        connection.execute(totals.insert().values(left))
    post.desk.clock.later(hours=80)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with open_desk(tmp_path) as desk:
        made = posted(desk, subject=SUBJECT)
        fill(made)
        yield made


@pytest.fixture
def both(database_url: str, tmp_path: Path) -> Iterator[Post]:
    with open_desk(tmp_path, database={"url": database_url}) as desk:
        made = posted(desk, subject=SUBJECT)
        fill(made)
        yield made


def of(post: Post) -> Report:
    return report(post.desk.kit.store, post.mailing, post.desk.clock())


# -- the figures ------------------------------------------------------------------------------------------------------


@pytest.mark.checklist("TRK-04")
def test_the_figures_are_what_they_say_and_stay_so_when_single_rows_become_totals(both: Post) -> None:
    start = datetime.fromisoformat("2026-03-02T09:30:00+00:00")
    before = of(both)
    both.desk.clock.later(days=400)
    both.measuring.reduce(both.desk.clock())
    assert both.desk.kit.inbox.purge(both.desk.clock(), keep=timedelta(days=90)) == 4
    middle = of(both)
    both.measuring.reduce_deliveries(both.desk.clock(), keep=timedelta(days=300))
    after = of(both)

    assert before == Report(
        id=both.mailing,
        list="nieuwsbrief",
        subject=SUBJECT,
        state="done",
        started=start,
        ended=start,
        recipients=19,
        excluded={"afgemeld": 2, "field:school": 1},
        suppressed={"afgemeld": 1},
        waiting=1,
        deferred=1,
        sent=11,
        bounced=1,
        failed={"550 5.7.1 at data": 1},
        in_doubt=1,
        cancelled=0,
        expired=0,
        left=3,
        complaints=1,
        measured=6,
        opens=Followed(2, 3),
        opens_by_machine=Followed(1, 1),
        clicks=Followed(2, 3),
        clicks_by_machine=Followed(1, 2),
        links=(Link(URLS[0], 2, 2), Link(URLS[1], 1, 1)),
        course=(Slot(start.replace(hour=0, minute=0), 2, 2), Slot(start.replace(day=3, hour=0, minute=0), 1, 1)),
        step="day",
    )
    assert before.delivered == 10
    assert (middle, after) == (before, before)
    assert (both.rows(deliveries.c.id), both.rows(events.c.id)) == ([], [])


def test_in_its_first_days_the_course_is_told_by_the_hour(post: Post) -> None:
    post.desk.clock.later(hours=-76)
    found = of(post)

    assert found.step == "hour"
    assert [(slot.at.hour, slot.opens, slot.clicks) for slot in found.course] == [
        (9, 0, 0), (10, 0, 0), (11, 2, 1), (12, 0, 1), (13, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("measured", "shown"), [(LEAST - 1, False), (LEAST, True)])
def test_with_few_measured_readers_nothing_measured_is_shown_anywhere(
    tmp_path: Path, measured: int, shown: bool
) -> None:
    with open_desk(tmp_path) as desk:
        post = posted(desk)
        fill(post, [("sent", "", number < measured) for number in range(20)])
        found = of(post)
        renderer = desk.kit.sites[0].renderer
        told = as_json(found), as_csv(found, load_texts("nl")), as_html(found, renderer, "nl", page=False)

    assert found.measured == measured
    assert (found.opens is not None, bool(found.links), bool(found.course), not told[0]["hidden"]) == (shown,) * 4
    assert ("Geopend" in told[1], URLS[0] in told[1], "Geopend" in told[2], "<svg" in told[2]) == (shown,) * 4
    assert ("Minder dan 5 lezers vinden meten goed." in told[2]) is not shown


def test_a_mailing_that_is_not_there_is_said_to_be_so(post: Post) -> None:
    with pytest.raises(ConsentKitError, match="there is no mailing 999"):
        report(post.desk.kit.store, 999, post.desk.clock())


def test_a_draft_has_a_report_of_nothing(post: Post) -> None:
    empty = post.new(state="draft", frozen_at=None, ended_at=None)
    found = report(post.desk.kit.store, empty, post.desk.clock())
    rows = as_rows(found, load_texts("en"))

    assert {row.value for row in rows} == {0}
    assert {row.share for row in rows} == {None}
    assert "<h1>Nieuws</h1>" in as_html(found, post.desk.kit.sites[0].renderer, "en")


# -- how it is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["nl", "en"])
def test_every_figure_says_beside_it_what_it_counts(post: Post, lang: str) -> None:
    rows = as_rows(of(post), load_texts(lang))
    html = as_html(of(post), post.desk.kit.sites[0].renderer, lang)

    figures = [row for row in rows if not row.detail]
    assert len({row.about for row in figures}) == len(figures) == 17
    assert [row.key for row in figures if row.about not in html.replace("&#39;", "'")] == []
    assert [(row.key, row.value, round(row.share or 0, 3)) for row in figures][-5:] == [
        ("measured", 6, 0.6), ("opens", 2, 0.333), ("opens_by_machine", 1, 0.167), ("clicks", 2, 0.333),
        ("clicks_by_machine", 1, 0.167),
    ]  # fmt: skip


def test_the_csv_can_be_read_back_and_no_spreadsheet_calculates_with_it(post: Post) -> None:
    found = replace(of(post), excluded={"=1+1": 3})
    cells = [*csv.reader(StringIO(as_csv(found, load_texts("nl"))))]

    assert cells[0] == ["figure", "detail", "label", "value", "share", "counts"]
    assert cells[3][:5] == ["excluded", "'=1+1", "'=1+1", "3", ""]
    assert [row for row in cells if row[0] == "link"] == [
        ["link", URLS[0], URLS[0], "2", "0.3333", ""],
        ["link", URLS[1], URLS[1], "1", "0.1667", ""],
    ]


def test_the_json_has_every_figure_and_plain_values(post: Post) -> None:
    found = as_json(of(post))

    assert found["started"] == "2026-03-02T09:30:00+00:00"
    assert (found["sent"], found["delivered"], found["hidden"]) == (11, 10, False)
    assert (found["opens"], found["links"][0]) == (
        {"people": 2, "times": 3},
        {"url": URLS[0], "people": 2, "times": 2},
    )


def test_the_piece_of_html_fits_any_policy_and_what_others_wrote_stays_text(post: Post) -> None:
    with post.desk.kit.store.begin() as connection:
        connection.execute(update(links).values(url="https://delinde.example/<script>alert(1)</script>"))
    piece = as_html(of(post), post.desk.kit.sites[0].renderer, "nl", page=False)
    page = as_html(of(post), post.desk.kit.sites[0].renderer, "nl")

    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|<b>meer", piece)
    assert not re.search(r"<script|\sstyle=|\son\w+=|\b(?:src|href)=|url\(|@import", page)
    assert "=Nieuws &amp; &lt;b&gt;meer&lt;/b&gt;" in piece
    for chart in re.findall(r"<svg.*?</svg>", piece, re.DOTALL):
        assert 'role="img"' in chart
        assert len(chart.splitlines()) <= 150
        (named,) = re.findall(r'aria-labelledby="([^"]+)"', chart)
        assert f'<figcaption id="{named}">' in piece


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (3, 4), (5, 5), (6, 10), (11, 20), (41, 50), (99_000, 100_000)]
)
def test_an_axis_ends_with_a_round_number_that_is_no_less(value: int, top: int) -> None:
    assert ceiling(value) == top


def test_bars_are_as_high_as_they_count_and_what_is_there_can_be_seen() -> None:
    drawn = bars([10, 5, 0, 1000], ["a", "b", "c", "d"], {0: "eerste", 3: "laatste"})
    tall = drawn.bars[3].height

    assert [round(bar.height / tall * 1000) for bar in drawn.bars] == [12, 12, 0, 1000]
    assert {round(bar.y + bar.height, 2) for bar in drawn.bars} == {drawn.ground}
    assert [(mark.text, mark.at) for mark in drawn.marks] == [("eerste", 100.0), ("laatste", 505.0)]
    assert [tick.text for tick in drawn.ticks] == ["0", "500", "1000"]
    assert bars([], [], {}).bars == []


# -- in a browser -----------------------------------------------------------------------------------------------------


def wrong(page: Page) -> list[str]:
    """What axe finds, and what can't be seen without scrolling sideways."""
    page.evaluate(Axe().axe_script)
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    found = [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in result["violations"]]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("scrolls sideways")
    return found


@pytest.mark.browser
@pytest.mark.checklist("ACC-03")
def test_axe_finds_nothing_in_the_report_or_on_the_page_that_stops_measuring(
    post: Post, serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    kit = post.desk.kit
    by_day, by_hour = of(post), None
    post.desk.clock.later(hours=-76)
    by_hour = of(post)
    few = replace(by_day, measured=4, opens=None, opens_by_machine=None, clicks=None, clicks_by_machine=None, links=())
    pages = {
        f"{name} {lang}": as_html(found, kit.sites[0].renderer, lang)
        for lang in ("nl", "en")
        for name, found in (("day", by_day), ("hour", by_hour), ("few", replace(few, course=())))
    }
    post.desk.subscribe(measuring="1")
    path = post.quiet(post.send(mailing=post.new()))
    pages |= {f"stop {lang}": post.desk.get(f"{path}?lang={lang}").text for lang in ("nl", "en")}
    pages |= {f"stopped {lang}": post.desk.post(f"{path}?lang={lang}").text for lang in ("nl", "en")}

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(pages[request.path_params["name"]])

    async def asset(request: Request) -> HTMLResponse:
        body, kind = kit.sites[0].renderer.asset(request.path_params["name"]) or (b"", "text/plain")
        return HTMLResponse(body, media_type=kind)

    base = serve(Starlette(routes=[Route("/privacy/static/{name}", asset), Route("/{name}", page)]))
    found = {}
    for scheme, width, lang in (("light", 320, "nl"), ("dark", 1280, "en")):
        looked = new_page(base_url=base, color_scheme=scheme, viewport={"width": width, "height": 800})
        for name in (name for name in pages if name.endswith(lang)):
            looked.goto(f"/{name}")
            for details in looked.locator("details").all():
                details.evaluate("one => { one.open = true }")
            if problems := wrong(looked):
                found[name, width] = problems

    assert found == {}


@pytest.mark.browser
@pytest.mark.checklist("TRK-03")
def test_without_javascript_one_button_stops_the_measuring_and_tells_so(
    tmp_path: Path, serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    with open_desk(tmp_path) as desk:
        post = posted(desk)
        desk.subscribe(measuring="1")
        path = post.quiet(post.send())
        page = new_page(base_url=serve(desk.kit.pages), java_script_enabled=False, locale="nl-NL")
        page.goto(path)
        page.get_by_role("button").click()

        assert page.get_by_role("status").inner_text().startswith("We meten niet of je mails over Nieuwsbrief opent")
        assert page.get_by_role("heading", level=1).inner_text() == "Meten staat uit"
        assert desk.why_not() is None
        assert desk.events()[-1]["purposes"]["measuring.nieuwsbrief"] is False

"""Long work: it runs behind, tells how far it is, and reports to whoever began it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from consentkit import csvstream
from consentkit.afgemeld import Reason, scrub
from consentkit.errors import ConsentKitError
from consentkit.render.console import texts
from consentkit.staff import Job, Jobs, JobState, Lines, Outcome, Progress
from consentkit.store import Store
from consentkit.web.console.jobs import said
from tests.console.office import Office, open_office
from tests.journeys.school import Clock


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as opened:
        yield opened


@pytest.fixture
def jobs(office: Office) -> Iterator[Jobs]:
    opened = Jobs(office.kit.store, office.clock)
    yield opened
    opened.close()


def ended(jobs: Jobs, id: str, staff: str = "Piet") -> Job:
    """The work once it no longer runs."""
    found: Job = until(lambda: jobs.get(id, staff), lambda job: job.state is not JobState.RUNNING)
    return found


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What `ask` gives once that holds."""
    for _ in range(500):
        found = ask()
        if holds(found):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def finish(progress: Progress) -> Outcome:
    """Work with a file as its result."""
    return Outcome({"kept": 1}, b"email\n", "lijst.csv")


def fail(progress: Progress) -> Outcome:
    """Work that the input makes fail."""
    raise ConsentKitError("no column holds addresses: name it, or give its number (there is no header)")


def break_down(progress: Progress) -> Outcome:
    """Work that fails by a fault of ours."""
    raise RuntimeError("jan@voorbeeld.nl")


def test_work_leaves_its_report_and_its_file_for_whoever_began_it(jobs: Jobs) -> None:
    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)

    job = ended(jobs, id)
    assert (job.state, job.report, job.has_result) == (JobState.DONE, {"kept": 1}, True)
    assert jobs.result(id, "Piet") == ("lijst.csv", b"email\n")


def test_nobody_else_sees_it(jobs: Jobs) -> None:
    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)
    ended(jobs, id)

    assert jobs.get(id, "Anna") is None
    assert jobs.result(id, "Anna") is None
    assert jobs.recent("Anna") == []


def test_another_server_process_tells_how_far_it_is(
    office: Office, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consentkit.staff.jobs._TELL", 0.02)
    go_on = threading.Event()

    def work(progress: Progress) -> Outcome:
        progress(40, 100)
        go_on.wait(10)
        return Outcome({})

    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", work)
    other = Jobs(office.kit.store, office.clock)

    told = until(lambda: other.get(id, "Piet"), lambda job: job.done > 0)
    go_on.set()
    assert (told.done, told.total, told.state) == (40, 100, JobState.RUNNING)
    ended(other, id)


def test_a_file_is_readable_for_an_hour_and_its_report_for_a_week(office: Office, jobs: Jobs) -> None:
    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)
    ended(jobs, id)

    office.clock.now += timedelta(minutes=61)
    assert jobs.result(id, "Piet") is None
    assert jobs.purge(office.clock()) == 0
    assert [job.has_result for job in jobs.recent("Piet") if job.id == id] == [False]

    office.clock.now += timedelta(days=7)
    assert jobs.get(id, "Piet") is None
    assert jobs.purge(office.clock()) >= 1


def test_a_file_that_is_dropped_is_gone_at_once_and_its_report_stays(jobs: Jobs) -> None:
    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)
    ended(jobs, id)

    jobs.drop(id)

    assert jobs.result(id, "Piet") is None
    assert ended(jobs, id).report == {"kept": 1}


def test_work_that_fails_by_what_it_was_given_says_so_in_its_sentence(jobs: Jobs) -> None:
    job = ended(jobs, jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", fail))

    assert (job.state, job.report["problem"].partition(":")[0]) == (JobState.FAILED, "no column holds addresses")


def test_work_that_fails_by_a_fault_of_ours_tells_nothing_of_what_it_held(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = ended(jobs, jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", break_down))

    assert (job.state, job.report) == (JobState.FAILED, {})
    assert "long work failed" in caplog.text


def test_work_whose_process_is_gone_is_lost_after_half_a_minute(office: Office, jobs: Jobs) -> None:
    gone = Jobs(office.kit.store, office.clock)
    gone._pool.shutdown()  # a process that died never ends its work

    with pytest.raises(RuntimeError, match="shutdown"):
        gone.start("Anna", "afgemeld_scrub", "afgemeld/scrub", finish)
    [job] = jobs.recent("Anna")
    assert job.state is JobState.RUNNING

    office.clock.now += timedelta(seconds=31)
    assert jobs.recent("Anna")[0].state is JobState.LOST


def test_a_server_that_stops_ends_its_work_and_says_so(office: Office, jobs: Jobs) -> None:
    stopping = Jobs(office.kit.store, office.clock)
    begun = threading.Event()

    def work(progress: Progress) -> Outcome:
        begun.set()
        while True:
            progress(1, 2)
            time.sleep(0.01)

    id = stopping.start("Piet", "afgemeld_scrub", "afgemeld/scrub", work)
    begun.wait(10)
    stopping.close()

    job = jobs.get(id, "Piet")
    assert job is not None
    assert job.state is JobState.LOST


def test_a_report_keeps_the_first_thousand_lines_and_counts_the_others() -> None:
    lines = Lines()

    for line in range(1, 1003):
        lines(line, "no address that mail could be sent to")

    report = lines.report()
    assert (len(report["lines"]), report["more"]) == (1000, 2)


def test_its_page_says_in_dutch_why_work_failed(office: Office) -> None:
    piet = office.client("privacy", name="Piet")
    id = office.kit.console._rooms.jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", fail)
    ended(office.kit.console._rooms.jobs, id)

    page = piet.get(f"jobs/{id}")

    assert "er is geen kolom met e-mailadressen gevonden" in page.text


@pytest.mark.parametrize(
    "sentence",
    [
        csvstream._UNDECODABLE, csvstream._NUL, csvstream._QUOTES, csvstream._RETURN, csvstream._LONG,
        "it has 3 column(s) instead of 2", scrub.SUPPRESSED, scrub.INVALID, scrub.DUPLICATE,
        "made with a key that is not among CONSENTKIT_AFGEMELD_KEYS",
        "no digest: it has 64 hexadecimal digits, or 32 from a short token",
        "no scope: write mail, marketing or list:<id>", "no channel: a short word in lower case",
        f"no reason that is known: write one of {', '.join(Reason)}",
        "no moment: write it as 2026-01-31T09:30:00Z", "no column is called 'adres': the columns are naam, plaats",
    ],
)  # fmt: skip
def test_every_reason_that_a_line_is_refused_for_is_said_in_dutch(sentence: str) -> None:
    assert said(texts("nl"), sentence) != sentence
    assert "the columns are" not in said(texts("nl"), sentence)


def test_both_databases_keep_reports_and_files(database_url: str) -> None:
    store = Store(database_url)
    store.upgrade()
    jobs = Jobs(store, Clock())

    id = jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)

    assert ended(jobs, id).report == {"kept": 1}
    assert jobs.result(id, "Piet") == ("lijst.csv", b"email\n")
    assert [job.id for job in jobs.recent("Piet")] == [id]
    jobs.close()
    store.close()


def test_who_no_longer_has_the_role_sees_no_report(office: Office) -> None:
    id = office.kit.console._rooms.jobs.start("Piet", "afgemeld_scrub", "afgemeld/scrub", finish)
    ended(office.kit.console._rooms.jobs, id)

    assert office.client("redactie", name="Piet").get(f"jobs/{id}").status_code == 404
    assert office.client("privacy", name="Anna").get(f"jobs/{id}").status_code == 404

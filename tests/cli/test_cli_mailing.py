"""`consentkit mailing` as people type it, with a real mail server at the other end."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consentkit.errors import DatabaseUnavailable
from consentkit.mailing import Engine, Mailings, Status
from consentkit.mailing.tables import pace
from consentkit.store import Store
from tests.cli.conftest import Run
from tests.fixtures_smtp import Mailbox
from tests.mailing.sink import Sink

CONSENT = ("--route", "consent", "--proof", "papieren formulier, open dag 2026")
HTML = '<p>Dag {{ name }},</p><p>Lees <a href="https://delinde.example/agenda">de agenda</a>.</p>'
MAIL = """
[mail]
smtp = "{url}"
sender = "De Linde <nieuws@delinde.example>"
bounces = "bounces@delinde.example"

[forms.aanmelden]
fields = ["email", "name"]
"""


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """SQLite alone: what differs between databases is tested below the commands."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'consentkit.db')}"


def linked(config: Path) -> str:
    """The configuration, with a form of its own for the list."""
    return config.read_text().replace("[lists.nieuws]", '[lists.nieuws]\nform = "aanmelden"')


@pytest.fixture
def office(run: Run, mailbox: Mailbox, tmp_path: Path) -> Run:
    """The command line of a school that has three readers, one of whom left, and a page of HTML."""
    config = tmp_path / "consentkit.toml"
    config.write_text(linked(config) + MAIL.format(url=mailbox.url))
    (tmp_path / "page.html").write_text(HTML)
    run(
        "newsletter",
        "import",
        "nieuws",
        "-",
        *CONSENT,
        stdin=b"email,name\njan@school.nl,Jan\nan@school.nl,An\nwil@school.nl,\n",
    )
    run("afgemeld", "add", "an@school.nl", "--list", "nieuws")
    return run


def new(office: Run, *more: str) -> str:
    words = ("mailing", "new", "--list", "nieuws", "--subject", "Nieuws van maart", "--html", "page.html", *more)
    code, out, err = office(*words, "--json")
    assert (code, err) == (0, "")
    return str(json.loads(out)["id"])


def status(office: Run, id: str) -> dict[str, object]:
    return dict(json.loads(office("mailing", "status", id, "--json")[1]))


def test_a_mailing_is_made_counted_sent_and_can_be_started_again(office: Run, mailbox: Mailbox) -> None:
    id = new(office, "--field", "name=lezer")

    code, out, _ = office("mailing", "send", id, "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"candidates": 3, "queued": 2, "excluded": {"afgemeld": 1}})
    code, out, _ = office("mailing", "send", id, "--yes", "--no-dns", "--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"excluded": 1, "sent": 2}
    assert office("mailing", "send", id, "--yes", "--json")[0] == 0

    assert sorted(one["To"] for one in mailbox.messages) == ["jan@school.nl", "wil@school.nl"]
    told = {str(one["To"]): one.get_body(("plain",)).get_content() for one in mailbox.messages}  # type: ignore[union-attr]
    assert "Dag Jan," in told["jan@school.nl"]
    assert "Dag lezer," in told["wil@school.nl"]
    assert status(office, id)["state"] == "done"


def test_who_lacks_a_needed_field_is_left_out_with_that_reason(office: Run, mailbox: Mailbox) -> None:
    id = new(office, "--field", "name")
    office("mailing", "send", id, "--yes", "--no-dns")

    found = status(office, id)
    assert (found["counts"], found["reasons"]) == (
        {"excluded": 2, "sent": 1}, {"excluded": {"afgemeld": 1, "field:name": 1}},
    )  # fmt: skip
    assert "field:name" in office("mailing", "status", id)[1]


def test_a_name_that_nobody_declared_is_found_before_anything_is_kept(office: Run) -> None:
    code, out, err = office("mailing", "new", "--list", "nieuws", "--subject", "S", "--html", "page.html")

    assert (code, out) == (2, "")
    assert err.startswith("page.html:1: nothing is called `name`")
    assert "fields" in err
    assert office("mailing", "list")[1] == "there is no mailing yet: `consentkit mailing new` makes one\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--list", "weg", "--subject", "S", "--html", "page.html", "--field", "name"), "there is no [lists.weg]"),
        (("--list", "nieuws", "--subject", "S\nBcc: x", "--html", "page.html", "--field", "name"), "line break"),
        (("--list", "nieuws", "--subject", "S"), "give a FOLDER, or --list, --subject and --html"),
        (("--list", "nieuws", "--subject", "S", "--html", "weg.html"), "weg.html: there is no such file"),
        (("--list", "nieuws", "--subject", "S", "--html", "."), ".: is a folder: name the file in it"),
        (("nergens",), "mailing.toml: there is no such file"),
    ],
)
def test_what_can_t_be_a_mailing_is_refused_in_a_sentence(office: Run, words: tuple[str, ...], sentence: str) -> None:
    code, out, err = office("mailing", "new", *words)

    assert (code, out) == (2, "")
    assert sentence in err.replace("\n", " ")


def test_a_preview_writes_the_message_of_one_reader_and_sends_nothing(
    office: Run, mailbox: Mailbox, tmp_path: Path
) -> None:
    id = new(office, "--field", "name=lezer")

    code, out, _ = office("mailing", "preview", id, "--reader", "-", "--out", "uit", stdin=b"jan@school.nl\n")

    assert (code, out) == (
        0,
        f"uit/mailing-{id}.eml: written\nuit/mailing-{id}.html: written\nuit/mailing-{id}.txt: written\n",
    )
    assert "Dag Jan," in (tmp_path / "uit" / f"mailing-{id}.txt").read_text()
    assert b"To: jan@school.nl\r\n" in (tmp_path / "uit" / f"mailing-{id}.eml").read_bytes()
    assert mailbox.messages == []
    assert office("mailing", "preview", id, "--reader", "piet@school.nl")[0] == 2


def test_a_preflight_says_what_to_look_at_and_ends_with_1_where_it_may_not_go(office: Run, tmp_path: Path) -> None:
    good = new(office, "--field", "name=lezer")
    code, out, _ = office("mailing", "preflight", good, "--no-dns", "--json")
    assert code == 0
    assert {one["level"] for one in json.loads(out)} <= {"warning"}

    (tmp_path / "page.html").write_text(
        "<p>Nu 50% korting! Bestel vandaag met code LENTE en profiteer van deze aanbieding.</p>"
    )
    bad = new(office, "--purpose", "service")
    code, out, _ = office("mailing", "preflight", bad, "--no-dns")
    assert code == 1
    assert out.startswith("error: ")
    assert office("mailing", "send", bad, "--yes", "--no-dns")[0] == 2
    assert status(office, bad)["counts"] == {}


def test_a_test_goes_to_oneself_marked_and_to_nobody_who_left(office: Run, mailbox: Mailbox) -> None:
    id = new(office, "--field", "name=lezer")

    assert office("mailing", "test", id, "--to", "ik@school.nl")[0] == 0
    assert office("mailing", "test", id, "--to", "ik@school.nl", "--to", "an@school.nl")[0] == 2

    assert [(one["To"], one["Subject"]) for one in mailbox.messages] == [("ik@school.nl", "[Test] Nieuws van maart")]
    assert status(office, id)["counts"] == {}


def test_pause_resume_and_cancel_say_how_it_stands_and_refuse_what_makes_no_sense(
    office: Run, mailbox: Mailbox
) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 later"
    id = new(office, "--field", "name=lezer")
    assert office("mailing", "resume", id)[0] == 2
    office("mailing", "send", id, "--yes", "--no-dns", "--no-wait")

    told = [office("mailing", verb, id)[1] for verb in ("pause", "resume", "pause", "cancel")]

    assert told == [f"mailing {id}: {state}\n" for state in ("paused", "sending", "paused", "cancelled")]
    assert status(office, id)["counts"] == {"excluded": 1, "cancelled": 2}
    assert office("mailing", "resume", id)[0] == 2
    assert office("mailing", "pause", "99")[::2] == (
        2,
        "there is no mailing 99: `consentkit mailing list` shows them\n",
    )


def test_what_waits_is_told_with_its_reason_and_when_it_is_tried_again(office: Run, mailbox: Mailbox) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 greylisted, come back"
    id = new(office, "--field", "name=lezer")
    office("mailing", "send", id, "--yes", "--no-dns", "--no-wait")

    out = office("mailing", "status", id)[1]
    assert "the next try is at 20" in out
    assert "451 4.7.1 at RCPT" in out
    assert "come back" not in out  # a server's words may quote an address


def test_the_report_comes_as_text_csv_json_and_a_page(office: Run, tmp_path: Path) -> None:
    id = new(office, "--field", "name=lezer")
    office("mailing", "send", id, "--yes", "--no-dns")

    figures = json.loads(office("mailing", "report", id, "--json")[1])
    rows = [*csv.DictReader(io.StringIO(office("mailing", "report", id, "--csv")[1]))]
    office("mailing", "report", id, "--html", "report.html")

    assert (figures["sent"], figures["delivered"], figures["hidden"]) == (2, 2, True)
    assert {row["figure"]: row["value"] for row in rows if not row["detail"]}["delivered"] == "2"
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "geleverd  100.0%" in office("mailing", "report", id)[1].lower()


def test_a_worker_sends_what_is_due_and_ends_when_asked_for_one_round(office: Run, mailbox: Mailbox) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 later"
    id = new(office, "--field", "name=lezer")
    office("mailing", "send", id, "--yes", "--no-dns", "--no-wait")

    assert office("worker", "--once")[0] == 0

    assert status(office, id)["counts"] == {"excluded": 1, "deferred": 2}


# How sending ends


@pytest.mark.parametrize(
    ("answer", "how", "code", "state"),
    [
        ("", (), 0, "done"),
        ("550 5.7.1 not you", (), 1, "done"),
        ("451 4.7.1 later", ("--no-wait",), 0, "sending"),
        ("550 5.7.1 not you", ("--not-after", "2001-01-01T00:00"), 2, "draft"),
    ],
)
def test_sending_ends_with_0_where_all_went_as_it_should_and_with_1_where_nobody_got_it(  # noqa: PLR0917
    office: Run, mailbox: Mailbox, answer: str, how: tuple[str, ...], code: int, state: str
) -> None:
    mailbox.reply |= {"RCPT": answer} if answer else {}
    id = new(office, "--field", "name=lezer")

    assert office("mailing", "send", id, "--yes", "--no-dns", *how)[0] == code

    assert status(office, id)["state"] == state


def test_sending_what_was_cancelled_ends_with_1_and_what_is_paused_says_how_to_go_on(
    office: Run, mailbox: Mailbox
) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 later"
    id = new(office, "--field", "name=lezer")
    office("mailing", "send", id, "--yes", "--no-dns", "--no-wait")

    office("mailing", "pause", id)
    assert office("mailing", "send", id)[::2] == (2, f"mailing {id} is paused: `consentkit mailing resume {id}`\n")
    office("mailing", "cancel", id)
    assert office("mailing", "send", id)[0] == 1


def test_a_mailing_for_later_says_when_it_begins_and_is_not_waited_for(office: Run, mailbox: Mailbox) -> None:
    id = new(office, "--field", "name=lezer")
    began = time.monotonic()

    first = office("mailing", "send", id, "--yes", "--no-dns", "--at", "2099-01-01T09:00")
    again = office("mailing", "send", id)
    other = office("mailing", "send", id, "--at", "2099-01-01T10:00")

    assert time.monotonic() - began < 10.0
    for code, out, _ in (first, again):
        assert code == 0
        assert "begins at 2099-01-01 09:00, sent by the app, `consentkit worker`" in out
        assert "ends at 2099-01-" in out
    assert other[::2] == (2, f"mailing {id} has its times already: --at and --not-after can't change them\n")
    assert mailbox.messages == []


def test_a_wrong_key_is_told_before_anything_is_sent_also_when_sending_goes_on(
    office: Run, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.reply["RCPT"] = "451 4.7.1 later"
    id = new(office, "--field", "name=lezer")
    office("mailing", "send", id, "--yes", "--no-dns", "--no-wait")
    monkeypatch.setenv("CONSENTKIT_AFGEMELD_KEYS", "Zz4Rz8Kc1Yh6Bv3Mx9Td5Ng2Qj7Pf0Lx")

    code, out, err = office("mailing", "send", id)

    assert (code, out) == (2, "")
    assert "CONSENTKIT_AFGEMELD_KEYS" in err


def test_a_lock_that_can_t_be_used_is_told_at_once(office: Run, tmp_path: Path) -> None:
    id = new(office, "--field", "name=lezer")
    (tmp_path / "consentkit.db-sending").mkdir()

    code, _, err = office("mailing", "send", id, "--yes", "--no-dns")

    assert code == 2
    assert "consentkit.db-sending can't be locked (unable to open database file)" in err.replace("\n", " ")


def test_what_goes_wrong_while_sending_is_not_kept_quiet(office: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    id = new(office, "--field", "name=lezer")
    monkeypatch.setattr(Engine, "work", stumble)

    with pytest.raises(ZeroDivisionError):
        office("mailing", "send", id, "--yes", "--no-dns")


def test_sending_is_looked_at_once_a_second_and_goes_on_where_a_look_fails(
    office: Run, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.slow["."] = 1.5
    looks: list[float] = []
    look: Callable[[Mailings, int], Status] = Mailings.status

    def fails_at_first(self: Mailings, id: int) -> Status:
        looks.append(time.monotonic())
        if len(looks) == 1:
            raise DatabaseUnavailable("the database does not answer")
        return look(self, id)

    id = new(office, "--field", "name=lezer")
    monkeypatch.setattr(Mailings, "status", fails_at_first)

    assert office("mailing", "send", id, "--yes", "--no-dns")[0] == 0
    assert len(looks) <= 4
    assert len(mailbox.messages) == 2


# Processes that are stopped and killed


READERS = 24


class Sender:
    """`consentkit mailing send` in a process of its own."""

    def __init__(self, id: str) -> None:
        program = "from consentkit.cli import main; main()"
        words = [sys.executable, "-c", program, "mailing", "send", id, "--yes", "--no-dns"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, number: int) -> tuple[int, str, str]:
        """Send it a signal; exit code, standard output and standard error."""
        self._process.send_signal(number)
        out, err = self._process.communicate(timeout=20)
        return self._process.returncode, out, err


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink(delay=0.1) as made:
        yield made


@pytest.fixture
def hall(run: Run, sink: Sink, tmp_path: Path) -> Run:
    """The command line of a school with many readers and a mail server that takes its time."""
    config = tmp_path / "consentkit.toml"
    config.write_text(linked(config) + MAIL.format(url=sink.url) + "[mailing]\nconnections = 3\n")
    (tmp_path / "page.html").write_text(HTML.replace("{{ name }}", "lezer"))
    rows = "".join(f"lezer{number}@school.nl\n" for number in range(READERS))
    code, _, err = run("newsletter", "import", "nieuws", "-", *CONSENT, stdin=f"email\n{rows}".encode())
    assert (code, err) == (0, "")
    return run


def begun(sink: Sink, id: str) -> Sender:
    """A sender in the middle of a mailing."""
    sender, end = Sender(id), time.monotonic() + 20
    while len(sink.accepted) < READERS // 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    return sender


def test_a_sender_that_is_killed_leaves_few_in_doubt_and_the_next_one_finishes_it(hall: Run, sink: Sink) -> None:
    id = new(hall)
    assert begun(sink, id).end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(sink.accepted) < READERS
    assert "a sender died over some of them: start `consentkit mailing send`" in hall("mailing", "status", id)[1]

    code, out, _ = hall("mailing", "send", id, "--json")

    told = json.loads(out)
    assert (code, told["state"]) == (0, "done")
    assert told["counts"].get("in_doubt", 0) == len(told["in_doubt"]) <= 3
    assert told["counts"]["sent"] + len(told["in_doubt"]) == READERS
    numbers = [delivery for _, delivery, _ in sink.accepted]
    assert len(numbers) == len(set(numbers)) >= READERS - len(told["in_doubt"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sender_that_is_stopped_finishes_what_it_hands_over_and_the_next_one_goes_on(
    hall: Run, sink: Sink, number: int, code: int
) -> None:
    id = new(hall)

    ended, out, err = begun(sink, id).end(number)

    left = READERS - len(sink.accepted)
    assert (ended, err.splitlines()[-1]) == (code, f"stopping; `consentkit mailing send {id}` goes on where it was")
    assert out.startswith(f"mailing {id}: sending, {len(sink.accepted)} of {READERS} settled")
    assert status(hall, id)["counts"] == {"sent": READERS - left, "queued": left}
    assert hall("mailing", "send", id, "--json")[0] == 0
    assert status(hall, id)["counts"] == {"sent": READERS}
    assert len({delivery for _, delivery, _ in sink.accepted}) == len(sink.accepted) == READERS


def test_a_purge_forgets_to_which_domains_mail_went(run: Run, database_url: str) -> None:
    long_ago = {"key": "domain:jansen.example", "since": datetime(2020, 1, 1, tzinfo=UTC), "count": 1}
    store = Store(database_url)
    with store.begin() as connection:
        connection.execute(pace.insert(), long_ago)

    kept = []
    for how in (("--dry-run",), ()):
        assert run("purge", *how)[0] == 0
        with store.read() as connection:
            kept.append(len(connection.execute(pace.select()).all()))

    store.close()
    assert kept == [1, 0]

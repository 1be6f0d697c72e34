"""Whatever happens in whatever order, nothing turns who left into somebody who is mailed but a new confirmed opt-in."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy.exc import SQLAlchemyError

from consentkit.afgemeld import Reason
from consentkit.errors import ConsentKitError
from consentkit.newsletter import Importer, Route
from tests.newsletter.desk import JAN, Desk
from tests.newsletter.desk import desk as open_desk
from tests.newsletter.test_import import PROOFS

PEOPLE = (JAN, "Piet@voorbeeld.nl")
TOPICS = ("nieuwsbrief", "agenda")
people, topics = st.sampled_from(PEOPLE), st.sampled_from(TOPICS)


class Histories(RuleBasedStateMachine):
    """Random histories of sign-up, import, merge, staff, erasure and restored backups.

    The model knows one thing: who left what, and has not confirmed a new request since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="histories-"))
        self.stack = ExitStack()
        self.left: set[tuple[str, str]] = set()
        self.links: list[tuple[str, str, str]] = []
        self.backups = 0
        self.open()

    def open(self) -> None:
        self.stack.enter_context(patch("consentkit.web.newsletter.LEAST_SECONDS", 0.0))
        clock = getattr(self, "desk", None) and self.desk.clock
        self.desk: Desk = self.stack.enter_context(open_desk(self.folder))
        if clock:
            self.desk.clock.now = clock.now

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize()
    def two_readers_in_a_backup(self) -> None:
        """What an older backup would bring back, once somebody left."""
        for who in PEOPLE:
            self.desk.subscribe(who, "nieuwsbrief", lists="agenda")
        self.back_up()

    @rule(minutes=st.integers(1, 60 * 24 * 40))
    def time_passes(self, minutes: int) -> None:
        self.desk.clock.later(minutes=minutes)

    @rule(who=people, topic=topics, both=st.booleans())
    def sign_up(self, who: str, topic: str, both: bool) -> None:
        other = next(one for one in TOPICS if one != topic)
        self.desk.ask(who, topic, **({"lists": other} if both else {}))
        for mail in self.desk.mails():
            if "/confirm/" in mail.text:
                asked = [one for one in TOPICS if one == topic or both]
                self.links += [(self.desk.link("confirm", mail), who, one) for one in asked]

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def confirm_some_link(self, data: Any) -> None:
        link = data.draw(st.sampled_from(sorted({link for link, _, _ in self.links})))
        answer = self.desk.post(link)
        if answer.status_code == 200:
            self.left -= {(who, topic) for one, who, topic in self.links if one == link}
        self.links = [one for one in self.links if one[0] != link]
        self.desk.mails()

    @rule(who=people, topic=st.sampled_from([*TOPICS, None]))
    def leave_by_link(self, who: str, topic: str | None) -> None:
        url = self.desk.kit.unsubscribe_url(who, list=topic)
        assert self.desk.post(url.removeprefix("http://school.test")).status_code == 200
        self._has_left(who, *([topic] if topic else TOPICS))

    @rule(who=people, topic=topics)
    def staff_adds(self, who: str, topic: str) -> None:
        self.desk.kit.afgemeld.add_sync(who, scope=f"list:{topic}", reason=Reason.PHONE, channel="staff")
        self._has_left(who, topic)

    @rule(who=people)
    def erase(self, who: str) -> None:
        if self.desk.kit.newsletter.erase_address(who):
            self._has_left(who, *TOPICS)

    @rule(route=st.sampled_from(list(Route)), topic=topics)
    def import_everybody(self, route: Route, topic: str) -> None:
        paper = self.desk.kit.newsletter.papers["Basisschool De Linde"]
        form = paper.form(topic)
        assert form is not None
        source = "email\n" + "".join(f"{who.upper()}\n" for who in PEOPLE)
        Importer(
            self.desk.kit.store, self.desk.kit.afgemeld, topic=paper.topics[topic], form=form, site=paper.site.name,
            route=route, proof=PROOFS[route], language="nl", now=self.desk.clock(),
        ).read(io.BytesIO(source.encode()))  # fmt: skip

    @rule(topic=topics)
    def somebody_merges_by_sql(self, topic: str) -> None:
        """A careless hand at the prompt: make everybody active."""
        for where in (f"list = '{topic}'", "state <> 'active'"):
            try:
                with self.desk.kit.store.begin() as connection:
                    connection.exec_driver_sql(
                        f"UPDATE subscription SET state = 'active', route = 'donor', left_at = NULL, "
                        f'proof = \'{{"donation": "x", "opt_out_offered": "ja"}}\' WHERE {where}'
                    )
            except SQLAlchemyError:
                continue

    @rule()
    def somebody_empties_afgemeld_by_sql(self) -> None:
        try:
            with self.desk.kit.store.begin() as connection:
                connection.exec_driver_sql("DELETE FROM afgemeld")
        except SQLAlchemyError:
            return

    @rule()
    def somebody_deletes_the_subscribers(self) -> None:
        with self.desk.kit.store.begin() as connection:
            connection.exec_driver_sql("DELETE FROM subscription")
            connection.exec_driver_sql("DELETE FROM subscriber")

    @rule()
    def purge(self) -> None:
        week, month = timedelta(days=7), timedelta(days=30)
        self.desk.kit.newsletter.purge(self.desk.clock(), unconfirmed=week, left=week, proof=month)

    @rule()
    def back_up(self) -> None:
        self.stack.close()
        self.backups += 1
        shutil.copy(self.folder / "consentkit.db", self.folder / f"backup-{self.backups}")
        self.open()

    @rule(data=st.data())
    def restore_a_backup(self, data: Any) -> None:
        number = data.draw(st.integers(1, self.backups))
        self.stack.close()
        for file in self.folder.glob("consentkit.db*"):
            file.unlink()
        shutil.copy(self.folder / f"backup-{number}", self.folder / "consentkit.db")
        self.open()

    def _has_left(self, who: str, *topics: str) -> None:
        now = {(who, topic) for topic in topics}
        self.left |= now
        self.links = [one for one in self.links if (one[1], one[2]) not in now]  # what was asked before is void

    @invariant()
    def nobody_who_left_may_be_mailed(self) -> None:
        for who, topic in self.left:
            assert self.desk.why_not(who, topic) is not None


Histories.TestCase.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.checklist("SUP-03", "SUP-04", "NEW-05")
class TestHistories(Histories.TestCase):
    """Random histories, shrunk to the shortest that breaks the promise."""


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises((SQLAlchemyError, ConsentKitError)):
        yield


@pytest.mark.checklist("SUP-04")
def test_the_database_itself_lets_nobody_back_without_a_newer_consent_event(both: Desk) -> None:
    both.post(both.link("afmelden", both.subscribe()))

    for change in (
        "state = 'active'",
        "state = 'active', left_at = NULL",
        "left_at = NULL",
        "state = 'pending', left_at = NULL",
        "state = 'active', record_id = 'x'",
    ):
        with refused(), both.kit.store.begin() as connection:
            connection.exec_driver_sql(f"UPDATE subscription SET {change}")
    with refused(), both.kit.store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM subscription")
        connection.exec_driver_sql(
            "INSERT INTO subscription (subscriber_id, list, site, state, route, proof, measuring, language, mails) "
            "SELECT id, 'nieuwsbrief', 'x', 'active', 'consent', '{}', false, 'nl', 0 FROM subscriber"
        )
    assert both.why_not() == "afgemeld"


@pytest.mark.checklist("SUP-03")
def test_who_left_all_came_back_to_one_list_and_left_all_again_stays_left_after_an_older_backup(
    tmp_path: Path,
) -> None:
    with open_desk(tmp_path) as desk:
        everything = urlsplit(desk.kit.unsubscribe_url(JAN)).path
        desk.subscribe()
        desk.post(everything)
        desk.clock.later(hours=1)
        desk.subscribe()
        assert desk.why_not() is None
    shutil.copy(tmp_path / "consentkit.db", tmp_path / "backup")
    with open_desk(tmp_path) as desk:
        desk.post(everything)
        assert desk.why_not() == "afgemeld"
    for file in tmp_path.glob("consentkit.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup", tmp_path / "consentkit.db")

    with open_desk(tmp_path) as desk:
        assert desk.why_not() == "afgemeld"

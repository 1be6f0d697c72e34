"""Addresses from elsewhere: mailed only with a lawful route and its proof, and never back into a list they left."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from consentkit.newsletter import (
    PROOF,
    Aim,
    Importer,
    Readers,
    Route,
    Standing,
    State,
    missing_proof,
    read_proof,
    why_not,
)
from consentkit.newsletter.tables import subscriptions
from tests.newsletter.desk import JAN, Desk

PROOFS: Mapping[Route, Mapping[str, str]] = {
    Route.CONSENT: {"how": "papieren formulier, open dag 2026"},
    Route.CUSTOMER: {"sale": "bestelling 1042", "opt_out_offered": "ja, bij het bestellen"},
    Route.PUBLISHED_ADDRESS: {"where": "https://school.example/contact"},
    Route.DONOR: {"donation": "gift 2025", "opt_out_offered": "ja"},
    Route.UNPROVEN: {},
}


def importer(desk: Desk, route: Route = Route.UNPROVEN, proof: Mapping[str, str] | None = None) -> Importer:
    paper = desk.kit.newsletter.papers["Basisschool De Linde"]
    form = paper.form("nieuwsbrief")
    assert form is not None
    return Importer(
        desk.kit.store,
        desk.kit.afgemeld,
        topic=paper.topics["nieuwsbrief"],
        form=form,
        site=paper.site.name,
        route=route,
        proof=proof or {},
        language="nl",
        now=desk.clock(),
    )


def read(desk: Desk, text: str, route: Route = Route.UNPROVEN, proof: Mapping[str, str] | None = None, **how: bool):
    told: list[str] = []
    done = importer(desk, route, proof).read(
        io.BytesIO(text.encode()), report=lambda line, reason: told.append(f"{line}: {reason}"), **how
    )
    return done, told


@pytest.mark.checklist("NEW-05")
def test_without_proof_rows_land_unproven_and_can_t_be_mailed(both: Desk) -> None:
    done, _ = read(both, f"email\n{JAN}\npiet@voorbeeld.nl\n")

    assert (done.added, done.unproven) == (0, 2)
    assert both.why_not() == "unproven"


@pytest.mark.checklist("NEW-04")
@pytest.mark.parametrize("route", [route for route in Route if route is not Route.UNPROVEN])
def test_each_lawful_route_may_be_mailed_with_its_proof_and_not_without(desk: Desk, route: Route) -> None:
    read(desk, f"email\n{JAN}\n", route, PROOFS[route])
    assert desk.why_not() is None

    for lacking in PROOF[route]:
        partly = {name: text for name, text in PROOFS[route].items() if name != lacking}
        done, told = read(desk, f"email\nzonder-{lacking}@voorbeeld.nl\n".replace("_", "-"), route, partly)
        assert done.unproven == 1
        assert f"the route {route} needs {lacking}" in told[0]
        assert desk.why_not(f"zonder-{lacking}@voorbeeld.nl".replace("_", "-")) == "unproven"


@pytest.mark.checklist("NEW-04")
def test_no_route_is_enough_without_every_field_of_its_proof() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    for route in Route:
        until = now.replace(year=2030)
        whole = Standing(State.ACTIVE, route, PROOFS[route], valid_until=until)
        assert (why_not(whole, now) is None) == (route is not Route.UNPROVEN)
        for name in PROOF[route]:
            for empty in ("", "nee", "no", " "):
                partly = Standing(State.ACTIVE, route, {**PROOFS[route], name: empty}, valid_until=until)
                assert why_not(partly, now) == "unproven"
        for state in State:
            if state is not State.ACTIVE:
                assert why_not(Standing(state, route, PROOFS[route], valid_until=until), now) is not None
        assert why_not(whole, now, pupils=True) == "pupils"


def test_proof_is_typed_as_text_or_as_pairs() -> None:
    assert read_proof(Route.CONSENT, " open dag ") == {"how": "open dag"}
    assert read_proof(Route.CUSTOMER, "sale=1042; opt_out_offered=ja") == {"sale": "1042", "opt_out_offered": "ja"}
    assert missing_proof(Route.CUSTOMER, read_proof(Route.CUSTOMER, "1042")) == ("sale", "opt_out_offered")


def test_a_row_may_bring_its_own_route_and_proof(desk: Desk) -> None:
    text = (
        "email,route,sale,opt_out_offered\n"
        "a@voorbeeld.nl,customer,1042,ja\nb@voorbeeld.nl,customer,1043,nee\nc@voorbeeld.nl,klant,1044,ja\n"
    )

    done, told = read(desk, text)

    assert (done.added, done.unproven, dict(done.refused)) == (1, 1, {"unknown route": 1})
    assert told == [
        "3: unproven: the route customer needs opt_out_offered",
        "4: unknown route: write consent, customer, published_address, donor, unproven",
    ]
    assert desk.why_not("a@voorbeeld.nl") is None


@pytest.mark.checklist("NEW-05", "SUP-03")
def test_no_import_brings_back_who_left(both: Desk) -> None:
    both.post(both.link("afmelden", both.subscribe()))

    done, told = read(both, f"email\n{JAN.upper()}\n", Route.CONSENT, PROOFS[Route.CONSENT])

    assert (done.added, done.proven, dict(done.refused)) == (0, 0, {"afgemeld": 1})
    assert told == ["2: afgemeld"]
    assert both.why_not() == "afgemeld"


def test_a_later_import_with_proof_lets_unproven_rows_be_mailed_and_changes_nobody_else(desk: Desk) -> None:
    desk.subscribe("lid@voorbeeld.nl")
    read(desk, f"email\n{JAN}\n")

    done, _ = read(desk, f"email\n{JAN}\nlid@voorbeeld.nl\n", Route.CONSENT, PROOFS[Route.CONSENT])

    assert (done.proven, done.known) == (1, 1)
    assert desk.why_not() is None


def test_a_dry_run_reports_and_changes_nothing(desk: Desk) -> None:
    done, told = read(desk, f"email\n{JAN}\nfout\n", Route.CONSENT, PROOFS[Route.CONSENT], dry_run=True)

    assert (done.added, len(told)) == (1, 1)
    assert desk.kit.newsletter.counts() == {}


def test_broken_rows_are_told_by_line_and_the_rest_goes_on(desk: Desk) -> None:
    text = f'naam;email\n"Jan;{JAN}\nPiet;geen\nAn;an@voorbeeld.nl\nAn;AN@voorbeeld.nl\n'

    done, told = read(desk, text)

    assert done.unproven == 1
    assert [line.split(":")[0] for line in told] == ["2", "3", "5"]
    assert "broken row" in told[0]
    assert "@" not in " ".join(told).replace("@-sign", "")


def test_signs_that_no_database_takes_are_left_out_so_that_an_audience_can_be_counted(both: Desk) -> None:
    typed = {"how": "op\udce9n dag"}  # as a terminal gives a byte that is no UTF-8
    rows = f"email,how\n{JAN},\nan@voorbeeld.nl,papieren\x01formulier\npiet@voorbeeld.nl,\x01\n"
    read(both, rows, Route.CONSENT, typed)

    with both.kit.store.read() as connection:
        proofs = [json.loads(text)["how"] for text in connection.execute(select(subscriptions.c.proof)).scalars()]
        readers = Readers(both.kit.afgemeld).candidates(connection, Aim(list="nieuwsbrief"), both.clock())
        reasons = [row.reason for row in connection.execute(readers)]

    assert proofs == ["op n dag", "papieren formulier", "op n dag"]
    assert reasons == [None, None, None]


def test_whatever_the_reason_lines_are_told_in_their_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consentkit.newsletter.importing.AT_ONCE", 4)
    desk.kit.afgemeld.add_sync(JAN, scope="marketing", reason="phone", channel="phone")
    rows = [JAN, "an@voorbeeld.nl", "fout", "AN@voorbeeld.nl"] * 3

    done, told = read(desk, "email\n" + "".join(f"{row}\n" for row in rows), Route.CONSENT, PROOFS[Route.CONSENT])

    assert [int(line.split(":")[0]) for line in told] == [2, 4, 5, 6, 8, 9, 10, 12, 13]
    assert (done.added, done.unreadable) == (1, 3)


def test_a_file_without_addresses_is_refused_with_what_to_do(desk: Desk) -> None:
    from consentkit import ConsentKitError

    with pytest.raises(ConsentKitError, match="column"):
        read(desk, "naam,plaats\nJan,Utrecht\n")

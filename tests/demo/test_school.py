"""The demo site by itself: an ordinary site, with trackers as their vendors document them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from demo_site import __main__ as command
from demo_site import app
from demo_site.app import PAUSE, school
from demo_site.outside import MOST_PHASES, Ledger, outside
from tests.demo.conftest import free_ports

PAGES = ("/", "/over", "/ouders", "/nieuws", "/nieuws/muziekles", "/film", "/contact", "/resultaten", "/archief")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def visitor(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(app, "PAUSE_SECONDS", 0.01)
    return TestClient(school(elsewhere=8001, ledger=ledger), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("path", [*PAGES, "/privacyverklaring", "/en", "/teller"])
def test_every_page_answers_with_the_analytics_tag_in_it(visitor: TestClient, path: str) -> None:
    page = visitor.get(path)

    assert page.status_code == 200
    assert "analytics.localhost:8001/gtag/js?id=G-" in page.text


@pytest.mark.parametrize(("path", "status"), [("/weg", 404), ("/nieuws/weg", 404), ("/storing", 500)])
def test_what_goes_wrong_gets_a_page_of_the_school(visitor: TestClient, path: str, status: int) -> None:
    page = visitor.get(path)

    assert page.status_code == status
    assert "Naar de voorpagina" in page.text


def test_the_site_knows_nothing_of_consentkit() -> None:
    loaded = (
        "import sys, demo_site.app, demo_site.outside; print([m for m in sys.modules if m.startswith('consentkit')])"
    )

    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True).stdout.strip() == b"[]"


def test_more_news_is_a_piece_for_the_script_and_a_page_for_everybody_else(visitor: TestClient) -> None:
    piece = visitor.get("/nieuws?vanaf=3", headers={"HX-Request": "true"}).text
    page = visitor.get("/nieuws?vanaf=3").text

    assert "<html" not in piece
    assert "video.localhost:8001/embed/emmerorkest" in piece
    assert "<html" in page
    assert "Een orkest van emmers en bezems" in page


def test_the_results_come_in_pieces_and_one_cuts_through_a_tag(visitor: TestClient) -> None:
    with visitor.stream("GET", "/resultaten") as answer:
        page = "".join(answer.iter_text())

    assert PAUSE not in page
    assert '<img src="http://pixel.localhost:8001/tr?id=' in page
    assert page.rstrip().endswith("</html>")


def test_the_contact_form_takes_only_what_it_has_shown(visitor: TestClient) -> None:
    form = re.search(r'name="formulier" value="([^"]+)"', visitor.get("/contact").text)
    assert form

    thanks = visitor.post("/contact", data={"formulier": form[1], "naam": "Noor", "email": "n@x.nl", "vraag": "Hoi"})
    refused = visitor.post("/contact", data={"formulier": "verzonnen"})

    assert "Bedankt voor je bericht" in thanks.text
    assert refused.status_code == 403


def test_the_stand_in_hosts_count_every_request_apart_per_choice(ledger: Ledger, visitor: TestClient) -> None:
    internet = TestClient(outside(ledger))

    internet.get("http://analytics.localhost:8001/gtag/js?id=G-DELINDE")
    ledger.choice()
    internet.post("http://analytics.localhost:8001/g/collect?v=2")
    internet.get("http://video.localhost:8001/embed/emmerorkest")
    internet.get("http://kaart.localhost:8001/maps/embed")
    internet.get("http://pixel.localhost:8001/tr?id=1")
    internet.get("http://pixel.localhost:8001/en_US/fbevents.js")

    assert [dict(phase) for phase in ledger.phases] == [
        {"analytics.localhost": 1},
        {"analytics.localhost": 1, "video.localhost": 1, "kaart.localhost": 1, "pixel.localhost": 2},
    ]
    assert '<td class="some">2</td>' in visitor.get("/teller").text


def test_the_counters_can_be_set_to_zero_and_stay_bounded(ledger: Ledger, visitor: TestClient) -> None:
    for _ in range(3 * MOST_PHASES):
        ledger.hit("analytics.localhost", "/g/collect")
        ledger.choice()
    assert len(ledger.phases) == MOST_PHASES

    visitor.post("/teller/wissen")

    assert ledger.phases == [{}]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_taken_port_is_told_with_a_way_out(capsys: pytest.CaptureFixture[str], place: int) -> None:
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + place)):
        assert command.main(port) == 2

    assert f"the ports {port} and {port + 1}, and {port + 2} for its mail" in (told := capsys.readouterr().err)
    assert f"{port + place} is taken" in told
    assert "make demo PORT=" in told

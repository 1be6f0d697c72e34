"""What operators type, and what they get: run as they would, against real files and a real database."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consentkit.cli import main
from tests.journeys.school import KEY, School, school

CONFIG = """
[site]
name = "Basisschool De Linde"
base_url = "http://school.test"
privacy_statement = "/privacyverklaring"

[site.controller]
name = "Stichting De Linde"
address = "Lindelaan 1, 1234 AB Utrecht"
email = "privacy@delinde.example"

[services.google-analytics]
[services.youtube]
"""
APP = '''
PAGE = """<!doctype html>
<html lang="nl"><head><title>De Linde | start</title>
<script async src="https://www.googletagmanager.com/gtag/js?id=G-X"></script></head>
<body><a href="/film">film</a> <a href="/privacyverklaring">privacy</a></body></html>"""
FILM = """<!doctype html>
<html lang="nl"><body><iframe src="https://player.vimeo.com/video/1"></iframe>
<script src="https://cdn.vreemd.example/x.js"></script></body></html>"""


def wsgi(environ, start_response):
    headers = [("Content-Type", "text/html; charset=utf-8")]
    if environ["PATH_INFO"] == "/film":
        headers.append(("Set-Cookie", "raar=1"))
    start_response("200 OK", headers)
    return [(FILM if environ["PATH_INFO"] == "/film" else PAGE).encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": PAGE.encode()})
'''
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Types a command in a folder of its own; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONSENTKIT_CONFIG", "CONSENTKIT_SECRET_KEYS", "CONSENTKIT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "winkel.py").write_text(APP, encoding="utf-8")

    for name in ("winkel", "poort"):  # each test has its own
        monkeypatch.delitem(sys.modules, name, raising=False)

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["consentkit", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    yield typed
    for name in ("winkel", "poort"):
        sys.modules.pop(name, None)


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "consentkit.toml").write_text(CONFIG, encoding="utf-8")
    keys = tmp_path / "consentkit.keys"
    keys.write_text(f"CONSENTKIT_SECRET_KEYS={KEY}\n", encoding="utf-8")
    keys.chmod(0o600)
    return tmp_path


def test_init_recognises_the_services_of_an_app_and_makes_keys(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("init", "winkel:wsgi")

    text = (tmp_path / "consentkit.toml").read_text(encoding="utf-8")
    assert code == 0
    assert "[services.google-analytics]" in text
    assert "[services.vimeo]" in text
    assert "cdn.vreemd.example" in text
    assert 'name = "De Linde"' in text
    assert "Google Analytics" in out
    assert stat.S_IMODE((tmp_path / "consentkit.keys").stat().st_mode) == 0o600


def test_init_asks_for_the_address_where_the_site_is(run: Run, tmp_path: Path, serve: Callable[..., str]) -> None:
    async def away(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", b"https://www.delinde.example/")]
        await send({"type": "http.response.start", "status": 301, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    base = serve(away)

    code, _, err = run("init", base)

    assert (code, err) == (2, f"{base} leads to https://www.delinde.example/: name the address where the site is\n")
    assert not (tmp_path / "consentkit.toml").exists()


def test_what_init_writes_can_be_used_at_once(run: Run, tmp_path: Path) -> None:
    run("init", "winkel:wsgi")

    code, out, _ = run("check", "--json")

    assert code == 1
    assert [f["what"] for f in json.loads(out)["findings"]] == [
        f"site.controller.{name} is not filled in" for name in ("name", "address", "email")
    ]


def test_init_never_overwrites_keys_and_the_configuration_only_by_force(run: Run, tmp_path: Path) -> None:
    run("init")
    keys = (tmp_path / "consentkit.keys").read_text(encoding="utf-8")

    assert run("init")[0] == 2
    assert run("init", "--force")[0] == 0
    assert (tmp_path / "consentkit.keys").read_text(encoding="utf-8") == keys


def test_a_whole_configuration_is_fine(run: Run, configured: Path) -> None:
    assert run("check")[:2] == (0, "0 finding(s)\n")


@pytest.mark.checklist("GAT-10")
def test_check_warns_of_what_loads_before_consent_by_choice_of_the_owner(
    run: Run, configured: Path, caplog: pytest.LogCaptureFixture
) -> None:
    risky = CONFIG.replace("[site.controller]", '[site.google]\nmode = "advanced"\n\n[site.controller]')
    (configured / "consentkit.toml").write_text(risky, encoding="utf-8")

    code, out, _ = run("check")
    (warning,) = json.loads(run("check", "--json")[1])["warnings"]

    assert code == 0
    assert 'legal risk: [site.google] mode = "advanced" loads Google\'s tags before consent' in warning
    assert f"warning: {warning}\n" in out
    assert warning in caplog.text


def test_check_lists_what_a_page_would_let_through(run: Run, configured: Path) -> None:
    code, out, _ = run("check", "winkel:wsgi", "--json")

    findings = {(found["where"], found["what"]) for found in json.loads(out)["findings"]}
    assert code == 1
    assert findings == {
        ("/:3", "<script> loads Google Analytics before consent"),
        ("/privacyverklaring:3", "<script> loads Google Analytics before consent"),
        ("/film:2", "<iframe> loads Vimeo before consent"),
        ("/film:3", "<script> loads from cdn.vreemd.example, which nobody declared"),
        ("/film", 'cookie "raar" is set and nobody declared it'),
    }


def test_check_finds_nothing_on_a_page_behind_the_gate_but_what_nobody_named(run: Run, configured: Path) -> None:
    (configured / "poort.py").write_text(
        "import winkel\nfrom consentkit import ConsentKit\n"
        "app = ConsentKit('consentkit.toml').wrap_wsgi(winkel.wsgi)\n",
        encoding="utf-8",
    )

    _, out, _ = run("check", "poort:app", "--json")

    assert {found["what"] for found in json.loads(out)["findings"]} == {
        "<iframe> https://player.vimeo.com/video/1 is held back and nothing will release it",
        "<script> loads from cdn.vreemd.example, which nobody declared",
        'cookie "raar" is set and nobody declared it',
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config", "none.toml", "check"], "none.toml: no such file"),
        (["check"], "consentkit.toml: no such file"),
        (["records", "verify"], "consentkit.toml: no such file"),
        (["run", "nergens:app"], 'there is no module "nergens"'),
        (["run", "winkel:nergens"], 'has no "nergens"'),
        (["run", "winkel"], "write module:attribute"),
        (["run", "winkel:PAGE"], "is no application"),
        (["check", "http://127.0.0.1:9"], "consentkit.toml: no such file"),
    ],
)
def test_a_wrong_call_says_what_to_do_and_ends_with_2(run: Run, words: list[str], expected: str) -> None:
    code, _, err = run(*words)

    assert code == 2
    assert expected in err
    assert "Traceback" not in err


def test_a_site_that_does_not_answer_is_named(run: Run, configured: Path) -> None:
    code, _, err = run("check", "http://127.0.0.1:9")

    assert code == 2
    assert "http://127.0.0.1:9/ does not answer" in err


def filled(folder: Path) -> School:
    """A school with three events and two refusals in its database."""
    with school(folder, base_url="http://school.test") as site:
        visitors = [site.another() for _ in range(4)]
        site.choose("accept", browser=visitors[0])
        site.choose("save", "analytics", browser=visitors[1])
        site.choose("withdraw", browser=visitors[0])
        site.choose("refuse", browser=visitors[2])
        site.choose("refuse", browser=visitors[3])
    return site


def test_records_can_be_verified_exported_and_shown(run: Run, configured: Path) -> None:
    filled(configured)

    code, out, _ = run("records", "verify", "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["events"]) == (0, True, 3)

    lines = [json.loads(line) for line in run("records", "export")[1].splitlines()]
    assert [line["state"] for line in lines] == ["given", "given", "withdrawn"]
    assert run("records", "export", "--format", "csv")[1].count("\n") == 4
    assert json.loads(run("records", "export", "--counts")[1])["total"] == 2
    assert run("records", "export", "--since", "2030-01-01")[1] == ""

    shown = run("records", "notice", lines[0]["notice_hash"])[1]
    assert "Stichting De Linde" in shown
    assert "Weigeren" in shown
    assert run("records", "notice", "f" * 64)[0] == 2
    anchor = next(iter(report["heads"].values()))
    assert run("records", "verify", "--anchor", anchor)[0] == 0


@pytest.mark.checklist("EVI-03")
def test_verify_finds_what_somebody_changed_in_the_database(run: Run, configured: Path) -> None:
    filled(configured)
    with sqlite3.connect(configured / "consentkit.db") as connection:
        for (trigger,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            connection.execute(f'drop trigger "{trigger}"')
        connection.execute("update consent_event set method = 'banner.accept' where seq = 2")

    code, out, _ = run("records", "verify")

    assert code == 1
    assert "2" in out


def test_a_spreadsheet_gets_the_purposes_as_json(run: Run, configured: Path) -> None:
    filled(configured)

    rows = list(csv.DictReader(io.StringIO(run("records", "export", "--format", "csv")[1])))

    assert json.loads(rows[0]["purposes"]) == {"analytics": True, "youtube": True}


@pytest.mark.parametrize("words", [["records", "verify"], ["records", "export"], ["purge"], ["db", "upgrade"]])
def test_a_database_that_is_away_is_no_finding(run: Run, configured: Path, words: list[str]) -> None:
    (configured / "weg").write_text("a file where a folder should be", encoding="utf-8")
    with (configured / "consentkit.toml").open("a", encoding="utf-8") as config:
        config.write('\n[database]\nurl = "sqlite:///weg/x.db"\n')

    code, _, err = run(*words)

    assert code == 2
    assert "does not answer" in err
    assert "Traceback" not in err


def test_check_knows_the_sites_own_services(run: Run, configured: Path) -> None:
    with (configured / "consentkit.toml").open("a", encoding="utf-8") as config:
        config.write(
            '[services.vreemd]\ncategory = "analytics"\nprovider = "Vreemd BV"\ncountry = "NL"\n'
            'hosts = ["cdn.vreemd.example"]\npurpose = { nl = "Bezoek tellen", en = "Counting visits" }\n'
        )

    found = {finding["what"] for finding in json.loads(run("check", "winkel:wsgi", "--json")[1])["findings"]}

    assert "<script> loads Vreemd before consent" in found
    assert not [what for what in found if "nobody declared" in what and "script" in what]


def test_purge_counts_first_and_then_deletes_what_is_over_its_period(run: Run, configured: Path) -> None:
    site = filled(configured)
    with sqlite3.connect(configured / "consentkit.db") as connection:
        before: Any = connection.execute("select count(*) from consent_event").fetchone()

    code, out, _ = run("purge", "--dry-run", "--json")

    assert (code, before) == (0, (3,))
    assert json.loads(out)["dry_run"] is True
    assert site.kit.settings.retention.consent == "12 months"
    assert run("purge")[0] == 0
    assert run("records", "verify")[0] == 0


def test_the_database_is_upgraded_once(run: Run, configured: Path) -> None:
    assert run("db", "upgrade")[0] == 0
    assert run("db", "upgrade", "--json")[1] == '{"applied": []}\n'


@pytest.mark.parametrize("attribute", ["wsgi", "asgi"])
def test_run_serves_an_app_that_knows_nothing_of_consent(configured: Path, attribute: str) -> None:
    (configured / "winkel.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "-m", "consentkit.cli", "run", f"winkel:{attribute}", "--port", "0"]
    with subprocess.Popen(
        command, cwd=configured, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout
            line = next(line for line in process.stdout if "Uvicorn running on" in line)
            base = line.split("running on ")[1].split()[0]
            with urllib.request.urlopen(base + "/", timeout=10) as answer:
                page = answer.read().decode()
        finally:
            process.terminate()
            process.wait(10)

    assert '<script async src="https://www.googletagmanager.com' not in page
    assert 'data-consentkit="settings"' in page
    assert 'id="consentkit"' in page

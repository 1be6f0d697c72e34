"""What docs/console.md says of rights and of a log-in of the host's own is what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.staff import RIGHTS, Right, Role

PAGE = (Path(__file__).parents[2] / "docs/console.md").read_text("utf-8")
CONFIGURATION = """
[site]
name = "De Linde"
base_url = "http://school.test"
privacy_statement = "/privacyverklaring"
controller = { name = "Stichting De Linde" }

[console]
login = "/inloggen"
"""


async def log_in(request: Request) -> Response:
    request.session["staff"] = {"name": "Anna", "roles": request.path_params["role"]}
    return Response()


def test_the_table_of_roles_says_what_each_may_cell_by_cell() -> None:
    section = PAGE.partition("## Who may do what")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]

    head, _, *rows = ([cell.strip() for cell in line] for line in lines)
    table = dict(zip(Right, rows, strict=True))

    assert head[1:] == [role.value for role in Role]
    for right, (_, *cells) in table.items():
        assert cells == ["yes" if right in RIGHTS[role] else "" for role in Role], right


def test_the_log_in_of_the_host_s_own_that_it_shows_lets_staff_in_with_their_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "consentkit.toml").write_text(CONFIGURATION, "utf-8")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shown = {"ConsentKit": ConsentKit}
    exec(example, shown)
    kit: ConsentKit = shown["kit"]  # type: ignore[assignment]
    site = kit.wrap(Starlette(routes=[Route("/in/{role}", log_in)]))
    browser = TestClient(SessionMiddleware(site, secret_key="of-the-school"), base_url="http://school.test")

    nobody = browser.get("/privacy/console", follow_redirects=False)
    browser.get("/in/redactie")
    somebody = browser.get("/privacy/console")
    wrong_role = browser.get("/privacy/console/log").status_code
    kit.close()

    assert nobody.status_code == 303
    assert nobody.headers["location"].startswith("/inloggen")
    assert somebody.status_code == 200
    assert "Anna" in somebody.text
    assert wrong_role == 403

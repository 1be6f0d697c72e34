"""Litestar's own way of adding middleware: behind its routing, so consentkit's own routes need a handler to land on."""

from __future__ import annotations

from pathlib import Path

import pytest
from litestar import Litestar, MediaType, asgi, get
from litestar.config.csrf import CSRFConfig
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient
from litestar.types import Receive, Scope, Send

from consentkit import ConsentKit, ConsentMiddleware
from tests.hosts.test_one_click import MULTIPART, URLENCODED, ask, make_kit, path_of, suppressed
from tests.journeys.school import PAGE, notice_of, settings
from tests.newsletter.desk import JAN


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_with_a_handler_under_the_prefix_the_question_can_be_answered(tmp_path: Path) -> None:
    kit = ConsentKit(settings(tmp_path))

    @get("/", media_type=MediaType.HTML)
    async def home() -> str:
        return PAGE

    @asgi("/privacy", is_mount=True, copy_scope=True)
    async def privacy(scope: Scope, receive: Receive, send: Send) -> None:
        await kit.pages(scope, receive, send)  # type: ignore[arg-type]

    app = Litestar([home, privacy], middleware=[DefineMiddleware(ConsentMiddleware, kit=kit)], logging_config=None)
    with TestClient(app, base_url="http://school.test") as browser:
        page = browser.get("/", headers={"Accept": "text/html"}).text
        data = {"decision": "accept", "notice": notice_of(page), "next": "/"}
        answer = browser.post("/privacy/choice", data=data, follow_redirects=False)
        after = browser.get("/", headers={"Accept": "text/html"}).text
    kit.close()

    assert answer.status_code == 303
    assert '<script async src="https://www.googletagmanager.com' not in page
    assert '<script async src="https://www.googletagmanager.com' in after


@pytest.mark.checklist("UNS-02")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", [URLENCODED, MULTIPART], ids=["urlencoded", "multipart"])
def test_a_token_check_of_litestar_s_own_that_leaves_the_prefix_out_lets_one_click_through(
    tmp_path: Path, form: tuple[bytes, bytes]
) -> None:
    kit = make_kit(tmp_path)

    @asgi("/privacy", is_mount=True, copy_scope=True)
    async def privacy(scope: Scope, receive: Receive, send: Send) -> None:
        await kit.pages(scope, receive, send)  # type: ignore[arg-type]

    app = Litestar(
        [privacy],
        middleware=[DefineMiddleware(ConsentMiddleware, kit=kit)],
        csrf_config=CSRFConfig(secret="geheim-genoeg", exclude=["^/privacy/"]),
        logging_config=None,
    )
    answer = ask(app, path_of(kit.unsubscribe_url(JAN, list="nieuwsbrief")), "POST", *form)

    assert (answer.status, answer.header(b"location"), answer.header(b"set-cookie")) == (200, None, None)
    assert suppressed(kit)
    kit.close()

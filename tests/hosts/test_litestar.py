"""Litestar's own way of adding middleware: behind its routing, so consentkit's own routes need a handler to land on."""

from __future__ import annotations

from pathlib import Path

import pytest
from litestar import Litestar, MediaType, asgi, get
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient
from litestar.types import Receive, Scope, Send

from consentkit import ConsentKit, ConsentMiddleware
from tests.journeys.school import PAGE, notice_of, settings


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

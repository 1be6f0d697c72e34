"""Django's own admin, sessions and CSRF behind the middleware: logging in and out as staff does."""

from __future__ import annotations

from pathlib import Path

import pytest

from consentkit import ConsentKit
from tests.hosts.driver import Browser, plain
from tests.hosts.test_hosts import SETTINGS_LINK, load


@pytest.mark.checklist("WDR-01")
@pytest.mark.parametrize("way", ["wrap", "wrap around gzip", "wrap_wsgi"])
def test_staff_logs_in_works_and_logs_out(static: Path, kit: ConsentKit, way: str) -> None:
    from tests.hosts.apps.django_app import PASSWORD, USER

    browser = Browser(load("django", static).ways[way](kit))
    login = browser.ask("/admin/login/")
    assert login.status == 200
    assert SETTINGS_LINK in plain(login)
    fields = [("username", USER), ("password", PASSWORD), ("next", "/admin/")]
    assert browser.post("/admin/login/", fields).status == 403
    token = browser.hidden("/admin/login/", "csrfmiddlewaretoken")
    answer = browser.post("/admin/login/", [*fields, ("csrfmiddlewaretoken", token)])
    assert (answer.status, answer.header(b"location")) == (302, b"/admin/")
    assert "sessionid" in browser.cookies
    assert browser.decide("accept").status == 303
    for url in ("/admin/", "/admin/auth/user/", "/admin/auth/user/1/change/"):
        page = browser.ask(url)
        body = plain(page)
        assert page.status == 200
        assert USER.encode() in body
        assert SETTINGS_LINK in body
        assert b"</html>" in body
        assert "sessionid" in browser.cookies
    token = browser.hidden("/admin/", "csrfmiddlewaretoken")
    assert browser.post("/admin/logout/", [("csrfmiddlewaretoken", token)]).status == 200
    assert browser.ask("/admin/").status == 302

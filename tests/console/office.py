"""The school's office: a real kit whose console knows its staff by a cookie, and people of each role at its pages.

`Office.client("privacy")` is a browser without JavaScript: `get` a page, `submit` a form that stands on it, with what
was typed. A real browser is given the address of `serve(office.kit.wrap(app()))`, and the cookie of `Office.cookie`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.testclient import TestClient

from consentkit import ConsentKit
from consentkit.mail import MemoryMailer
from consentkit.newsletter import Importer, Route
from tests.journeys.school import Clock, app
from tests.newsletter import desk

WHO = "wie"
"""The cookie that the school's own log-in would set: `Anna:redactie+verzenden`."""


def console_user(request: Request) -> tuple[str, list[str]] | None:
    """The school's own log-in."""
    name, _, roles = request.cookies.get(WHO, "").partition(":")
    return (name, roles.split("+")) if name else None


@dataclass
class Form:
    """A form on a page: where it goes, and what it sends when nobody types anything."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    """Reads the forms of a page as a browser would send them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Form] = []
        self._open: Form | None = None
        self._text: tuple[str, list[str]] | None = None
        self._select: tuple[str, list[tuple[str, bool]]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get"))
            self.found.append(self._open)
        if self._open is None:
            return
        name, kind = given.get("name", ""), given.get("type", "text")
        if tag == "button" and name:
            self._open.buttons.append((name, given.get("value", "")))
        elif tag == "input" and name and kind not in ("file", "submit"):
            if kind not in ("checkbox", "radio") or "checked" in given:
                self._open.fields.append((name, given.get("value", "on" if kind == "checkbox" else "")))
        elif tag == "textarea":
            self._text = (name, [])
        elif tag == "select":
            self._select = (name, [])
        elif tag == "option" and self._select:
            self._select[1].append((given.get("value", ""), "selected" in given))

    def handle_data(self, data: str) -> None:
        if self._text:
            self._text[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "textarea" and self._text and self._open:
            name, parts = self._text
            self._open.fields.append((name, "".join(parts).removeprefix("\n")))
            self._text = None
        elif tag == "select" and self._select and self._open:
            name, options = self._select
            chosen = [value for value, selected in options if selected] or [value for value, _ in options[:1]]
            self._open.fields += [(name, value) for value in chosen]
            self._select = None


def forms(html: str) -> list[Form]:
    """Every form on a page."""
    parser = _Forms()
    parser.feed(html)
    parser.close()
    return parser.found


@dataclass
class Visitor:
    """Somebody of the staff, in a browser without JavaScript."""

    browser: TestClient
    base: str = "/privacy/console"

    def get(self, path: str = "", **headers: str) -> Any:
        """A page of the console, redirects not followed."""
        return self.browser.get(self._at(path), headers=headers, follow_redirects=False)

    def form(self, page: str, action: str) -> Form:
        """The form on a page that goes to `action`, once the page has counted what it shows."""
        response = self.get(page)
        for _ in range(100):
            if "data-ck-again" not in response.text:
                break
            time.sleep(0.1)
            response = self.get(page)
        assert response.status_code < 400, (response.status_code, response.text[-1500:])
        wanted = self._at(action)
        found = [one for one in forms(response.text) if one.method == "post" and one.action.partition("?")[0] == wanted]
        assert found, f"{page} has no form to {wanted}, only {[one.action for one in forms(response.text)]}"
        return found[0]

    def submit(
        self, page: str, action: str, *, files: Mapping[str, tuple[str, bytes, str]] | None = None, **typed: Any
    ) -> Any:
        """Fill in the form on `page` that goes to `action`, and send it; redirects not followed.

        Args:
            files: by field: name, bytes and media type. typed: a list for several values, None to leave a field out.
        """
        return self.send(self.form(page, action), files=files, **typed)

    def send(self, form: Form, *, files: Mapping[str, tuple[str, bytes, str]] | None = None, **typed: Any) -> Any:
        """Send a form that was read before, also once more."""
        kept = [(name, value) for name, value in form.fields if name not in typed]
        data: dict[str, Any] = {}
        for name, value in kept:
            data.setdefault(name, []).append(value)
        data |= {name: value for name, value in typed.items() if value is not None}
        return self.browser.post(form.action, data=data, files=files, follow_redirects=False)

    def follow(self, response: Any) -> Any:
        """The page that a form leads to."""
        assert response.status_code == 303, (response.status_code, response.text[-1500:])
        return self.browser.get(response.headers["location"], follow_redirects=False)

    def _at(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.base}/{path}".rstrip("/")


@dataclass
class Office:
    """The kit, its clock, and what it mailed."""

    kit: ConsentKit
    clock: Clock
    mailer: MemoryMailer

    def client(self, *roles: str, name: str = "") -> Visitor:
        """Somebody with these roles; called after the first of them unless `name` says otherwise."""
        browser = TestClient(self.kit.wrap(app()), base_url="http://school.test")
        browser.cookies.set(WHO, self.cookie(*roles, name=name)["value"], domain="school.test")
        return Visitor(browser)

    def stranger(self) -> Visitor:
        """Somebody who is not logged in."""
        return Visitor(TestClient(self.kit.wrap(app()), base_url="http://school.test"))

    @staticmethod
    def cookie(*roles: str, name: str = "", url: str = "http://school.test") -> dict[str, str]:
        """The cookie of somebody with these roles, as Playwright's `add_cookies` takes it."""
        return {"name": WHO, "value": f"{name or roles[0].capitalize()}:{'+'.join(roles)}", "url": url}

    def join(self, *addresses: str, list: str = "nieuwsbrief") -> None:
        """Confirmed subscribers, who came from the school's paper forms."""
        join_by_import(self.kit, list, "email\n" + "".join(f"{address}\n" for address in addresses))


def join_by_import(kit: ConsentKit, list: str, csv: str) -> Any:
    """Bring people in from a CSV, with the proof that the school has on paper."""
    paper = kit.paper()
    form = paper.form(list)
    assert form is not None
    importer = Importer(
        kit.store,
        kit.afgemeld,
        topic=paper.topics[list],
        form=form,
        site=paper.site.name,
        route=Route.CONSENT,
        proof={"how": "papieren formulier, open dag"},
        language="nl",
        now=kit.now(),
    )
    return importer.read(BytesIO(csv.encode()))


@contextmanager
def open_office(folder: Path, *, database: str = "", **tables: Any) -> Iterator[Office]:
    """The office of the school, with whatever tables of settings are given instead of the usual ones.

    Args:
        folder: for database and keys. database: another than SQLite in `folder`.
    """
    if database:
        tables["database"] = {"url": database}
    clock, mailer = Clock(), MemoryMailer()
    kit = ConsentKit(desk.settings(folder, **tables), clock=clock, mailer=mailer, console_user=console_user)
    kit.store.upgrade()
    try:
        yield Office(kit, clock, mailer)
    finally:
        kit.close()

"""The tools under test: how each is put before the site, and how a visitor answers it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from battery.browsers import ORIGIN
from battery.cases import Case, load
from battery.site import App, Site

Ask = Callable[[str, str, dict[str, str]], tuple[list[str], str]]
"""Ask the site by method, path and form: the `Set-Cookie` headers of the answer, and its text."""


@dataclass(frozen=True)
class Target:
    """A bare site: no tool at all. It shows what each case does by itself; the tools are subclasses.

    `accept` and `refuse` are selectors of buttons on every page; "" when there are none. `exact`: what it delivers is
    compared with the source, byte by byte.
    """

    name: str = "none"
    modes: Sequence[str] = ("",)
    accept: str = ""
    refuse: str = ""
    exact: bool = False

    def version(self) -> str:
        """The version that is tested."""
        return ""

    def write(self, case: Case) -> str:
        """A case as the tool's documentation tells an author to write it."""
        return case.html

    def file(self, case: Case, name: str, text: str) -> str:
        """A file of the site's own that a case needs, written by the same author."""
        return text

    def tags(self, cases: Sequence[Case]) -> str:
        """What the tool wants in every head."""
        return ""

    @contextmanager
    def around(self, site: Site, mode: str) -> Iterator[App]:
        """The site with the tool in place."""
        yield site.app

    def enforces(self, mode: str) -> bool:
        """Whether the browser enforces a policy that is made for the visitor, so that nothing has an excuse."""
        return False

    def by_hand(self, ask: Ask, decision: str) -> list[str] | None:
        """The answer as a browser without JavaScript posts it, for a browser that can't be made to click then; the
        `Set-Cookie` headers that came back. None when there is no such form."""
        return None

    def opens(self, case: Case, mode: str, *, js: bool) -> bool:
        """Whether consent is meant to let this case through; a tool may say that in a mode it never does."""
        return True


CLOSED_IN_SHARED = {
    *("event-handler", "frame-javascript"),
    *("shadow-link", "template-shadow"),
    "import-map",
    "meta-refresh",  # Firefox reads it once
}


@dataclass(frozen=True)
class ConsentKitTarget(Target):
    """consentkit, with the services of the cases configured and no word of it in the markup.

    A mode is `html-csp`: `private-off`, `shared-off`, `private-enforce`, `shared-enforce`, `private-report`.
    """

    name: str = "consentkit"
    modes: Sequence[str] = ("private-off", "shared-off", "private-enforce")
    accept: str = "#consentkit .consentkit-answer button[value=accept]"
    refuse: str = "#consentkit .consentkit-answer button[value=refuse]"
    exact: bool = True

    def version(self) -> str:
        return metadata.version("consentkit")

    @contextmanager
    def around(self, site: Site, mode: str) -> Iterator[App]:
        from consentkit import ConsentKit, Settings

        html, _, csp = mode.partition("-")
        services = sorted({case.service for case in load() if case.service})
        table: dict[str, Any] = {
            "name": "Basisschool De Linde",
            "base_url": ORIGIN,
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
            "html": html,
            "csp": csp,
        }
        with tempfile.TemporaryDirectory() as folder:
            kit = ConsentKit(
                Settings(
                    site=table,
                    services={name: {} for name in services},
                    secret_keys=["k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"],
                    folder=Path(folder),
                    source="battery",
                )
            )
            kit.store.upgrade()
            try:
                yield kit.wrap(site.app)
            finally:
                kit.close()

    def by_hand(self, ask: Ask, decision: str) -> list[str] | None:
        _, page = ask("GET", "/privacy/settings", {})
        notice = re.search(r'name="?notice"? value="?([A-Za-z0-9_.-]+)', page)
        if notice is None:
            return None
        cookies, _ = ask("POST", "/privacy/choice", {"decision": decision, "notice": notice[1], "next": "/"})
        return cookies

    def enforces(self, mode: str) -> bool:
        return mode == "private-enforce"

    def opens(self, case: Case, mode: str, *, js: bool) -> bool:
        """Shared pages are opened by a script in the browser: no response header and no frameset hears of it, it makes
        no code of attributes, it does not look into shadow roots, and an own module that failed is not tried again. An
        enforced policy lets in whom the configuration names, and the site's drawings load from the site only."""
        if mode.startswith("shared"):
            return js and not (case.headers or case.document or case.name in CLOSED_IN_SHARED)
        if mode.endswith("-enforce"):
            return bool(case.service) and not case.unnamed and case.name != "own-svg-file"
        return True

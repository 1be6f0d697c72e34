"""One request to one of our routes: what every page of ours needs of it, and the headers that go with each answer."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from consentkit.choice import Found, State
from consentkit.web.site import Site

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms of these pages would come from "null"
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
PAGE_HEADERS = HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Frame-Options": "DENY",
}
SECRET_HEADERS = PAGE_HEADERS | {"Referrer-Policy": "no-referrer"}
"""For pages whose address is a key, which is told to nobody."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request, the site that it is for, the language that it is answered in, and the visitor's choice.

    `old` is what an earlier consent tool kept, of a visitor who did not answer here yet.
    """

    request: Request
    site: Site
    lang: str
    value: str | None
    state: State
    old: Found | None = None

    @property
    def root(self) -> str:
        """The path that the app is mounted under."""
        return str(self.request.scope.get("root_path", ""))

    @property
    def client(self) -> str:
        """Whom a limit counts for."""
        return self.request.client.host if self.request.client else "unknown"

    def url(self, route: str) -> str:
        """The path of a route of ours."""
        return f"{self.root}{self.site.settings.prefix}/{route}"

    @property
    def wants_json(self) -> bool:
        """Whether a script asks."""
        return "application/json" in self.request.headers.get("accept", "")

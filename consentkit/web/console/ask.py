"""One request of somebody who is logged in: what was asked and sent, and the answers that every page of the console
gives. `Route` says which right a path needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeVar

from starlette.responses import RedirectResponse, Response

from consentkit.afgemeld import Afgemeld
from consentkit.audit import Audit
from consentkit.evidence import Evidence
from consentkit.mailing import Draft, Drafts, Engine, Mailings
from consentkit.newsletter import Newsletter, Paper
from consentkit.render import Texts
from consentkit.render.console import ConsoleRenderer
from consentkit.settings import Settings
from consentkit.staff import Accounts, Jobs, Member, Posts, Right, StaffLog
from consentkit.store import Store
from consentkit.tokens import Tokens
from consentkit.web.console.figures import Figures
from consentkit.web.visit import PAGE_HEADERS, Visit

HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": f"{PAGE_HEADERS['Content-Security-Policy']}; frame-src 'self'; trusted-types 'none'"
}

T = TypeVar("T")


class Kit(Protocol):
    """What the console needs of the kit."""

    settings: Settings
    store: Store
    tokens: Tokens
    accounts: Accounts
    afgemeld: Afgemeld
    audit: Audit
    evidence: Evidence
    newsletter: Newsletter
    mailings: Mailings
    drafts: Drafts
    engine: Engine

    def now(self) -> Any: ...
    def paper(self, site: str | None = None) -> Paper: ...
    async def test_mailing(self, id: int, addresses: Sequence[str]) -> None: ...
    async def test_draft(self, draft: Draft, site: str | None, addresses: Sequence[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent: its bare name, its size in bytes, and itself, to be read from its beginning."""

    name: str
    size: int
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form sent, as it was typed."""

    fields: tuple[tuple[str, str], ...] = ()
    uploads: tuple[tuple[str, Upload], ...] = ()

    @property
    def told(self) -> str:
        """All of it as one text, of files their names and sizes; without the token of the form."""
        files = [(name, upload.name, upload.size) for name, upload in self.uploads]
        return repr(([pair for pair in self.fields if pair[0] != "form"], files))

    def text(self, name: str) -> str:
        """The first value of a field, without space around it; empty where there is none."""
        return next((value.strip() for key, value in self.fields if key == name), "")

    def raw(self, name: str) -> str:
        """The first value of a field as it was typed, with `\\n` for line breaks."""
        return next((value for key, value in self.fields if key == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field."""
        return tuple(value for key, value in self.fields if key == name)

    def has(self, name: str) -> bool:
        """Whether a box was ticked or a button pressed."""
        return any(key == name for key, _ in self.fields)

    def close(self) -> None:
        """Let go of the files."""
        for _, upload in self.uploads:
            upload.file.close()

    def upload(self, name: str) -> Upload | None:
        """A file that was chosen; None where none was."""
        return next((upload for key, upload in self.uploads if key == name and upload.name), None)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the areas of the console work with; one for all requests."""

    kit: Kit
    log: StaffLog
    posts: Posts
    figures: Figures
    jobs: Jobs
    renderers: Mapping[str, ConsoleRenderer]


@dataclass(slots=True)
class Ask:
    """One request.

    Args:
        member: who asks. params: what stood in the path. sent: of a POST. t: the words of the language to speak.
        area: whose entry in the menu is the current one.
    """

    visit: Visit
    rooms: Rooms
    member: Member
    params: Mapping[str, Any]
    t: Texts
    area: str
    sent: Sent = field(default_factory=Sent)

    @property
    def kit(self) -> Kit:
        """The rooms below."""
        return self.rooms.kit

    def query(self, name: str) -> str:
        """A value of the query, without space around it; empty where there is none."""
        return self.visit.request.query_params.get(name, "").strip()

    def url(self, path: str) -> str:
        """The address of a page of the console: `mailings/3`."""
        return self.visit.url(f"console/{path}" if path else "console")

    def page(
        self, name: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
    ) -> Response:
        """A page from `templates/console/<name>.html`, which gets who asks, their rights, and `context`."""
        renderer = self.rooms.renderers[self.visit.site.settings.name]
        told = self.query("told")
        values = {
            "ask": self,
            "me": self.member,
            "area": self.area,
            "told": told if told.rpartition(".")[2].startswith("told_") and self.t.has(told) else "",
            "form_token": lambda: self.rooms.posts.issue(self.member),
            "url": self.url,
            "rights": {right.value: self.member.may(right) for right in Right},
        }
        body = renderer.page(name, self.t.lang, root=self.visit.root, **values | context)
        return Response(body, status, HEADERS | dict(headers or {}), "text/html; charset=utf-8")

    def back(self, path: str, told: str = "") -> Response:
        """See another page of the console, after something was done.

        Args:
            told: a text key whose last part begins with `told_`: what was done, as a status message.
        """
        address = self.url(path)
        if told:
            address += f"{'&' if '?' in address else '?'}told={told}"
        return RedirectResponse(address, 303, HEADERS)

    def wrong(self, sentence: str, *, status: int = 409, title: str = "") -> Response:
        """A plain page that says what is wrong."""
        return self.page("message", status=status, title=title or self.t("base.refused"), sentence=sentence)

    async def note(self, act: str, about: str = "", *, person: bytes | None = None) -> None:
        """Write to the log who did or read this; before it is shown or done."""
        await asyncio.to_thread(self.rooms.log.note, self.member.name, act, about, person=person)

    @staticmethod
    async def run(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What blocks, in a thread."""
        return await asyncio.to_thread(call, *arguments, **options)


Handler = Callable[[Ask], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the console.

    Args:
        path: behind `console/`, as Starlette writes it: `mailings/{id:int}`.
        right: that is needed; None: anybody who is logged in.
        get, post: what answers; None: there is no such method.
        post_right: that a POST needs, where it is another.
        uploads: whether files may be sent.
        once: False for a POST that only reads, such as a look-up by address: it may be sent again.
    """

    path: str
    right: Right | None
    get: Handler | None = None
    post: Handler | None = None
    post_right: Right | None = None
    uploads: bool = False
    once: bool = True

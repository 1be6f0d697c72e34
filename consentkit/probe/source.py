"""Where pages come from: a running site, or an app that is called in this process, without a server."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote, unquote, urljoin, urlsplit

from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

from consentkit.errors import ConsentKitError
from consentkit.probe.report import visible
from consentkit.web.consent import KEY, Consent
from consentkit.web.flow import PageFlow

MAX_PAGE = 4 * 1024 * 1024
TIMEOUT_SECONDS = 10
HEADERS = {
    "User-Agent": "consentkit",
    "Accept": "text/html",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Accept-Encoding": "identity",
}


class PageUnreachable(ConsentKitError):
    """A page could not be fetched."""

    def __init__(self, what: str) -> None:
        super().__init__(visible(what))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for a path; of a body at most MAX_PAGE bytes."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a header, by its name in small letters."""
        return [value for key, value in self.headers if key == name]

    @property
    def html(self) -> bool:
        """Whether it is a page."""
        return any("html" in value.lower() for value in self.all("content-type"))

    @property
    def leads_to(self) -> str:
        """Where it redirects to; empty where it does not."""
        return next(iter(self.all("location")), "") if 300 <= self.status < 400 else ""


class Source(Protocol):
    """Something that pages can be asked of. `base` is its scheme and host."""

    base: str

    def get(self, path: str, cookie: str = "") -> Answer:
        """Ask for a path with its query.

        Args:
            cookie: the `Cookie` header.

        Raises:
            PageUnreachable: nothing came.
        """


def _on_site(here: str, there: str) -> str:
    """Where a redirect leads; empty where it leaves the site: for another host or port, or from https down to http."""
    try:
        url = urljoin(here, there)
        at, to = urlsplit(here), urlsplit(url)
    except ValueError:  # no address
        return ""
    return url if to.netloc.lower() == at.netloc.lower() and to.scheme in (at.scheme, "https") else ""


class _Within(urllib.request.HTTPRedirectHandler):
    """Stops where a site leads to another: that one gets no cookie of this one, and is not judged as if it were it."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        return super().redirect_request(req, *rest) if _on_site(req.full_url, rest[-1]) else None


_opener = urllib.request.build_opener(_Within)


class Web:
    """A site that runs somewhere.

    Args:
        base: scheme and host, `https://delinde.example`.
    """

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    def get(self, path: str, cookie: str = "") -> Answer:
        """Ask for a path. Redirects within the site are followed."""
        headers = HEADERS | ({"Cookie": cookie} if cookie else {})
        request = urllib.request.Request(self.base + path, headers=headers)  # noqa: S310 - base is http or https
        try:
            try:
                answer = _opener.open(request, timeout=TIMEOUT_SECONDS)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                got = tuple((name.lower(), value) for name, value in answer.headers.items())
                return Answer(answer.status or 0, got, answer.read(MAX_PAGE))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PageUnreachable(f"{self.base}{path} does not answer: {error}") from error


class App(AbstractContextManager["App"]):
    """An ASGI app, called directly; its lifespan begins and ends with the block.

    Args:
        app: the application. base: the scheme and host that it is to believe it is asked for.
    """

    flow: PageFlow | None = None
    """What the middleware around the app knows of its site; None until a page was asked, and where there is none."""

    def __init__(self, app: ASGIApp, base: str = "http://127.0.0.1") -> None:
        self.base = base.rstrip("/")
        self._app = app
        self._open: AbstractContextManager[BlockingPortal] | None = None
        self._life: _Life | None = None

    def __enter__(self) -> Self:
        self._open = start_blocking_portal()
        self._portal = self._open.__enter__()
        self._life = _Life(self._app)
        self._portal.call(self._life.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open and self._life:
            try:
                self._portal.call(self._life.stop)
            finally:
                self._open.__exit__(kind, error, trace)

    def get(self, path: str, cookie: str = "") -> Answer:
        """Ask for a path. Redirects within the site are followed."""
        for _ in range(5):
            answer = self._portal.call(self._ask, path, cookie)
            to = _on_site(self.base + path, answer.leads_to) if answer.leads_to else ""
            if not to:
                return answer
            path = "/" + to.partition("//")[2].partition("#")[0].partition("/")[2]
        return answer

    async def _ask(self, path: str, cookie: str) -> Answer:
        scope = self._scope(path, cookie)
        asked = False
        ended = asyncio.Event()
        status, body = 0, bytearray()
        headers: tuple[tuple[str, str], ...] = ()

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await ended.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = tuple(
                    (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
                    for name, value in message.get("headers", ())
                )
            elif message["type"] == "http.response.body" and len(body) < MAX_PAGE:
                body.extend(message.get("body", b""))

        try:
            await asyncio.wait_for(self._app(scope, receive, send), TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise PageUnreachable(f"{path} took more than {TIMEOUT_SECONDS} seconds") from error
        except Exception as error:
            if not status:
                raise PageUnreachable(f"{path} ended in {type(error).__name__}: {error}") from error
        finally:
            ended.set()
        known = scope.get(KEY)
        if isinstance(known, Consent):
            self.flow = known.flow or self.flow
        return Answer(status, headers, bytes(body))

    def _scope(self, path: str, cookie: str) -> Scope:
        parts = urlsplit(self.base)
        plain, _, query = path.partition("?")
        headers = {"Host": parts.netloc, **HEADERS, **({"Cookie": cookie} if cookie else {})}
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": parts.scheme,
            "path": unquote(plain),
            "raw_path": quote(plain, safe="/%:@!$&()*+,;=~-._").encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 9),
            "server": (parts.hostname or "127.0.0.1", port),
            "state": dict(self._life.state) if self._life else {},
        }


@contextmanager
def source_of(app_or_url: Any, base: str = "http://127.0.0.1") -> Iterator[Source]:
    """What pages can be asked of, while the block runs: a site that runs, by its address, or an ASGI app.

    Args:
        base: the scheme and host that an app is to believe it is asked for.
    """
    if isinstance(app_or_url, str):
        yield Web(app_or_url)
    else:
        with App(app_or_url, base) as app:
            yield app


class _Life:
    """The lifespan protocol, for an app that takes part in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        await self._told.put({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self._run(scope))
        await self._reply("lifespan.startup.failed")

    async def _run(self, scope: Scope) -> None:
        with suppress(Exception):  # an app without a lifespan may raise
            await self._app(scope, self._told.get, self._said.put)

    async def _reply(self, failed: str) -> None:
        said = asyncio.ensure_future(self._said.get())
        done: Iterable[Any] = (await asyncio.wait({said, self._task}, return_when="FIRST_COMPLETED"))[0]
        if said not in done:
            said.cancel()
        elif said.result()["type"] == failed:
            raise PageUnreachable(f"the app did not start: {said.result().get('message') or 'it did not say why'}")

    async def stop(self) -> None:
        if not self._task.done():
            await self._told.put({"type": "lifespan.shutdown"})
            await self._reply("")
            await asyncio.wait({self._task}, timeout=TIMEOUT_SECONDS)
        self._task.cancel()

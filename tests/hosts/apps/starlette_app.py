"""Starlette, with its own gzip middleware in one of the ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from consentkit import ConsentMiddleware, consent_of
from tests.hosts import content


async def home(request: Request) -> Response:
    return HTMLResponse(content.HOME)


async def stream(request: Request) -> Response:
    return StreamingResponse(content.stream(), media_type="text/html")


async def data(request: Request) -> Response:
    response = JSONResponse({"ok": True})
    response.set_cookie(content.TRACKER_COOKIE, "1")
    response.set_cookie(content.OWN_COOKIE, "1")
    return response


async def download(request: Request) -> Response:
    return HTMLResponse(content.HOME, headers={"Content-Disposition": 'attachment; filename="x.html"'})


async def consent(request: Request) -> Response:
    return JSONResponse({"analytics": consent_of(request).allows("analytics")})


async def form(request: Request) -> Response:
    if request.method == "POST":
        return RedirectResponse(f"/?naam={(await request.form())['naam']}", 303)
    return HTMLResponse(content.form())


async def fragment(request: Request) -> Response:
    return HTMLResponse(content.FRAGMENT)


async def events(request: Request) -> Response:
    return StreamingResponse(content.events(), media_type="text/event-stream")


async def boom(request: Request) -> Response:
    raise RuntimeError("boom")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    allowed = consent_of(socket).allows("analytics")
    await socket.send_text(f"{await socket.receive_text()} {allowed}")
    await socket.close()


async def missing(request: Request, error: Exception) -> Response:
    return HTMLResponse(content.MISSING, 404)


async def broken(request: Request, error: Exception) -> Response:
    return HTMLResponse(content.BROKEN, 500)


def routes(static: Path) -> list[Any]:
    return [
        Route("/", home),
        Route("/stream", stream),
        Route("/json", data),
        Route("/download", download),
        Route("/consent", consent),
        Route("/form", form, methods=["GET", "POST"]),
        Route("/fragment", fragment),
        Route("/events", events),
        Route("/boom", boom),
        WebSocketRoute("/ws", echo),
        Mount("/static", StaticFiles(directory=static)),
    ]


def make(static: Path) -> Starlette:
    return Starlette(routes=routes(static), exception_handlers={404: missing, 500: broken})


def build(static: Path) -> content.Host:
    def added(kit: Any) -> Any:
        app = make(static)
        app.add_middleware(ConsentMiddleware, kit=kit)
        return app

    def gzipped(kit: Any) -> Any:
        app = make(static)
        app.add_middleware(GZipMiddleware, minimum_size=1)
        return kit.wrap(app)

    def inside_gzip(kit: Any) -> Any:
        app = added(kit)
        app.add_middleware(GZipMiddleware, minimum_size=1)
        return app

    return content.Host(
        app=make(static),
        ways={
            "wrap": lambda kit: kit.wrap(make(static)),
            "add_middleware": added,
            "wrap around gzip": gzipped,
            "inside gzip": inside_gzip,
        },
        outside=frozenset({"add_middleware", "inside gzip"}),
    )

"""FastAPI, whose handlers return values and dependencies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from consentkit import Consent, ConsentMiddleware, consent_of
from tests.hosts import content


def _consent(request: Request) -> Consent:
    return consent_of(request)


def make(static: Path) -> FastAPI:
    app = FastAPI()

    @app.get("/", response_class=HTMLResponse)
    async def home() -> str:
        return content.HOME

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(content.stream(), media_type="text/html")

    @app.get("/json")
    def data(response: Response) -> dict[str, bool]:
        response.set_cookie(content.TRACKER_COOKIE, "1")
        response.set_cookie(content.OWN_COOKIE, "1")
        return {"ok": True}

    @app.get("/download")
    def download() -> HTMLResponse:
        return HTMLResponse(content.HOME, headers={"Content-Disposition": 'attachment; filename="x.html"'})

    @app.get("/consent")
    async def consent(known: Annotated[Any, Depends(_consent)]) -> dict[str, bool]:
        return {"analytics": known.allows("analytics")}

    @app.get("/form", response_class=HTMLResponse)
    async def form() -> str:
        return content.form()

    @app.post("/form")
    async def posted(naam: Annotated[str, Form()]) -> RedirectResponse:
        return RedirectResponse(f"/?naam={naam}", 303)

    @app.get("/fragment", response_class=HTMLResponse)
    async def fragment() -> str:
        return content.FRAGMENT

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(content.events(), media_type="text/event-stream")

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("boom")

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        allowed = consent_of(socket).allows("analytics")
        await socket.send_text(f"{await socket.receive_text()} {allowed}")
        await socket.close()

    @app.exception_handler(404)
    async def missing(request: Request, error: Exception) -> HTMLResponse:
        return HTMLResponse(content.MISSING, 404)

    @app.exception_handler(500)
    async def broken(request: Request, error: Exception) -> HTMLResponse:
        return HTMLResponse(content.BROKEN, 500)

    app.mount("/static", StaticFiles(directory=static))
    return app


def build(static: Path) -> content.Host:
    def added(kit: Any) -> Any:
        app = make(static)
        app.add_middleware(ConsentMiddleware, kit=kit)
        return app

    return content.Host(
        app=make(static),
        ways={"wrap": lambda kit: kit.wrap(make(static)), "add_middleware": added},
        outside=frozenset({"add_middleware"}),
    )

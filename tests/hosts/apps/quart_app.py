"""Quart, which sends a page in one message and then an empty one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quart import Quart, Response, jsonify, redirect, request, websocket

from consentkit import consent_of
from tests.hosts import content


def make(static: Path) -> Quart:
    app = Quart(__name__, static_folder=str(static), static_url_path="/static")

    @app.get("/")
    async def home() -> str:
        return content.HOME

    @app.get("/stream")
    async def stream() -> Response:
        return Response(content.stream(), mimetype="text/html")

    @app.get("/json")
    async def data() -> Response:
        response = jsonify(ok=True)
        response.set_cookie(content.TRACKER_COOKIE, "1")
        response.set_cookie(content.OWN_COOKIE, "1")
        return response

    @app.get("/download")
    async def download() -> tuple[str, int, dict[str, str]]:
        return content.HOME, 200, {"Content-Disposition": 'attachment; filename="x.html"'}

    @app.get("/consent")
    async def consent() -> dict[str, bool]:
        return {"analytics": consent_of(request).allows("analytics")}

    @app.route("/form", methods=["GET", "POST"])
    async def form() -> Any:
        if request.method == "POST":
            return redirect(f"/?naam={(await request.form)['naam']}", 303)
        return content.form()

    @app.get("/fragment")
    async def fragment() -> str:
        return content.FRAGMENT

    @app.get("/events")
    async def events() -> Response:
        return Response(content.events(), mimetype="text/event-stream")

    @app.get("/boom")
    async def boom() -> str:
        raise RuntimeError("boom")

    @app.websocket("/ws")
    async def echo() -> None:
        allowed = consent_of(websocket).allows("analytics")
        await websocket.send(f"{await websocket.receive()} {allowed}")

    @app.errorhandler(404)
    async def missing(error: Exception) -> tuple[str, int]:
        return content.MISSING, 404

    @app.errorhandler(500)
    async def broken(error: Exception) -> tuple[str, int]:
        return content.BROKEN, 500

    return app


def build(static: Path) -> content.Host:
    def inside(kit: Any) -> Any:
        app = make(static)
        app.asgi_app = kit.wrap(app.asgi_app)  # type: ignore[method-assign]
        return app

    return content.Host(app=make(static), ways={"wrap": lambda kit: kit.wrap(make(static)), "asgi_app": inside})

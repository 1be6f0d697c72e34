"""Flask, a WSGI app, through a2wsgi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, jsonify, redirect, request

from consentkit import consent_of
from tests.hosts import content


def make(static: Path) -> Flask:
    app = Flask(__name__, static_folder=str(static), static_url_path="/static")

    @app.get("/")
    def home() -> str:
        return content.HOME

    @app.get("/stream")
    def stream() -> Response:
        return Response(content.stream_sync(), mimetype="text/html")

    @app.get("/json")
    def data() -> Response:
        response = jsonify(ok=True)
        response.set_cookie(content.TRACKER_COOKIE, "1")
        response.set_cookie(content.OWN_COOKIE, "1")
        return response

    @app.get("/download")
    def download() -> tuple[str, int, dict[str, str]]:
        return content.HOME, 200, {"Content-Disposition": 'attachment; filename="x.html"'}

    @app.get("/consent")
    def consent() -> dict[str, bool]:
        assert consent_of(request.environ).allows("analytics") == consent_of(request).allows("analytics")
        return {"analytics": consent_of(request).allows("analytics")}

    @app.route("/form", methods=["GET", "POST"])
    def form() -> Any:
        if request.method == "POST":
            return redirect(f"/?naam={request.form['naam']}", 303)
        return content.form()

    @app.get("/fragment")
    def fragment() -> str:
        return content.FRAGMENT

    @app.get("/events")
    def events() -> Response:
        return Response(iter(content.EVENTS), mimetype="text/event-stream")

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("boom")

    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        return content.MISSING, 404

    @app.errorhandler(500)
    def broken(error: Exception) -> tuple[str, int]:
        return content.BROKEN, 500

    return app


def build(static: Path) -> content.Host:
    return content.Host(
        app=WSGIMiddleware(make(static)),
        ways={"wrap_wsgi": lambda kit: kit.wrap_wsgi(make(static))},
        websocket=False,
    )

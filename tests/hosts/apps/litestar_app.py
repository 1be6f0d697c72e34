"""Litestar, with its own compression in one of the ways."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.config.compression import CompressionConfig
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.middleware import DefineMiddleware
from litestar.params import Body
from litestar.response import Redirect, Stream
from litestar.static_files import create_static_files_router

from consentkit import ConsentMiddleware, consent_of
from tests.hosts import content


@get("/", media_type=MediaType.HTML)
async def home() -> str:
    return content.HOME


@get("/stream")
async def stream() -> Stream:
    return Stream(content.stream(), media_type="text/html")


@get("/json")
async def data() -> Response[dict[str, bool]]:
    response = Response({"ok": True})
    response.set_cookie(content.TRACKER_COOKIE, "1")
    response.set_cookie(content.OWN_COOKIE, "1")
    return response


@get("/download")
async def download() -> Response[str]:
    headers = {"Content-Disposition": 'attachment; filename="x.html"'}
    return Response(content.HOME, media_type=MediaType.HTML, headers=headers)


@get("/consent")
async def consent(request: Request[Any, Any, Any]) -> dict[str, bool]:
    return {"analytics": consent_of(request).allows("analytics")}


@get("/form", media_type=MediaType.HTML)
async def form() -> str:
    return content.form()


@post("/form")
async def posted(data: Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]) -> Redirect:
    return Redirect(f"/?naam={data['naam']}", status_code=303)


@get("/fragment", media_type=MediaType.HTML)
async def fragment() -> str:
    return content.FRAGMENT


@get("/events")
async def events() -> Stream:
    return Stream(content.events(), media_type="text/event-stream")


@get("/boom")
async def boom() -> None:
    raise RuntimeError("boom")


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    allowed = consent_of(socket).allows("analytics")
    await socket.send_text(f"{await socket.receive_text()} {allowed}")
    await socket.close()


def missing(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    return Response(content.MISSING, media_type=MediaType.HTML, status_code=404)


def broken(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    return Response(content.BROKEN, media_type=MediaType.HTML, status_code=500)


def make(static: Path, **more: Any) -> Litestar:
    files = create_static_files_router(path="/static", directories=[static])
    handlers = [home, stream, data, download, consent, form, posted, fragment, events, boom, echo, files]
    return Litestar(
        handlers,
        exception_handlers={NotFoundException: missing, 500: broken},
        openapi_config=None,
        logging_config=None,
        **more,
    )


def build(static: Path) -> content.Host:
    def handler(kit: Any) -> Any:
        app = make(static)
        app.asgi_handler = kit.wrap(app.asgi_handler)
        return app

    return content.Host(
        app=make(static),
        ways={
            "wrap": lambda kit: kit.wrap(make(static)),
            "asgi_handler": handler,
            "wrap around gzip": lambda kit: kit.wrap(
                make(static, compression_config=CompressionConfig(backend="gzip", minimum_size=1))
            ),
            "wrap around brotli": lambda kit: kit.wrap(
                make(static, compression_config=CompressionConfig(backend="brotli", minimum_size=1))
            ),
            "middleware": lambda kit: make(static, middleware=[DefineMiddleware(ConsentMiddleware, kit=kit)]),
        },
        ranges=False,
        conditional=False,
    )

"""Finds an app by `module:attribute`, tells ASGI from WSGI, and serves one for as long as a command needs it."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware
from starlette.types import ASGIApp

from consentkit.errors import ConsentKitError


class AppNotFound(ConsentKitError):
    """`module:app` names nothing that can be served."""


def load(spec: str) -> Any:
    """The object that `module:attribute` names; the current folder is searched first.

    Raises:
        AppNotFound: no such module or attribute, or it is no application.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise AppNotFound(f'"{spec}" is no app: write module:attribute, such as "mysite.main:app"')
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise AppNotFound(f'there is no module "{error.name}" in {Path.cwd()}: check the spelling') from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise AppNotFound(f'module "{module_name}" has no "{attribute}"')
        found = getattr(found, name)
    if not callable(found):
        raise AppNotFound(f'"{spec}" is no application: it can\'t be called')
    return found


def is_wsgi(app: Any) -> bool:
    """Whether a callable takes `(environ, start_response)` rather than `(scope, receive, send)`."""
    call = app if inspect.isfunction(app) or inspect.ismethod(app) else type(app).__call__
    if inspect.iscoroutinefunction(call):
        return False
    needed = [
        parameter
        for name, parameter in inspect.signature(call).parameters.items()
        if name != "self" and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 2


def as_asgi(app: Any) -> ASGIApp:
    """An ASGI application, whichever kind `app` is."""
    return WSGIMiddleware(app) if is_wsgi(app) else app  # type: ignore[return-value]


def app_or_url(target: str) -> ASGIApp | str:
    """The address of a site as it is, and the ASGI application that a `module:attribute` names.

    Raises:
        AppNotFound: see `load`.
    """
    return target if target.startswith(("http://", "https://")) else as_asgi(load(target))


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an app on a free loopback port while the block runs; gives its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise AppNotFound("the app did not start; its error stands above")
        thread.join(0.02)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)

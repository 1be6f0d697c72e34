"""A real Chromium for the tests that need eyes, and apps served on loopback for it to look at."""

from __future__ import annotations

import asyncio
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = os.environ.get("CONSENTKIT_CHROMIUM", "/usr/bin/chromium")
# The same engine, of the same release, without the windows and services of a browser: a page costs it a third less.
# Where it is missing the tests run in the whole browser, as the battery always does.
SHELL = "/usr/bin/chromium-headless-shell"
if CHROMIUM == "/usr/bin/chromium" and os.access(SHELL, os.X_OK):
    CHROMIUM = SHELL
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What a new profile costs most, and no test looks at: the pages behind the address bar, and processes to spare.
UNUSED = "SpareRendererForSitePerProcess,WebUIOmniboxPopup,WebUIOmniboxAimPopup,IsolateSandboxedIframes"
# Of several lists of features Chromium takes the last: these join Playwright's own list instead of replacing it.
LEAN = """#!/bin/sh
for arg do
    shift
    case $arg in --disable-features=*) arg=$arg,{unused} ;; esac
    set -- "$@" "$arg"
done
exec {chromium} "$@"
"""


_LOOP: list[asyncio.AbstractEventLoop | None] = [None]


def forget_loop() -> None:
    """Playwright's sync API leaves its event loop marked as running, so that no later test could start its own."""
    asyncio.events._set_running_loop(None)


def resume_loop() -> None:
    """Give Playwright its loop back; to be called before the browser is used again."""
    asyncio.events._set_running_loop(_LOOP[0])


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Browser]]:
    """Starts a Chromium with extra command line flags (host rules, say); all are closed at the end."""
    lean = tmp_path_factory.mktemp("chromium") / "chromium"
    lean.write_text(LEAN.format(unused=UNUSED, chromium=shlex.quote(CHROMIUM)), "utf-8")
    lean.chmod(0o755)
    with sync_playwright() as playwright:
        _LOOP[0] = asyncio.events._get_running_loop()

        def start(*flags: str, **options: Any) -> Browser:
            resume_loop()
            return playwright.chromium.launch(executable_path=lean, args=[*FLAGS, *flags], **options)

        yield start
        resume_loop()


@pytest.fixture(scope="session")
def chromium(launch: Callable[..., Browser]) -> Iterator[Browser]:
    """One Chromium for the whole run; every test gets fresh contexts of it."""
    browser = launch()
    forget_loop()
    yield browser
    resume_loop()
    browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A page in a profile of its own; takes the options of `Browser.new_context`."""
    contexts: list[BrowserContext] = []

    def open_page(**options: Any) -> Page:
        resume_loop()
        context = chromium.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
    forget_loop()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves an ASGI app on a free loopback port in a thread and gives its base URL; takes uvicorn's options."""
    with serving() as start:
        yield start


@contextmanager
def serving() -> Iterator[Callable[..., str]]:
    """What `serve` gives, for as long as the block runs."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: Any, **options: Any) -> str:
        config = uvicorn.Config(
            app, **{"host": "127.0.0.1", "port": 0, "log_level": "error", "lifespan": "off", **options}
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 10
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise RuntimeError("the app did not start")
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if options.get("ssl_certfile") else "http"
        return f"{scheme}://{host}:{port}"

    try:
        yield start
    finally:
        for server, _ in running:
            server.should_exit = True
            server.force_exit = True
        for _, thread in running:
            thread.join(10)

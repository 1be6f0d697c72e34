"""A browser for which the site's name leads to the app of the test that runs, and the trackers' names to a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser

from tests.browser.trackers import Trackers
from tests.browser_fixtures import forget_loop, resume_loop, serving

SITE = "www.school.test"
CHROMIUMS_OWN = ("accounts.google.com", "update.googleapis.com", "content-autofill.googleapis.com")
"""What it asks by itself, whatever the page is."""


class Door:
    """Where the site's name leads: to the app of the test that runs."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@contextmanager
def a_world(
    launch: Callable[..., Browser], arrived: Trackers, hosts: Iterable[str], *, names: Iterable[str] = (SITE,)
) -> Iterator[tuple[Browser, Door]]:
    """A Chromium for which `names` are the door.

    Args:
        launch: starts it. arrived: the stand-in. hosts: who leads there; "*" for everybody but the browser's own.
    """
    door = Door()
    with serving() as serve:
        port = serve(door).rpartition(":")[2]
        rules = [f"MAP {name}:80 127.0.0.1:{port}" for name in names]
        rules += [f"MAP {name} ~NOTFOUND" for name in CHROMIUMS_OWN]
        rules += [f"MAP {name} 127.0.0.1:{arrived.port}" for name in hosts]
        browser = launch(
            f"--host-resolver-rules={', '.join([*rules, 'MAP * ~NOTFOUND'])}", "--ignore-certificate-errors"
        )
        forget_loop()
        yield browser, door
        resume_loop()
        browser.close()
        forget_loop()

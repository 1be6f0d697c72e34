"""The school's site behind consentkit, and the hosts that play the trackers, in one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from consentkit import ConsentKit
from consentkit.cli.init import write_keys
from consentkit.settings import KEY_FILE, Settings
from demo_site.app import school
from demo_site.outside import Ledger, outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONFIG = Path(__file__).with_name("consentkit.toml")


def build(*, port: int, bare: bool = False, environ: Mapping[str, str] = os.environ) -> tuple[ASGIApp, ASGIApp]:
    """The site for `port`, and the stand-in hosts for the port after it.

    Args:
        port: the site's port; its templates point to `port + 1`.
        bare: leave consentkit out, to see what it holds back.
        environ: where keys and another database may be named; a key file is made at the first start.
    """
    ledger = Ledger()
    app: ASGIApp = school(elsewhere=port + 1, ledger=ledger)
    if not bare:
        kit = ConsentKit(settings(port=port, environ=environ))
        app = _Choices(kit.wrap(app), ledger, path=kit.sites[0].settings.prefix + "/choice")
    return app, outside(ledger)


def settings(*, port: int, environ: Mapping[str, str]) -> Settings:
    """consentkit.toml, with the port in the site's address, and keys made where there are none."""
    keys = CONFIG.with_name(KEY_FILE)
    if not keys.exists() and not {"CONSENTKIT_SECRET_KEYS", "CONSENTKIT_KEY_FILE"} & environ.keys():
        write_keys(keys)
    read = Settings.load(CONFIG, environ)
    assert read.site is not None  # noqa: S101  # consentkit.toml beside this file has one
    site = read.site.model_copy(update={"base_url": f"http://127.0.0.1:{port}"})
    return read.model_copy(update={"site": site})


class _Choices:
    """Notes in the ledger when a choice was made, so that the counts before and after it stand apart."""

    def __init__(self, app: ASGIApp, ledger: Ledger, *, path: str) -> None:
        self.app = app
        self.ledger = ledger
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self.ledger.choice()
            await send(message)

        chosen = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self.path
        await self.app(scope, receive, noting if chosen else send)

"""The school's site behind consentkit, the hosts that play the trackers, and the mail, in one process."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from consentkit import ConsentKit
from consentkit.afgemeld.intake import Outcome
from consentkit.afgemeld.intake import intake as take_opt_out
from consentkit.cli.init import write_keys
from consentkit.settings import KEY_FILE, Settings
from demo_site.app import school
from demo_site.outside import Ledger, outside
from demo_site.players import Players
from demo_site.post import Post, pages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONFIG = Path(__file__).with_name("consentkit.toml")
AFGEMELD_KEYS = "CONSENTKIT_AFGEMELD_KEYS"
OUTCOMES = {
    Outcome.TAKEN: "afmelding verwerkt",
    Outcome.KNOWN: "was al afgemeld",
    Outcome.IGNORED: "een automatisch antwoord, dus genegeerd",
    Outcome.FORGED: "geen echte afmelding: er is niets veranderd",
    Outcome.UNCLEAR: "zonder kenmerk: dit moet iemand lezen",
}


def build(
    *,
    port: int,
    bare: bool = False,
    config: Path = CONFIG,
    post: Post | None = None,
    kit: ConsentKit | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[ASGIApp, ASGIApp]:
    """The site for `port`, and the stand-in hosts for the port after it.

    Args:
        port: the site's port; its templates point to `port + 1`, its mail goes to `port + 2`.
        bare: leave consentkit out, to see what it holds back. Then there is no newsletter and no mail either.
        config: the configuration; database and keys stand beside it.
        post: gets the mail, and is shown on /post.
        kit: made with `settings`; by default it is made here.
        environ: where keys and another database may be named; a key file is made at the first start.
    """
    ledger = Ledger()
    elsewhere = outside(ledger)
    if bare:
        return school(elsewhere=port + 1, ledger=ledger), elsewhere
    kit = kit or ConsentKit(settings(port=port, config=config, environ=environ))
    post = post or Post()
    if mailbox := kit.settings.mail.unsubscribe:
        post.hand_over(mailbox, lambda raw: _take_opt_out(kit, raw))
    site = kit.wrap(school(elsewhere=port + 1, ledger=ledger, newsletter_form=kit.newsletter_form))
    counted = _Choices(site, ledger, path=kit.sites[0].settings.prefix + "/choice")
    return _Beside(counted, "/post", pages(post, Players(kit, post).routes)), elsewhere


def settings(*, port: int, environ: Mapping[str, str], config: Path = CONFIG) -> Settings:
    """The configuration, with the ports of this run in the addresses, and keys made where there are none."""
    keys = config.with_name(KEY_FILE)
    if not {"CONSENTKIT_SECRET_KEYS", "CONSENTKIT_KEY_FILE"} & environ.keys():
        if not keys.exists():
            write_keys(keys)
        elif AFGEMELD_KEYS not in keys.read_text("utf-8") and AFGEMELD_KEYS not in environ:
            with keys.open("a", encoding="utf-8") as file:  # made by a demo that had no newsletter yet
                file.write(f"\n{AFGEMELD_KEYS}={secrets.token_urlsafe(48)}\n")
    read = Settings.load(config, environ)
    assert read.site is not None  # noqa: S101  # consentkit.toml beside this file has one
    site = read.site.model_copy(update={"base_url": f"http://127.0.0.1:{port}"})
    mail = read.mail.model_copy(update={"smtp": (f"smtp://127.0.0.1:{port + 2}",)})
    return read.model_copy(update={"site": site, "mail": mail})


def post_file(config: Path) -> Path:
    """Where the mail is kept that arrived."""
    return config.with_name("demo-post.jsonl")


def _take_opt_out(kit: ConsentKit, raw: bytes) -> str:
    """As `consentkit afgemeld intake` does with a message that a mail server pipes to it."""
    return OUTCOMES[take_opt_out(kit.afgemeld, kit.links, tuple(kit.settings.lists), raw, kit.now).outcome]


class _Beside:
    """One app under a path of its own, another everywhere else."""

    def __init__(self, app: ASGIApp, path: str, beside: ASGIApp) -> None:
        self.app = app
        self.path = path
        self.beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self.path}/")
        await (self.beside if here else self.app)(scope, receive, send)


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

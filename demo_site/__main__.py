"""`python -m demo_site`, `make demo`, `consentkit demo`: serve the school and everything it talks to."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from consentkit import ConsentKit
from consentkit.errors import ConsentKitError
from demo_site import past, staff
from demo_site.post import Post
from demo_site.site import CONFIG, build, post_file, settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from consentkit.settings import Settings

WELCOME = """
  Basisschool De Linde, {how}

    http://127.0.0.1:{port}                   the site, with the trackers its templates came with
    http://127.0.0.1:{port}/teller            what reached the trackers, before and after each choice{more}

  The hosts that play Google Analytics, Meta, YouTube and Google Maps run on port {next}, on this machine{smtp}:
  everything here can be seen with the network cut. Ctrl-C stops it.
"""
MORE = """
    http://127.0.0.1:{port}/post              the mail that was sent, to everybody
    http://127.0.0.1:{port}/privacy/console   what the school's staff sees; log in as one of

{accounts}

  The site
    1  walk around, or choose Weigeren: /teller stays at 0. JavaScript off makes no difference.
    2  choose Accepteren: the trackers run, without a reload. /film and /contact offer a single video or map.
    3  "Toestemming intrekken" at the foot of a page: the cookies are gone, the trackers stand still.
    4  see also /archief (broken HTML), /resultaten (a streamed page), /nieuws (fetched pieces), /en (English),
       /storing (a 500), /privacy/cookies (the statement), /privacy/settings, /privacy/receipt

  The newsletter
    5  sign up on /nieuws as {reader}, read the mail on /post, and confirm: two acts, two mails.
    6  the welcome mail has three ways out. Its link and its page, or one POST, as a mail program sends it:
         curl -X POST -d List-Unsubscribe=One-Click http://127.0.0.1:{port}/privacy/afmelden/…
       or a mail to afmelden+…@delinde.example. The mail's page has all three, ready to use.
    7  that holds. The school still has an old list, in which {reader} stands, and imports it (in a second terminal):
         {command} newsletter import nieuwsbrief {csv} \\
           --route consent --proof "papieren formulier, open dag 2026"      (1 passed over: 1 afgemeld)
         {command} afgemeld check {reader}
{console}
  The evidence
    {command} records verify
    {command} records export
"""
CONSOLE = """
  The console
    8  log in as redactie: finish the mailing that is being written, see who gets it and who not and why, and how it
       looks. One that is finished waits for somebody else: who wrote a mailing does not send it.
    9  log in as verzenden, release that one, and watch it go. Meanwhile let a reader leave on /post/lezers: her message
       is never sent. Pause it, and go on.
   10  kill it in the middle (kill -9 {pid}) and start it again: it goes on, nobody gets it twice, and what was just
       being handed over is listed as in doubt.
   11  log in as privacy: look up a reader and see what proves her consent; find a choice at the banner by its receipt,
       and what the banner looked like then; add to afgemeld who asks for it by phone; decide on the request to lift
       that waits; see which cookies and hosts the pages have and nobody declared.
   12  log in as beheer: accounts, and who did and read what. The same from a second terminal:
         {command} staff list
         {command} mailing list
"""
BARE = """

  Compare /teller with what the site sends behind consentkit."""
READER = "sanne@voorbeeld.example"
FIRST_TIME = "  The first start: 500 readers, two months of choices and three mailings are made. One moment."


class _Server(uvicorn.Server):
    """One of several servers in a loop: the signals are for all, so none takes them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(port: int = 8000, *, bare: bool = False, empty: bool = False, config: Path = CONFIG) -> int:
    """Serve until Ctrl-C.

    Args:
        port: of the site; the stand-in hosts take the next one, and mail the one after that.
        bare: serve the site without consentkit, and so without a newsletter and mail.
        empty: begin without readers and mailings.
        config: the configuration; database and keys stand beside it.

    Returns:
        The exit code: 0, or 2 when a port can't be had.
    """
    ports = [port, port + 1] if bare else [port, port + 1, port + 2]
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for each in ports:
            try:
                sockets.append(stack.enter_context(closing(_listen(each))))
            except (OSError, OverflowError) as error:
                taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
                why = "is taken" if taken else f"can't be had ({error})"
                mail = "" if bare else f", and {port + 2} for its mail"
                print(
                    f"The demo needs the ports {port} and {port + 1}{mail}, of this machine; {each} {why}.\n"
                    f"Choose another: make demo PORT={port + 1000 if port < 60000 else 8000}",
                    file=sys.stderr,
                )
                return 2
        post = kit = None
        if not bare:
            own = settings(port=port, environ=os.environ, config=config)
            _settle(own, empty=empty)
            post, kit = Post(post_file(config)), ConsentKit(own)
        apps = build(port=port, bare=bare, config=config, post=post, kit=kit)
        print(_welcome(port, bare=bare, empty=empty, config=config), flush=True)
        asyncio.run(_serve(apps, sockets, post, kit))
    print("\n  Stopped.")
    return 0


def _settle(own: Settings, *, empty: bool) -> None:
    """Make what the demo begins with at the first start; where that can't be, it begins with nothing."""
    try:
        past.settle(own, empty=empty, tell=lambda: print(FIRST_TIME, flush=True))
    except ConsentKitError as error:
        print(f"  The console is empty: {error}", file=sys.stderr)


def _welcome(port: int, *, bare: bool, empty: bool, config: Path) -> str:
    if bare:
        return WELCOME.format(how="without consentkit", port=port, next=port + 1, smtp="", more=BARE)
    program = "consentkit" if sys.prefix == sys.base_prefix else f"{_near(Path(sys.prefix))}/bin/consentkit"
    command = f"{program} --config {_near(config)}"
    more = MORE.format(
        accounts="\n".join(f"      {role:10}  password  {password}" for role, password in staff.PASSWORDS.items()),
        command=command,
        console="" if empty else CONSOLE.format(command=command, pid=os.getpid()),
        port=port,
        reader=READER,
        csv=_near(CONFIG.with_name("ouders.csv")),
    )
    smtp = f",\n  and a mail server that sends nothing on is at port {port + 2}"
    return WELCOME.format(how="behind consentkit", port=port, next=port + 1, smtp=smtp, more=more.rstrip())


async def _serve(
    apps: tuple[ASGIApp, ...], sockets: list[socket.socket], post: Post | None, kit: ConsentKit | None
) -> None:
    servers = [
        _Server(uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=1)) for app in apps
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    mail = await post.listen(sockets[-1]) if post else None
    await asyncio.gather(*(server.serve([own]) for server, own in zip(servers, sockets, strict=False)))
    if kit:
        await asyncio.to_thread(kit.close)  # while the mail server still answers for what is being handed over
    if mail:
        mail.close()


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)


def _near(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo_site", description=__doc__)
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="the site's port; the stand-in hosts take the next, and mail the one after",
    )
    parser.add_argument("--bare", action="store_true", help="leave consentkit out, to see what it holds back")
    parser.add_argument("--empty", action="store_true", help="begin without readers and mailings")
    parser.add_argument("--config", type=Path, default=CONFIG, help="another configuration, with a database beside it")
    options = parser.parse_args()
    sys.exit(main(options.port, bare=options.bare, empty=options.empty, config=options.config))

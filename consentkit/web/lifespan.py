"""The life of the app: what waits is sent once it starts, and what is being sent is finished before it ends."""

from __future__ import annotations

import logging

from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consentkit.web.flow import Kit

log = logging.getLogger("consentkit")


async def live(kit: Kit, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass the lifespan protocol on to the app, or take part in it for an app that doesn't (Django).

    The server may end the process as soon as it hears that all is shut down, so ours is shut down before that is said.
    """
    kit.start()
    heard: list[str] = []
    told: list[str] = []

    async def hear() -> Message:
        message = await receive()
        heard.append(message["type"])
        return message

    async def tell(message: Message) -> None:
        told.append(message["type"])
        if message["type"].startswith("lifespan.shutdown"):
            await run_sync(kit.stop)
        await send(message)

    try:
        await app(scope, hear, tell)
    except Exception as error:
        if told:
            raise
        log.info("the app takes no part in the lifespan protocol (%s)", type(error).__name__)
    if told:
        return
    if not heard:
        await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await run_sync(kit.stop)
    await send({"type": "lifespan.shutdown.complete"})

"""The app's life: waiting mail goes out when it starts, and what is being sent is finished before it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.web.minikit import MiniKit

Message = dict[str, Any]


@pytest.fixture
def kit() -> MiniKit:
    return MiniKit()


async def takes_part(scope: Any, receive: Any, send: Any) -> None:
    for phase in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("only HTTP here")


async def refuses_late(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise ValueError("only HTTP here")


async def says_nothing(scope: Any, receive: Any, send: Any) -> None: ...


async def fails(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    raise RuntimeError("no database")


def live(kit: MiniKit, app: Any) -> list[tuple[str, bool]]:
    """What the server hears, and whether ours had stopped by then."""
    messages = iter(("lifespan.startup", "lifespan.shutdown"))
    told: list[tuple[str, bool]] = []

    async def receive() -> Message:
        return {"type": next(messages)}

    async def send(message: Message) -> None:
        told.append((message["type"], kit.stopped))

    asyncio.run(kit.wrap(app)({"type": "lifespan"}, receive, send))
    return told


@pytest.mark.parametrize("app", [takes_part, refuses, refuses_late, says_nothing])
def test_ours_starts_and_stops_with_the_app_also_with_one_that_takes_no_part(kit: MiniKit, app: Any) -> None:
    told = live(kit, app)

    assert kit.started
    assert told == [("lifespan.startup.complete", False), ("lifespan.shutdown.complete", True)]


def test_an_app_that_fails_to_start_fails_as_it_would_without_us(kit: MiniKit) -> None:
    with pytest.raises(RuntimeError, match="no database"):
        live(kit, fails)

"""Everybody unsubscribes at once, and the server is killed in the middle: nobody who was answered is forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from consentkit import ConsentKit
from tests.newsletter.desk import settings

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = 2_000
AT_ONCE = 50
BODY = b"List-Unsubscribe=One-Click"


@dataclass
class Server:
    """A server process, and what it said."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)


@contextmanager
def serving(url: str, folder: Path) -> Iterator[Server]:
    log = folder / "server.log"
    command = [sys.executable, str(ROOT / "tests/newsletter/storm_server.py"), url, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as said:  # a pipe would fill, and hold the server up
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 20
        while "\n" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Server(int(log.read_text().partition("\n")[0]), process, log)
    finally:
        process.kill()
        process.wait(timeout=20)


@dataclass
class Storm:
    """What came of a storm: whom the server answered 200, when, and anything else that it answered."""

    answered: set[str] = field(default_factory=set)
    odd: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> int:
        return round(len(self.answered) / self.seconds)


async def storm(port: int, paths: dict[str, str], *, kill: Server | None = None, after: int = 0) -> Storm:
    """Unsubscribe all of them, 50 at a time, each over a connection that is kept; `kill` the server on the way."""
    result = Storm()
    waiting = list(paths.items())
    started = time.monotonic()

    async def client() -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while waiting:
                who, path = waiting.pop()
                status = await post(reader, writer, path)
                if status == 200:
                    result.answered.add(who)
                else:
                    result.odd.append(status)
                if kill is not None and len(result.answered) == after:
                    kill.process.send_signal(signal.SIGKILL)
        except (OSError, EOFError):
            pass  # it was killed
        finally:
            if writer is not None:
                writer.transport.abort()

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    result.seconds = time.monotonic() - started
    return result


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: school.test\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])


def in_table(url: str, folder: Path, people: list[str]) -> set[str]:
    """Who stands in the table, asked by a process that starts now with the same keys."""
    kit = ConsentKit(settings(folder, database={"url": url}))
    found = {who for who in people if kit.afgemeld.look_up(who, list="nieuwsbrief") is not None}
    kit.close()
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.checklist("UNS-02")
def test_who_was_answered_before_the_server_was_killed_is_in_the_table(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = ConsentKit(settings(tmp_path, database={"url": database_url}))
    kit.store.upgrade()
    people = [f"ouder{number}@voorbeeld.nl" for number in range(PEOPLE)]
    paths = {who: urlsplit(kit.unsubscribe_url(who, list="nieuwsbrief")).path for who in people}
    kit.close()

    with serving(database_url, tmp_path) as server:
        first = asyncio.run(asyncio.wait_for(storm(server.port, paths, kill=server, after=PEOPLE // 2), 100))
        server.kill()
        assert server.process.returncode == -signal.SIGKILL
        said = server.log.read_text()
    apart = tmp_path / "apart"  # without the file of tombstones, the database alone has to know
    apart.mkdir()
    kept = in_table(database_url, apart, people)

    assert first.odd == []
    assert PEOPLE // 2 <= len(first.answered) < PEOPLE
    assert first.answered <= kept
    assert len(kept) <= len(first.answered) + AT_ONCE  # what was stored and not answered was on its way
    assert in_table(database_url, tmp_path, people) >= kept

    left = {who: path for who, path in paths.items() if who not in first.answered}
    with serving(database_url, tmp_path) as server:
        second = asyncio.run(asyncio.wait_for(storm(server.port, left), 100))
        said += server.log.read_text()

    assert second.odd == []
    assert second.answered == set(left)
    assert in_table(database_url, tmp_path, people) == set(people)
    assert "POST /privacy/afmelden/" in said
    tokens = {path.rpartition("/")[2] for path in paths.values()}
    assert not [token for token in tokens if token in said or token[:40] in said]
    with capsys.disabled():
        print(f" [{first.per_second}/s until the kill, {second.per_second}/s after]", end="")

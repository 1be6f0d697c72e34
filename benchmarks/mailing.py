"""Sending: from a list in SQLite to Postfix's `smtp-sink`, against Postfix's own load generator and the plain way.

    python -m benchmarks.mailing

All send about 6 KB of text and HTML to the same sink over 20 connections. `smtp-source` sends the same bytes again and
again and keeps no books. Ours are personal, with signed links of their own, and each is released and written down in
the database. The plain way makes an `EmailMessage` each and hands it to aiosmtplib. The outbox loop is the release
without a message or a server. What takes a process of its own runs in one, so that its memory can be told.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from consentkit import ConsentKit, Settings
from consentkit.mailing import Draft, Limits, Release
from consentkit.mailing.states import sent

Row = tuple[str, float, str, bool | None]

ROOT = Path(__file__).parents[1]
SIZE = 6_300
CONNECTIONS = 20
MESSAGES = 6_000
RECIPIENTS = 1_000_000
RELEASED = 60_000
SINK = ("smtp-sink", "smtp-source")
PARAGRAPH = "<p>{} Deze week is er in de hal een tentoonstelling van groep 7 over de zee en alles wat daarin leeft.</p>"
HTML = (
    "<h1>Nieuws voor {{ name }}</h1>"
    + "".join(PARAGRAPH.format(number) for number in range(18))
    + '<p><a href="https://delinde.example/agenda">De agenda</a> en <a href="{{ unsubscribe_url }}">afmelden</a></p>'
)


def main(*, messages: int = MESSAGES, recipients: int = RECIPIENTS) -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    with tempfile.TemporaryDirectory() as name:
        big = _apart("big", Path(name) / "big", recipients)
        rows: list[Row] = [
            ("freezing the audience, seconds a million", big["freeze"], "≤ 3", big["freeze"] <= 3),
            ("memory that a million recipients add, MB", big["grown"], "≤ 50", big["grown"] <= 50),
            ("the outbox loop alone, recipients a second", big["loop"], "≥ 10000", big["loop"] >= 10_000),
        ]
        if not all(map(shutil.which, SINK)):
            print("# smtp-sink and smtp-source are not here (Debian: postfix), so nothing was sent")
            return rows
        with _sink() as port:
            source = max(_smtp_source(port, messages) for _ in range(2))
            ours = {
                kind: _apart("send", Path(name) / kind, port, messages, kind) for kind in ("none", "ed25519", "rsa")
            }
            plain = asyncio.run(_plainly(port, messages // 20))
            source = max(source, _smtp_source(port, messages))
        rate = ours["none"]["rate"]
        rows += [
            ("messages a second ÷ smtp-source", rate / source, "≥ 0.2", rate >= 0.2 * source),
            ("messages a second ÷ an EmailMessage each through aiosmtplib", rate / plain, "≥ 8", rate >= 8 * plain),
            ("with DKIM, Ed25519: ÷ unsigned", ours["ed25519"]["rate"] / rate, "", None),
            ("with DKIM, RSA-2048: ÷ unsigned", ours["rsa"]["rate"] / rate, "", None),
            ("messages a second", rate, "", None),
            ("smtp-source, messages a second", source, "", None),
            ("an EmailMessage each, messages a second", plain, "", None),
        ]
        return rows


# -- the others -------------------------------------------------------------------------------------------------------


@contextmanager
def _sink() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(shutil.which("smtp-sink")), "-u", "nobody", "-c", f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _smtp_source(port: int, messages: int) -> float:
    addresses = ("-f", "nieuws@delinde.example", "-t", "lezer@school.example")
    amount = ("-s", str(CONNECTIONS), "-m", str(messages), "-l", str(SIZE), "-d")
    start = time.perf_counter()
    subprocess.run([str(shutil.which("smtp-source")), *amount, *addresses, f"127.0.0.1:{port}"], check=True)
    return messages / (time.perf_counter() - start)


async def _plainly(port: int, messages: int) -> float:
    waiting = iter(range(messages))

    async def one_connection() -> None:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False)
        await client.connect()
        for number in waiting:
            message = EmailMessage()
            message["From"] = "De Linde <nieuws@delinde.example>"
            message["To"] = f"lezer{number}@school.example"
            message["Subject"] = "Nieuws"
            message.set_content(re.sub("<[^>]+>", "\n", HTML))
            message.add_alternative(HTML.replace("{{ name }}", f"Lezer {number}"), subtype="html")
            await client.send_message(message)
        await client.quit()

    start = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return messages / (time.perf_counter() - start)


# -- ours, in a process of its own ------------------------------------------------------------------------------------


def _apart(what: str, folder: Path, *arguments: object) -> dict[str, float]:
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.mailing", what, str(folder), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _send(folder: Path, port: int, messages: int, kind: str) -> dict[str, float]:
    """Send a mailing for real; how many messages a second, the freeze and all books included."""
    kit = _kit(folder, messages, smtp=f"smtp://127.0.0.1:{port}", dkim=_key(folder, kind))
    id = kit.mailings.new(Draft.of(list="nieuwsbrief", subject="Nieuws", html=HTML, fields=("name",)))
    kit.mailings.send(id, dns=False)
    start = time.perf_counter()
    asyncio.run(kit.engine.work(id))
    took = time.perf_counter() - start
    counts = kit.mailings.status(id).counts
    kit.close()
    if counts != {"sent": messages}:
        raise RuntimeError(f"not all was sent: {counts}")
    return {"rate": messages / took}


def _big(folder: Path, recipients: int) -> dict[str, float]:
    """Freeze an audience, and let go of some of it without sending: seconds a million, recipients a second, memory."""
    kit = _kit(folder, recipients)
    id = kit.mailings.new(Draft.of(list="nieuwsbrief", subject="Nieuws", html=HTML, fields=("name",)))
    kit.mailings.preflight(id, dns=False)  # what is loaded once is no growth
    before = _peak()
    start = time.perf_counter()
    kit.mailings.send(id, dns=False)
    freeze = time.perf_counter() - start
    release = Release(kit.store, kit.mailings.readers, limits=Limits(), stop_after=25)
    run = kit.mailings.run(id, "bench", 0, 1)
    assert run is not None
    released, outcomes = 0, []
    start = time.perf_counter()
    while released < min(RELEASED, recipients):
        step = release.step(run, outcomes, room=CONNECTIONS, now=datetime.now(UTC))
        outcomes = [sent(one.delivery) for one in step.released]
        released += len(outcomes)
    loop = released / (time.perf_counter() - start)
    kit.close()
    return {"freeze": freeze / recipients * 1e6, "loop": loop, "grown": _peak() - before}


def _key(folder: Path, kind: str) -> Sequence[dict[str, str]]:
    if kind == "none":
        return ()
    key: Any = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem)
    return [{"domain": "delinde.example", "selector": "nieuws", "key_file": str(path)}]


def _kit(folder: Path, readers: int, *, smtp: str = "smtp://127.0.0.1:25", dkim: Sequence[Any] = ()) -> ConsentKit:
    """A school with a list of readers."""
    text = {"nl": "Nieuwsbrief", "en": "Newsletter"}
    settings = Settings(
        site={
            "name": "De Linde",
            "base_url": "https://delinde.example",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1, 1234 AB Utrecht"},
        },
        lists={"nieuwsbrief": {"title": text, "about": text, "frequency": text}},
        mail={"smtp": smtp, "sender": "De Linde <nieuws@delinde.example>", "unsubscribe": "afmelden@delinde.example"},
        mailing={"connections": CONNECTIONS, "dkim": dkim},
        secret_keys=["k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"],
        afgemeld_keys=["Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"],
        folder=folder,
    )
    kit = ConsentKit(settings)
    kit.store.upgrade()
    kit.afgemeld.open()
    _fill(kit, readers)
    return kit


def _fill(kit: ConsentKit, readers: int) -> None:
    key = kit.afgemeld.keys.newest
    now, ends = (f"{moment:%Y-%m-%dT%H:%M:%S.000000Z}" for moment in (kit.now(), kit.now() + timedelta(days=3650)))
    connection = sqlite3.connect(kit.settings.path("consentkit.db"))
    with connection:
        people = []
        for number in range(1, readers + 1):
            address = f"lezer{number}@school{number % 997}.example"
            people.append((number, key.digest(address.encode()), address))
        connection.executemany(
            "INSERT INTO subscriber (id, digest, key_id, address, language, fields, created_at) "
            f"VALUES (?, ?, '{key.id}', ?, 'nl', '{{\"name\": \"Jan\"}}', '{now}')",
            people,
        )
        connection.execute("INSERT INTO subscriber_digest SELECT digest, id FROM subscriber ORDER BY digest")
        connection.execute(
            "INSERT INTO subscription (subscriber_id, list, site, state, route, proof, measuring, language, record_id, "
            "confirmed_at, valid_until, mails) SELECT id, 'nieuwsbrief', 'De Linde', 'active', 'consent', "
            f"'{{\"how\": \"double opt-in\"}}', 0, 'nl', 'r' || id, '{now}', '{ends}', 0 FROM subscriber"
        )
    connection.close()


def _peak() -> float:
    """The most memory that this process had, in MB; `ru_maxrss` would count what its parent had when it forked."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["big", folder, recipients]:
            print(json.dumps(_big(Path(folder), int(recipients))))
        case ["send", folder, port, messages, kind]:
            print(json.dumps(_send(Path(folder), int(port), int(messages), kind)))
        case _:
            for what, value, goal, ok in main():
                print(f"{what:66} {value:10,.2f}  {goal:8} {'' if ok is None else 'ok' if ok else 'short'}")

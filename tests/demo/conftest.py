"""The demo as it is started by hand: `python -m demo_site` in a process of its own, ended with Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
KEYS = "CONSENTKIT_SECRET_KEYS", "CONSENTKIT_AFGEMELD_KEYS", "CONSENTKIT_KEY_FILE", "CONSENTKIT_DATABASE_URL"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration in a folder of its own, where its database and its keys will stand too."""
    return Path(shutil.copy(ROOT / "demo_site/consentkit.toml", tmp_path_factory.mktemp("demo")))


@pytest.fixture(scope="module")
def demo(config: Path) -> Iterator[str]:
    """The address of a running demo."""
    port = free_ports()
    base = f"http://127.0.0.1:{port}"
    process = launch(config, port, "--empty")
    try:
        yield base
    finally:
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"{base}/teller" in told
    assert f"{base}/post" in told
    assert told.rstrip().endswith("Stopped.")


def launch(config: Path, port: int, *options: str) -> subprocess.Popen[str]:
    """Start a demo, and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo_site", "--port", str(port), "--config", str(config), *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in KEYS},
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(300):
        try:
            httpx2.get(f"http://127.0.0.1:{port}")
            return process
        except httpx2.TransportError:
            assert process.poll() is None, "the demo did not start"
            time.sleep(0.1)
    process.kill()
    raise TimeoutError("the demo did not start")


def free_ports() -> int:
    """A port that is free, and so are the next two."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                for each in (port + 1, port + 2):
                    socket.create_server(("127.0.0.1", each)).close()
            except (OSError, OverflowError):
                continue
            return port

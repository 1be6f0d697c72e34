"""A real server that takes unsubscribes until it is killed; it prints its port. Started by the tests.

python storm_server.py DATABASE_URL FOLDER
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from consentkit import ConsentKit
from tests.newsletter.desk import settings


def main(url: str, folder: str) -> None:
    kit = ConsentKit(settings(Path(folder), database={"url": url}))
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(kit.wrap(Starlette()), log_level="info", access_log=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])

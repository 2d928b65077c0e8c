"""The server that ``stores.serve`` starts: ministack, whose state is saved while it runs.

ministack itself saves objects immediately, and everything else when it is stopped. Here everything else is
saved about a second after each change, so that a killed run loses no more than that. The server ends with the
process that started it, however that ends: its standard input is then closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"

_PAUSE = 1.0
"""Seconds between two saves, or twenty times the duration of the last one if that is longer."""


async def _serve(listening: socket.socket) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app as stores
    from ministack.core import persistence

    changed, never = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await stores.app(scope, receive, send)
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            changed.set()

    def save() -> None:
        # On the thread that answers requests, so that none is half done. Without a folder, this does nothing.
        persistence.save_all(stores._build_persistence_save_dict())

    async def keep() -> None:
        while True:
            await changed.wait()
            changed.clear()
            start = time.perf_counter()
            save()
            await asyncio.sleep(max(_PAUSE, 20 * (time.perf_counter() - start)))

    def end() -> None:
        # Exit without waiting for long polls.
        save()
        os._exit(0)

    loop = asyncio.get_running_loop()

    def until_the_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(end)

    threading.Thread(target=until_the_end, daemon=True).start()
    keeping = asyncio.create_task(keep())
    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    print(listening.getsockname()[1], flush=True)
    await asyncio.gather(keeping, serve(application, config, shutdown_trigger=never.wait))


def main() -> None:
    """Serve on a free port of this machine, with the state in the folder given as argument, if any."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(socket.SOMAXCONN)
    # Settings that ministack reads when it is imported.
    os.environ.update(
        # The same in each run, as queues are saved under their address; callers get the address they used.
        GATEWAY_PORT="4566",
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        LOG_LEVEL="ERROR",
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        # If it finds Docker, it removes other ministack containers when it starts.
        DOCKER_HOST="unix:///none",
    )
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        os.environ.update(
            PERSIST_STATE="1", STATE_DIR=str(folder), S3_PERSIST="1", S3_DATA_DIR=str(folder / "s3")
        )
    asyncio.run(_serve(listening))


if __name__ == "__main__":
    main()

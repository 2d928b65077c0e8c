"""A process that looks up no name and reaches no other machine, so that no test waits for a network.

``python -m tests.offline MODULE`` runs a module in such a process as ``python -m MODULE`` would.
"""

from __future__ import annotations

import runpy
import socket
import sys
from typing import Any

_lookup, _connect = socket.getaddrinfo, socket.create_connection


def _lookup_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        if host != "localhost":
            kwargs |= {"flags": socket.AI_NUMERICHOST}
        return _lookup(host, *args, **kwargs)
    except TypeError:
        raise
    except socket.gaierror as error:
        raise socket.gaierror(socket.EAI_NONAME, "no name is looked up here") from error


def _connect_here(address: Any, *args: Any, **kwargs: Any) -> socket.socket:
    if address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError("only this machine is reached from here")
    return _connect(address, *args, **kwargs)


def stay_here() -> None:
    """Have names other than ``localhost``, and addresses other than this machine's, fail from now on."""
    socket.getaddrinfo, socket.create_connection = _lookup_here, _connect_here


if __name__ == "__main__":
    stay_here()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)

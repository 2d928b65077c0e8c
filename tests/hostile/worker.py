"""A process that answers the campaign's calls with the deployed handlers, and says what each has cost.

Started by ``campaign.Worker``: calls come in by its standard input and outcomes go out by its standard
output, pickled one after the other. It reaches no address but this machine's and looks up no name.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.events import Invocation
from tests.offline import stay_here

HANDLERS = {
    "upload/plate": "functions.plate.worker",
    "upload/vin": "functions.vin.worker",
    "plate": "functions.plate.app",
    "vin": "functions.vin.app",
    "account": "functions.account.app",
}


def megabytes(name: str) -> float:
    """Return a size of this process, as ``/proc`` calls it."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1000


def _answered(handlers: dict[str, Any], name: str, event: dict[str, Any]) -> dict[str, Any]:
    """Answer one call, with what it has cost."""
    # The peak of the resident set begins anew: proc(5), clear_refs.
    Path("/proc/self/clear_refs").write_text("5")
    start, cpu = time.perf_counter(), time.process_time()
    try:
        seconds = 300 if name.startswith("upload/") else 28
        answer, raised = handlers[name](event, Invocation(seconds * 1000)), None
    except BaseException as error:
        answer, raised = None, f"{type(error).__name__}: {error}"[:300]
    return {
        "answer": answer,
        "raised": raised,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - start,
        "peak": megabytes("VmHWM"),
        "kept": megabytes("VmRSS"),
    }


def main() -> None:
    """Answer calls until there are no more."""
    calls, outcomes = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What handlers log goes where errors go.
    os.dup2(2, 1)
    stay_here()
    handlers = {name: import_module(module).lambda_handler for name, module in HANDLERS.items()}
    idle = 0.0
    while True:
        try:
            name, event = pickle.load(calls)
        except EOFError:
            return
        if name == "idle":
            outcome = {"peak": (idle := megabytes("VmRSS"))}
        else:
            outcome = _answered(handlers, name, event)
            outcome["peak"] -= idle
            outcome["kept"] -= idle
        pickle.dump(outcome, outcomes)
        outcomes.flush()


if __name__ == "__main__":
    main()

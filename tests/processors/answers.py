"""Prints what a function answers to events on the processor that runs this: the last line, as JSON.

python tests/processors/answers.py {plate|vin} EVENT...
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from tests.events import Invocation


def main() -> None:
    function, *events = sys.argv[1:]
    handler = import_module(f"functions.{function}.app").lambda_handler
    # An emulated processor takes minutes for what a function has seconds for.
    patient = Invocation(3_600_000)
    answers = {Path(event).stem: handler(json.loads(Path(event).read_text()), patient) for event in events}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()

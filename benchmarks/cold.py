"""From a function's start to its first answer, stage by stage, in CPU-milliseconds on one core.

    python -m benchmarks.cold [--api plate] [--runs 15] [--photo FILE]

Each run is a process of its own, with every module compiled and every file in the page cache: how long an
image takes to be read for the first time depends on where it runs. The key is counted by a real DynamoDB
client in an embedded table of another process. Tables are in Markdown; a figure is the median of all runs,
with the least beside it.

    --packages DIR   import from there alone, not from this environment: an image's /opt/python
"""

import sys
import time

_START = time.process_time()  # the interpreter is up; nothing but this file's first lines has been imported

import argparse
import importlib
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _first_answer(api: str, photo: Path) -> dict[str, float]:
    """CPU-milliseconds of each stage of this process, which has done nothing yet."""
    from benchmarks.calls import Invocation, event

    spent: dict[str, float] = {"interpreter": _START * 1000}
    request = [event(api, photo.read_bytes()) for _ in range(2)]
    last = time.process_time()

    def done(name: str, within: float = 0.0) -> None:
        nonlocal last
        now = time.process_time()
        spent[name] = spent.get(name, 0.0) + (now - last) * 1000 - within
        last = now

    import numpy

    done("import numpy")
    import cv2

    done("import cv2")
    import onnxruntime

    done("import onnxruntime")
    import aws_lambda_powertools
    import aws_lambda_powertools.metrics

    done("import Powertools")
    assert all((numpy, cv2, onnxruntime, aws_lambda_powertools))

    # Opening the models happens within the import of the handler, and is measured where it happens.
    within: dict[str, float] = {}

    def timed(owner: object, attribute: str, name: str) -> None:
        function = getattr(owner, attribute)

        def measured(*arguments: object, **named: object) -> object:
            start = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                within[name] = within.get(name, 0.0) + (time.process_time() - start) * 1000

        setattr(owner, attribute, measured)

    from carsight import runtime

    importlib.import_module("carsight.plate.recognizer" if api == "plate" else "carsight.vin.recognizer")
    done("import ours")
    timed(runtime, "session", "sessions")
    last = time.process_time()
    app = importlib.import_module(f"functions.{api}.app")
    done("import ours", sum(within.values()))
    spent |= within
    last = time.process_time()
    answer = app.lambda_handler(request[0], Invocation())
    done("first request")
    if answer["statusCode"] != 200:
        raise RuntimeError(answer["body"])
    total = sum(spent.values())
    app.lambda_handler(request[1], Invocation())
    done("a second request")
    return {**spent, "start to first answer": total}


def measure(api: str, photo: Path, runs: int, packages: Path | None) -> dict[str, list[float]]:
    """Return the stages of ``runs`` processes, after one that is not counted."""
    stages: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYDANTIC_DISABLE_PLUGINS": "__all__"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", "benchmarks.cold", "--child", api, "--photo", str(photo)]
        if packages is not None:
            command.insert(1, "-S")
            environment["PYTHONPATH"] = f"{packages}:{environment['PYTHONPATH']}"
        for run in range(runs + 1):
            output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            if output.returncode:
                raise RuntimeError(output.stderr)
            if run:
                measured = output.stdout.splitlines()[-1]  # behind what the function has logged
                for name, milliseconds in json.loads(measured).items():
                    stages.setdefault(name, []).append(milliseconds)
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", action="append", choices=("plate", "vin"), help="both unless one is named")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--child", choices=("plate", "vin"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(json.dumps(_first_answer(options.child, options.photo)))
        return

    from benchmarks.calls import SAMPLES, key_table

    packages = options.packages and options.packages.resolve()
    with key_table():
        for api in options.api or ("plate", "vin"):
            photo = options.photo or SAMPLES[api]
            print(f"\n| {api}, {photo.name} | median | least |\n|---|---|---|")
            for name, milliseconds in measure(api, photo.resolve(), options.runs, packages).items():
                print(f"| {name} | {statistics.median(milliseconds):.1f} | {min(milliseconds):.1f} |")


if __name__ == "__main__":
    main()

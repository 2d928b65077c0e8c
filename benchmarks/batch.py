"""A batch run to its end on this machine: memory of each part, CPU time a row, and every row accounted for.

    python -m benchmarks.batch [--rows 100000] [--api plate] [--engine stub|real] [--photos disk|s3]

The definition that is deployed runs over embedded stores; the worker, the function that looks at lists and
joins results, and what stands for Step Functions are a process each. A tenth of the rows goes first: memory
is flat where ten times as many take no more. ``stub`` answers the contract's example at once, which leaves
what a batch adds to reading; ``real`` reads the sample photo, in turn with the bare engine, and gives the
ratio of both. ``disk`` takes photos past the embedded S3, whose own work is most of a row's otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

from benchmarks.calls import KEY, SAMPLES, Invocation, key_table
from carsight_service.aws.heap import resident_bytes

UPLOADS, RESULTS = "carsight-benchmark-uploads", "carsight-benchmark-results"
NOTHING_EVERY = 20
"""One row in so many names no photo."""


def resident() -> float:
    """Return this process's resident memory, in MB."""
    return resident_bytes() / 1e6


# -- in the processes of the functions -----------------------------------------------------------------------

_handle: Callable[[Any, Any], Any]
_bare: Callable[[], object] | None = None


def start(part: str, api: str, engine: str, photos: str) -> None:
    """Make what a process of ``part`` answers with."""
    global _handle, _bare
    from carsight_service.aws.storage import Storage, StoredPhoto
    from carsight_service.contract.api import Api
    from carsight_service.deployment import Deployment
    from carsight_service.queue.batch_steps import BatchSteps
    from carsight_service.queue.worker import Worker

    deployment = Deployment.from_environment()
    if part == "jobs":
        _handle = BatchSteps(deployment).handle
        return
    file = SAMPLES[api]
    photo = file.read_bytes()
    if photos == "disk":
        Storage.read_photo = lambda *_: StoredPhoto(file.read_bytes(), ())  # type: ignore[method-assign]
    recognize: Any
    if engine == "stub":
        from tests.fakes import PLATES, VINS

        recognize = {"plate": lambda *_: PLATES, "vin": lambda *_: VINS}[api]
    else:
        from importlib import import_module

        recognize = import_module(f"functions.{api}.app").recognize
        _bare = partial(recognize, photo, ())
    _handle = Worker(deployment, Api(api), recognize).handle


def invoke(event: Any, seconds: int) -> tuple[Any, float, float, float]:
    """Answer one event; with it the MB held at most, and CPU seconds: ours, and of bare readings."""
    peak, done, watching = [resident()], threading.Event(), 0.0

    def watch() -> None:
        nonlocal watching
        while not done.wait(0.05):
            peak.append(resident())
        watching = time.thread_time()

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.process_time()
    try:
        answer = _handle(event, Invocation(seconds))
    finally:
        done.set()
        watcher.join()
        took = time.process_time() - begun - watching
    bare = 0.0
    if _bare is not None and "Items" in event:
        begun = time.process_time()
        for item in event["Items"]:
            if item["input"] != "nothing":
                _bare()
        bare = time.process_time() - begun
    return answer, max(*peak, resident()), took, bare


# -- the whole -----------------------------------------------------------------------------------------------


class Parts:
    """The functions' processes, and what they have taken."""

    def __init__(self, *about: str) -> None:
        spawn = get_context("spawn")
        self.pools = {
            part: ProcessPoolExecutor(1, spawn, partial(start, part, *about)) for part in ("worker", "jobs")
        }
        self.took: dict[str, list[tuple[float, float, float]]] = {}

    def function(self, part: str, seconds: int) -> Callable[[Any, Any], Any]:
        """Return the handler that asks the process of ``part``."""

        def handle(event: Any, _: Any) -> Any:
            answer, *took = self.pools[part].submit(invoke, event, seconds).result()
            name = "worker" if part == "worker" else "check" if "check" in event else "join"
            self.took.setdefault(name, []).append((took[0], took[1], took[2]))
            return answer

        return handle

    def end(self) -> None:
        """End the processes, which the interpreter would look for when they are gone."""
        for pool in self.pools.values():
            pool.shutdown()


def run(rows: int, parts: Parts, machine: Any, api: str) -> dict[str, Any]:
    """Run one batch of a list in S3 to its end; answers with what is known of it then."""
    from carsight_service.batch_store import Batch, Batches
    from carsight_service.contract.api import Api
    from carsight_service.deployment import Deployment
    from carsight_service.http.executions import Executions, List
    from carsight_service.metering.model import key_id

    deployment = Deployment.from_environment()
    deployment.aws.states = machine
    account = key_id(KEY)
    photo = f"incoming/{account}/{api}/photo.jpg"
    lines = (
        json.dumps({"id": row, "image": photo if row % NOTHING_EVERY else "nothing"}) for row in range(rows)
    )
    deployment.aws.s3.put_object(
        Bucket=RESULTS, Key=f"{account}/lists/list.jsonl", Body="\n".join(lines).encode()
    )
    created = "2026-11-28T12:00:00+00:00"
    batch = Batch(secrets.token_hex(16), account, account, Api(api), created, asked="", tag="benchmark")
    parts.took.clear()
    begun, cpu = time.perf_counter(), time.process_time()
    Executions(deployment).begin(batch, List("jsonl", RESULTS, f"{account}/lists/list.jsonl"))
    machine.drain()
    seconds, own, held = time.perf_counter() - begun, time.process_time() - cpu, resident()
    ended = Batches(deployment).get(batch.id)
    assert ended is not None
    body = deployment.aws.s3.get_object(Bucket=RESULTS, Key=batch.object("result.jsonl"))["Body"]
    seen = {(row["row"], row["id"], row["status"]) for row in map(json.loads, body.iter_lines())}
    expected = {(row + 1, row, 200 if row % NOTHING_EVERY else 400) for row in range(rows)}
    meters = deployment.meters.account(KEY).usage
    return {
        "state": ended.state,
        "read": ended.read,
        "failed": ended.failed,
        "lost": len(expected - seen),
        "doubled or wrong": ended.read + ended.failed - len(seen & expected),
        "used": next(usage.current for usage in meters if usage.api == api),
        "seconds": seconds,
        "own": own,
        "held": held,
    }


def report(rows: int, figures: dict[str, Any], took: dict[str, list[tuple[float, float, float]]]) -> None:
    """Print one run."""
    print(
        f"\n{rows:,} rows in {figures['seconds']:.0f} s: {figures['state']}, {figures['read']:,} read, "
        f"{figures['failed']:,} not; lost {figures['lost']}, doubled or wrong {figures['doubled or wrong']}, "
        f"charged {figures['used']:,} in all\n"
    )
    print("| part | MB, first tenth | MB, last tenth | CPU-ms a row |")
    print("|---|---:|---:|---:|")
    for name, calls in sorted(took.items()):
        tenth = max(1, len(calls) // 10)
        first, last = (
            statistics.median(call[0] for call in some) for some in (calls[:tenth], calls[-tenth:])
        )
        cpu = sum(call[1] for call in calls) * 1000 / rows
        print(f"| {name} | {first:.0f} | {last:.0f} | {cpu:.3f} |")
    print(f"| Step Functions' stand-in | | {figures['held']:.0f} | {figures['own'] * 1000 / rows:.3f} |")


def ratio(calls: Sequence[tuple[float, float, float]]) -> float:
    """Return what a child's rows a CPU-second are of the bare engine's, by the median of its children."""
    return statistics.median(bare / took for _, took, bare in calls)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--api", choices=("plate", "vin"), default="plate")
    parser.add_argument("--engine", choices=("stub", "real"), default="stub")
    parser.add_argument("--photos", choices=("disk", "s3"), default="disk")
    options = parser.parse_args()
    with key_table():
        os.environ |= {"UPLOADS_BUCKET": UPLOADS, "RESULTS_BUCKET": RESULTS}
        from carsight_service.aws.clients import Clients
        from carsight_service.metering.model import key_id
        from local.event_sources import create_buckets
        from local.step_functions import MACHINE_ARN, machine_of
        from local.template import read_template

        os.environ |= {"BATCHES_MACHINE_ARN": MACHINE_ARN, "POWERTOOLS_LOG_LEVEL": "WARNING"}
        create_buckets(UPLOADS, RESULTS)
        Clients().s3.put_object(
            Bucket=UPLOADS,
            Key=f"incoming/{key_id(KEY)}/{options.api}/photo.jpg",
            Body=SAMPLES[options.api].read_bytes(),
        )
        parts = Parts(options.api, options.engine, options.photos)
        handlers = {
            "PlateWorkerFunction": parts.function("worker", 300),
            "VinWorkerFunction": parts.function("worker", 300),
            "BatchesFunction": parts.function("jobs", 900),
        }
        machine = machine_of(read_template(), {"ResultsBucket": RESULTS}, handlers)
        for rows in (options.rows // 10, options.rows):
            figures = run(rows, parts, machine, options.api)
            report(rows, figures, parts.took)
        parts.end()
        if options.engine == "real":
            print(f"\nRows a CPU-second against the bare engine's: {ratio(parts.took['worker']):.3f}")


if __name__ == "__main__":
    main()

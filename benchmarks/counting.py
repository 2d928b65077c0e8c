"""Whether counting is exact when calls race, die or meet a slow store, and what it costs.

    python -m benchmarks.counting races [--repetitions 100]
    python -m benchmarks.counting kills [--kills 200]
    python -m benchmarks.counting late [--calls 20000]
    python -m benchmarks.counting cost [--calls 400]
    python -m benchmarks.counting crowd [--milliseconds 16]

``races``: 200 calls at once for 50 units, of photos that all show a plate and of photos of which a quarter
do. Never more may be answered than the limit, nor a payable photo refused while units are left.
``kills``: the real plate handler in processes that are killed (SIGKILL) at random moments while they answer;
a unit that was counted without the whole 200 having left the process is a fault. ``late``: writes that never
arrive, whose answers do not, or that arrive long after the client has given up. ``cost``: requests to the
store, the bytes of its items and CPU-milliseconds for each call that ends in a 200 and in a 404. ``crowd``:
a simulation of many children of batches of one key, whose item DynamoDB writes a thousand units a second to:
with a ticket in it while they read, and with one for a moment afterwards.

The store is ``tests.dynamo.FakeDynamo``: DynamoDB's conditional writes, atomic, where threads really race;
a test compares it with the embedded stores. ``kills`` and ``cost`` reach it through the real client.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import random
import select
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.calls import TABLE, Invocation, event
from benchmarks.cost import IN_HAND_SECONDS, PARTITION_UNITS, ROWS_A_CHILD, write_units
from carsight_service.queue.children import PATIENT_ATTEMPTS
from carsight_service.queue.outcomes import MOST_IN_HAND
from local.stores import credentials
from tests.dynamo import FakeDynamo, serve

if TYPE_CHECKING:
    from carsight_service.http.endpoint import Endpoint

ROOT = Path(__file__).resolve().parents[1]
LIMIT, CALLERS, THREADS = 50, 200, 32

PHOTO, EMPTY = b"\xff\xd8\xff a plate", b"\xff\xd8\xff nothing"


def endpoint(client: Any) -> Endpoint:
    """Return an endpoint that counts by ``client``, and whose photos are ``PHOTO`` and ``EMPTY``."""
    from carsight_service.aws.clients import Clients
    from carsight_service.contract.api import Answer, Api
    from carsight_service.contract.errors import NothingFound
    from carsight_service.deployment import Deployment
    from carsight_service.http.endpoint import Endpoint
    from carsight_service.settings import Settings
    from tests.fakes import PLATES

    def recognize(image: bytes, regions: Sequence[str]) -> Answer:
        if image == EMPTY:
            raise NothingFound(Api.PLATE)
        return PLATES

    clients = Clients()
    clients.meters = client
    return Endpoint(Deployment(Settings(table_name=TABLE), clients), Api.PLATE, recognize)


def make_key(client: Any, limit: int, overage: bool = False) -> str:
    """Make a key with ``limit`` plates."""
    from carsight_service.contract.api import Api
    from carsight_service.metering.keyring import Keyring

    limits = {Api.PLATE: limit}
    return Keyring(TABLE, client).create(owner="o", tier="pro", limits=limits, overage=overage)[0]


def used(store: FakeDynamo, key: str) -> int:
    """Return how many plates ``key`` has been charged for."""
    from carsight_service.metering.model import key_id, partition

    return int(store.items[partition(key_id(key)), "API#plate"]["used"]["N"])


def call(of: Endpoint, key: str, photo: bytes) -> int:
    """Send one photo; return the status of its answer."""
    asked = event("plate", photo) | {"rawQueryString": f"key={key}"}
    return int(of.handle(asked, Invocation())["statusCode"])


# -- races ---------------------------------------------------------------------------------------------------


def races(repetitions: int) -> bool:
    """Race for the units of a key, over and over; say whether every race was exact."""
    exact: Counter[str] = Counter()
    for repetition in range(repetitions):
        for name, photos in (
            ("all payable", [PHOTO] * CALLERS),
            ("a quarter payable", [PHOTO] * LIMIT + [EMPTY] * (CALLERS - LIMIT)),
        ):
            random.Random(repetition).shuffle(photos)
            store = FakeDynamo(seed=repetition, pause=0.002)
            of, key = endpoint(store), make_key(store, LIMIT)
            with ThreadPoolExecutor(THREADS) as pool:
                statuses = list(pool.map(call, [of] * CALLERS, [key] * CALLERS, photos))
            paid = Counter(status for status, photo in zip(statuses, photos, strict=True) if photo == PHOTO)
            exact[name] += paid[200] == used(store, key) == LIMIT and set(statuses) <= {200, 404, 429}
    for name, count in exact.items():
        print(f"{name}: {CALLERS} calls for {LIMIT} units, exact in {count} of {repetitions}")
    return set(exact.values()) == {repetitions}


# -- kills ---------------------------------------------------------------------------------------------------


def kills(number: int) -> bool:
    """Kill processes while they answer; say whether what was charged is what was answered."""
    from carsight_service.aws.clients import Clients

    photo = (ROOT / "tests" / "data" / "plate_us.jpg").read_bytes()
    store, draw = FakeDynamo(), random.Random(1)
    with serve(store) as address:
        os.environ |= credentials(address) | {"TABLE_NAME": TABLE}
        key = make_key(Clients().metering, 100_000)
        app: Any = import_module("functions.plate.app")
        asked = event("plate", photo) | {"rawQueryString": f"key={key}"}
        answered = 0
        duration = 0.2
        for _ in range(number):
            child, pipe = _serving(app, asked)
            started = time.perf_counter()
            if _read(pipe, 60) != b"1":
                raise RuntimeError("a call was not answered with 200")
            answered += 1
            duration = 0.9 * duration + 0.1 * (time.perf_counter() - started)
            end = time.perf_counter() + draw.uniform(0, 4 * duration)
            while (left := end - time.perf_counter()) > 0:
                answered += _read(pipe, left) == b"1"
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            while report := _read(pipe, 1):
                answered += report == b"1"
            os.close(pipe)
        child, pipe = _serving(app, asked, calls=1)  # undoes what the last one has left
        answered += _read(pipe, 60) == b"1"
        os.waitpid(child, 0)
        charged = used(store, key)
    print(
        f"{number} processes killed, {answered} calls answered with 200; {charged} units "
        f"charged, {charged - answered} of them without a 200"
    )
    return charged == answered


def _serving(app: Any, asked: dict[str, Any], calls: int | None = None) -> tuple[int, int]:
    """Fork a process that answers ``asked`` over and over; return its id and a pipe with a byte an answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    from carsight_service.aws.clients import Clients
    from carsight_service.contract.api import Api
    from carsight_service.http.endpoint import Endpoint

    of = Endpoint(replace(app.deployment, aws=Clients()), Api.PLATE, app.recognize)
    for _ in itertools.repeat(None) if calls is None else range(calls):
        answer = of.handle({**asked, "headers": dict(asked["headers"])}, Invocation())
        os.write(writing, b"1" if answer["statusCode"] == 200 else b"0")
    os._exit(0)


def _read(pipe: int, seconds: float) -> bytes:
    """Return the next byte of ``pipe``; nothing where none comes in time, or ever."""
    ready, _, _ = select.select([pipe], [], [], seconds)
    return os.read(pipe, 1) if ready else b""


# -- a store that is late ------------------------------------------------------------------------------------


def late(calls: int) -> bool:
    """Lose writes and answers, let writes arrive after all; say whether only 200s were charged."""
    store = FakeDynamo(seed=1, lose=0.02)
    of, key = endpoint(store), make_key(store, calls, overage=True)
    statuses: Counter[int] = Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(0, calls, 500):
            statuses.update(pool.map(call, [of] * 500, [key] * 500, itertools.repeat(PHOTO, 500)))
            store.land()
    store.lose = 0
    statuses.update([call(of, key, PHOTO)])  # undoes what could not be undone at once
    store.land()
    charged = used(store, key)
    print(
        f"{calls + 1} calls, 2 % of the writes lost or late: {dict(statuses)}; {charged} units charged, "
        f"{charged - statuses[200]} of them without a 200"
    )
    return charged == statuses[200]


# -- cost ----------------------------------------------------------------------------------------------------


class _Counting:
    """A client that counts its operations."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.counts: Counter[str] = Counter()

    def __getattr__(self, operation: str) -> Any:
        self.counts[operation] += 1
        return getattr(self._client, operation)


@contextmanager
def _served_elsewhere() -> Iterator[str]:
    """Serve an empty store from a process of its own; yield its address."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with serve(FakeDynamo()) as address:
            os.write(writing, address.encode())
            signal.pause()
    try:
        yield os.read(reading, 100).decode()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def cost(calls: int) -> bool:
    """Count what a call asks of the store, and the CPU time of all but reading the photo."""
    from carsight_service.aws.clients import Clients
    from carsight_service.metering.model import key_id, partition

    with _served_elsewhere() as address:
        os.environ |= credentials(address)
        client = Clients().metering
        for name, photo in (("200", PHOTO), ("404", EMPTY)):
            counting, key = _Counting(Clients().meters), make_key(client, 10 * calls)
            of = endpoint(counting)
            times = []
            for _ in range(calls):
                start = time.process_time()
                call(of, key, photo)
                times.append((time.process_time() - start) * 1000)
            where = {"pk": {"S": partition(key_id(key))}, "sk": {"S": "API#plate"}}
            item = client.get_item(TableName=TABLE, Key=where)["Item"]
            each = {operation: round(count / calls, 3) for operation, count in counting.counts.items()}
            print(
                f"{name}: {each} a call, an item of {sum(map(_bytes, item.items()))} bytes, "
                f"{statistics.median(times):.3f} CPU-ms"
            )
    return True


def _bytes(attribute: tuple[str, Any]) -> int:
    """Return what DynamoDB counts for an attribute."""
    name, value = attribute
    kind, content = next(iter(value.items()))
    return len(name) + {"BOOL": 1, "N": len(str(content)) // 2 + 2}.get(kind, len(str(content)))


# -- a crowd of children -------------------------------------------------------------------------------------


_RETRIES = 12
"""Of a child, at growing intervals, as in its definition."""


class _Crowd:
    """Children of one key, simulated: they are read, counted and closed, and come again where need be."""

    def __init__(self, at_once: int, reading: float, *, first: bool) -> None:
        self._random, self._reading, self._first = random.Random(1), reading, first
        self._left, self._numbers = max(8_000, 10 * at_once), itertools.count()
        self._events: list[tuple[float, int, str, int, float]] = []
        self._units, self._at, self._tickets = 1000.0, 0.0, 0
        self.done = self.failed = 0
        for child in range(at_once):
            self._begin(child / 100)

    def run(self) -> float:
        """Run them all; return after how many seconds the last has ended."""
        while self._events:
            now, _, step, tries, begun = heapq.heappop(self._events)
            waits = step == "take" and not self._first and self._tickets >= MOST_IN_HAND
            waits = waits and tries < PATIENT_ATTEMPTS
            if not waits and self._write(now):
                self._go_on(now, step, begun)
            elif now - begun > 300 or (tries == _RETRIES and not self._first):  # its ticket stays
                self.failed += 1
                self._begin(now)
            else:
                longest = min(2 * 2.0**tries, 20)
                self._push(now + 0.2 + self._random.uniform(0, longest), step, tries + 1, begun)
        return now

    def _go_on(self, now: float, step: str, begun: float) -> None:
        if step == "take":
            self._tickets += 1
            self._push(now + (self._reading if self._first else IN_HAND_SECONDS), "close", 0, begun)
        else:
            self._tickets -= 1
            self.done += 1
            self._begin(now)

    def _begin(self, now: float) -> None:
        if self._left:
            self._left -= 1
            self._push(now + (0.05 if self._first else self._reading), "take", 0, now)

    def _push(self, when: float, step: str, tries: int, begun: float) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), step, tries, begun))

    def _write(self, now: float) -> bool:
        self._units = min(PARTITION_UNITS, self._units + (now - self._at) * PARTITION_UNITS)
        self._at = now
        if self._units <= 0:
            return False
        self._units -= write_units(self._tickets)
        return True


def crowd(milliseconds: int) -> bool:
    """Print how many rows a second of so many CPU-milliseconds children read, by how many there are."""
    print("| children at once | counted before reading: rows a second, failed | counted afterwards |")
    print("|---:|---:|---:|")
    for at_once in (50, 100, 200, 400, 1000, 2000):
        cells = []
        for first in (True, False):
            children = _Crowd(at_once, milliseconds * ROWS_A_CHILD / 1000, first=first)
            seconds = children.run()
            failed = children.failed / (children.failed + children.done)
            cells.append(f"{children.done * ROWS_A_CHILD / seconds:,.0f}, {failed:.1%}")
        print(f"| {at_once} | {' | '.join(cells)} |")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("races").add_argument("--repetitions", type=int, default=100, dest="number")
    commands.add_parser("kills").add_argument("--kills", type=int, default=200, dest="number")
    commands.add_parser("late").add_argument("--calls", type=int, default=20_000, dest="number")
    commands.add_parser("cost").add_argument("--calls", type=int, default=400, dest="number")
    commands.add_parser("crowd").add_argument("--milliseconds", type=int, default=16, dest="number")
    options = parser.parse_args()
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"
    parts = {"races": races, "kills": kills, "late": late, "cost": cost, "crowd": crowd}
    if not parts[options.command](options.number):
        raise SystemExit("not exact")


if __name__ == "__main__":
    main()

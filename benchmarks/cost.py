"""Memory size against latency and cost, worked out from what the other benchmarks measured.

    python -m benchmarks.cost --warm 25 --cold 400 [--waiting 8] [--cold-share 0.01]
    python -m benchmarks.cost --batch 16 [--waiting 80]

``--batch`` is what a million rows of a batch cost, by CPU-milliseconds a row (``benchmarks.batch``), with
``--waiting`` for each photo, and how fast they are read, as far as one key can be counted.

``--warm`` and ``--cold`` are CPU-milliseconds on one core: of a warm request (``benchmarks.warm``), and from
a function's start to its first answer (``benchmarks.cold``). ``--waiting`` are milliseconds that a request
waits for DynamoDB. A request's work runs on one thread, so more than one vCPU makes it no faster, and less
makes it slower in proportion: Lambda gives one vCPU per 1,769 MB.

Prices are list prices of us-east-1 without free tiers, as known in November 2026; look them up before you
rely on them.
"""

from __future__ import annotations

import argparse

from carsight_service.queue.children import AHEAD
from carsight_service.queue.outcomes import MOST_IN_HAND

MEGABYTES_PER_VCPU = 1769
SIZES = (512, 1024, 1769, 3008, 3538)
GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
PER_MILLION = {
    "Lambda, requests": 0.20,
    "API Gateway, HTTP API": 1.00,
    "DynamoDB, one write": 0.625,
    "CloudWatch Logs, 2 KB": 1.00,
}
"""Dollars for a million requests, whatever their duration."""


ROWS_A_CHILD = 50
WRITE_UNIT, READ_UNIT = 0.625, 0.125
"""Dollars for a million units of DynamoDB, on demand."""

S3_PUT, S3_GET = 5.00, 0.40
METER_BYTES, TICKET_BYTES = 500, 76
"""Of a meter's item, and of each child's ticket in it."""

IN_HAND_SECONDS = 0.06
"""How long a child has a ticket there: one PUT of S3 and two calls of DynamoDB."""

PARTITION_UNITS = 1000
"""What DynamoDB writes a second to all items of one key."""


def dollars_of_compute(row_milliseconds: float) -> float:
    """Return what reading a million rows costs in a function of one vCPU."""
    return row_milliseconds * 1000 * MEGABYTES_PER_VCPU / 1024 * GB_SECOND["x86_64"]


def write_units(tickets: int) -> int:
    """Return how many units one write of a meter takes while so many tickets are open in it."""
    return -(-(METER_BYTES + tickets * TICKET_BYTES) // 1024)


def read_units(tickets: int) -> int:
    """Return how many units it takes to read a meter with so many tickets, as it stands."""
    return -(-(METER_BYTES + tickets * TICKET_BYTES) // 4096)


def batch(work: float, waiting: float, at_once: int = 100) -> dict[str, float]:
    """Return what a million rows cost, by item."""
    children = 1_000_000 / ROWS_A_CHILD
    row = max(work, waiting / AHEAD)
    seconds = row * ROWS_A_CHILD / 1000
    tickets = min(MOST_IN_HAND, round(at_once / seconds * IN_HAND_SECONDS))
    one = 1 / 1_000_000
    return {
        "Step Functions: children, and a transition for each": children * (1.00 * one + 0.000025),
        "Step Functions: their seconds, at 64 MB": children * seconds * 0.0625 * 0.00001667,
        "Lambda, requests": children * 0.20 * one,
        "Lambda, reading": dollars_of_compute(row),
        "counting": children * 2 * write_units(tickets) * WRITE_UNIT * one,
        # The batch and the meter are looked at twice, and the rows are added up.
        "state and progress": children * (WRITE_UNIT + (3 + read_units(tickets)) * READ_UNIT) * one,
        "S3: photos": S3_GET,
        "S3: outcomes": children * (2 * S3_PUT + 2 * S3_GET) * one,
        "logs: 0.4 KB a child": children * 0.4 * 0.0000005,
    }


def rows_a_second(work: float, waiting: float, at_once: int) -> tuple[float, float]:
    """Return how many rows ``at_once`` children of a batch read, and how many can be counted for one key."""
    child_seconds = max(work, waiting / AHEAD) * ROWS_A_CHILD / 1000
    children = PARTITION_UNITS / (2 * write_units(MOST_IN_HAND))
    return at_once / child_seconds * ROWS_A_CHILD, children * ROWS_A_CHILD


def milliseconds(work: float, waiting: float, memory: int) -> float:
    """How long a request of ``work`` CPU-milliseconds takes in a function of ``memory`` MB."""
    return work / min(1.0, memory / MEGABYTES_PER_VCPU) + waiting


def show_batch(items: dict[str, float]) -> None:
    """Print what a million rows cost, item by item."""
    print("| dollars for a million rows | |")
    print("|---|---:|")
    for name, dollars in items.items():
        print(f"| {name} | {dollars:.3f} |")
    print(f"| **all** | **{sum(items.values()):.2f}** |")


def show_speed(work: float, waiting: float) -> None:
    """Print how fast a batch is, by how many of its children are read at once."""
    print("\n| children at once | rows a second | ten million rows |")
    print("|---:|---:|---:|")
    for at_once in (50, 100, 200, 400, 800):
        rows = min(rows_a_second(work, waiting, at_once))
        print(f"| {at_once} | {rows:,.0f} | {10_000_000 / rows / 60:.0f} min |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warm", type=float)
    parser.add_argument("--cold", type=float)
    parser.add_argument("--waiting", type=float)
    parser.add_argument("--batch", type=float, help="CPU-milliseconds of one row")
    parser.add_argument("--cold-share", type=float, default=0.01, help="of requests that start a function")
    options = parser.parse_args()
    if options.batch:
        waiting = 80.0 if options.waiting is None else options.waiting
        show_batch(batch(options.batch, waiting))
        show_speed(options.batch, waiting)
        return
    if options.warm is None or options.cold is None:
        parser.error("either --batch, or --warm and --cold")
    options.waiting = 8.0 if options.waiting is None else options.waiting
    fixed = sum(PER_MILLION.values()) / 1000
    names = list(GB_SECOND)
    heads = "".join(f" {name}: compute | {name}: all |" for name in names)
    print(f"Dollars for 1,000 requests, {options.cold_share:.0%} of them cold.\n")
    print(f"| MB | warm, ms | cold, ms |{heads}")
    print("|---:|---:|---:|" + "---:|---:|" * len(names))
    for memory in SIZES:
        warm = milliseconds(options.warm, options.waiting, memory)
        cold = milliseconds(options.cold, options.waiting, memory)
        seconds = (warm * (1 - options.cold_share) + cold * options.cold_share) / 1000
        cells = f"| {memory} | {warm:.0f} | {cold:.0f} |"
        for name in names:
            compute = 1000 * seconds * memory / 1024 * GB_SECOND[name]
            cells += f" {compute:.5f} | {compute + fixed:.5f} |"
        print(cells)
    print(f"\nOf it, whatever the size, {fixed:.5f}: ", end="")
    print(", ".join(f"{name} {price / 1000:.6f}" for name, price in PER_MILLION.items()))


if __name__ == "__main__":
    main()

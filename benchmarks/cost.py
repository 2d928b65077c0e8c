"""Memory size against latency and cost, worked out from what the other benchmarks measured.

    python -m benchmarks.cost --warm 25 --cold 400 [--waiting 8] [--cold-share 0.01]

``--warm`` and ``--cold`` are CPU-milliseconds on one core: of a warm request (``benchmarks.warm``), and from
a function's start to its first answer (``benchmarks.cold``). ``--waiting`` are milliseconds that a request
waits for DynamoDB. A request's work runs on one thread, so more than one vCPU makes it no faster, and less
makes it slower in proportion: Lambda gives one vCPU per 1,769 MB.

Prices are list prices of us-east-1 without free tiers, as known in November 2026; look them up before you
rely on them.
"""

from __future__ import annotations

import argparse

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


def milliseconds(work: float, waiting: float, memory: int) -> float:
    """How long a request of ``work`` CPU-milliseconds takes in a function of ``memory`` MB."""
    return work / min(1.0, memory / MEGABYTES_PER_VCPU) + waiting


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warm", type=float, required=True)
    parser.add_argument("--cold", type=float, required=True)
    parser.add_argument("--waiting", type=float, default=8.0)
    parser.add_argument("--cold-share", type=float, default=0.01, help="of requests that start a function")
    options = parser.parse_args()
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

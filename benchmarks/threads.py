"""Many threads on one engine: photos read a second, and what that takes of memory.

    python -m benchmarks.threads [--api plate] [--seconds 5] [--photo FILE]

The engine is one recognizer, used as a library by 1, 2, 4 and 8 threads at once. Threads beyond the machine's
processors show what waiting for each other costs. Memory is the most that the process has held so far.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from benchmarks.calls import SAMPLES
from carsight.photo import decode
from carsight.plate.recognizer import PlateRecognizer
from carsight.vin.recognizer import VinRecognizer


def megabytes() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", choices=("plate", "vin"), default="plate")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photo = options.photo or SAMPLES[options.api]
    encoded = photo.read_bytes()
    recognizer = PlateRecognizer.load() if options.api == "plate" else VinRecognizer.load()
    expected = recognizer.read(decode(encoded))

    def read_until(end: float) -> int:
        photos = 0
        while time.perf_counter() < end:
            if recognizer.read(decode(encoded)) != expected:
                raise RuntimeError("another answer")
            photos += 1
        return photos

    print(f"{photo.name}, {len(os.sched_getaffinity(0))} processors\n")
    print("| threads | photos a second | of processors used | CPU-ms a photo | memory, MB |")
    print("|---:|---:|---:|---:|---:|")
    for threads in (1, 2, 4, 8):
        with ThreadPoolExecutor(threads) as pool:
            start, worked = time.perf_counter(), time.process_time()
            photos = sum(pool.map(read_until, [start + options.seconds] * threads))
            took, worked = time.perf_counter() - start, time.process_time() - worked
        cells = (threads, f"{photos / took:.1f}", f"{worked / took:.2f}")
        print("| " + " | ".join(map(str, cells)) + f" | {worked / photos * 1000:.1f} | {megabytes():.0f} |")


if __name__ == "__main__":
    main()

"""A whole request, from API Gateway's event to the answer, stage by stage, in CPU-milliseconds on one thread.

    python -m benchmarks.warm [--api plate] [--requests 30] [--photo FILE] [--plot FILE] [--peer]

Without ``--photo``, the sample photo as it is and enlarged to 12 megapixels, with the grain that a camera's
photo has and an enlarged one lacks. Tables are in Markdown; a figure is the median of all requests. The key
is counted in an embedded table by a real DynamoDB client, whose own work is in the figure and whose waiting
is not.

``--peer`` adds RapidOCR (``pip install rapidocr``), PP-OCRv6 small on the whole photo and on one thread,
request by request in turn with ours. ``--plot`` writes the stages as an SVG.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.calls import SAMPLES, Invocation, event, key_table
from carsight.geometry import Pixels

STAGES = {
    "keys": "count the key's unit",
    "load": "take the photo from the request",
    "decode": "decode",
    "detect": "find",
    "read": "read",
    "classify": "look at the vehicle",
    "barcode": "look for a barcode",
    "rest": "everything else",
    "total": "whole request",
}
COLORS = ("#7b6888", "#98abc5", "#6b486b", "#2f6c8f", "#d0743c", "#ff8c00", "#a05d56", "#bbbbbb")


def large(encoded: bytes) -> bytes:
    """Return the photo in 4000 x 3000: enlarged, filled up, with a camera's grain."""
    photo = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert photo is not None
    zoom = min(4000 / photo.shape[1], 3000 / photo.shape[0])
    photo = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    below, right = 3000 - photo.shape[0], 4000 - photo.shape[1]
    photo = cv2.copyMakeBorder(photo, below, 0, 0, right, cv2.BORDER_REFLECT)
    grain = np.random.default_rng(1).normal(0, 5, (3000, 4000, 1))
    done, jpeg = cv2.imencode(
        ".jpg", np.clip(photo + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    assert done
    return jpeg.tobytes()


class Ours:
    """The deployed handler, with clocks that count this process's work and nobody's waiting."""

    def __init__(self, api: str) -> None:
        from carsight_service import telemetry
        from carsight_service.contract.api import Api
        from carsight_service.http.endpoint import Endpoint

        app: Any = import_module(f"functions.{api}.app")
        deployment = replace(app.deployment, timer=time.process_time)
        self._api = api
        self.spent: dict[str, float] = defaultdict(float)
        self._handle = Endpoint(deployment, Api(api), app.recognize).handle
        self._log = StringIO()
        for handler in telemetry.logger.handlers:
            handler.setStream(self._log)  # type: ignore[attr-defined]
        recognizer = sys.modules[type(app.recognizer).__module__]
        if api == "plate":
            self._time(recognizer, "Detector", "find", "detect")
            self._time(recognizer, "PlateReader", "read", "read")
            self._time(recognizer, "VehicleClassifier", "classify", "classify")
        else:
            self._time(recognizer, "Detector", "detect", "detect")
            for function in ("read", "glance"):
                self._time(recognizer, "LineReader", function, "read")
            for function in ("look", "beside", "whole"):
                self._time(sys.modules["carsight.vin"], "barcodes", function, "barcode")

    def _time(self, module: object, owner: str, function: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(getattr(module, owner), function)

        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return inner(*arguments, **named)
            finally:
                self.spent[name] += (time.process_time() - start) * 1000

        setattr(getattr(module, owner), function, measured)

    def request(self, photo: bytes) -> dict[str, float]:
        """CPU-milliseconds of each stage of one request."""
        asked = event(self._api, photo)
        self.spent.clear()
        start = time.process_time()
        answer = self._handle(asked, Invocation())
        total = (time.process_time() - start) * 1000
        stages = json.loads(self._log.getvalue().splitlines()[-1])["ms"]
        self._log.seek(0)
        self._log.truncate()
        self.spent.update({name: stages[name] for name in ("keys", "load", "decode")})
        if answer["statusCode"] != 200:
            raise RuntimeError(answer["body"])
        return {**self.spent, "rest": total - sum(self.spent.values()), "total": total}


def rapidocr_engine() -> Any:
    """RapidOCR as it comes, told to use one thread."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={"Global.log_level": "critical", "EngineConfig.onnxruntime.intra_op_num_threads": 1}
    )


def rapidocr() -> Callable[[bytes], dict[str, float]]:
    """Return what decodes a photo and has RapidOCR read it, with the CPU-milliseconds of both stages."""
    engine = rapidocr_engine()

    def request(photo: bytes) -> dict[str, float]:
        start = time.process_time()
        pixels: Pixels = np.asarray(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        decoded = time.process_time()
        engine(pixels)
        end = time.process_time()
        return {"decode": (decoded - start) * 1000, "total": (end - start) * 1000}

    return request


def measure(
    photos: Mapping[str, bytes], systems: Mapping[str, Callable[[bytes], dict[str, float]]], requests: int
) -> dict[tuple[str, str], dict[str, float]]:
    """Measure each stage's median, by system and photo; they take turns, and the first two do not count."""
    medians = {}
    for photo, encoded in photos.items():
        taken: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in systems}
        for turn in range(requests + 2):
            for name, request in systems.items():
                stages = request(encoded)
                if turn >= 2:
                    for stage, milliseconds in stages.items():
                        taken[name][stage].append(milliseconds)
        for name, lists in taken.items():
            medians[name, photo] = {stage: statistics.median(times) for stage, times in lists.items()}
    return medians


def table(medians: Mapping[tuple[str, str], Mapping[str, float]]) -> str:
    """Return the stages as rows, the systems and photos as columns."""
    lines = ["| CPU-ms | " + " | ".join(f"{name}, {photo}" for name, photo in medians) + " |"]
    lines.append("|---|" + "---:|" * len(medians))
    for stage, words in STAGES.items():
        if any(stage in stages for stages in medians.values()):
            cells = (f"{stages[stage]:.1f}" if stage in stages else "" for stages in medians.values())
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(medians: Mapping[tuple[str, str], Mapping[str, float]]) -> str:
    """One bar a system and photo, its stages side by side, as an SVG."""
    widest = max(stages["total"] for stages in medians.values())
    shown = [stage for stage in STAGES if stage != "total"]
    height = 46 * len(medians) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="800" height="{height}" fill="#fff"/>'
    ]
    for row, ((name, photo), stages) in enumerate(medians.items()):
        x, y = 10.0, 46 * row + 10
        parts.append(f'<text x="10" y="{y + 12}">{name}, {photo}: {stages["total"]:.1f} CPU-ms</text>')
        left = stages["total"] - sum(stages.get(stage, 0.0) for stage in shown)
        for stage, color in zip(shown, COLORS, strict=True):
            part = stages.get(stage, 0.0) + (left if stage == "rest" else 0.0)
            width = 780 * part / widest
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 17}" width="{width:.1f}" height="16" fill="{color}">'
                f"<title>{STAGES[stage]}: {part:.1f}</title></rect>"
            )
            x += width
    for index, (stage, color) in enumerate(zip(shown, COLORS, strict=True)):
        x, y = 10 + 195 * (index % 4), height - 30 + 16 * (index // 4)
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{x + 15}" y="{y}">{STAGES[stage]}</text>')
    return "\n".join([*parts, "</svg>"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", choices=("plate", "vin"), default="plate")
    parser.add_argument("--photo", type=Path, action="append")
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--peer", action="store_true", help="measure RapidOCR too, in the same run")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.photo:
        photos = {path.name: path.read_bytes() for path in options.photo}
    else:
        sample = SAMPLES[options.api]
        photos = {sample.name: sample.read_bytes(), "4000 x 3000": large(sample.read_bytes())}
    with key_table(), Path(os.devnull).open("w") as log, redirect_stdout(log):
        systems: dict[str, Callable[[bytes], dict[str, float]]] = {"Carsight": Ours(options.api).request}
        if options.peer:
            systems["RapidOCR"] = rapidocr()
        medians = measure(photos, systems, options.requests)
    print(table(medians))
    if options.plot:
        options.plot.write_text(plot(medians), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measures the VIN recognizer on labeled photos: right, wrong and refused, by kind and by threshold.

    python -m training.evaluate_vins --data DIR [--split val] [--models FOLDER] [--rows FILE]
        [--lines WORK/lines.jsonl] [--no-barcode] [--no-check-digit] [--write MODEL.onnx]
    python -m training.evaluate_vins --rendered 400 [--kind stamped] --sheet docs/vin-failures.jpg
    python -m training.evaluate_vins --others 300

Counts as shared scorers do: right where the first candidate is a labeled VIN of the photo, wrong where
there is one and it is none of them. The curve shows what every threshold would have answered. ``fit`` is
the logistic map from the rules' probability to the share that is right, as measured without the one that the
reader carries; ``--write`` puts it, with the threshold that it keeps, into a reader's file. ``--lines`` puts
the labeled lines in the detector's place, to judge the reader alone. ``--rendered`` asks about drawn photos
instead, of which nothing was trained on, and ``--sheet`` shows those that were refused or read wrongly;
``--others`` counts the answers to drawn photos that bear no VIN.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from carsight.detections import Detection
from carsight.detector import Detector
from carsight.geometry import Pixels, iou
from carsight.photo import Photo
from carsight.runtime import MODELS
from carsight.vin import rules
from carsight.vin.line_reader import Calibration
from carsight.vin.ranking import Prior
from carsight.vin.recognizer import VinRecognizer, VinTuning
from training.calibration import platt
from training.data import read_image, read_labels, tiled
from training.model_files import describe
from training.render_numbers import render_other
from training.render_vins import KINDS, render_photo
from training.vin_reader import load_lines

_THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)

_NO_CHECK_DIGIT = Prior(
    check_digit_holds=1.0, check_digit_fails=1.0, optional_digit_holds=1.0, optional_digit_fails=1.0
)
"""What is left to go by where the check digit is not looked at."""


class Given(Detector):
    """Answers with the lines it was given for the photo instead of looking."""

    def __init__(self) -> None:
        self.corners: list[Any] = []

    def detect(self, pixels: Pixels) -> list[Detection]:
        """Return the given lines."""
        quads = [np.array(c, np.float32) for c in self.corners]
        return [Detection(1.0, np.concatenate([q.min(axis=0), q.max(axis=0)]), q) for q in quads]


def answers(
    recognizer: VinRecognizer, data: Path, split: str, given: Given | None, lines: Path | None
) -> list[dict[str, Any]]:
    """Return for each photo with a sure text what was answered, how surely, where, and at what cost."""
    known = {line.image: line.corners for line in load_lines(lines.parent)} if lines else {}
    rows = []
    for label in read_labels(data, split):
        truths = {v["text"] for v in label["vins"] if v.get("text") and not v.get("unsure")}
        if not truths:
            continue
        pixels = read_image(data / label["image"])
        if given is not None:
            given.corners = [known[label["image"]]] if label["image"] in known else []
        began = time.process_time()
        result = recognizer.read(Photo.of(pixels))
        spent = (time.process_time() - began) * 1000
        row: dict[str, Any] = {
            "image": label["image"],
            "kind": label["kind"],
            "truth": sorted(truths),
            "ms": round(spent, 1),
        }
        if result.candidates:
            first = result.candidates[0]
            box = [first.box.xmin, first.box.ymin, first.box.xmax, first.box.ymax]
            best = max((iou(box, v["box"]) for v in label["vins"] if v.get("box")), default=None)
            row |= {"vin": first.vin, "confidence": first.confidence, "source": first.source, "iou": best}
            row["right"] = first.vin in truths
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], threshold: float) -> dict[str, float]:
    """Return the shares of right, wrong and refused at ``threshold``, and of right boxes (IoU 0.3)."""
    given = [row for row in rows if row.get("confidence", -1) >= threshold]
    right = [row for row in given if row["right"]]
    boxed = [row for row in right if row["iou"] is not None]
    count = max(len(rows), 1)
    return {
        "photos": len(rows),
        "right": round(len(right) / count, 4),
        "wrong": round((len(given) - len(right)) / count, 4),
        "none": round((len(rows) - len(given)) / count, 4),
        "box": round(sum(row["iou"] >= 0.3 for row in boxed) / max(len(boxed), 1), 4),
    }


def rendered(recognizer: VinRecognizer, count: int, seed: int, kind: str | None, sheet: Path | None) -> None:
    """Print what is made of ``count`` drawn photos, and write the first twenty failures to ``sheet``.

    Only VINs that a maker could have written count: the renderer draws others too, which are rightly refused.
    """
    rng = np.random.default_rng(seed)
    outcomes = {"right": 0, "wrong": 0, "refused": 0}
    tiles = []
    while sum(outcomes.values()) < count:
        picture, _, vin = render_photo(rng, kind)
        if not rules.known_maker(vin) or (rules.check_applies(vin) and not rules.is_valid(vin)):
            continue
        found = recognizer.read(picture).candidates
        outcome = "refused" if not found else "right" if found[0].vin == vin else "wrong"
        outcomes[outcome] += 1
        if outcome == "right":
            continue
        zoom = 320 / max(picture.shape)
        small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        tile = np.full((364, 320, 3), 255, np.uint8)
        tile[: small.shape[0], : small.shape[1]] = small
        lines = (vin, f"read as {found[0].vin}" if found else "refused")
        for line, height in zip(lines, (338, 356), strict=True):
            cv2.putText(tile, line, (4, height), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    print(outcomes)
    if sheet is not None and tiles:
        cv2.imwrite(str(sheet), tiled(tiles[:20], 5, 255), [cv2.IMWRITE_JPEG_QUALITY, 70])


def others(recognizer: VinRecognizer, count: int, seed: int) -> None:
    """Print which of ``count`` drawn photos without a VIN are answered, and the processor time of one."""
    answered, spent = 0, []
    for index in range(count):
        picture = render_other(np.random.default_rng((seed, index)))
        began = time.process_time()
        found = recognizer.read(picture).candidates
        spent.append((time.process_time() - began) * 1000)
        if found:
            answered += 1
            print(index, found[0])
    print(f"answered {answered} of {count}; ms {np.median(spent):.1f} mean {np.mean(spent):.1f}")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the labeled VIN photos")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--split", default="val")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--no-barcode", action="store_true")
    parser.add_argument("--no-check-digit", action="store_true")
    parser.add_argument("--rendered", type=int, default=0, metavar="COUNT")
    parser.add_argument("--kind", choices=KINDS, help="of the rendered photos, by default all")
    parser.add_argument("--others", type=int, default=0, metavar="COUNT")
    parser.add_argument("--write", type=Path, help="reader's file that gets the calibration")
    parser.add_argument("--seed", type=int, default=12345, help="of the rendered photos")
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    if args.rendered:
        rendered(VinRecognizer.load(args.models), args.rendered, args.seed, args.kind, args.sheet)
        return
    if args.others:
        others(VinRecognizer.load(args.models), args.others, args.seed)
        return
    if args.data is None:
        parser.error("needs --data, --rendered or --others")
    tuning = VinTuning(
        threshold=0.0,
        least=0.0,
        barcodes=not args.no_barcode,
        prior=_NO_CHECK_DIGIT if args.no_check_digit else Prior(),
    )
    given = Given() if args.lines else None
    recognizer = VinRecognizer.load(args.models, tuning)
    small = recognizer.small
    shipped, small.calibration = small.calibration, Calibration()
    if given is not None:
        recognizer = VinRecognizer(given, given, small, tuning, recognizer.reader, recognizer.hard)
    rows = answers(recognizer, args.data, args.split, given, args.lines)
    by_text = [row for row in rows if row.get("source") == "text"]
    scores, right = [row["confidence"] for row in by_text], [row["right"] for row in by_text]
    slope, offset = platt(scores, right, ridge=0.02)
    print("fit", slope, offset, "shipped", shipped, small.threshold)
    used = Calibration(slope, offset) if args.write else shipped
    for row in by_text:
        row["confidence"] = used(row["confidence"])
    if args.write:
        calibration = json.dumps({"slope": slope, "offset": offset})
        describe(args.write, {"calibration": calibration, "threshold": str(small.threshold)})
    for kind in (*sorted({row["kind"] for row in rows}), None):
        part = [row for row in rows if kind is None or row["kind"] == kind]
        print(kind or "all", summary(part, small.threshold))
    for threshold in _THRESHOLDS:
        print(f"{threshold:.2f}", summary(rows, threshold))
    spent = [row["ms"] for row in rows]
    print(f"ms {np.median(spent):.1f} mean {np.mean(spent):.1f}")
    if args.rows:
        args.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()

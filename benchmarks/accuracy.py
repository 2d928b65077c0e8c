"""Accuracy on a folder of labeled photos, ours beside RapidOCR's, as Markdown tables.

    python -m benchmarks.accuracy plates --data DIR [--split val] [--peer] [--plot FILE] [--models FOLDER]
    python -m benchmarks.accuracy vins   --data DIR [--split val] [--peer] [--plot FILE] [--models FOLDER]
    python -m benchmarks.accuracy plates --data DIR [--split val] --plot-regions FILE
    python -m benchmarks.accuracy plates --empty DIR        # a folder of photos without a plate
    python -m benchmarks.accuracy plates --data DIR [--split val] --views 4

DIR holds labels.jsonl, one JSON object a line with ``image`` and ``plates[]`` or ``vins[]`` (boxes
``[xmin, ymin, xmax, ymax]`` in pixels). A plate is *found* where an answered box has an IoU of 0.5 or more
with its labeled one; its text is right where both are equal after O, Q -> 0 and I -> 1 (*folded*), because
many labels confuse these too. A VIN must be right to the letter. ``--plot`` draws the score's calibration
as an SVG.

What was tuned on these very photos fits them better than others. ``--views N`` reads each in N slightly
different views instead of as it is: up to 4 % less at each side, 0.85 to 1.1 times as large, saved again.
They are the same at each run, and two settings that differ less on them than by chance do not differ.

The peer is PP-OCRv6 small as ``rapidocr`` ships it, on the whole photo. For plates it may answer with every
line of 4 to 9 letters and digits, and the line nearest to the labeled plate counts: an oracle's help that
ours does not get. For VINs it answers with the 17-character window that its confidence and the check digit
prefer, at the first of four rotations that shows one. It needs ``pip install rapidocr``.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import time
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.warm import rapidocr_engine
from carsight import runtime
from carsight.geometry import Box, Pixels, iou
from carsight.photo import decode
from carsight.plate.recognizer import PlateRecognizer, Vehicle
from carsight.vin.recognizer import VinRecognizer
from carsight.vin.rules import LENGTH, check_applies, is_valid
from training.data import TYPE_OF_LABEL, read_labels

_FOLDED = str.maketrans("OQI", "001")

Sides = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax in pixels, as in the labels."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system says of one plate: where, what, how sure, and what else it might be."""

    box: Sides
    text: str
    score: float
    region: str = ""
    region_score: float = 0.0
    candidates: tuple[str, ...] = ()
    vehicle: Vehicle | None = None


System = Callable[[bytes], list[Answer]]
Scored = list[tuple[float, bool]]
"""The score of each answer, and whether it was right."""

_BANDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.001)


@dataclass(slots=True)
class Tally:
    """Counts for one row of a table."""

    plates: int = 0
    found: int = 0
    texts: int = 0
    right: int = 0
    exact: int = 0
    within_five: int = 0

    def row(self) -> list[str]:
        return [
            str(self.plates),
            _percent(self.found, self.plates),
            str(self.texts),
            _percent(self.right, self.texts),
            _percent(self.exact, self.texts),
            _percent(self.within_five, self.texts),
        ]


_PLATE_COLUMNS = ["plates", "found", "texts", "end to end", "to the letter", "in first five"]


def folded(text: str) -> str:
    return text.upper().translate(_FOLDED)


def plate_slices(label: dict[str, Any], plate: dict[str, Any], pixels: Pixels) -> Iterator[str]:
    """Yield the rows of the table in which a labeled plate counts."""
    yield "all"
    yield f"set: {label.get('group', 'all')}"
    region = (plate.get("region") or "").split("-")[0]
    if region:
        yield f"country: {region}"
    height = plate["box"][3] - plate["box"][1]
    yield f"height: {'below 20' if height < 20 else '20 to 40' if height < 40 else '40 and more'} px"
    yield f"rows: {plate.get('lines') or 'not labeled'}"
    yield "light: " + ("day" if pixels.mean() > 70 else "night")
    corners = plate.get("polygon") or plate.get("corners_guess")
    if corners:
        (ax, ay), (bx, by) = corners[0], corners[1]
        tilt = abs(np.degrees(np.arctan2(by - ay, bx - ax)))
        yield f"tilt: {'below 5' if tilt < 5 else '5 to 15' if tilt < 15 else '15 and more'} degrees"


def vin_slices(label: dict[str, Any], truth: str) -> Iterator[str]:
    """Yield the rows of the table in which a photo of the VIN ``truth`` counts."""
    yield "all"
    yield f"kind: {label.get('kind', 'other')}"
    yield "barcode: " + ("yes" if label.get("barcodes") else "no")
    yield "check digit: " + ("applies" if check_applies(truth) else "does not apply")
    boxes = [vin["box"] for vin in label["vins"] if vin.get("box")]
    if boxes:
        pitch = max((box[2] - box[0]) / LENGTH for box in boxes)
        yield f"pitch: {'below 8' if pitch < 8 else '8 to 12' if pitch < 12 else '12 and more'} px"


def looks(plate: dict[str, Any], hit: Answer | None) -> Iterator[tuple[str, bool]]:
    """Yield what is asked about a labeled plate besides its text, and whether the answer to it is right."""
    region = plate.get("region") or ""
    answered = hit.region if hit else ""
    if region:
        yield "country", answered.split("-")[0] == region.split("-")[0]
    if "-" in region:
        yield "state", answered == region
        if plate["box"][3] - plate["box"][1] >= 40:
            yield "state, 40 px and more", answered == region
    vehicle = plate.get("vehicle") or {}
    if not vehicle.get("box"):
        return
    seen = hit.vehicle if hit else None
    box = _sides(seen.box) if seen else (0, 0, 0, 0)
    yield "vehicle found", iou(vehicle["box"], box) >= 0.5
    if vehicle.get("type") in TYPE_OF_LABEL:
        yield "body", seen is not None and seen.type == TYPE_OF_LABEL[vehicle["type"]]
    if vehicle.get("color"):
        yield "color", seen is not None and seen.color == vehicle["color"]
    if vehicle.get("view"):
        yield "side", seen is not None and seen.orientation == vehicle["view"]


def region_scores(plate: dict[str, Any], hit: Answer | None) -> Scored:
    """Return the region's score where it is known, and whether the region, or its country alone, is right."""
    region = plate.get("region")
    if hit is None or not region or not hit.region_score or plate.get("unsure"):
        return []
    return [(hit.region_score, hit.region in (region, region.split("-")[0]))]


def labeled_photos(data: Path, split: str | None, views: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the labels of ``data`` with their photos as they are or, where ``views`` are asked for, those."""
    for label in read_labels(data, split):
        encoded = (data / label["image"]).read_bytes()
        if not views:
            yield label, encoded
            continue
        pixels = decode(encoded).full().pixels
        rng = np.random.default_rng(zlib.crc32(label["image"].encode()))
        for _ in range(views):
            yield _view(label, pixels, rng)


def _view(label: dict[str, Any], pixels: Pixels, rng: np.random.Generator) -> tuple[dict[str, Any], bytes]:
    """Return a slightly different view of a photo, which cuts through none of its plates or VINs."""
    size = np.array(pixels.shape[1::-1])
    kind = "plates" if "plates" in label else "vins"
    boxes = np.array([each["box"] for each in label[kind] if each.get("box")], float).reshape(-1, 4)
    begin = np.floor(np.minimum(rng.uniform(0, 0.04, 2) * size, boxes[:, :2].min(axis=0, initial=np.inf)))
    end = np.ceil(np.maximum((1 - rng.uniform(0, 0.04, 2)) * size, boxes[:, 2:].max(axis=0, initial=0)))
    (left, top), (right, bottom) = begin.clip(0).astype(int), np.minimum(end, size).astype(int)
    zoom = float(rng.uniform(0.85, 1.1))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(pixels[top:bottom, left:right], None, fx=zoom, fy=zoom, interpolation=method)

    def moved(thing: dict[str, Any]) -> dict[str, Any]:
        places = {
            name: ((np.reshape(thing[name], (-1, 2)) - (left, top)) * zoom)
            .reshape(np.shape(thing[name]))
            .tolist()
            for name in ("box", "polygon", "corners_guess")
            if thing.get(name)
        }
        parts = {name: moved(part) for name, part in thing.items() if isinstance(part, dict)}
        return thing | places | parts

    _, encoded = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return label | {kind: [moved(each) for each in label[kind]]}, encoded.tobytes()


@dataclass(slots=True)
class PlateFigures:
    """What one system has made of the labeled plates that it was asked about."""

    rows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    asked: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    confused: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    texts: Scored = field(default_factory=list)
    regions: Scored = field(default_factory=list)

    def count(
        self, label: dict[str, Any], plate: dict[str, Any], pixels: Pixels, answers: list[Answer]
    ) -> None:
        """Count one labeled plate of a photo by the answer that overlaps it."""
        best = max(answers, key=lambda answer: iou(plate["box"], answer.box), default=None)
        hit = best if best is not None and iou(plate["box"], best.box) >= 0.5 else None
        for question, right in looks(plate, hit):
            self.asked[question].append(right)
        self.regions += region_scores(plate, hit)
        truth = plate.get("text") if not plate.get("unsure") else None
        for name in plate_slices(label, plate, pixels):
            row = self.rows[name]
            row.plates += 1
            row.found += hit is not None
            if truth:
                row.texts += 1
                row.right += hit is not None and folded(hit.text) == folded(truth)
                row.exact += hit is not None and hit.text.upper() == truth.upper()
                row.within_five += hit is not None and folded(truth) in map(folded, hit.candidates[:5])
        if truth and hit is not None:
            self.texts.append((hit.score, folded(hit.text) == folded(truth)))
            if len(hit.text) == len(truth):
                for answer, meant in zip(folded(hit.text), folded(truth), strict=True):
                    self.confused[meant, answer] += answer != meant

    def show(self) -> None:
        """Print the tables, but for the one of texts by slice."""
        _table(
            ["", "labeled", "right"],
            ([name, str(len(right)), _percent(sum(right), len(right))] for name, right in self.asked.items()),
        )
        _reliability(self.texts)
        print("\nRegions:")
        _reliability(self.regions)
        worst = sorted(self.confused.items(), key=lambda item: -item[1])[:15]
        print()
        _table(["meant", "said", "times"], ([*pair, str(count)] for pair, count in worst if count))

    def show_slices(self) -> None:
        """Print how many plates of each slice are found and read."""
        rows = self.rows
        order = sorted(rows, key=lambda name: (name != "all", name.split(":")[0], -rows[name].plates))
        _table(["", *_PLATE_COLUMNS], ([name, *rows[name].row()] for name in order if rows[name].plates >= 5))


def plates(system: System, data: Path, split: str | None, views: int) -> tuple[Scored, Scored]:
    """Print the tables for one system over the plates of ``data``; the scores of its texts and regions."""
    figures, cpu = PlateFigures(), []
    false = photos_without = 0
    for label, encoded in labeled_photos(data, split, views):
        start = time.process_time()
        answers = system(encoded)
        cpu.append((time.process_time() - start) * 1000)
        if not label["plates"]:
            photos_without += 1
            false += bool(answers)
            continue
        pixels = decode(encoded).pixels
        for plate in label["plates"]:
            if plate.get("box"):
                figures.count(label, plate, pixels, answers)
    figures.show_slices()
    print(f"\nCPU-ms a photo: median {statistics.median(cpu):.1f}, mean {statistics.mean(cpu):.1f}")
    if photos_without:
        print(
            f"photos without a plate: {photos_without}, answered with one: {_percent(false, photos_without)}"
        )
    print()
    figures.show()
    return figures.texts, figures.regions


def empty(system: System, folder: Path) -> None:
    """Print how many photos of ``folder``, which show no plate, are answered with one."""
    photos = sorted(path for path in folder.iterdir() if path.is_file())
    answered = [path.name for path in photos if system(path.read_bytes())]
    print(f"{len(answered)} of {len(photos)} photos without a plate are answered with one: {answered}")


def vins(system: System, data: Path, split: str | None, views: int) -> tuple[Scored, Scored]:
    """Print the tables for one system over the VINs of ``data``; the scores of its answers."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    reliability: list[tuple[float, bool]] = []
    cpu: list[float] = []
    for label, encoded in labeled_photos(data, split, views):
        truths = {vin["text"] for vin in label["vins"] if vin.get("text") and not vin.get("unsure")}
        if not truths:
            continue
        start = time.process_time()
        answers = system(encoded)
        cpu.append((time.process_time() - start) * 1000)
        right = bool(answers) and answers[0].text in truths
        boxes = [vin["box"] for vin in label["vins"] if vin.get("box")]
        located = right and any(iou(box, answers[0].box) >= 0.3 for box in boxes)
        for name in vin_slices(label, min(truths)):
            for index, value in enumerate((1, right, bool(answers) and not right, not answers, located)):
                rows[name][index] += value
        if answers:
            reliability.append((answers[0].score, right))
    order = sorted(rows, key=lambda name: (name != "all", name))
    columns = ["", "photos", "right", "wrong", "refused", "box right when right"]
    _table(
        columns,
        (
            [name, str(n), *(_percent(count, n) for count in (right, wrong, none)), _percent(located, right)]
            for name in order
            for n, right, wrong, none, located in [rows[name]]
        ),
    )
    print(f"\nCPU-ms a photo: median {statistics.median(cpu):.1f}, mean {statistics.mean(cpu):.1f}")
    _reliability(reliability)
    return reliability, []


def _sides(box: Box) -> Sides:
    return box.xmin, box.ymin, box.xmax, box.ymax


def our_plates(models: Path) -> System:
    recognizer = PlateRecognizer.load(models)

    def read(encoded: bytes) -> list[Answer]:
        return [
            Answer(
                _sides(r.box),
                r.text,
                r.score,
                r.region,
                r.region_score,
                tuple(candidate.text for candidate in r.candidates),
                r.vehicle,
            )
            for r in recognizer.read(decode(encoded))
        ]

    return read


def our_vins(models: Path) -> System:
    recognizer = VinRecognizer.load(models)

    def read(encoded: bytes) -> list[Answer]:
        return [
            Answer(_sides(c.box), c.vin, c.confidence) for c in recognizer.read(decode(encoded)).candidates
        ]

    return read


Line = tuple[Sides, str, float]
"""A line that the peer reads: its box, its text and its score."""


def _capitals(text: str) -> str:
    """Return the letters and digits of ``text`` in capitals; some of the peer's are full-width ones."""
    return re.sub("[^A-Z0-9]", "", unicodedata.normalize("NFKC", text).upper())


def _rapidocr() -> Callable[[Pixels], list[Line]]:
    engine = rapidocr_engine()

    def lines(pixels: Pixels) -> list[Line]:
        result = engine(pixels)
        if result.boxes is None:
            return []
        corners = [np.asarray(box) for box in result.boxes]
        boxes = [(*box.min(axis=0).tolist(), *box.max(axis=0).tolist()) for box in corners]
        return list(zip(boxes, result.txts, (float(score) for score in result.scores), strict=True))

    return lines


def peer_plates() -> System:
    lines = _rapidocr()

    def read(encoded: bytes) -> list[Answer]:
        texts = [(box, _capitals(text), score) for box, text, score in lines(decode(encoded).pixels)]
        likely = [line for line in texts if 4 <= len(line[1]) <= 9 and re.search("[0-9]", line[1])]
        return [Answer(box, text, score, candidates=(text,)) for box, text, score in likely]

    return read


def peer_vins() -> System:
    lines = _rapidocr()

    def windows(
        found: Iterable[Line],
    ) -> Iterator[tuple[bool, float, str, Sides]]:
        for box, text, score in found:
            clean = folded(_capitals(text))
            for start in range(len(clean) - LENGTH + 1):
                vin = clean[start : start + LENGTH]
                yield is_valid(vin), score, vin, box

    def read(encoded: bytes) -> list[Answer]:
        pixels = decode(encoded).pixels
        best: list[tuple[bool, float, str, Sides]] = []
        for turn in (None, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE):
            turned = pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), np.uint8)
            best += windows(lines(turned))
            if best:
                break
        return [Answer(box, vin, score) for _, score, vin, box in sorted(best, reverse=True)]

    return read


def _bands(scored: Scored) -> Iterator[tuple[float, float, Scored]]:
    for low, high in itertools.pairwise(_BANDS):
        band = [(score, right) for score, right in scored if low <= score < high]
        if band:
            yield low, min(high, 1.0), band


def _reliability(scored: Scored) -> None:
    """Reliability: within each band of the score, the mean score beside the share that was right."""
    print()
    _table(
        ["score", "answers", "mean score", "right"],
        (
            [
                f"{low:.2f} to {high:.2f}",
                str(len(band)),
                f"{statistics.mean(score for score, _ in band):.3f}",
                _percent(sum(right for _, right in band), len(band)),
            ]
            for low, high, band in _bands(scored)
        ),
    )


def plot(scored: Scored) -> str:
    """Draw the same as an SVG: a dot for each band, larger for more answers; on the line if scores hold."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 420" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="420" height="420" fill="#fff"/><path d="M50 370V20M50 370H400" stroke="#333"/>'
        '<path d="M50 370L400 20" stroke="#999" stroke-dasharray="4"/>'
    ]
    for tick in range(0, 11, 2):
        parts.append(f'<text x="{50 + 35 * tick}" y="388" text-anchor="middle">{tick / 10}</text>')
        parts.append(f'<text x="42" y="{374 - 35 * tick}" text-anchor="end">{tick / 10}</text>')
    for _, _, band in _bands(scored):
        x = 50 + 350 * statistics.mean(score for score, _ in band)
        y = 370 - 350 * statistics.mean(right for _, right in band)
        radius = 2 + 14 * (len(band) / len(scored)) ** 0.5
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#2a6fbb" fill-opacity="0.6"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{y + radius + 12:.1f}" text-anchor="middle">{len(band)}</text>')
    parts.append('<text x="225" y="408" text-anchor="middle">mean score of the answers</text>')
    parts.append('<text transform="translate(14 195) rotate(-90)" text-anchor="middle">share right</text>')
    return "\n".join([*parts, "</svg>\n"])


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _table(head: list[str], rows: Iterable[list[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("plates", "vins"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--empty", type=Path, help="a folder of photos without a plate")
    parser.add_argument("--split")
    parser.add_argument("--views", type=int, default=0, metavar="N", help="read each photo in N views of it")
    parser.add_argument("--peer", action="store_true", help="measure RapidOCR too, in the same run")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--plot-regions", type=Path, metavar="FILE", help="the same for plates' regions")
    parser.add_argument("--models", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    models = args.models or runtime.MODELS
    if args.what == "plates":
        measure, ours, peer = plates, our_plates(models), peer_plates
    else:
        measure, ours, peer = vins, our_vins(models), peer_vins
    if args.empty:
        empty(ours, args.empty)
    if not args.data:
        return
    print("## Carsight\n")
    scored, regions = measure(ours, args.data, args.split, args.views)
    if args.plot:
        args.plot.write_text(plot(scored), encoding="utf-8")
    if args.plot_regions:
        args.plot_regions.write_text(plot(regions), encoding="utf-8")
    if args.peer:
        print("\n## RapidOCR (PP-OCRv6 small), whole photo\n")
        measure(peer(), args.data, args.split, args.views)


if __name__ == "__main__":
    main()

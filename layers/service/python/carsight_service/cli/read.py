"""``carsight read``: photos in, readings out, on this machine and without a deployment."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from carsight.drawing import draw_plates, draw_vins
from carsight.formats import HEIC, SUFFIXES
from carsight.geometry import Pixels
from carsight.photo import ImageError, Photo, open_photo
from carsight.plate.regions import CODES
from carsight_service.cli.files import find_photos
from carsight_service.cli.output import CommandError, print_json, print_table, progress


def read(parser: argparse.ArgumentParser) -> None:
    """Complete ``carsight read``."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PHOTO|DIR")
    parser.add_argument("--vin", action="store_true", help="read VINs instead of plates")
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        type=_region,
        metavar="CODE",
        help="where plates are expected to be from, such as de or us-ca; may be given more than once",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.add_argument(
        "--draw", type=Path, metavar="DIR", help="write a copy of each photo with what was read into DIR"
    )
    parser.add_argument(
        "--threads",
        type=_count,
        default=_cores(),
        metavar="N",
        help="photos at a time (default: %(default)s)",
    )
    parser.set_defaults(run=_read)


def _region(code: str) -> str:
    if code not in CODES:
        raise argparse.ArgumentTypeError(f"unknown region {code!r}")
    return code


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Task:
    """How plates or VINs are read, drawn and printed."""

    read: Callable[[Photo], Sequence[Any]]
    """Returns the readings of a photo, best first."""
    draw: Callable[[Photo, Sequence[Any]], Pixels]
    name: str
    """The name of the readings in JSON."""
    row: Callable[[Any], dict[str, object]]
    """Returns a reading as a row of CSV; tables show its first columns."""
    columns: tuple[str, ...]
    """The names of a row's columns, in order."""


_BOX = ("xmin", "ymin", "xmax", "ymax")


def _plates(regions: Sequence[str]) -> _Task:
    from carsight.plate.recognizer import PlateReading, PlateRecognizer

    recognizer = PlateRecognizer.load()

    def row(plate: PlateReading) -> dict[str, object]:
        vehicle = plate.vehicle
        return {
            "plate": plate.text,
            "score": round(plate.score, 3),
            "region": plate.region,
            "region_score": round(plate.region_score, 3),
            **asdict(plate.box),
            "vehicle": vehicle.type if vehicle else "",
            "color": (vehicle and vehicle.color) or "",
        }

    columns = ("plate", "score", "region", "region_score", *_BOX, "vehicle", "color")
    return _Task(lambda photo: recognizer.read(photo, regions), draw_plates, "plates", row, columns)


def _vins() -> _Task:
    from carsight.vin.recognizer import VinCandidate, VinRecognizer

    recognizer = VinRecognizer.load()

    def row(candidate: VinCandidate) -> dict[str, object]:
        return {
            "vin": candidate.vin,
            "confidence": round(candidate.confidence, 3),
            "source": candidate.source,
            "check_digit": "valid" if candidate.check_digit.valid else "invalid",
            **asdict(candidate.box),
        }

    columns = ("vin", "confidence", "source", "check_digit", *_BOX)
    return _Task(lambda photo: recognizer.read(photo).candidates[:1], draw_vins, "vins", row, columns)


@dataclass(frozen=True, slots=True)
class _Result:
    """The readings of one file, or the error that prevented them."""

    file: str
    readings: Sequence[Any] = ()
    error: str = ""


def _read(options: argparse.Namespace) -> None:
    photos = find_photos(options.paths)
    if options.draw and any(path.resolve() == (options.draw / name).resolve() for path, name in photos):
        raise CommandError(f"--draw {options.draw} would overwrite the photos themselves")
    task = _vins() if options.vin else _plates(options.region)

    def read_one(photo: tuple[Path, str]) -> _Result:
        path, name = photo
        try:
            image = open_photo(path)
            readings = task.read(image)
            if options.draw:
                _write(options.draw / name, task.draw(image, readings))
        except (ImageError, OSError) as error:
            return _Result(str(path), error=str(error))
        return _Result(str(path), readings)

    with ThreadPoolExecutor(options.threads) as pool:
        results = list(progress(pool.map(read_one, photos), len(photos), "photo"))
    if options.json:
        print_json([_as_json(result, task) for result in results])
    elif options.csv:
        _print_csv(results, task)
    else:
        _print_table(results, task)
    failed = sum(bool(result.error) for result in results)
    if failed:
        raise CommandError(f"{failed} of {len(results)} photos could not be read")


def _write(path: Path, pixels: Pixels) -> None:
    """Write a picture under its photo's name, as a JPEG if the photo's format cannot be written."""
    from PIL import Image

    if path.suffix.lower() not in SUFFIXES - set(HEIC.suffixes):
        path = path.with_name(f"{path.name}.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, ::-1]).save(path, quality=95)


def _as_json(result: _Result, task: _Task) -> dict[str, Any]:
    if result.error:
        return {"file": result.file, "error": result.error}
    return {"file": result.file, task.name: [asdict(reading) for reading in result.readings]}


def _print_csv(results: Sequence[_Result], task: _Task) -> None:
    """Print a line for each reading, and one for each photo without any."""
    writer = csv.DictWriter(sys.stdout, ("file", *task.columns, "error"), restval="", lineterminator="\n")
    writer.writeheader()
    for result in results:
        for row in [task.row(reading) for reading in result.readings] or [{}]:
            writer.writerow({"file": result.file, **row, "error": result.error})


def _print_table(results: Sequence[_Result], task: _Task) -> None:
    columns = task.columns[:3]
    rows = []
    for result in results:
        for reading in result.readings:
            row = task.row(reading)
            rows.append((result.file, *(row[column] for column in columns)))
        if not result.readings:
            rows.append((result.file, result.error or "-", "", ""))
    print_table(("FILE", *(column.upper() for column in columns)), rows)

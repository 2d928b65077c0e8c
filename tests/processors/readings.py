"""Prints what the engine reads on the processor that runs this, as JSON.

python tests/processors/readings.py [--plates PHOTO...] [--vins PHOTO...]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carsight.photo import decode
from carsight.plate.recognizer import PlateRecognizer
from carsight.vin.recognizer import VinRecognizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plates", nargs="*", default=[], type=Path)
    parser.add_argument("--vins", nargs="*", default=[], type=Path)
    options = parser.parse_args()
    read: dict[str, Any] = {}
    if options.plates:
        plates = PlateRecognizer.load()
        for path in options.plates:
            read[path.name] = [asdict(plate) for plate in plates.read(decode(path.read_bytes()))]
    if options.vins:
        vins = VinRecognizer.load()
        for path in options.vins:
            read[path.name] = [asdict(vin) for vin in vins.read(decode(path.read_bytes())).candidates]
    print(json.dumps(read))


if __name__ == "__main__":
    main()

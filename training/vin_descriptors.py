"""Writes down how makers describe their cars: what ``carsight/vin/descriptors.py`` knows.

    python -m training.vin_descriptors --data DIR > layers/recognition/python/carsight/vin/descriptors.txt

Positions 4-8, 10 and 11 of the VINs that the training photos of ``DIR`` are labeled with; what would tell one
car from another, the rest, is left out. A VIN that a validation photo shows as well does not count.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from carsight.vin import rules
from carsight.vin.descriptors import described
from training.data import read_labels

_HEADING = """\
# Positions 4-8, 10 and 11 of real VINs by their first three, and of how many (1 where not said). From the
# labels of SultanovAR/show_vallib (CC BY 4.0) and ericblade/quagga2 (MIT): cars on the Russian market.
"""


def texts(data: Path, split: str) -> set[str]:
    """Return the VINs that the photos of ``split`` are surely labeled with."""
    vins = (vin for label in read_labels(data, split) for vin in label["vins"] if not vin.get("unsure"))
    return {vin["text"] for vin in vins if vin.get("text") and rules.is_vin(vin["text"])}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the labeled VIN photos")
    args = parser.parse_args()
    makers: dict[str, Counter[str]] = {}
    for vin in texts(args.data, "train") - texts(args.data, "val"):
        makers.setdefault(vin[:3], Counter())[described(vin)] += 1
    print(_HEADING, end="")
    for maker, kinds in sorted(makers.items()):
        print(maker, *(kind if count == 1 else f"{kind}*{count}" for kind, count in sorted(kinds.items())))


if __name__ == "__main__":
    main()

"""What belongs to a model travels in its file: its alphabet, classes, calibration and threshold as metadata.

    python -m training.metadata MODEL.onnx [NAME=VALUE ...]

prints what the file carries, with the given values added or replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import onnx


def describe(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Add or replace ``metadata`` in the model at ``path``; return all that it carries then."""
    model = onnx.load(str(path))
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata)
    if metadata:
        del model.metadata_props[:]
        for key, value in kept.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, str(path))
    return kept


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE")
    args = parser.parse_args()
    for key, value in describe(args.model, dict(v.split("=", 1) for v in args.values)).items():
        print(f"{key}={value}")


if __name__ == "__main__":
    main()

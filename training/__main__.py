"""One command for every net: ``python -m training TASK VERB --data DIR --work DIR ...``.

``train`` learns and, started again, goes on; its options are the fields of the task's configuration
(training/config.py), which is saved in WORK. ``evaluate`` measures, ``export`` writes the INT8 model.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from training.config import (
    HARD_VIN_READER,
    LATER_LAYERS,
    LEAN_PLATE_READER,
    LEAN_VIN_READER,
    LOWER_VIN_READER,
    PLATE_DETECTOR,
    PLATE_READER,
    SMALL_VIN_READER,
    VEHICLES,
    VIN_DETECTOR,
    VIN_READER,
    Config,
    ConfigError,
)


@dataclass(frozen=True)
class Verb:
    """What can be done with a net: the task's method, and its parameters as ``argparse`` takes them."""

    summary: str
    method: str
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


_FILE: Mapping[str, Any] = {"type": Path, "required": True}

COMMON = {
    "train": Verb("learn, from the last checkpoint where there is one", "train"),
    "evaluate": Verb(
        "measure on the validation photos",
        "evaluate",
        {"model": {"type": Path, "help": "an ONNX file to measure instead of the checkpoint"}},
    ),
    "export": Verb(
        "write the INT8 model",
        "export",
        {
            "out": {**_FILE, "help": "the model's file"},
            "blend": {"type": Path, "help": "a checkpoint to average the net with"},
            "share": {
                "type": float,
                "default": 0.6,
                "help": "the net's own share of that average (default: 0.6)",
            },
        },
    ),
    "recover": Verb(
        "write a checkpoint that an INT8 model could have come from",
        "recover",
        {"model": {**_FILE, "help": "the INT8 model"}},
    ),
}

COMPLETE = Verb(
    "add the vehicles and corners that a detector sees to the labels of openimages2, in WORK",
    "complete",
    {"model": {**_FILE, "help": "a plate and vehicle detector"}},
)
REGIONS = Verb(
    "train the region head alone, after the rest",
    "retrain_regions",
    {
        "views": {"type": int, "default": 6, "help": "views of each real plate"},
        "drawn": {"type": int, "default": 5000, "help": "rendered plates"},
    },
)
POOL = Verb(
    "draw crops, with what the large reader says of them, to train with",
    "fill_pool",
    {
        "count": {"type": int, "default": 200_000, "help": "crops to add"},
        "seed": {"type": int, "default": 1, "help": "of what is drawn; another one for each addition"},
    },
)
LINES = Verb(
    "label the lines of the photos, to train with",
    "label_lines",
    {
        "start": {"type": Path, "help": "checkpoint, or its folder, of the net that reads them"},
        "seed": {"type": int, "default": 0, "help": "of the cuts that have to agree"},
    },
)


@dataclass(frozen=True)
class Entry:
    """What a task's net does, where the task is, its configuration by default, and its verbs."""

    summary: str
    task: str
    config: Config
    verbs: Mapping[str, Verb] = dataclasses.field(default_factory=lambda: COMMON)


# By name: importing a task takes Torch, which help and a wrong option do without.
TASKS = {
    "plate-detector": Entry(
        "finds plates and vehicles",
        "training.detector:PlateDetector",
        PLATE_DETECTOR,
        {**COMMON, "complete": COMPLETE},
    ),
    "later-layers": Entry(
        "finds plates and vehicles from what a plate detector's first layers see",
        "training.later_layers:LaterLayers",
        LATER_LAYERS,
    ),
    "vin-detector": Entry("finds the lines that may be a VIN", "training.detector:VinDetector", VIN_DETECTOR),
    "vehicles": Entry("names a vehicle's body, color and side", "training.vehicles:Vehicles", VEHICLES),
    "plate-reader": Entry(
        "reads a plate and names its region",
        "training.plate_reader:PlateReaderTask",
        PLATE_READER,
        {**COMMON, "regions": REGIONS},
    ),
    "lean-plate-reader": Entry(
        "reads as the plate reader that it is made of, in half the time",
        "training.lean_plate_reader:LeanPlateReaderTask",
        LEAN_PLATE_READER,
    ),
    "vin-reader": Entry(
        "reads a line that may be a VIN",
        "training.vin_reader:VinReaderTask",
        VIN_READER,
        {**COMMON, "lines": LINES},
    ),
    "hard-vin-reader": Entry(
        "reads the lines that the VIN reader leaves in doubt, struck metal above all",
        "training.vin_reader:HardVinReaderTask",
        HARD_VIN_READER,
        {**COMMON, "lines": LINES},
    ),
    "lean-vin-reader": Entry(
        "reads as the VIN reader that it is made of, in half the time",
        "training.lean_vin_reader:LeanVinReaderTask",
        LEAN_VIN_READER,
    ),
    "small-vin-reader": Entry(
        "reads the lines that are easy, as the VIN reader would",
        "training.small_vin_reader:SmallVinReaderTask",
        SMALL_VIN_READER,
        {**COMMON, "pool": POOL},
    ),
    "lower-vin-reader": Entry(
        "reads the lines that are in lower case",
        "training.lower_vin_reader:LowerVinReaderTask",
        LOWER_VIN_READER,
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    root = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = root.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, entry in TASKS.items():
        task = tasks.add_parser(name, help=entry.summary)
        verbs = task.add_subparsers(dest="verb", required=True, metavar="VERB")
        for word, verb in entry.verbs.items():
            command = verbs.add_parser(word, help=verb.summary, description=verb.summary)
            command.add_argument("--data", type=Path, required=True, help="folder with plates/ and vin/")
            command.add_argument("--work", type=Path, required=True, help="folder of the training")
            for option, about in verb.options.items():
                command.add_argument(f"--{option}", **about)
            if word == "train":
                _add_fields(command, entry.config)
    return root


def _add_fields(command: argparse.ArgumentParser, config: Config) -> None:
    """Give ``command`` an option for every field; those that are not given leave no trace."""
    types = get_type_hints(type(config))
    for each in dataclasses.fields(config):
        kind = next(kind for kind in (int, float, str) if types[each.name] in (kind, kind | None))
        command.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=kind,
            default=argparse.SUPPRESS,
            help=f"{each.metadata['help']} (default: {getattr(config, each.name)})".replace("%", "%%"),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = vars(parser().parse_args(arguments))
    entry = TASKS[args.pop("task")]
    word, data, work = args.pop("verb"), args.pop("data"), args.pop("work")
    verb = entry.verbs[word]
    options = {name: args.pop(name) for name in verb.options}
    try:
        config = entry.config.settle(work, args) if word == "train" else entry.config.saved_in(work)
    except ConfigError as error:
        sys.exit(f"{error}")
    module, _, name = entry.task.partition(":")
    task = getattr(importlib.import_module(module), name)(data, work, config)
    getattr(task, verb.method)(**options)


if __name__ == "__main__":
    main()

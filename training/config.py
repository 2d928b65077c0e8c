"""What determines a training: one frozen object per task, saved as JSON beside the checkpoint.

A run that goes on reads its configuration back, and so do ``evaluate`` and ``export``: whoever starts a run
again says no more than where it is. An option that says something else than the file is an error, but for
those that only say when to stop or how to work.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FILE = "config.json"


class ConfigError(ValueError):
    """A configuration that does not belong to the folder it was given for."""


def option(default: Any, text: str, *, may_change: bool = False) -> Any:
    """Return a field of a configuration; ``text`` describes it on the command line."""
    return field(default=default, metadata={"help": text, "may_change": may_change})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every training has."""

    steps: int = option(1000, "batches to learn from")
    batch: int = option(16, "samples of a batch")
    rate: float = option(1e-3, "highest learning rate")
    warmup: int = option(100, "steps in which the rate rises")
    floor: float = option(0.0, "share of the rate that the cosine ends at")
    decay: float = option(0.998, "share of the averaged weights that a step keeps")
    clip: float = option(5.0, "largest norm of the gradient")
    weight_decay: float = option(0.01, "of AdamW; a detector's biases and normalizations have none")
    seed: int = option(1, "of everything that is drawn at random")
    start: str | None = option(None, "checkpoint, or its folder, whose weights to begin with")
    minutes: float | None = option(None, "stop after as long, whatever the steps", may_change=True)
    every: int = option(250, "steps between two looks at the validation photos", may_change=True)
    threads: int = option(1, "Torch's threads", may_change=True)
    workers: int = option(1, "processes that make batches ahead; 0 to make them in turn", may_change=True)

    def saved_in(self, work: Path) -> Self:
        """Return the configuration that was saved in ``work``. Raises ``ConfigError`` where it is another's.

        Without one, as in a folder of before there were any, it is this one, the default.
        """
        path = work / FILE
        saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        unknown = saved.keys() - {each.name for each in dataclasses.fields(self)}
        if unknown:
            raise ConfigError(f"{path} is another task's: it holds {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **saved)

    def settle(self, work: Path, given: Mapping[str, Any]) -> Self:
        """Return the configuration of the training in ``work``, which begins or goes on.

        Args:
            work: The training's folder, which keeps the configuration from now on.
            given: What is asked for this time, by field.

        Raises:
            ConfigError: The training was begun otherwise.
        """
        config = self.saved_in(work)
        if (work / FILE).exists():
            for each in dataclasses.fields(self):
                was = getattr(config, each.name)
                now = given.get(each.name, was)
                if now != was and not each.metadata["may_change"]:
                    raise ConfigError(
                        f"{work} was begun with {each.name} {was}, not {now}: choose another --work, with "
                        f"--start {work} to begin with its weights"
                    )
        config = dataclasses.replace(config, **given)
        work.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dataclasses.asdict(config), indent=1) + "\n"
        (work / FILE).write_text(text, encoding="utf-8")
        return config


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(Config):
    """A detector's training."""

    size: int = option(320, "side of a training frame, for the first 70 % of the training")
    last_size: int = option(416, "side of a training frame after that")
    mosaic: float = option(0.1, "share of the frames that show four photos")


_DETECTOR: dict[str, Any] = {
    "steps": 9000, "rate": 2e-3, "warmup": 150, "floor": 0.01,
    "clip": 10.0, "weight_decay": 0.02, "every": 1000,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PlateDetectorConfig(DetectorConfig):
    """The training of the detector of plates and vehicles."""

    drawn: int = option(3000, "drawn plates to cover those in the photos with, beside crops of real ones")


PLATE_DETECTOR = PlateDetectorConfig(**_DETECTOR)


@dataclass(frozen=True, kw_only=True)
class LaterLayersConfig(PlateDetectorConfig):
    """The training of a plate detector's later layers."""

    model: str = option("", "the INT8 detector whose later layers learn on")
    teach: float = option(0.5, "weight of the corners that the model itself sees, beside the labeled ones'")


LATER_LAYERS = LaterLayersConfig(**{**_DETECTOR, "rate": 4e-4, "warmup": 100})


@dataclass(frozen=True, kw_only=True)
class VinDetectorConfig(DetectorConfig):
    """The training of the detector of VIN lines."""

    rendered: int = option(1500, "drawn photos with a VIN, beside a fifth as many without")


VIN_DETECTOR = VinDetectorConfig(**_DETECTOR)


@dataclass(frozen=True, kw_only=True)
class VehicleConfig(Config):
    """The vehicle classifier's training."""

    trunk_rate: float = option(0.5, "share of the rate for the layers that the detector has too")


VEHICLES = VehicleConfig(steps=4500, batch=32, decay=0.99, weight_decay=0.05, every=1500)


@dataclass(frozen=True, kw_only=True)
class PlateReaderConfig(Config):
    """The plate reader's training."""

    region_weight: float = option(0.25, "weight of the region's loss beside the text's")


PLATE_READER = PlateReaderConfig(steps=2400, batch=32, rate=2.5e-4, floor=0.02, clip=2.0)


@dataclass(frozen=True, kw_only=True)
class LeanPlateReaderConfig(PlateReaderConfig):
    """The lean plate reader's training; ``start`` is the plate reader it is derived from and taught by."""

    teacher: str | None = option(None, "the plate reader that teaches, if start is a lean one")
    found: float = option(0.6, "share of crops that the detector finds in varied photos")
    same_weight: float = option(1.6, "weight of the divergence from the teacher at each time step")
    sure_weight: float = option(1.5, "weight of the CTC loss of the teacher's text where it is sure")
    text_weight: float = option(0.1, "weight of the known texts' loss")
    hint_weight: float = option(0.5, "weight of the blocks' error against the teacher's blocks")


LEAN_PLATE_READER = LeanPlateReaderConfig(
    steps=5000, batch=32, rate=3e-4, clip=5.0, weight_decay=0.02, floor=0.01, region_weight=0.5, every=500
)


@dataclass(frozen=True, kw_only=True)
class VinReaderConfig(Config):
    """The VIN reader's training."""

    real: float = option(0.65, "share of real lines in a batch; the rest are rendered")
    far: float = option(0.35, "share of distant lines: few pixels per character")
    struck: float = option(0.0, "share of a batch that is drawn as struck into metal, in addition")


VIN_READER = VinReaderConfig(steps=2400, rate=2e-4, warmup=60, decay=0.99, every=75)

HARD_VIN_READER = VinReaderConfig(
    steps=4000,
    batch=24,
    rate=2e-4,
    warmup=200,
    decay=0.997,
    clip=3.0,
    floor=0.01,
    real=0.7,
    struck=0.6,
    every=500,
)


@dataclass(frozen=True, kw_only=True)
class LeanVinReaderConfig(VinReaderConfig):
    """The lean VIN reader's training; ``start`` is the VIN reader it is derived from and taught by."""

    teacher: str | None = option(None, "the VIN reader that teaches, if start is a lean one")
    smaller: float = option(0.4, "share of distant lines in a batch; the rest are crops of the pool")
    text_weight: float = option(0.5, "weight of the known texts' loss beside the teacher's")
    hint_weight: float = option(2.0, "weight of the blocks' error against the teacher's blocks")


LEAN_VIN_READER = LeanVinReaderConfig(
    steps=8000, batch=24, rate=5e-4, decay=0.9985, clip=4.0, floor=0.01, every=1000, real=0.65
)


@dataclass(frozen=True, kw_only=True)
class SmallVinReaderConfig(VinReaderConfig):
    """The small VIN reader's training."""

    same: float = option(0.3, "weight of the large reader's output per time step, where it is not clear")
    same_clear: float = option(0.08, "the same where it is clear and the text is learned as well")
    illegible: float = option(0.15, "share of the crops illegible to the large reader that are used")


SMALL_VIN_READER = SmallVinReaderConfig(
    steps=17000,
    batch=32,
    rate=2e-3,
    warmup=200,
    decay=0.9995,
    clip=20.0,
    weight_decay=0.02,
    every=2000,
    workers=0,
)

LOWER_VIN_READER = dataclasses.replace(SMALL_VIN_READER, steps=4000, rate=1e-3, decay=0.999, every=500)

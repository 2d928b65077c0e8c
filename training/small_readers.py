"""What small readers share: plain convolutions that are distilled from a large reader.

Crops with the large reader's output form a *pool* on disk, which may be filled while the net learns. The
target is the large reader's distribution at every time step, however unsure it is: this teaches far more
quickly than texts alone, and needs none.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight import runtime
from training.data import Pixels
from training.loop import ConfigOf, Task
from training.model_files import finish
from training.nets import Conv, fold_batch_norms, unfolded
from training.quantize import float_weights, quantize
from training.rounding import round_weights


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Crops (N, 48, W, 3), the large reader's ``logits`` (N, T, C) and known ``texts``, "" if unknown."""

    pixels: Pixels
    logits: NDArray[np.float16]
    texts: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, which: NDArray[np.integer] | slice) -> Self:
        """Return some of the crops."""
        return type(self)(*(getattr(self, each.name)[which] for each in dataclasses.fields(self)))

    @classmethod
    def together(cls, parts: Sequence[Self]) -> Self:
        """Return the crops of several lessons as one."""
        return cls(
            *(np.concatenate([getattr(p, each.name) for p in parts]) for each in dataclasses.fields(cls))
        )

    def save(self, path: Path) -> None:
        """Write the lesson to ``path``, whole or not at all."""
        part = path.with_suffix(".new")
        with part.open("wb") as file:
            np.savez(file, **{each.name: getattr(self, each.name) for each in dataclasses.fields(self)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` has written."""
        with np.load(path) as arrays:
            return cls(*(arrays[each.name] for each in dataclasses.fields(cls)))


def relit(pixels: Pixels, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return crops (N, H, W, 3) relit and shifted by a pixel or two; 0..1.

    The change is so small that the large reader's answer would hardly differ.
    """
    count, height, width = pixels.shape[:3]
    padded = np.pad(pixels, ((0, 0), (2, 2), (1, 1), (0, 0)), mode="edge")
    down, right = rng.integers(0, 5), rng.integers(0, 3)
    values = padded[:, down : down + height, right : right + width].astype(np.float32) / 255
    gains = np.exp(rng.normal(0, 0.15, (count, 1, 1, 1)) + rng.normal(0, 0.05, (count, 1, 1, 3)))
    shifts = 0.45 * (1 - gains) + rng.normal(0, 0.06, (count, 1, 1, 1))
    values = values * gains.astype(np.float32) + shifts.astype(np.float32)
    return np.clip(values, 0, 1, dtype=np.float32)


CROPS_A_FILE = 2000
_FILES_AT_ONCE = 8

LessonOf = TypeVar("LessonOf", bound=Lesson)


class SmallReaderTask(Task[ConfigOf, LessonOf], Generic[ConfigOf, LessonOf]):
    """Reads what is easy as a large reader would. ``WORK/pool`` holds the lessons."""

    command: ClassVar[str]
    """The task's name on the command line."""
    lesson: ClassVar[type[Lesson]]
    outputs: ClassVar[Sequence[str]]
    """Names of the model's outputs."""
    crop: ClassVar[tuple[int, int]]
    """Height and width of a crop in pixels."""
    dynamic_shapes: ClassVar[Any] = None
    """Dynamic sizes of the model's input, as ``torch.export`` takes them."""

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them."""
        round_weights([module[0] for module in net.modules() if isinstance(module, Conv)])
        return [{"params": list(net.parameters()), "share": 1.0}]

    @abstractmethod
    def lessons(self, rng: np.random.Generator) -> Iterator[LessonOf]:
        """Yield new lessons of about ``CROPS_A_FILE`` crops, without end."""

    def fill_pool(self, count: int, seed: int) -> None:
        """Draw ``count`` crops, label them with the large reader, and add them to the pool.

        Each file has some 2,000 crops and ends with their width in its name.
        """
        pool = self.work / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        new = self.lessons(np.random.default_rng(seed))
        for number in range(count // CROPS_A_FILE):
            lesson = next(new)
            lesson.save(pool / f"{seed}-{number:04}-{lesson.pixels.shape[2]}.npz")
            print(f"{(number + 1) * CROPS_A_FILE} crops", flush=True)

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[LessonOf]:
        """Yield the pool's crops, over and over."""
        return self.stream(rng, "*.npz", self.config.batch)

    def stream(self, rng: np.random.Generator, pattern: str, size: int) -> Iterator[LessonOf]:
        """Yield ``size`` crops at a time of those files of the pool whose names match ``pattern``."""
        while True:
            files = sorted((self.work / "pool").glob(pattern))
            if not files:
                raise SystemExit(
                    f"{self.work} has no pool: fill it first, python -m training {self.command} pool"
                )
            rng.shuffle(files)  # type: ignore[arg-type]
            for start in range(0, len(files), _FILES_AT_ONCE):
                lesson = self.lesson.together(
                    [self.lesson.load(file) for file in files[start : start + _FILES_AT_ONCE]]
                )
                order = self.chosen(lesson, rng)
                for begin in range(0, len(order) - size + 1, size):
                    yield lesson.part(order[begin : begin + size])  # type: ignore[misc]

    def chosen(self, lesson: Lesson, rng: np.random.Generator) -> NDArray[np.integer]:
        """Return which crops of ``lesson`` are learned from this time, in what order."""
        return rng.permutation(len(lesson))

    def images(self, batch: LessonOf) -> Tensor:
        """Return the crops relit."""
        rng = np.random.default_rng(torch.randint(2**62, (1,)).item())
        images = torch.from_numpy(relit(batch.pixels, rng)).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)

    @abstractmethod
    def finished(self, path: Path) -> None:
        """Give the model at ``path`` its metadata."""

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net`` for one crop at a time, with its metadata."""
        torch.onnx.export(
            fold_batch_norms(net),
            (torch.zeros(1, 3, *self.crop),),
            str(path),
            input_names=["image"],
            output_names=list(self.outputs),
            opset_version=20,
            dynamo=True,
            dynamic_shapes=self.dynamic_shapes,
            external_data=False,
            verbose=False,
        )
        self.finished(path)

    @abstractmethod
    def crops(self, count: int) -> list[Pixels]:
        """Return up to ``count`` crops of training photos for calibrating the activations' ranges."""

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize all convolutions except the last, which gives the logits, and write the metadata again."""
        feeds = ({"image": runtime.floats([crop])} for crop in self.crops(300))
        quantize(exact, out, feeds, _producers(exact, "head.weight"), ("Conv", "Relu"))
        finish(out)
        self.finished(out)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``, its folded normalizations put back with statistics of the pool."""
        stream = self.batches(np.random.default_rng(self.config.seed), 0)
        return unfolded(self.net(), float_weights(model), (self.images(batch) for batch in stream), 24)


def _producers(path: Path, weight: str) -> list[str]:
    """Return the names of the nodes of the model at ``path`` that take ``weight``."""
    return [node.name for node in onnx.load(str(path)).graph.node if weight in node.input]

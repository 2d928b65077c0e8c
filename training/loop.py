"""The training loop of every net, and what it needs from one: a ``Task``.

AdamW; a learning rate with warm-up and half a cosine; an exponential average of the weights, which is
evaluated and exported; a checkpoint every few minutes, from which a restarted run resumes.

WORK holds config.json, checkpoint.pt and log.jsonl, a row of figures per evaluation on the validation photos.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.config import Config

CHECKPOINT = "checkpoint.pt"
_NAMES = (CHECKPOINT, "last.pt", "reader.pt")
"""Names of checkpoints; the last two are older than this loop."""

_SECONDS_BETWEEN_CHECKPOINTS = 180
_STEPS_BETWEEN_LINES = 25

Figures = dict[str, Any]
Batch = TypeVar("Batch")
ConfigOf = TypeVar("ConfigOf", bound=Config)


class Task(ABC, Generic[ConfigOf, Batch]):
    """One net, from its photos to its file.

    ``data`` holds the labeled photos and ``work`` the training's files; each verb of ``python -m training``
    is a method.
    """

    def __init__(self, data: Path, work: Path, config: ConfigOf) -> None:
        self.data = data
        self.work = work
        self.config = config

    @cached_property
    def training(self) -> list[Any]:
        """The labeled training data."""
        return self.labeled("train")

    @cached_property
    def validation(self) -> list[Any]:
        """The labeled validation data."""
        return self.labeled("val")

    # -- what a task defines --

    @abstractmethod
    def labeled(self, split: str) -> list[Any]:
        """Return the labeled photos, or parts of them, of ``split``: "train" or "val"."""

    @abstractmethod
    def net(self) -> nn.Module:
        """Return the net as it is before any training."""

    @abstractmethod
    def prepare(self, net: nn.Module) -> Sequence[dict[str, Any]]:
        """Make ``net`` ready to learn and return AdamW's groups, each with its ``share`` of the rate."""

    @abstractmethod
    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Batch]:
        """Yield training batches without end, of frames of ``size`` where the task chooses one."""

    @abstractmethod
    def images(self, batch: Batch) -> Tensor:
        """Return the net's input."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return the weighed terms of the loss of the net's ``outputs``."""

    @abstractmethod
    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` on the validation photos."""

    @abstractmethod
    def judge(self, model: Path) -> Figures:
        """Measure an ONNX file on the validation photos."""

    @abstractmethod
    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net`` to ``path`` as ONNX, in float."""

    @abstractmethod
    def quantize(self, exact: Path, out: Path) -> None:
        """Write the INT8 twin of the model ``exact`` to ``out``, with its metadata."""

    @abstractmethod
    def recovered(self, model: Path) -> nn.Module:
        """Return the float net of the INT8 file ``model``, as closely as its rounding allows."""

    def size(self, progress: float) -> int:
        """Return the side of the frames at ``progress`` (0..1); when it changes, batches start again."""
        return 0

    def extra(self) -> dict[str, Any]:
        """Return what else a checkpoint holds."""
        return {}

    def begin_with(self, net: nn.Module, checkpoint: Path) -> None:
        """Load the averaged weights that ``net`` shares with another run's checkpoint."""
        own = net.state_dict()
        weights, _ = averaged_weights(checkpoint)
        shared = {name: value for name, value in weights.items() if name in own}
        if not shared:
            raise ValueError(f"{checkpoint} is of another net")
        net.load_state_dict(own | shared)

    # -- the verbs --

    def train(self) -> None:
        """Train, resuming from the last checkpoint if there is one."""
        fit(self)

    def evaluate(self, model: Path | None = None) -> None:
        """Print the figures of ``model``, or of the checkpoint's averaged weights."""
        report(self.judge(model) if model else self.figures(self.trained))

    def export(self, out: Path, blend: Path | None = None, share: float = 0.6) -> None:
        """Write the trained net as an INT8 model, and print the figures of both forms.

        Args:
            out: The model's file; its name says what it is (``model_files.METADATA``).
            blend: A checkpoint to average the net with first (Wortsman et al., 2022), such as the one it
                started from: what was learned from new photos stays, what was forgotten comes back.
            share: The net's own share of that average.
        """
        net = self.trained
        if blend is not None:
            earlier = self.net()
            self.begin_with(earlier, blend)
            with torch.no_grad():
                for own, other in zip(net.state_dict().values(), earlier.state_dict().values(), strict=True):
                    if own.dtype.is_floating_point:
                        own.lerp_(other, 1 - share)
        exact = self.work / "float.onnx"
        self.write(net, exact)
        out.parent.mkdir(parents=True, exist_ok=True)
        self.quantize(exact, out)
        for path in (exact, out):
            report({"model": path.name, **self.judge(path)})

    def recover(self, model: Path) -> None:
        """Write a checkpoint of ``model``, to train on from when its own was not kept."""
        net = self.recovered(model)
        self.work.mkdir(parents=True, exist_ok=True)
        torch.save({"average": net.state_dict(), "step": 0, **self.extra()}, self.work / CHECKPOINT)

    @cached_property
    def trained(self) -> nn.Module:
        """The averaged net of the checkpoint in ``work``, or the initial one if there is none."""
        net = self.net()
        self.prepare(net)
        start = checkpoint_of(self.work) or (self.config.start and Path(self.config.start))
        if start:
            self.begin_with(net, start)
        else:
            print("nothing is trained yet: these are the figures before", flush=True)
        return net.eval()


def report(figures: Figures) -> None:
    """Print ``figures``."""
    print(json.dumps(figures), flush=True)


def checkpoint_of(path: Path) -> Path | None:
    """Return the checkpoint that ``path`` is, or that the folder ``path`` holds; None where it holds none."""
    if path.is_file():
        return path
    return next((path / name for name in _NAMES if (path / name).exists()), None)


def averaged_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights of a checkpoint or of the folder that holds it, and the whole of it.

    Raises ``FileNotFoundError`` where there is none.
    """
    found = checkpoint_of(path)
    if found is None:
        raise FileNotFoundError(f"no checkpoint in {path}")
    saved: dict[str, Any] = torch.load(found, weights_only=True)
    # In older checkpoints, the VIN reader's average is "model", and the vehicle net has none.
    weights = next(saved[name] for name in ("average", "model", "net") if name in saved)
    return {
        name.removeprefix("module."): value for name, value in weights.items() if name != "n_averaged"
    }, saved


def half_precision() -> torch.autocast:
    """Return a context in which nets compute in bfloat16, where that is faster than float32.

    Without AVX-512 the CPU converts every number, and a training step takes several times as long.
    """
    fast = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


# -- the loop ------------------------------------------------------------------------------------------------


class _Stream(IterableDataset):  # type: ignore[type-arg]
    """A task's batches, in the process that makes them."""

    def __init__(self, task: Task[Any, Any], step: int, size: int) -> None:
        self._task, self._step, self._size = task, step, size

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seed = (self._task.config.seed, self._step, worker.id if worker else 0)
        return self._task.batches(np.random.default_rng(seed), self._size)


def _same(batch: Any) -> Any:
    return batch


def _stream(task: Task[Any, Any], step: int, size: int) -> Iterator[Any]:
    """Yield batches of ``task``, prefetched by worker processes; the same ones for the same ``step``."""
    workers = task.config.workers
    ahead: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(
        _Stream(task, step, size), batch_size=None, num_workers=workers, collate_fn=_same, **ahead
    )
    return iter(loader)


class _Run:
    """The state of one training: what a checkpoint holds."""

    def __init__(self, task: Task[Any, Any]) -> None:
        config = task.config
        self.task = task
        self.net = task.net()
        self.file = task.work / CHECKPOINT
        resumed = self.file.exists()
        if config.start and not resumed:
            task.begin_with(self.net, Path(config.start))
        self.groups = task.prepare(self.net)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.net, multi_avg_fn=_averaging(config.decay), use_buffers=True)
        self.optimizer = torch.optim.AdamW(self.groups, lr=config.rate, weight_decay=config.weight_decay)
        self.step, self.spent, self.cpu = 0, 0.0, 0.0
        if resumed:
            self._resume()
        self._began, self._began_cpu = time.monotonic() - self.spent, time.process_time() - self.cpu

    def _resume(self) -> None:
        saved = torch.load(self.file, weights_only=True)
        if "optimizer" not in saved:
            raise SystemExit(f"{self.file} cannot be continued: begin another training with --start")
        for name, value in self.task.extra().items():
            if saved[name] != value:
                raise SystemExit(f"{self.file} was trained for other {name}: choose another --work")
        self.net.load_state_dict(saved["net"])
        self.average.module.load_state_dict(saved["average"])
        self.average.n_averaged.fill_(saved["step"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.spent, self.cpu = saved["step"], saved["spent"], saved["cpu"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent": self.spent,
            "cpu": self.cpu,
        }
        torch.save(state | self.task.extra(), self.file.with_suffix(".new"))
        self.file.with_suffix(".new").replace(self.file)

    @property
    def progress(self) -> float:
        """How much of the training is done, 0..1, by steps or by time."""
        config = self.task.config
        of_time = self.spent / (config.minutes * 60) if config.minutes else 0.0
        return min(1.0, max(self.step / config.steps, of_time))

    def learn(self, batch: Any) -> dict[str, float]:
        """Take one step on ``batch``; return the terms of its loss."""
        config = self.task.config
        rate = config.rate * _rate(self.step, self.progress, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.net.train()
        with half_precision():
            outputs = self.net(self.task.images(batch))
        terms = self.task.loss(outputs, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        self.step += 1
        self.spent, self.cpu = time.monotonic() - self._began, time.process_time() - self._began_cpu
        return {name: term.item() for name, term in terms.items()}


def _rate(step: int, progress: float, config: Config) -> float:
    """Return the share of the highest rate: a short rise, then half a cosine down to ``config.floor``."""
    falling = 0.5 + 0.5 * math.cos(math.pi * progress)
    return min(1.0, (step + 1) / config.warmup) * (config.floor + (1 - config.floor) * falling)


def _averaging(decay: float) -> Any:
    """Return how an average moves toward the current weights: faster while few steps were taken."""

    @torch.no_grad()
    def move(averages: list[Tensor], currents: list[Tensor], count: Tensor | int) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        for average, current in zip(averages, currents, strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(current, 1 - keep)
            else:
                average.copy_(current)

    return move


def fit(task: Task[Any, Any]) -> None:
    """Train ``task``'s net as its configuration says; keep the checkpoint and figures in its folder."""
    config = task.config
    # OpenCV's threads would not survive the workers' fork, and waiting for them there would never end.
    cv2.setNumThreads(0)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    run = _Run(task)
    if run.progress >= 1:
        print(f"{task.work} is trained: {run.step} steps", flush=True)
        return
    size = -1
    stream: Iterator[Any] = iter(())
    sums: dict[str, float] = {}
    saved_at = time.monotonic()
    while run.progress < 1:
        wanted = task.size(run.progress)
        if wanted != size:
            size, stream = wanted, _stream(task, run.step, wanted)
        for name, term in run.learn(next(stream)).items():
            sums[name] = sums.get(name, 0.0) + term
        if run.step % _STEPS_BETWEEN_LINES == 0:
            print(_line(run, sums), flush=True)
            sums = {}
        judging = run.step % config.every == 0 or run.progress >= 1
        if judging or time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
            run.save()
            saved_at = time.monotonic()
        if judging:
            row = {"step": run.step, "cpu_s": round(run.cpu), **task.figures(run.average.module.eval())}
            with (task.work / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            report(row)


def _line(run: _Run, sums: dict[str, float]) -> str:
    """Return what is printed of the last steps: the mean of each term of the loss."""
    terms = " ".join(f"{name} {value / _STEPS_BETWEEN_LINES:.3f}" for name, value in sums.items())
    return f"step {run.step}/{run.task.config.steps} {run.spent:.0f} s {terms}"

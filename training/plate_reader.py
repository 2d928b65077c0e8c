"""Trains the plate reader: PP-OCRv6 small's body, fine-tuned on rendered and on real plates.

    python -m training.plate_reader train --data DIR --work DIR [--steps 2400] [--seed 1]
    python -m training.plate_reader regions --data DIR --work DIR [--drawn 5000]
    python -m training.plate_reader evaluate --data DIR --work DIR [--model reader.onnx]
    python -m training.plate_reader export --data DIR --work DIR --out reader.onnx

`--data` holds the folder `plates`. The work folder keeps the checkpoint (training resumes from it) and
`log.jsonl` with the figures on `val`. A training batch mixes rendered plates, real ones, and real ones whose
characters were exchanged for each other, all of them seen through a camera's faults and a detector's inexact
corners.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import multiprocessing
import pickle
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from carsight import ctc, runtime
from carsight.geometry import straighten
from carsight.plate.reader import GROW, HEIGHT, ONE_ROW, Calibration, PlateReader, rectify
from carsight.plate.regions import agrees
from training import designs, ppocr
from training.data import Pixels
from training.model_files import describe
from training.plates_data import ALPHABET, Plate, fold, read_plates
from training.quantize import quantize
from training.render_plates import Backgrounds, degrade, jitter, read_backgrounds, render
from training.rounding import round_weights

_UNKNOWN = -100
_FINE = 2
"""How much finer than the reader's input plates are kept whose characters get exchanged."""

_DECAY = 0.998
"""Share of the averaged weights kept per step: they average over about the last 500."""

# How often a plate of each source is drawn, per plate: the small sets and the hard ones more often.
_SOURCE_WEIGHTS = {
    "us": 3.0, "world": 1.0, "world2": 1.0, "openimages2": 1.5, "openimages22": 2.0,
    "china": 0.8, "eu": 1.2, "eu2": 0.8, "br": 1.0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sample:
    """One training example: a crop as the reader gets it, its text, its region's class or `_UNKNOWN`."""

    pixels: Pixels
    text: str
    region: int


@dataclasses.dataclass(frozen=True)
class CutPlate:
    """A straightened plate (twice the reader's input size) and the columns [begin, end) of each character."""

    pixels: Pixels
    text: str
    spans: tuple[tuple[int, int], ...]
    region: str | None
    source: str


# --- characters exchanged for each other ---


def cut(plate: Plate, logits: NDArray[np.floating]) -> CutPlate | None:
    """Find the columns of each character from the reader's own (T, C) output; None where they are not
    clear.
    """
    steps = ctc.align(ctc.softmax(logits), plate.text, ALPHABET)
    centers = (np.array([np.mean(of_one) for of_one in steps]) + 0.5) * ppocr.STRIDE * _FINE
    gaps = np.diff(centers)
    if len(centers) < 3 or gaps.min() < 10 * _FINE / 2:
        return None
    pitch = float(np.median(gaps))
    pixels = straighten(
        plate.pixels, plate.corners, ONE_ROW * _FINE, HEIGHT * _FINE, 0.0 if plate.loose else GROW
    )
    middle = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[HEIGHT * _FINE // 4 : -HEIGHT * _FINE // 4]
    ink = cv2.GaussianBlur(middle, (3, 1), 0).astype(np.float32).std(axis=0)

    def quiet(position: float) -> int:
        """Return the column with least ink near `position`: between two characters."""
        low = max(int(position - pitch * 0.22), 0)
        high = min(int(position + pitch * 0.22) + 1, len(ink))
        return low + int(np.argmin(ink[low:high])) if high > low else int(np.clip(position, 0, len(ink)))

    spans = []
    for i, center in enumerate(centers):
        before = gaps[i - 1] if i else pitch
        after = gaps[i] if i < len(gaps) else pitch
        begin = quiet(center - min(before, pitch * 1.25) / 2)
        end = quiet(center + min(after, pitch * 1.25) / 2)
        if end - begin < pitch * 0.3:
            return None
        spans.append((begin, end))
    return CutPlate(pixels, plate.text, tuple(spans), plate.region, plate.source)


def exchange(plate: CutPlate, rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return the plate with characters replaced by others of its own."""
    widths = np.array([end - begin for begin, end in plate.spans])
    order = np.arange(len(widths))
    for target, width in enumerate(widths):
        # Characters of about the same width only: a stretched 1 would look like no plate's 1.
        order[target] = rng.choice(np.flatnonzero(np.abs(np.log(widths / width)) < 0.22))
    pixels = plate.pixels.copy()
    for (begin, end), source in zip(plate.spans, order, strict=True):
        a, b = plate.spans[source]
        piece = plate.pixels[:, a:b]
        pixels[:, begin:end] = cv2.resize(
            piece, (end - begin, piece.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return pixels, "".join(plate.text[i] for i in order)


# --- samples ---


class Samples:
    """Draws training samples; `regions` are the classes of the region head, in their order."""

    def __init__(
        self,
        plates: Sequence[Plate],
        cut_plates: Sequence[CutPlate],
        regions: Sequence[str],
        backgrounds: Backgrounds,
    ) -> None:
        self._backgrounds = backgrounds
        self._real = {rows: [p for p in plates if p.two_rows == rows] for rows in (False, True)}
        self._weights = {rows: _weights([p.source for p in real]) for rows, real in self._real.items()}
        self._cut = list(cut_plates)
        self._cut_weights = _weights([p.source for p in self._cut])
        self._regions = {region: i for i, region in enumerate(regions)}
        # Brazil's states are not told apart: their plates differ in one small word.
        self._regions |= {p.region: self._regions["br"] for p in plates if p.region and p.region[:3] == "br-"}

    def draw(self, rng: np.random.Generator, two_rows: bool) -> Sample:
        """One sample of one row or of two."""
        choice = rng.random()
        if choice < (0.55 if two_rows else 0.42):
            crop = render(rng, two_rows, self._backgrounds)
            return Sample(crop.pixels, crop.text, self._regions.get(crop.region, _UNKNOWN))
        if choice < 0.65 and self._cut and not two_rows:
            plate = self._cut[rng.choice(len(self._cut), p=self._cut_weights)]
            pixels, text = exchange(plate, rng)
            height, width = pixels.shape[:2]
            corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
            return Sample(
                _seen(pixels, corners, False, rng, True),
                text,
                self._regions.get(plate.region or "", _UNKNOWN),
            )
        real = self._real[two_rows][rng.choice(len(self._real[two_rows]), p=self._weights[two_rows])]
        pixels = _seen(real.pixels, real.corners, two_rows, rng, real.loose)
        return Sample(pixels, real.text, self._regions.get(real.region or "", _UNKNOWN))

    def batch(self, rng: np.random.Generator, size: int, two_rows: bool) -> list[Sample]:
        """Sample of one width; texts too long for the width's time steps are drawn again."""
        steps = (ppocr.STRIDE * 28 if two_rows else ONE_ROW) // ppocr.STRIDE
        samples: list[Sample] = []
        while len(samples) < size:
            sample = self.draw(rng, two_rows)
            needed = len(sample.text) + sum(
                a == b for a, b in zip(sample.text, sample.text[1:], strict=False)
            )
            if sample.text and needed <= steps:
                samples.append(sample)
        return samples


def _weights(sources: Sequence[str]) -> NDArray[np.float64]:
    weights = np.array([_SOURCE_WEIGHTS[source] for source in sources])
    shares: NDArray[np.float64] = weights / max(weights.sum(), 1e-9)
    return shares


def _seen(
    pixels: Pixels, corners: NDArray[np.float32], two_rows: bool, rng: np.random.Generator, loose: bool
) -> Pixels:
    """Return a real plate photographed anew: smaller, tilted, in another light."""
    across = float(np.hypot(*(corners[1] - corners[0])))
    wide = float(np.clip(np.exp(rng.normal(4.75, 0.45)), 50, 300))
    if wide < across * 0.9:
        scale = wide / across
        pixels = np.asarray(
            cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
        corners = corners * np.float32(scale)
    if rng.random() < 0.5:
        # Reading along tilted corners is the same as reading a tilted plate.
        center = corners.mean(axis=0)
        x, y = (corners - center).T
        corners = (
            np.column_stack([x + y * rng.normal(0, 0.1), y + x * rng.normal(0, 0.05)]).astype(np.float32)
            + center
        )
    pixels = degrade(pixels, rng, float(rng.uniform(0.1, 0.9)))
    return rectify(pixels, jitter(corners, rng, 0.7 if loose else 1.0), two_rows, 0.0 if loose else GROW)


def region_classes(plates: Sequence[Plate]) -> list[str]:
    """Return the region head's classes: every region that was rendered or labeled; Brazil's states count as
    Brazil.
    """
    drawn = {design.region for design in (*designs.ONE_ROW, *designs.TWO_ROWS)}
    labeled = {plate.region for plate in plates if plate.region and plate.region.split("-")[0] != "br"}
    return sorted((drawn | labeled | {"br"}) - {"us"})


def _produce(samples: Samples, queue: Any, seed: int, step: int, sizes: tuple[int, int], last: int) -> None:
    for number in range(step, last):
        rng = np.random.default_rng((seed, number))
        two_rows = number % 4 == 3
        queue.put((two_rows, samples.batch(rng, sizes[two_rows], two_rows)))


# --- figures ---


def crops_of(plates: Sequence[Plate]) -> list[Pixels]:
    """Return the plates rectified as at run time, without any chance in it."""
    return [
        rectify(plate.pixels, plate.corners, plate.two_rows, 0.0 if plate.loose else GROW) for plate in plates
    ]


def outputs(run: Any, crops: Sequence[Pixels]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Logits (T, C) and region logits of each crop; `run` takes an array (B, 3, 48, W)."""
    results: list[Any] = [None] * len(crops)
    by_width: dict[int, list[int]] = defaultdict(list)
    for i, crop in enumerate(crops):
        by_width[crop.shape[1]].append(i)
    for indices in by_width.values():
        for start in range(0, len(indices), 32):
            part = indices[start : start + 32]
            logits, regions = run(ppocr.to_input([crops[i] for i in part]))
            for i, one, other in zip(part, logits, regions, strict=True):
                results[i] = (one, other)
    return results


def run_torch(reader: nn.Module) -> Any:
    """Return a runner for `outputs` of the net itself."""

    def run(images: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.no_grad():
            logits, regions = reader.eval()(images)
        return logits.float().numpy(), np.zeros(
            (len(images), 1), np.float32
        ) if regions is None else regions.float().numpy()

    return run


def run_onnx(path: Path) -> Any:
    """Return a runner for `outputs` of an exported model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda images: session.run(None, {"image": images.contiguous().numpy()})


def figures(run: Any, plates: Sequence[Plate], regions: Sequence[str]) -> dict[str, Any]:
    """Share of texts read right by source (exact, folded) and of countries and states named right, best
    path.
    """
    results = outputs(run, crops_of(plates))
    texts = ppocr_texts([logits for logits, _ in results])
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    country, state = [0, 0], [0, 0]
    for plate, text, (_, region_logits) in zip(plates, texts, results, strict=True):
        for key in (plate.source, "all"):
            counts[key][0] += 1
            counts[key][1] += text == plate.text
            counts[key][2] += fold(text) == fold(plate.text)
        if plate.region and len(region_logits) == len(regions):
            answer = regions[int(np.argmax(region_logits))]
            country[0] += 1
            country[1] += answer.split("-")[0] == plate.region.split("-")[0]
            if plate.region.startswith("us-"):
                state[0] += 1
                state[1] += answer == plate.region
    summary: dict[str, Any] = {
        source: {"plates": n, "exact": round(e / n, 4), "folded": round(f / n, 4)}
        for source, (n, e, f) in counts.items()
    }
    summary["country"] = round(country[1] / max(country[0], 1), 4)
    summary["us_state"] = round(state[1] / max(state[0], 1), 4)
    return summary


def ppocr_texts(logits: Sequence[NDArray[np.float32]]) -> list[str]:
    """Best-path texts of logits of any lengths."""
    return [ppocr.greedy(torch.from_numpy(one[None]), ALPHABET)[0] for one in logits]


# --- training ---


def cut_all(reader: ppocr.Reader, plates: Sequence[Plate]) -> list[CutPlate]:
    """Every one-row plate that the reader already reads, cut into its characters."""
    single = [plate for plate in plates if not plate.two_rows]
    found = []
    for plate, (logits, _) in zip(single, outputs(run_torch(reader), crops_of(single)), strict=True):
        if ppocr_texts([logits])[0] == plate.text and (piece := cut(plate, logits)) is not None:
            found.append(piece)
    return found


def _rate(step: int, share: float) -> float:
    """Share of the peak learning rate: a short rise, then half a cosine down to nearly nothing."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def _average(averages: Any, currents: Any, count: torch.Tensor | int) -> None:
    """Move the averages towards the current weights, faster while few steps were taken."""
    decay = min(_DECAY, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averages, currents, 1 - decay)


def begin_with(reader: ppocr.Reader, regions: Sequence[str], checkpoint: Path) -> None:
    """Give `reader` the averaged weights of `checkpoint`; regions that it did not know begin as they are."""
    saved = torch.load(checkpoint, weights_only=True)
    weights = {name.removeprefix("module."): value for name, value in saved["average"].items()}
    own = reader.state_dict()
    where = {region: i for i, region in enumerate(saved["regions"])}
    rows = [(i, where[region]) for i, region in enumerate(regions) if region in where]
    mine, theirs = (torch.tensor(each) for each in zip(*rows, strict=True))
    for name in ("region.out.weight", "region.out.bias"):
        own[name][mine] = weights.pop(name)[theirs]
    reader.load_state_dict(own | {name: value for name, value in weights.items() if name in own})


def train(args: argparse.Namespace) -> None:
    # Threads that exist before the fork do not after it: whoever waits for them there waits for ever.
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    plates = read_plates(args.data, "train")
    val = read_plates(args.data, "val")
    regions = region_classes(plates)
    reader = ppocr.Reader(ALPHABET, len(regions))
    args.work.mkdir(parents=True, exist_ok=True)
    if args.start is not None:
        begin_with(reader, regions, args.start)
    pieces_file = args.work / "pieces.pkl"
    if not pieces_file.exists():
        pieces_file.write_bytes(pickle.dumps(cut_all(reader, plates)))
    pieces: list[CutPlate] = pickle.loads(pieces_file.read_bytes())
    round_weights(reader.body.quantized())
    print(f"{len(plates)} plates, {len(pieces)} cut into characters, {len(regions)} regions", flush=True)
    reader = reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = list(reader.head.parameters())
    region_head = [] if reader.region is None else list(reader.region.parameters())
    # The first layers keep their weights: edges are edges, and their large maps are the dearest to train.
    frozen = ("stem", "blocks.0.", "blocks.1.", "blocks.2.")
    for name, parameter in reader.body.named_parameters():
        parameter.requires_grad = not name.startswith(frozen)
    body = [p for p in reader.body.parameters() if p.requires_grad]
    # The region head alone starts from nothing.
    shares = ((body, 1), (heads, 4), (region_head, 10))
    groups = [{"params": parameters, "peak": args.rate * times} for parameters, times in shares]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, weight_decay=0.01)
    average = torch.optim.swa_utils.AveragedModel(reader, multi_avg_fn=_average)
    step, spent, checkpoint = 0, 0.0, args.work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["regions"] != regions:
            raise SystemExit("the checkpoint was trained for other regions: choose another --work")
        reader.load_state_dict(saved["reader"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent"]
    samples = Samples(plates, pieces, regions, read_backgrounds(args.data))
    context = multiprocessing.get_context("fork")
    queue = context.Queue(maxsize=6)
    sizes = (args.batch, args.batch * 2 // 3)
    producer = context.Process(
        target=_produce, args=(samples, queue, args.seed, step, sizes, args.steps), daemon=True
    )
    producer.start()
    begin, saved_at, share = time.monotonic(), time.monotonic(), 0.0
    losses: list[tuple[float, float]] = []
    while share < 1:
        _, batch = queue.get()
        lasted = spent + time.monotonic() - begin
        share = min(1.0, max((step + 1) / args.steps, lasted / (args.minutes * 60)))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(step, share)
        reader.train()
        images = ppocr.to_input([sample.pixels for sample in batch])
        with torch.autocast("cpu", torch.bfloat16):
            logits, region_logits = reader(images)
        text_loss = ppocr.ctc_loss(logits, [sample.text for sample in batch], ALPHABET)
        wanted = torch.tensor([sample.region for sample in batch])
        region_loss = torch.zeros(())
        if (wanted != _UNKNOWN).any():
            region_loss = F.cross_entropy(
                region_logits.float(), wanted, ignore_index=_UNKNOWN, label_smoothing=0.05
            )
        optimizer.zero_grad()
        (text_loss + args.region_weight * region_loss).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 2.0)
        optimizer.step()
        average.update_parameters(reader)
        losses.append((text_loss.item(), region_loss.item()))
        step += 1
        if step % 20 == 0:
            text, region = np.mean(losses[-20:], axis=0)
            pace = (time.monotonic() - begin) / (len(losses))
            print(
                f"step {step}/{args.steps} text {text:.4f} region {region:.3f} {pace:.2f} s/step", flush=True
            )
        due = step % args.every == 0 or share == 1
        if due or time.monotonic() - saved_at > 180:
            state = {
                "reader": reader.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            progress = {"step": step, "spent": lasted, "regions": regions}
            torch.save(state | progress, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved_at = time.monotonic()
        if due:
            found = {"step": step, **figures(run_torch(average.module), val, regions)}
            with (args.work / "log.jsonl").open("a") as log:
                log.write(json.dumps(found) + "\n")
            print(
                json.dumps({k: v["folded"] if isinstance(v, dict) else v for k, v in found.items()}),
                flush=True,
            )
    producer.terminate()


def train_regions(args: argparse.Namespace) -> None:
    """Train the region head alone on what the trained body sees, and put it into the checkpoint.

    Every real plate is looked at ``--views`` times, each time photographed anew, and ``--drawn`` rendered
    ones once: they teach designs that are rare among the real. The weights are the mean of three runs'.
    """
    torch.manual_seed(args.seed)
    cv2.setNumThreads(0)
    torch.set_num_threads(args.threads)
    reader, regions = load(args.work)
    head = reader.region
    assert head is not None
    rng = np.random.default_rng(args.seed)
    classes = {region: i for i, region in enumerate(regions)}
    samples = []
    for plate in read_plates(args.data, "train"):
        region = "br" if plate.region and plate.region.startswith("br-") else plate.region
        for _ in range(args.views if region in classes else 0):
            pixels = _seen(plate.pixels, plate.corners, plate.two_rows, rng, plate.loose)
            samples.append((Sample(pixels, plate.text, classes[region or ""]), 2.0))
    backgrounds = read_backgrounds(args.data)
    for number in range(args.drawn):
        crop = render(rng, number % 5 == 4, backgrounds)
        samples.append((Sample(crop.pixels, crop.text, classes[crop.region]), 1.0))
    samples.sort(key=lambda pair: pair[0].pixels.shape[1])
    looks = []
    for _, group in itertools.groupby(samples, lambda pair: pair[0].pixels.shape[1]):
        of_one_width = list(group)
        for start in range(0, len(of_one_width), 32):
            images = ppocr.to_input([sample.pixels for sample, _ in of_one_width[start : start + 32]])
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                looks.append(head.look(images, reader.body.maps(images).float()).float())
    print(f"looked at {len(samples)} crops", flush=True)
    seen = torch.cat(looks)
    target = torch.tensor([sample.region for sample, _ in samples])
    often = torch.tensor([weight for _, weight in samples])
    head.scale.running_mean, head.scale.running_var = seen.mean(0), seen.var(0)
    head.scale.eval()
    with torch.no_grad():
        seen = head.scale(seen)
    epochs, batch, runs = 24, 128, []
    steps = epochs * len(seen) // batch
    for run in range(3):
        out = nn.Linear(seen.shape[1], len(regions))
        optimizer = torch.optim.AdamW(out.parameters(), weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        total = 0.0
        for _ in range(steps):
            part = torch.multinomial(often, batch, replacement=True)
            loss = F.cross_entropy(out(F.dropout(seen[part], 0.3)), target[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"run {run + 1} loss {total / steps:.3f}", flush=True)
        runs.append(out.state_dict())
    head.out.load_state_dict({name: torch.stack([run[name] for run in runs]).mean(0) for name in runs[0]})
    saved = torch.load(args.work / "checkpoint.pt", weights_only=True)
    for name, value in head.state_dict().items():
        saved["reader"][f"region.{name}"] = saved["average"][f"module.region.{name}"] = value
    torch.save(saved, args.work / "checkpoint.pt")
    found = figures(run_torch(reader), read_plates(args.data, "val"), regions)
    print(json.dumps({key: found[key] for key in ("country", "us_state")}), flush=True)


def load(work: Path) -> tuple[ppocr.Reader, list[str]]:
    """Return the averaged reader of a work folder and its regions; without a checkpoint the untrained one, to
    compare with.
    """
    if not (work / "checkpoint.pt").exists():
        regions = region_classes([])
        return ppocr.Reader(ALPHABET, len(regions)).eval(), regions
    saved = torch.load(work / "checkpoint.pt", weights_only=True)
    reader = ppocr.Reader(ALPHABET, len(saved["regions"]))
    weights = {
        name.removeprefix("module."): value
        for name, value in saved["average"].items()
        if name != "n_averaged"
    }
    reader.load_state_dict(weights)
    return reader.eval(), saved["regions"]


def _calibration_inputs(plates: Sequence[Plate]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Training plates for the quantizer to see: every source, those of one row, as it wants one width."""
    chosen = np.random.default_rng(0).permutation(len(plates))[:300]
    for crop in crops_of([plates[i] for i in chosen]):
        if crop.shape[1] == ONE_ROW:
            yield {"image": ppocr.to_input([crop]).contiguous().numpy()}


def _float_nodes(path: Path) -> list[str]:
    """Nodes to keep in float, in INT8 they cost more right texts than they save time.

    The gates of squeeze-and-excitation, the neck before the attention, and the depthwise convolutions: those
    hold a fiftieth of the arithmetic and, in INT8, lost two of a hundred plates.
    """
    graph = onnx.load(str(path)).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kernels = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    gates = [n.name for n in convolutions if _pointwise(n, graph) and _squeezed(n, graph)]
    depthwise = [n.name for n in convolutions if kernels[n.input[1]][1] == 1]
    return [*dict.fromkeys([*gates, *depthwise, *(n.name for n in convolutions[-3:])])]


def _squeezed(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether a convolution works on channel means: its input comes from a mean, perhaps through such
    another.
    """
    producers = {name: other for other in graph.node for name in other.output}
    source = producers.get(node.input[0])
    while source is not None and source.op_type in ("Relu", "Conv") and source.input[0] in producers:
        if source.op_type == "Conv" and not _pointwise(source, graph):
            return False
        source = producers[source.input[0]]
    return source is not None and source.op_type in ("ReduceMean", "GlobalAveragePool")


def _pointwise(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    dims = next(tensor.dims for tensor in graph.initializer if tensor.name == node.input[1])
    return list(dims[2:]) == [1, 1]


def calibrate(path: Path, plates: Sequence[Plate], regions: Sequence[str]) -> Calibration:
    """Return the calibration that makes the model's scores probabilities on `plates`, written into the model.

    First the temperature of the regions, then the text's score on what comes out with it (Platt, 1999).
    """
    known = [p for p in plates if p.region in regions]
    logits = np.stack([r for _, r in outputs(run_onnx(path), crops_of(known))])
    wanted = np.array([regions.index(p.region or "") for p in known])
    rows = np.arange(len(known))
    temperatures = np.exp(np.linspace(np.log(0.3), np.log(5), 60))
    loss = [-np.log(np.maximum(ctc.softmax(logits / t)[rows, wanted], 1e-9)).mean() for t in temperatures]
    plain = Calibration(region_temperature=round(float(temperatures[int(np.argmin(loss))]), 3))
    describe(path, {"regions": json.dumps(regions), "calibration": json.dumps(dataclasses.asdict(plain))})
    readings = PlateReader(runtime.session(path)).read(crops_of(plates))
    right = [reading.text.upper() == plate.text for reading, plate in zip(readings, plates, strict=True)]
    text_slope, text_offset = platt([reading.score for reading in readings], right)
    # A country is right for a plate of its states, as an answer that names no state is.
    named = [(reading, plate.region) for reading, plate in zip(readings, plates, strict=True) if plate.region]
    region_slope, region_offset = platt(
        [reading.region_score for reading, _ in named],
        [agrees(reading.region, region) and len(reading.region) <= len(region) for reading, region in named],
    )
    calibration = dataclasses.replace(
        plain,
        text_slope=text_slope,
        text_offset=text_offset,
        region_slope=region_slope,
        region_offset=region_offset,
    )
    describe(path, {"calibration": json.dumps(dataclasses.asdict(calibration))})
    return calibration


def platt(shares: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Fit the slope and offset that make `shares` the probabilities of being `right` (Platt, 1999)."""
    clipped = np.clip(np.array(shares, float), 1e-6, 1 - 1e-6)
    x = torch.from_numpy(np.log(clipped / (1 - clipped)))
    wanted = torch.tensor(right, dtype=torch.float64)
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([line], max_iter=100)

    def closure() -> torch.Tensor:
        solver.zero_grad()
        error = F.binary_cross_entropy_with_logits(line[0] * x + line[1], wanted)
        error.backward()  # type: ignore[no-untyped-call]
        return error

    solver.step(closure)  # type: ignore[no-untyped-call]
    slope, offset = (round(float(value), 4) for value in line.detach())
    return slope, offset


def end_figures(path: Path, plates: Sequence[Plate]) -> dict[str, Any]:
    """What the shipped reader answers: right texts by source, truth among the first five, regions, CPU-ms."""
    reader = PlateReader(runtime.session(path))
    crops = crops_of(plates)
    begin = time.process_time()
    readings = [reader.read([crop])[0] for crop in crops]
    milliseconds = (time.process_time() - begin) / len(crops) * 1000
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    places = {"country": [0, 0], "us_state": [0, 0]}
    brier = 0.0
    for plate, reading in zip(plates, readings, strict=True):
        text = reading.text.upper()
        for key in (plate.source, "all"):
            counts[key][0] += 1
            counts[key][1] += text == plate.text
            counts[key][2] += fold(text) == fold(plate.text)
        counts["first five"][0] += 1
        counts["first five"][1] += plate.text in [c.text.upper() for c in reading.candidates[:5]]
        counts["first five"][2] += fold(plate.text) in [fold(c.text.upper()) for c in reading.candidates[:5]]
        brier += (reading.score - (text == plate.text)) ** 2
        if plate.region:
            places["country"][0] += 1
            places["country"][1] += reading.region.split("-")[0] == plate.region.split("-")[0]
            if plate.region.startswith("us-"):
                places["us_state"][0] += 1
                places["us_state"][1] += reading.region == plate.region
    summary: dict[str, Any] = {
        source: {"plates": n, "exact": round(e / n, 4), "folded": round(f / n, 4)}
        for source, (n, e, f) in counts.items()
    }
    summary |= {key: round(right / max(n, 1), 4) for key, (n, right) in places.items()}
    return summary | {"brier": round(brier / len(plates), 4), "cpu_ms": round(milliseconds, 2)}


@torch.no_grad()
def blend(net: nn.Module, earlier: nn.Module, share: float) -> None:
    """Make `net` the mean of itself and the net that its training began with (Wortsman et al., 2022).

    `share` is its own. What was learned from new photos stays, what was forgotten of old ones comes back.
    """
    for own, other in zip(net.state_dict().values(), earlier.state_dict().values(), strict=True):
        if own.dtype.is_floating_point:
            own.lerp_(other, 1 - share)


def ship(args: argparse.Namespace) -> None:
    """Export, quantize, calibrate; print the figures of the net before and after."""
    torch.set_num_threads(1)
    val = read_plates(args.data, "val")
    reader, regions = load(args.work)
    if args.start is not None:
        earlier = ppocr.Reader(ALPHABET, len(regions))
        begin_with(earlier, regions, args.start)
        blend(reader, earlier, args.share)
    round_weights(reader.body.quantized())
    exact = args.work / "reader-fp32.onnx"
    ppocr.export(reader, exact)
    feeds = _calibration_inputs(read_plates(args.data, "train"))
    quantize(exact, args.out, feeds, _float_nodes(exact), ("Conv",), ppocr.PERCENTILE)
    describe(args.out, {"alphabet": ALPHABET, "regions": json.dumps(regions)})
    for path in (exact, args.out):
        calibration = calibrate(path, val, regions)
        print(
            json.dumps(
                {"model": path.name, **dataclasses.asdict(calibration), **end_figures(path, val)}, indent=1
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "regions", "evaluate", "export"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, whatever the steps")
    parser.add_argument("--drawn", type=int, default=5000, help="rendered plates for the region head")
    parser.add_argument("--views", type=int, default=6, help="views of each real plate for the region head")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2.5e-4)
    parser.add_argument("--region-weight", type=float, default=0.25)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="a checkpoint to begin with, or to blend with in export")
    parser.add_argument("--share", type=float, default=0.6, help="share of the trained weights in a blend")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.what == "train":
        train(args)
    elif args.what == "regions":
        train_regions(args)
    elif args.what == "evaluate":
        reader, regions = load(args.work)
        run = run_onnx(args.model) if args.model else run_torch(reader)
        print(json.dumps(figures(run, read_plates(args.data, "val"), regions), indent=1))
    else:
        ship(args)


if __name__ == "__main__":
    main()

"""The plate reader: PP-OCRv6 small's body, fine-tuned on rendered and on real plates.

A training batch mixes rendered plates, real ones, and real ones whose characters were exchanged for each
other, all of them seen through a camera's faults and a detector's inexact corners.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from carsight import ctc, runtime
from carsight.pixels import straighten
from carsight.plate.reader import GROW, HEIGHT, ONE_ROW, Calibration, PlateReader, rectify
from carsight.plate.regions import agrees
from training import designs, ppocr
from training.calibration import platt
from training.camera import spoil_plate
from training.config import PlateReaderConfig
from training.data import Pixels
from training.loop import CHECKPOINT, Figures, Task, averaged_weights, checkpoint_of, half_precision, report
from training.model_files import describe
from training.plates_data import ALPHABET, Plate, fold, read_plates
from training.render_plates import Backgrounds, jitter, read_backgrounds, render

UNKNOWN = -100
_FINE = 2
"""How much finer than the reader's input plates are kept whose characters get exchanged."""

# How often a plate of each source is drawn, per plate: the small sets and the hard ones more often.
_SOURCE_WEIGHTS = {
    "us": 3.0, "world": 1.0, "world2": 1.0, "openimages2": 1.5, "openimages22": 2.0,
    "china": 0.8, "eu": 1.2, "eu2": 0.8, "br": 1.0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sample:
    """One training example: a crop as the reader gets it, its text, its region's class or `UNKNOWN`."""

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
    """Find the columns of each character from the reader's own (T, C) output; None where it is not clear."""
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
        """Draw one sample of one row or of two."""
        choice = rng.random()
        if choice < (0.55 if two_rows else 0.42):
            crop = render(rng, two_rows, self._backgrounds)
            return Sample(crop.pixels, crop.text, self._regions.get(crop.region, UNKNOWN))
        if choice < 0.65 and self._cut and not two_rows:
            plate = self._cut[rng.choice(len(self._cut), p=self._cut_weights)]
            pixels, text = exchange(plate, rng)
            height, width = pixels.shape[:2]
            corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
            return Sample(
                photographed(pixels, corners, False, rng, True),
                text,
                self._regions.get(plate.region or "", UNKNOWN),
            )
        real = self._real[two_rows][rng.choice(len(self._real[two_rows]), p=self._weights[two_rows])]
        pixels = photographed(real.pixels, real.corners, two_rows, rng, real.loose)
        return Sample(pixels, real.text, self._regions.get(real.region or "", UNKNOWN))

    def batch(self, rng: np.random.Generator, size: int, two_rows: bool) -> list[Sample]:
        """Draw samples of one width; texts too long for the width's time steps are drawn again."""
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


def photographed(
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
    pixels = spoil_plate(pixels, rng, float(rng.uniform(0.1, 0.9)))
    return rectify(pixels, jitter(corners, rng, 0.7 if loose else 1.0), two_rows, 0.0 if loose else GROW)


def views_of(
    plates: Sequence[Plate], regions: Container[str], views: int, rng: np.random.Generator
) -> Iterator[tuple[Plate, str, Pixels]]:
    """Yield the plates of ``regions``, each with its region and ``views`` times, photographed anew.

    Brazil's states count as Brazil.
    """
    for plate in plates:
        region = "br" if plate.region and plate.region.startswith("br-") else plate.region or ""
        for _ in range(views if region in regions else 0):
            pixels = photographed(plate.pixels, plate.corners, plate.two_rows, rng, plate.loose)
            yield plate, region, pixels


def region_classes(plates: Sequence[Plate]) -> list[str]:
    """Return the region head's classes: every region that is rendered or labeled.

    Brazil's states count as Brazil.
    """
    drawn = {design.region for design in designs.DESIGNS}
    labeled = {plate.region for plate in plates if plate.region and plate.region.split("-")[0] != "br"}
    return sorted((drawn | labeled | {"br"}) - {"us"})


# --- figures ---


def crops_of(plates: Sequence[Plate]) -> list[Pixels]:
    """Return the plates rectified as at run time, without any chance in it."""
    return [
        rectify(plate.pixels, plate.corners, plate.two_rows, 0.0 if plate.loose else GROW) for plate in plates
    ]


def outputs(run: Any, crops: Sequence[Pixels]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return logits (T, C) and region logits of each crop; `run` takes crops of one width."""
    results: list[Any] = [None] * len(crops)
    by_width: dict[int, list[int]] = defaultdict(list)
    for i, crop in enumerate(crops):
        by_width[crop.shape[1]].append(i)
    for indices in by_width.values():
        for start in range(0, len(indices), 32):
            part = indices[start : start + 32]
            logits, regions = run([crops[i] for i in part])
            for i, text, region in zip(part, logits, regions, strict=True):
                results[i] = (text, region)
    return results


def run_torch(reader: nn.Module, to_input: Callable[[Sequence[Pixels]], Tensor] = ppocr.to_input) -> Any:
    """Return a runner for `outputs` of the net itself; ``to_input`` makes its input out of crops."""

    def run(crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.no_grad():
            logits, regions = reader.eval()(to_input(crops))
        return logits.float().numpy(), regions.float().numpy()

    return run


def run_onnx(path: Path, centered: bool) -> Any:
    """Return a runner for `outputs` of an exported model; ``centered`` as in ``PlateReader``."""
    session = runtime.session(path)
    take = runtime.picture_input(session, centered=centered)

    def run(crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        answers = [session.run(["logits", "regions"], {"image": take([crop])}) for crop in crops]
        logits, regions = (np.concatenate(each) for each in zip(*answers, strict=True))
        return logits, regions

    return run


def figures(run: Any, plates: Sequence[Plate], regions: Sequence[str]) -> Figures:
    """Return what `run` reads right by the best path, and names right by the likeliest region."""
    results = outputs(run, crops_of(plates))
    answers = [regions[int(np.argmax(logits))] for _, logits in results]
    return _shares(plates, best_path_texts([logits for logits, _ in results]), answers)


def _shares(plates: Sequence[Plate], texts: Sequence[str], regions: Sequence[str]) -> Figures:
    """Return the shares of texts (by source; exact and folded), countries and states that are right."""
    by_source: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    places: dict[str, list[bool]] = {"country": [], "us_state": []}
    for plate, text, region in zip(plates, texts, regions, strict=True):
        for source in (plate.source, "all"):
            by_source[source].append((text == plate.text, fold(text) == fold(plate.text)))
        if plate.region:
            places["country"].append(region.split("-")[0] == plate.region.split("-")[0])
            if plate.region.startswith("us-"):
                places["us_state"].append(region == plate.region)
    shares: Figures = {}
    for source, right in by_source.items():
        exact, folded = (round(float(share), 4) for share in np.mean(right, axis=0))
        shares[source] = {"plates": len(right), "exact": exact, "folded": folded}
    return shares | {name: round(sum(right) / max(len(right), 1), 4) for name, right in places.items()}


def best_path_texts(logits: Sequence[NDArray[np.float32]]) -> list[str]:
    """Return the best-path texts of logits of any lengths."""
    return [ppocr.greedy(torch.from_numpy(each[None]), ALPHABET)[0] for each in logits]


# --- the task ---


class PlateReaderTask(Task[PlateReaderConfig, list[Sample]]):
    """Reads a plate's text and names its region."""

    centered: ClassVar[bool] = True
    """Whether its models take floats of -1..1 rather than 0..1."""

    def labeled(self, split: str) -> list[Plate]:
        """Return the plates with a text."""
        return read_plates(self.data, split)

    @cached_property
    def regions(self) -> list[str]:
        """The region head's classes: those of the checkpoint, or those that are rendered or labeled."""
        found = checkpoint_of(self.work)
        if found is None:
            return region_classes(self.training)
        regions: list[str] = averaged_weights(found)[1]["regions"]
        return regions

    def extra(self) -> dict[str, Any]:
        """Return the regions."""
        return {"regions": self.regions}

    def net(self) -> ppocr.Reader:
        """Return PP-OCR's body with heads for the alphabet and the regions."""
        return ppocr.Reader(ALPHABET, len(self.regions))

    def begin_with(self, net: nn.Module, checkpoint: Path) -> None:
        """Give ``net`` the weights of ``checkpoint``; regions that it did not know begin as they are."""
        weights, saved = averaged_weights(checkpoint)
        own = net.state_dict()
        where = {region: i for i, region in enumerate(saved["regions"])}
        rows = [(i, where[region]) for i, region in enumerate(self.regions) if region in where]
        mine, theirs = (torch.tensor(each) for each in zip(*rows, strict=True))
        for name in ("region.out.weight", "region.out.bias"):
            own[name][mine] = weights.pop(name).to(own[name].dtype)[theirs]
        net.load_state_dict(own | {name: value for name, value in weights.items() if name in own})

    def prepare(self, net: nn.Module) -> list[dict[str, Any]]:
        """Round the weights as INT8 will hold them, and leave the first layers alone."""
        assert isinstance(net, ppocr.Reader)
        region = [] if net.region is None else list(net.region.parameters())
        return [
            {"params": net.body.prepare(), "share": 1.0},
            {"params": list(net.head.parameters()), "share": 4.0},
            {"params": region, "share": 10.0},  # the region head alone starts from nothing
        ]

    def train(self) -> None:
        """Cut the plates that the reader reads already into characters, once, then learn."""
        if not self._pieces_file.exists():
            self._pieces_file.write_bytes(pickle.dumps(cut_all(run_torch(self.reader), self.training)))
        super().train()

    @cached_property
    def reader(self) -> nn.Module:
        """What reads the training plates before they are cut into characters: the net to begin with."""
        net = self.net()
        if self.config.start:
            self.begin_with(net, Path(self.config.start))
        return net

    @property
    def _pieces_file(self) -> Path:
        return self.work / "pieces.pkl"

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[list[Sample]]:
        """Yield crops of one row, and every fourth time of two."""
        pieces: list[CutPlate] = pickle.loads(self._pieces_file.read_bytes())
        samples = Samples(self.training, pieces, self.regions, read_backgrounds(self.data))
        for number in itertools.count():
            two_rows = number % 4 == 3
            count = self.config.batch * 2 // 3 if two_rows else self.config.batch
            yield samples.batch(rng, count, two_rows)

    def images(self, batch: list[Sample]) -> Tensor:
        """Return the crops."""
        return ppocr.to_input([sample.pixels for sample in batch])

    def loss(self, outputs: Any, batch: list[Sample]) -> dict[str, Tensor]:
        """Return the loss of the texts, and of the regions that are known."""
        logits, region_logits = outputs
        terms = {"text": ppocr.ctc_loss(logits, [sample.text for sample in batch], ALPHABET)}
        wanted = torch.tensor([sample.region for sample in batch])
        if (wanted != UNKNOWN).any():
            terms["region"] = self.config.region_weight * F.cross_entropy(
                region_logits.float(), wanted, ignore_index=UNKNOWN, label_smoothing=0.05
            )
        return terms

    def figures(self, net: nn.Module) -> Figures:
        """Measure ``net`` by itself, best path."""
        return figures(run_torch(net), self.validation, self.regions)

    def judge(self, model: Path) -> Figures:
        """Measure what production answers with ``model``, calibrated as it is."""
        return end_figures(model, self.validation, self.centered)

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net``, calibrated."""
        ppocr.export(net, path)
        calibrate(path, self.validation, self.regions, self.centered)

    def quantize(self, exact: Path, out: Path) -> None:
        """Quantize with the ranges of training plates of every source, and calibrate anew."""
        chosen = np.random.default_rng(0).permutation(len(self.training))[:300]
        crops = crops_of([self.training[i] for i in chosen])
        ppocr.quantize_reader(exact, out, [crop for crop in crops if crop.shape[1] == ONE_ROW])
        describe(out, {"alphabet": ALPHABET})
        calibrate(out, self.validation, self.regions, self.centered)

    def recovered(self, model: Path) -> nn.Module:
        """Return the net of ``model``; its regions are then this task's."""
        net, self.regions = ppocr.recovered(model, ALPHABET)
        return net

    def retrain_regions(self, views: int, drawn: int) -> None:
        """Train the region head alone on what the trained body sees, and put it into the checkpoint.

        Its classes are those that are rendered or labeled today: a country that has been added since is among
        them. The weights are the mean of three runs'. The checkpoint is then one to begin with and to export,
        not to go on from.

        Args:
            views: How often every real plate is looked at, each time photographed anew.
            drawn: How many rendered ones are looked at: they teach designs that are rare among the real.
        """
        torch.manual_seed(self.config.seed)
        torch.set_num_threads(self.config.threads)
        self.regions = region_classes(self.training)
        reader = self.trained
        assert isinstance(reader, ppocr.Reader)
        head = reader.region
        assert head is not None
        seen, target, often = self._looks(reader, views, drawn)
        head.scale.running_mean, head.scale.running_var = seen.mean(0), seen.var(0)
        head.scale.eval()
        with torch.no_grad():
            seen = head.scale(seen)
        runs = [_linear(seen, target, often, len(self.regions)) for _ in range(3)]
        head.out.load_state_dict({name: torch.stack([run[name] for run in runs]).mean(0) for name in runs[0]})
        weights, saved = averaged_weights(self.work)
        weights |= {f"region.{name}": value for name, value in head.state_dict().items()}
        torch.save({"average": weights, "step": saved.get("step", 0), **self.extra()}, self.work / CHECKPOINT)
        found = self.figures(reader)
        report({key: found[key] for key in ("country", "us_state")})

    def _looks(self, reader: ppocr.Reader, views: int, drawn: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the region head decides on (N, inputs), the regions and the samples' weights (N)."""
        head = reader.region
        assert head is not None
        rng = np.random.default_rng(self.config.seed)
        classes = {region: i for i, region in enumerate(self.regions)}
        samples = []
        for plate, region, pixels in views_of(self.training, classes, views, rng):
            samples.append((Sample(pixels, plate.text, classes[region]), 2.0))
        backgrounds = read_backgrounds(self.data)
        for number in range(drawn):
            crop = render(rng, number % 5 == 4, backgrounds)
            samples.append((Sample(crop.pixels, crop.text, classes[crop.region]), 1.0))
        samples.sort(key=lambda pair: pair[0].pixels.shape[1])
        looks = []
        for _, group in itertools.groupby(samples, lambda pair: pair[0].pixels.shape[1]):
            of_one_width = list(group)
            for start in range(0, len(of_one_width), 32):
                images = self.images([sample for sample, _ in of_one_width[start : start + 32]])
                with torch.no_grad(), half_precision():
                    looks.append(head.look(head.colors(images), reader.body.maps(images).float()).float())
        print(f"looked at {len(samples)} crops", flush=True)
        target = torch.tensor([sample.region for sample, _ in samples])
        return torch.cat(looks), target, torch.tensor([weight for _, weight in samples])


def _linear(seen: Tensor, target: Tensor, often: Tensor, classes: int) -> dict[str, Tensor]:
    """Train one linear layer on standardized inputs, each drawn as ``often`` says; return its weights."""
    epochs, batch = 24, 128
    steps = epochs * len(seen) // batch
    out = nn.Linear(seen.shape[1], classes)
    optimizer = torch.optim.AdamW(out.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    total = 0.0
    for _ in range(steps):
        part = torch.multinomial(often, batch, replacement=True)
        loss = F.cross_entropy(out(F.dropout(seen[part], 0.3)), target[part], label_smoothing=0.05)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        total += loss.item()
    print(f"loss {total / steps:.3f}", flush=True)
    weights: dict[str, Tensor] = out.state_dict()
    return weights


def cut_all(run: Any, plates: Sequence[Plate]) -> list[CutPlate]:
    """Return every one-row plate that ``run`` of `outputs` reads already, cut into its characters."""
    single = [plate for plate in plates if not plate.two_rows]
    found = []
    for plate, (logits, _) in zip(single, outputs(run, crops_of(single)), strict=True):
        if best_path_texts([logits])[0] == plate.text and (piece := cut(plate, logits)) is not None:
            found.append(piece)
    print(f"{len(plates)} plates, {len(found)} cut into characters", flush=True)
    return found


# --- what production would answer ---


def calibrate(path: Path, plates: Sequence[Plate], regions: Sequence[str], centered: bool) -> Calibration:
    """Return the calibration that makes the model's scores probabilities on `plates`, written into the model.

    First the temperature of the regions, then the text's score on what comes out with it (Platt, 1999).
    ``centered`` as in ``PlateReader``.
    """
    known = [p for p in plates if p.region in regions]
    logits = np.stack([r for _, r in outputs(run_onnx(path, centered), crops_of(known))])
    wanted = np.array([regions.index(p.region or "") for p in known])
    rows = np.arange(len(known))
    temperatures = np.exp(np.linspace(np.log(0.3), np.log(5), 60))
    loss = [-np.log(np.maximum(ctc.softmax(logits / t)[rows, wanted], 1e-9)).mean() for t in temperatures]
    plain = Calibration(region_temperature=round(float(temperatures[int(np.argmin(loss))]), 3))
    describe(path, {"regions": json.dumps(regions), "calibration": json.dumps(plain._asdict())})
    reader = PlateReader(runtime.session(path), centered=centered)
    readings = [reader.read([crop])[0] for crop in crops_of(plates)]
    right = [reading.text.upper() == plate.text for reading, plate in zip(readings, plates, strict=True)]
    text_slope, text_offset = platt([reading.score for reading in readings], right)
    # A country is right for a plate of its states, as an answer that names no state is.
    named = [(reading, plate.region) for reading, plate in zip(readings, plates, strict=True) if plate.region]
    region_slope, region_offset = platt(
        [reading.region_score for reading, _ in named],
        [agrees(reading.region, region) and len(reading.region) <= len(region) for reading, region in named],
    )
    calibration = plain._replace(
        text_slope=text_slope,
        text_offset=text_offset,
        region_slope=region_slope,
        region_offset=region_offset,
    )
    describe(path, {"calibration": json.dumps(calibration._asdict())})
    return calibration


def end_figures(path: Path, plates: Sequence[Plate], centered: bool) -> Figures:
    """Return what production's reader gets right with the model at `path`, and its CPU-ms a crop.

    `first_five` is the share of texts, folded, that are among the first five candidates.
    """
    reader = PlateReader(runtime.session(path), centered=centered)
    crops = crops_of(plates)
    begin = time.process_time()
    readings = [reader.read([crop])[0] for crop in crops]
    milliseconds = (time.process_time() - begin) / len(crops) * 1000
    texts = [reading.text.upper() for reading in readings]
    pairs = list(zip(plates, readings, strict=True))
    five = [fold(p.text) in [fold(c.text.upper()) for c in r.candidates[:5]] for p, r in pairs]
    squares = [(r.score - (r.text.upper() == p.text)) ** 2 for p, r in pairs]
    return _shares(plates, texts, [reading.region for reading in readings]) | {
        "first_five": round(float(np.mean(five)), 4),
        "brier": round(float(np.mean(squares)), 4),
        "cpu_ms": round(milliseconds, 2),
    }

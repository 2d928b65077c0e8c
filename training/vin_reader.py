"""Trains the VIN reader: PP-OCRv6 small's body with a 33-character CTC head, on real and rendered lines.

    python -m training.vin_reader lines  --data DIR --work DIR
    python -m training.vin_reader train  --data DIR --work DIR [--steps 2400]
    python -m training.vin_reader export --data DIR --work DIR --out reader.onnx

``lines`` writes WORK/lines.jsonl: where each line lies and what it says. The labeled boxes are upright
rectangles round lines that may be tilted, and most have no text, so the newest net is asked: for a line with
text the corners under which the text is likeliest, for one without also its text, kept where several cuts
agree (``pseudo``). Run it again after a first training and train on. ``train`` resumes from WORK/reader.pt
where that exists and logs to standard output.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch

from carsight import ctc
from carsight.runtime import session
from carsight.vin import rules as vin_rules
from carsight.vin.line_reader import WIDTH, LineReader, LineReading, cut, decode, text_probabilities
from carsight.vin.rules import ALPHABET
from training.data import Pixels, read_image, read_labels
from training.ppocr import PERCENTILE, Reader, ctc_loss, export, to_input
from training.quantize import quantize
from training.render_vins import Floats, Rng, jittered, render_line
from training.rounding import round_weights

BATCH = 16
_REAL_SHARE = 0.65
"""Share of real lines in a batch; the rest are rendered."""

_FROZEN = ("stem", "blocks.0.", "blocks.1.", "blocks.2.")
"""Layers that keep their weights: they see edges, which VINs have in common with what they learned from."""


@dataclass(frozen=True)
class Line:
    """A real line: ``corners`` (4 x 2, pixels of ``image``) in reading order, ``text``, and who read it."""

    image: str
    split: str
    kind: str
    corners: list[list[float]]
    text: str
    source: str
    """"label", "unsure" (a label that is partly a guess) or "pseudo"."""
    score: float


# --------------------------------------------------------------------------------------------- lines


def possible_corners(box: Sequence[float]) -> list[Floats]:
    """Corners that a VIN line inside the upright ``box`` may have: level, and where the box is too high for
    a level line, tilted either way so that a line of common proportions just fits. A box higher than wide
    is read downwards.
    """
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])

    def quad(length: float, tall: float, angle: float) -> Floats:
        along = np.array([math.cos(angle), math.sin(angle)]) * length / 2
        down = np.array([-math.sin(angle), math.cos(angle)]) * tall / 2
        return np.array(
            [middle - along - down, middle + along - down, middle + along + down, middle - along + down],
            np.float32,
        )

    long, short = max(width, height), min(width, height)
    upright = 0.0 if width >= height else math.pi / 2
    quads = [quad(long, short, upright)]
    for ratio in (11.0,) if long > 4 * short else (8.0, 13.0):
        angles = np.linspace(0.01, math.pi / 4, 80)
        fits = (np.sin(angles) + np.cos(angles) / ratio) / (np.cos(angles) + np.sin(angles) / ratio)
        angle = float(angles[min(int(np.searchsorted(fits, short / long)), len(angles) - 1)])
        if angle > 0.05:
            length = long / (math.cos(angle) + math.sin(angle) / ratio)
            quads += [quad(length, length / ratio, upright + sign * angle) for sign in (1, -1)]
    return quads


@torch.no_grad()
def probabilities(
    reader: Reader, crops: Sequence[Pixels]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the net's CTC output for crops (B x T x 34, rows sum to 1)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        logits, _ = reader(to_input(crops))
    return ctc.softmax(logits.double().numpy())


def read_lines(reader: Reader, data: Path, seed: int = 0) -> Iterator[Line]:
    """Every labeled VIN line of ``data`` that has or can be given a text."""
    rng = np.random.default_rng(seed)
    for label in sorted(read_labels(data), key=lambda label: not any(v.get("text") for v in label["vins"])):
        pixels: Pixels | None = None
        for vin in label["vins"]:
            if not vin.get("box") or vin.get("box_approx"):
                continue
            if pixels is None:
                pixels = read_image(data / label["image"])
            quads = possible_corners(vin["box"])
            matrices = probabilities(reader, [cut(pixels, q) for q in quads])
            readings = decode(matrices, 4)
            if max(_certainty(reading) for reading in readings) < 0.02:  # upside down?
                quads += [q[[2, 3, 0, 1]] for q in quads]
                matrices = np.concatenate(
                    [matrices, probabilities(reader, [cut(pixels, q) for q in quads[len(quads) // 2 :]])]
                )
                readings = decode(matrices, 4)
            common = {"image": label["image"], "split": label["split"], "kind": label["kind"]}
            if vin.get("text"):
                fits = [float(text_probabilities(m, [vin["text"]])[0]) for m in matrices]
                best = int(np.argmax(fits))
                source = "unsure" if vin.get("unsure") else "label"
                yield Line(
                    **common, corners=quads[best].tolist(), text=vin["text"], source=source, score=fits[best]
                )
                continue
            best = max(range(len(quads)), key=lambda i: _certainty(readings[i]))
            if _certainty(readings[best]) < 0.1:
                continue
            again = [cut(pixels, jittered(quads[best], rng, 0.4)) for _ in range(2)]
            views = [readings[best], *decode(probabilities(reader, again), 4)]
            text = views[0].texts[0][0] if views[0].texts else ""
            agree = [v for v in views if v.texts and v.texts[0][0] == text]
            score = float(np.mean([_certainty(v) for v in agree])) if agree else 0.0
            checked = vin_rules.is_valid(text) if text else False
            enough = len(agree) == len(views) and (
                (checked and score > 0.3) or score > 0.85 or (vin_rules.known_maker(text) and score > 0.7)
            )
            if text and enough and not (vin_rules.check_applies(text) and not checked):
                yield Line(**common, corners=quads[best].tolist(), text=text, source="pseudo", score=score)


def _certainty(reading: LineReading) -> float:
    return reading.share * reading.texts[0][1] if reading.texts else 0.0


# --------------------------------------------------------------------------------------------- train


def spoil(pixels: Pixels, rng: Rng) -> Pixels:
    """Return a real photo as another camera, light or distance would have given it."""
    picture = pixels
    if rng.random() < 0.4:  # further away
        zoom = float(rng.uniform(0.55, 0.95)), float(rng.uniform(0.55, 0.95))
        small = cv2.resize(picture, None, fx=zoom[0], fy=zoom[1], interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.resize(small, (pixels.shape[1], pixels.shape[0])), np.uint8)
    if rng.random() < 0.25:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.0))), np.uint8)
    if rng.random() < 0.2:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.0)
        picture = np.asarray(cv2.addWeighted(picture, 1.7, soft, -0.7, 0), np.uint8)
    values = picture.astype(np.float32)
    if rng.random() < 0.7:
        values = (values - values.mean()) * float(np.exp(rng.normal(0, 0.3))) + values.mean() * float(
            np.exp(rng.normal(0, 0.25))
        )
        values += rng.normal(0, 8, 3)
    if rng.random() < 0.3:  # light across the line
        slope = rng.normal(0, 40, 2)
        y, x = np.mgrid[-0.5 : 0.5 : values.shape[0] * 1j, -0.5 : 0.5 : values.shape[1] * 1j]
        values += (x * slope[0] + y * slope[1])[:, :, None]
    if rng.random() < 0.25:
        values = 255 - values
    if rng.random() < 0.4:
        values += rng.standard_normal(values.shape, np.float32) * float(rng.uniform(1, 9))
    picture = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])[1]
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return picture


class Samples:
    """An endless stream of training lines: the real ones drawn so that rare makers are not drowned, and
    rendered.
    """

    def __init__(self, data: Path, lines: Sequence[Line], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._lines = [line for line in lines if line.split == "train"]
        self._parts: list[tuple[Pixels, Floats]] = []
        makers: dict[str, int] = {}
        for line in self._lines:
            makers[line.text[:3]] = makers.get(line.text[:3], 0) + 1
            pixels, corners = read_image(data / line.image), np.array(line.corners, np.float32)
            margin = float(np.hypot(*(corners[3] - corners[0]))) * 1.5 + 4
            x0, y0 = np.maximum(corners.min(axis=0) - margin, 0).astype(int)
            x1, y1 = (corners.max(axis=0) + margin).astype(int)
            self._parts.append((pixels[y0:y1, x0:x1].copy(), corners - np.array((x0, y0), np.float32)))
        trust = {"label": 2.0, "unsure": 0.7, "pseudo": 1.0}
        weights = np.array([trust[line.source] * makers[line.text[:3]] ** -0.35 for line in self._lines])
        self._weights = weights / weights.sum()

    def real(self) -> tuple[Pixels, str]:
        index = int(self._rng.choice(len(self._lines), p=self._weights))
        pixels, corners = self._parts[index]
        return cut(spoil(pixels, self._rng), jittered(corners, self._rng)), self._lines[index].text

    def batch(self, size: int) -> tuple[list[Pixels], list[str]]:
        pairs = [
            self.real() if self._rng.random() < _REAL_SHARE else render_line(self._rng) for _ in range(size)
        ]
        return [pixels for pixels, _ in pairs], [text for _, text in pairs]


def validate(reader: Reader, data: Path, lines: Sequence[Line]) -> dict[str, float]:
    """Share of validation lines (sure texts) read right by themselves, by kind: no rules, corners as
    bad as a detector's.
    """
    reader.eval()
    rng = np.random.default_rng(0)
    right: dict[str, list[bool]] = {}
    for line in lines:
        if line.split == "val" and line.source == "label":
            corners = jittered(np.array(line.corners, np.float32), rng)
            crop = cut(read_image(data / line.image), corners)
            texts = decode(probabilities(reader, [crop]), 1)[0].texts
            hit = bool(texts) and texts[0][0] == line.text
            right.setdefault(line.kind, []).append(hit)
            right.setdefault("all", []).append(hit)
    return {kind: round(float(np.mean(hits)), 4) for kind, hits in sorted(right.items())}


def train(data: Path, work: Path, steps: int, seed: int, rate: float, minutes: float) -> None:
    """Train on from WORK/reader.pt, or from the published weights, for ``steps`` steps or ``minutes``."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    lines = load_lines(work)
    reader = Reader(ALPHABET)
    round_weights(reader.body.quantized())
    for name, parameter in reader.body.named_parameters():
        parameter.requires_grad_(not name.startswith(_FROZEN))
    average = copy.deepcopy(reader)
    trained = [p for p in reader.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.01)
    step, spent = 0, 0.0
    saved = work / "reader.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        reader.load_state_dict(state["net"])
        average.load_state_dict(state["model"])
        if state["steps"] == steps:
            optimizer.load_state_dict(state["optimizer"])
            step, spent = state["step"], state["spent"]
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = Samples(data, lines, seed + step)
    print("lines", len(samples._lines), "untrained", validate(average, data, lines), flush=True)
    started = began = time.time()
    total = share = 0.0
    while share < 1:
        share = min(1.0, max(step / steps, (spent + time.time() - started) / (minutes * 60)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 60) * (0.5 + 0.5 * math.cos(math.pi * share))
        crops, texts = samples.batch(BATCH)
        reader.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = reader(to_input(crops))
        loss = ctc_loss(logits, texts, ALPHABET)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        step += 1
        total += loss.item()
        keep = min(0.99, 1 - 1 / (step + 1))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), reader.parameters(), strict=True):
                kept.lerp_(new, 1 - keep)
        if step % 25 == 0:
            print(
                f"{step}/{steps} loss {total / 25:.4f} {25 * BATCH / (time.time() - began):.1f} lines/s",
                flush=True,
            )
            began, total = time.time(), 0.0
        if step % 75 == 0 or share == 1:
            print(step, validate(average, data, lines), flush=True)
            state = {
                "net": reader.state_dict(),
                "model": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(
                {**state, "step": step, "steps": steps, "spent": spent + time.time() - started},
                saved.with_suffix(".new"),
            )
            saved.with_suffix(".new").replace(saved)
            began = time.time()


# ---------------------------------------------------------------------------------------------- main


def ship(data: Path, work: Path, out: Path) -> None:
    """Export the averaged net, quantize it on training lines, and print what that costs on validation
    lines.
    """
    exact = work / "reader-fp32.onnx"
    net = load_reader(work)
    round_weights(net.body.quantized())
    export(net, exact, WIDTH)
    lines = [line for line in load_lines(work) if line.split == "train"]
    chosen = np.random.default_rng(0).permutation(len(lines))[:300]
    crops = [cut(read_image(data / lines[i].image), np.array(lines[i].corners, np.float32)) for i in chosen]
    feeds = ({"image": to_input([crop]).contiguous().numpy()} for crop in crops)
    quantize(exact, out, feeds, float_nodes(exact), ("Conv",), PERCENTILE)
    model = onnx.load(str(out))
    model.metadata_props.add(key="alphabet", value=ALPHABET)
    model.metadata_props.add(
        key="licence", value="Apache-2.0; fine-tuned from PP-OCRv6 small (PaddleOCR, Apache-2.0)"
    )
    onnx.save(model, str(out))
    judged = [line for line in load_lines(work) if line.split == "val" and line.source == "label"]
    for path in (exact, out):
        reader = LineReader(session(path))
        began = time.process_time()
        readings = [
            reader.read([cut(read_image(data / line.image), np.array(line.corners, np.float32))])[0]
            for line in judged
        ]
        spent = (time.process_time() - began) / len(judged) * 1000
        right = [
            bool(r.texts) and r.texts[0][0] == line.text for r, line in zip(readings, judged, strict=True)
        ]
        print(path.name, "right", round(float(np.mean(right)), 4), "cpu ms", round(spent, 1), flush=True)


def float_nodes(path: Path) -> list[str]:
    """Nodes of the exported net to keep in float: the gates of squeeze-and-excitation, the depthwise
    convolutions and the neck. They hold little of the arithmetic, and in INT8 they lose characters.
    """
    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kept = [node.name for node in convolutions[-3:]]
    for node in convolutions:
        outputs, inputs, *kernel = shapes[node.input[1]]
        if inputs == 1 or (kernel == [1, 1] and max(outputs, inputs) == 4 * min(outputs, inputs)):
            kept.append(node.name)
    return list(dict.fromkeys(kept))


def load_lines(work: Path) -> list[Line]:
    """Return what ``lines`` wrote."""
    return [
        Line(**json.loads(row))
        for row in (work / "lines.jsonl").read_text(encoding="utf-8").splitlines()
        if row.endswith("}")
    ]


def load_reader(work: Path) -> Reader:
    """Return the averaged weights of WORK/reader.pt, or the published ones with the restricted head."""
    reader = Reader(ALPHABET)
    if (work / "reader.pt").exists():
        reader.load_state_dict(torch.load(work / "reader.pt", weights_only=True)["model"])
    return reader.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["lines", "train", "export"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labeled VIN photos")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, whatever the steps")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "lines":
        torch.set_num_threads(1)
        found: dict[str, int] = {}
        with (args.work / "lines.jsonl").open("w", encoding="utf-8", buffering=1) as file:
            for line in read_lines(load_reader(args.work), args.data, args.seed):
                file.write(json.dumps(asdict(line)) + "\n")
                found[line.source] = found.get(line.source, 0) + 1
        print(found)
    elif args.what == "train":
        train(args.data, args.work, args.steps, args.seed, args.rate, args.minutes)
    else:
        if args.out is None:
            parser.error("export needs --out")
        torch.set_num_threads(1)
        ship(args.data, args.work, args.out)


if __name__ == "__main__":
    main()

"""Teach finished plate readers to name more regions, from drawn plates alone.

    python -m training.add_regions MODEL... --data DIR [--drawn 200] [--views 2] [--seed 1]

A country that training/designs.py draws and no labeled photo shows can be named all the same. Each MODEL, of
training/plate_reader.py or training/lean_plate_reader.py, gets a row of its region head's last layer for each
region that is drawn and not among its own. Everything else in the file stays as it is: texts are read as
before, to the bit. The rows are learned from what the model sees in drawn plates of the new regions, beside
real and drawn ones of those that it knows.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from carsight import runtime
from training import designs
from training.data import Pixels
from training.model_files import describe
from training.plate_reader import views_of
from training.plates_data import read_plates
from training.render_plates import read_backgrounds, render, render_design

_SHARE = 0.02
"""The share of plates that is taken to be of the new regions together. Of 5,370 labeled ones 20 are of
countries that the readers knew nothing of; who collects and labels photos prefers what is known."""
_EPOCHS, _BATCH, _RATE, _DECAY, _DROPOUT = 30, 128, 4e-3, 0.1, 0.3
_HELD_OUT = 0.1

Sample = tuple[Pixels, str]
"""A crop as the reader gets it, and its region."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True, help="folder with plates/")
    parser.add_argument("--drawn", type=int, default=200, help="plates drawn of each new region")
    parser.add_argument("--views", type=int, default=2, help="how often each labeled plate is looked at")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    known = _regions(args.models[0])
    new = sorted({each.region for each in designs.DESIGNS} - set(known))
    if not new:
        raise SystemExit(f"{args.models[0]} names every region that is drawn")
    samples = draw(args.data, known, new, args.drawn, args.views, np.random.default_rng(args.seed))
    print(f"{len(samples)} crops, new: {' '.join(new)}", flush=True)
    for path in args.models:
        if _regions(path) != known:
            raise SystemExit(f"{path} and {args.models[0]} name different regions")
        add(path, new, samples)


def _regions(path: Path) -> list[str]:
    metadata = runtime.session(path).get_modelmeta().custom_metadata_map
    regions: list[str] = json.loads(metadata["regions"])
    return regions


def draw(
    data: Path, known: Sequence[str], new: Sequence[str], drawn: int, views: int, rng: np.random.Generator
) -> list[Sample]:
    """Return real plates, each in ``views``, a third as many drawn ones, and ``drawn`` of each new region."""
    real = views_of(read_plates(data, "train"), {*known, *new}, views, rng)
    samples = [(pixels, region) for _, region, pixels in real]
    backgrounds = read_backgrounds(data)
    for number in range(len(samples) // 3):
        crop = render(rng, number % 5 == 4, backgrounds)
        samples.append((crop.pixels, crop.region))
    for region in new:
        of_region = [each for each in designs.DESIGNS if each.region == region]
        shares = np.array([each.weight for each in of_region])
        chosen = rng.choice(len(of_region), drawn, p=shares / shares.sum())
        samples += [(render_design(of_region[int(at)], rng).pixels, region) for at in chosen]
    return samples


def add(path: Path, new: Sequence[str], samples: Sequence[Sample]) -> None:
    """Write rows for the ``new`` regions into the model at ``path``, and print what they name and take."""
    model = onnx.load(path)
    (head,) = (node for node in model.graph.node if "regions" in node.output)
    matrix, offset = (
        next(each for each in model.graph.initializer if each.name == name) for name in head.input[1:]
    )
    weights, bias = numpy_helper.to_array(matrix), numpy_helper.to_array(offset)
    regions = [*_regions(path), *new]
    seen = looks(model, head.input[0], [pixels for pixels, _ in samples])
    known = seen @ torch.tensor(weights.T) + torch.tensor(bias)
    target = torch.tensor([regions.index(region) for _, region in samples])
    temperature = json.loads(describe(path, {})["calibration"])["region_temperature"]
    rows = learn(seen, known, target, len(new), temperature)
    matrix.CopyFrom(numpy_helper.from_array(np.concatenate([weights, rows.weight.numpy()]), matrix.name))
    offset.CopyFrom(numpy_helper.from_array(np.concatenate([bias, rows.bias.numpy()]), offset.name))
    onnx.save(model, path)
    describe(path, {"regions": json.dumps(regions)})


def looks(model: onnx.ModelProto, name: str, crops: Sequence[Pixels]) -> Tensor:
    """Return what the region head of ``model``, its tensor ``name``, decides on for each crop (N, inputs)."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    take = runtime.picture_input(session, centered=session.get_inputs()[0].type == "tensor(float)")
    return torch.tensor(np.concatenate([session.run([name], {"image": take([crop])})[0] for crop in crops]))


def learn(seen: Tensor, known: Tensor, target: Tensor, count: int, temperature: float) -> nn.Linear:
    """Return the layer of ``count`` new classes, which come after those of the logits ``known`` (N, classes).

    Args:
        seen: What the head decides on, (N, inputs), standardized.
        known: The logits of the classes that there are.
        target: The class of each.
        count: How many classes are new.
        temperature: What production divides logits by.
    """
    rows = nn.Linear(seen.shape[1], count)
    nn.init.zeros_(rows.weight)
    steps = _EPOCHS * len(seen) // _BATCH
    optimizer = torch.optim.AdamW(rows.parameters(), weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    held_out = torch.rand(len(seen)) < _HELD_OUT
    learned = torch.nonzero(~held_out)[:, 0]
    for _ in range(steps):
        part = learned[torch.randint(len(learned), (_BATCH,))]
        logits = torch.cat([known[part], rows(F.dropout(seen[part], _DROPOUT))], 1)
        loss = F.cross_entropy(logits / temperature, target[part])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    is_new = target >= known.shape[1]
    share = is_new.float().mean().item()
    with torch.no_grad():
        # They were drawn more often than they are seen.
        rows.bias += temperature * (math.log(_SHARE / (1 - _SHARE)) - math.log(share / (1 - share)))
        named = torch.cat([known, rows(seen)], 1).argmax(1)
    for name, which in (("new", is_new & held_out), ("known", ~is_new & held_out)):
        right, taken = (
            each[which].float().mean().item() for each in (named == target, named >= known.shape[1])
        )
        print(f"{name}: {int(which.sum())} held out, {right:.3f} right, {taken:.4f} called new", flush=True)
    return rows.requires_grad_(False)


if __name__ == "__main__":
    main()

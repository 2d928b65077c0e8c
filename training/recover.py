"""Float checkpoints from the INT8 models: ``python -m training.recover --data DIR --models DIR --work DIR``.

The checkpoints that the models were made from are not kept with them. Their weights, dequantized, are as near
to those as a step of the grid, which is near enough to train on from: WORK/{plates,lines,vehicles,
plate_reader,vin_reader} each get the checkpoint that the net's own training begins with. Batch normalization,
folded into the convolutions of the detectors, is put back with the statistics of training frames, so that it
changes nothing and can be trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from carsight.vin import rules
from training import ppocr
from training.detector import Conv, Net, batches
from training.plates_data import ALPHABET
from training.quantize import Weights, float_weights
from training.scenes import Scenes, line_scenes, plate_scenes
from training.vehicles import Looks, labeled, views


def load_folded(net: nn.Module, weights: Weights) -> None:
    """Fill a net of ``Conv`` with weights whose batch normalization is folded: each becomes the identity."""
    state = net.state_dict()
    for name, module in net.named_modules():
        if isinstance(module, Conv):
            norm = module[1]
            assert isinstance(norm, nn.BatchNorm2d)
            state[f"{name}.1.weight"] = torch.full_like(state[f"{name}.1.weight"], (1 + norm.eps) ** 0.5)
            state[f"{name}.1.bias"] = torch.from_numpy(weights.pop(f"{name}.0.bias"))
            state[f"{name}.0.weight"] = torch.from_numpy(weights.pop(f"{name}.0.weight"))
    net.load_state_dict(state | {name: torch.from_numpy(value) for name, value in weights.items()})


@torch.no_grad()
def restore_norms(net: nn.Module, images: Iterator[Tensor], count: int) -> None:
    """Give the identities of `load_folded` the statistics of ``count`` batches, undone by scale and shift."""
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        x = inputs[0].double()
        size = torch.tensor(float(x.numel() / x.shape[1]))
        told = [x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), size]
        sums[norm] = [a + b for a, b in zip(sums[norm], told, strict=True)] if norm in sums else told

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    net.eval()
    for _ in range(count):
        net(next(images))
    for hook in hooks:
        hook.remove()
    for norm, (total, squares, size) in sums.items():
        mean = total / size
        variance = (squares / size - mean**2).clamp(min=1e-6)
        scale = norm.weight.double() / (1 + norm.eps) ** 0.5
        assert norm.running_mean is not None and norm.running_var is not None
        norm.bias += (scale * mean).float()
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def recover_detector(data: Path, model: Path, out: Path, lines: bool) -> None:
    net = Net(vehicles=not lines)
    load_folded(net, float_weights(model))
    scenes = (line_scenes if lines else plate_scenes)(data, "train")
    stream = batches(Scenes(scenes, [], [], 320, 0, lines), 16)
    restore_norms(net, (b["image"].permute(0, 3, 1, 2).float() / 255 for b in stream), 25)
    _save(out / "last.pt", {"net": net.state_dict(), "average": net.state_dict()})


def recover_vehicles(data: Path, model: Path, out: Path) -> None:
    net = Looks()
    load_folded(net, float_weights(model))
    restore_norms(net, (image for image, _ in views(labeled(data, "train"), 64, 0)), 12)
    _save(out / "last.pt", {"net": net.state_dict()})


def recover_reader(model: Path, alphabet: str) -> tuple[ppocr.Reader, list[str]]:
    """Return the reader in ``model``, and its regions where it has any.

    Its first layers were not trained, so those are the published ones to the last bit.
    """
    metadata = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    regions: list[str] = json.loads(metadata.get("regions", "[]"))
    reader = ppocr.Reader(alphabet, len(regions) or None)
    weights = float_weights(model)
    state = reader.state_dict()
    for name, norm in (("narrow", reader.body.narrow[1]), ("along", reader.body.along[1])):
        assert isinstance(norm, nn.BatchNorm2d)
        state[f"body.{name}.1.weight"].fill_((1 + norm.eps) ** 0.5)
        state[f"body.{name}.1.bias"].copy_(torch.from_numpy(weights.pop(f"body.{name}.0.weight_bias")))
        state[f"body.{name}.1.running_mean"].zero_()
        state[f"body.{name}.1.running_var"].fill_(1.0)
    for name, value in weights.items():
        published = name.startswith(("body.stem", "body.blocks.0.", "body.blocks.1.", "body.blocks.2."))
        if published:
            step = (
                np.abs(value).reshape(len(value), -1).max(axis=1).reshape(-1, *[1] * (value.ndim - 1)) / 127
            )
            off = np.abs(state[name].numpy() - value)
            if name.endswith("weight") and (off > 0.51 * step + 1e-6).any():
                raise ValueError(f"{name} is not the published one")
        else:
            state[name].copy_(torch.from_numpy(value))
    reader.load_state_dict(state)
    return reader.eval(), regions


def _save(path: Path, state: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    models, work = args.models, args.work
    reader, _ = recover_reader(models / "vin_reader.onnx", rules.ALPHABET)
    state = reader.state_dict()
    _save(work / "vin_reader/reader.pt", {"net": state, "model": state, "step": 0, "steps": -1})
    reader, regions = recover_reader(models / "plate_reader.onnx", ALPHABET)
    average = {f"module.{name}": value for name, value in reader.state_dict().items()}
    state = {"reader": reader.state_dict(), "average": average, "step": 0, "regions": regions}
    _save(work / "plate_reader/checkpoint.pt", state)
    recover_detector(args.data, models / "plate_detector.onnx", work / "plates", False)
    recover_detector(args.data, models / "vin_detector.onnx", work / "lines", True)
    recover_vehicles(args.data, models / "plate_vehicle.onnx", work / "vehicles")


if __name__ == "__main__":
    main()

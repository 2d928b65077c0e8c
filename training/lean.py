"""Lean readers: faster versions of a reader, derived from it and taught by it.

Well over half of a reader's time in INT8 (training/ppocr.py) is spent between its integer convolutions: on
GELUs and depthwise convolutions in float, and on conversions. A lean body has ReLUs instead of GELUs, which
an integer convolution computes for free, narrower expansions, and INT8 throughout up to the feature maps. It
takes the picture's bytes.

``shrink`` derives a lean reader block by block: the most useful hidden units are kept, and the projection
from them is fitted (least squares) to the original block's output. The result reads most of what the reader
reads before any training. The reader is then its ``Teacher``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carsight import runtime
from training import ppocr
from training.data import Pixels
from training.loop import averaged_weights, half_precision
from training.model_files import pack_stem
from training.quantize import float_weights, quantize
from training.rounding import round_weights

ATTENTION = ("attention1", "attention2")
"""Names of the attention layers. Without the second, a plate reader misreads 11 more of 577 plates, 9 of them
with doubled characters."""

QUANTIZED = ("Conv", "Relu", "MaxPool", "Add", "Mul", "Pad")
"""Node types of a lean reader that are quantized, except for its ``float_nodes``."""

_RIDGE = 1e-3
"""Of least squares: a share of the inputs' mean power."""

_SURE = 0.3
"""Probability of its best path from which the teacher's text is learned."""


Outputs = tuple[Tensor, Tensor | None, list[Tensor]]
"""A lean reader's outputs during training: logits of text and region, and the output of each block."""


class LeanBody(ppocr.Body):
    """Everything before the classes: (B, 3, 48, W), BGR 0..1, -> (B, W / 8, 120).

    ``hidden`` are the hidden units of each block, ``attention`` the names of the attention layers that are
    kept; without ``gates``, no block has one. The stem keeps the published weights.
    """

    def __init__(self, hidden: Sequence[int], attention: Sequence[str], gates: bool) -> None:
        super().__init__()
        # ONNX Runtime adds two maps of bytes in half the time it takes to concatenate them.
        self.stem4, self.stem4b = nn.Conv2d(48, 48, 3, 2, 1), nn.Conv2d(48, 48, 3, 2, 1, bias=False)
        blocks = []
        for block, units in zip(self.blocks, hidden, strict=True):
            assert isinstance(block, ppocr.Block)
            inputs, outputs = block.depthwise.in_channels, block.project.out_channels
            stride = (1, 1) if block.residual else (2, 1)
            gate = gates and block.excite is not None
            blocks.append(ppocr.Block(inputs, outputs, stride, gate, units, nn.ReLU()))
        self.blocks = nn.Sequential(*blocks)
        self.attention = tuple(attention)
        for name in set(ATTENTION).difference(attention):
            delattr(self, name)

    def stemmed(self, x: Tensor) -> Tensor:
        """Map (B, 3, 48, W) to the blocks' input, (B, 96, 12, W / 4)."""
        x = F.pad(F.relu(self.stem1(x)), (0, 1, 0, 1))
        y = F.pad(F.relu(self.stem2(x)), (0, 1, 0, 1))
        x = F.relu(self.stem4(F.max_pool2d(x, 2, 1)) + self.stem4b(F.relu(self.stem3(y))))
        return F.relu(self.stem5(x))

    def attend(self, x: Tensor) -> Tensor:
        """Apply the attention layers to time steps (B, T, 120)."""
        for name in self.attention:
            x = getattr(self, name)(x)
        return x

    def quantized(self) -> list[nn.Module]:
        """Return the modules that an INT8 model has in INT8: no gates, no neck."""
        stem = [self.stem1, self.stem2, self.stem3, self.stem4, self.stem4b, self.stem5]
        blocks: list[nn.Module] = []
        for block in self.blocks:
            assert isinstance(block, ppocr.Block)
            blocks += [block.depthwise, block.expand, block.project]
        return [*stem, *blocks]

    def prepare(self) -> list[nn.Parameter]:
        """Round weights as INT8 will, freeze the stem, and return the parameters that may learn."""
        round_weights(self.quantized())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith("stem"))
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


class LeanRegionHead(ppocr.RegionHead):
    """A region head that averages colors with a convolution, which can take bytes; 0..1."""

    def colors(self, image: Tensor) -> Tensor:
        """Return the means of cells of 8 x 8 pixels."""
        mean = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8) / 64
        return F.conv2d(image, mean.to(image), stride=8)


class LeanReader(nn.Module):
    """A line reader: images (B, 3, 48, W), BGR 0..1, -> CTC logits (B, W / 8, 1 + len(alphabet)).

    Class 0 is the blank. With ``regions`` also region logits (B, regions), else None.
    """

    def __init__(
        self,
        alphabet: str,
        regions: int | None,
        hidden: Sequence[int],
        attention: Sequence[str] = ATTENTION,
        gates: bool = True,
    ) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.body = LeanBody(hidden, attention, gates)
        self.head = nn.Linear(ppocr.FEATURES, 1 + len(alphabet))
        self.region = LeanRegionHead(regions) if regions else None

    def forward(self, image: Tensor) -> Outputs | tuple[Tensor, Tensor | None]:
        """Return the logits of text and region and, during training, the blocks' outputs."""
        colors = None if self.region is None else self.region.colors(image)  # in bytes, so before the maps
        maps = self.body.stemmed(image)
        seen = []
        for block in self.body.blocks:
            maps = block(maps)
            seen.append(maps)
        logits = self.head(self.body.steps(maps))
        regions = None if self.region is None else self.region(colors, maps)
        return (logits, regions, seen) if self.training else (logits, regions)


# --- deriving a lean reader ---


def read_reader(checkpoint: str | None, alphabet: str) -> ppocr.Reader:
    """Return the reader of ``checkpoint``, from which a lean one is made and learns.

    Raises:
        SystemExit: there is none.
    """
    if not checkpoint:
        raise SystemExit("a lean reader is derived from a reader: name its checkpoint, --start")
    weights, saved = averaged_weights(Path(checkpoint))
    reader = ppocr.Reader(alphabet, len(saved.get("regions", [])) or None)
    reader.load_state_dict(weights)
    return reader.eval()


def begin(
    lean: LeanReader, checkpoint: Path, reader: Callable[[], ppocr.Reader], crops: Callable[[], list[Pixels]]
) -> None:
    """Load ``checkpoint`` into ``lean`` if it is a lean reader's; otherwise ``shrink`` the reader it holds.

    Only ``shrink`` needs the ``reader`` of the checkpoint and ``crops`` of one width.
    """
    weights, _ = averaged_weights(checkpoint)
    if "body.stem4b.weight" in weights:
        lean.load_state_dict(weights)
    else:
        shrink(lean, reader(), torch.from_numpy(runtime.floats(crops())))


@torch.no_grad()
def shrink(lean: LeanReader, reader: ppocr.Reader, images: Tensor) -> None:
    """Fit ``lean`` to ``reader``, which is left as it is, on ``images`` (B, 3, 48, W), 0..1."""
    own, body = lean.body, reader.body
    weights = {name: value for name, value in reader.state_dict().items() if ".blocks." not in name}
    # The pixels of a lean reader are 0..1, a reader's -1..1.
    first = weights["body.stem1.weight"]
    weights["body.stem1.weight"] = 2 * first
    weights["body.stem1.bias"] = weights["body.stem1.bias"] - first.sum((1, 2, 3))
    mixed = weights["body.stem4.weight"]
    weights["body.stem4.weight"], weights["body.stem4b.weight"] = mixed[:, :48], mixed[:, 48:]
    if lean.region is not None:
        colors = slice(3 * 384, None)
        mean = weights["region.scale.running_mean"] = weights["region.scale.running_mean"].clone()
        variance = weights["region.scale.running_var"] = weights["region.scale.running_var"].clone()
        mean[colors], variance[colors] = (mean[colors] + 1) / 2, variance[colors] / 4
    known = lean.state_dict()
    lean.load_state_dict(known | {name: value for name, value in weights.items() if name in known})
    wanted = body.stemmed(2 * images - 1)
    x = own.stemmed(images)
    for number, (old, new) in enumerate(zip(body.blocks, own.blocks, strict=True)):
        assert isinstance(old, ppocr.Block)
        assert isinstance(new, ppocr.Block)
        wanted = old(wanted)
        _shrink_block(new, old, x, wanted)
        x = new(x)
        missed = ((x - wanted).pow(2).mean((0, 2, 3)) / wanted.var((0, 2, 3))).mean().item()
        print(f"block {number}: {missed:.3f} of the variance is missed", flush=True)


def _shrink_block(new: ppocr.Block, old: ppocr.Block, x: Tensor, wanted: Tensor) -> None:
    """Fit ``new`` so that its output for ``x`` is as close to ``wanted`` as its hidden units allow."""
    new.depthwise.load_state_dict(old.depthwise.state_dict())
    seen = old.depthwise(x)
    if old.excite is not None and new.excite is not None:
        new.excite.load_state_dict(old.excite.state_dict())
        seen = new.excite(seen)
    elif old.excite is not None:
        gate = old.excite.gate(seen).mean((0, 2, 3))
        new.depthwise.weight.mul_(gate.view(-1, 1, 1, 1))
        new.depthwise.bias.mul_(gate)  # type: ignore[union-attr]
        seen = new.depthwise(x)
    left = _rows(wanted - seen if new.residual else wanted)
    hidden = _rows(F.relu(old.expand(seen)))
    kept = torch.arange(hidden.shape[1])
    for count in torch.linspace(len(kept), new.expand.out_channels, 4)[1:].round().int().tolist():
        weight, _ = _solved(hidden[:, kept], left)
        worth = hidden[:, kept].var(0) * weight.pow(2).sum(0)
        kept = kept[worth.argsort(descending=True)[:count]]
    weight, bias = _solved(hidden[:, kept], left)
    values = (old.expand.weight[kept], old.expand.bias[kept], weight[:, :, None, None], bias)  # type: ignore[index]
    parts = (new.expand.weight, new.expand.bias, new.project.weight, new.project.bias)
    for parameter, value in zip(parts, values, strict=True):
        parameter.copy_(value)  # type: ignore[union-attr]


def _rows(x: Tensor) -> Tensor:
    """Turn (B, C, H, W) into (B H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _solved(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (O, I) and bias (O) of the least-squares linear map from (N, I) to (N, O)."""
    mean, wanted = inputs.mean(0), outputs.mean(0)
    x, y = inputs - mean, outputs - wanted
    square = (x.T @ x).double()
    square.diagonal().add_(_RIDGE * square.diagonal().mean())
    weight = torch.linalg.solve(square, (x.T @ y).double()).float().T
    return weight, wanted - weight @ mean


# --- distillation ---


class Teacher:
    """A reader whose output at each time step, and whose blocks' outputs, a lean one learns to reproduce.

    It has to be asked about the very crops that the lean one is shown: answers to crops that differ in light
    or by a pixel leave twice the loss. With hints from the blocks, hundreds of steps replace thousands.
    """

    def __init__(self, reader: ppocr.Reader) -> None:
        self.reader = reader.eval().requires_grad_(False)
        self._worth: list[Tensor] = []

    def terms(
        self, outputs: Outputs, images: Tensor, hint: float, same: float = 4.0, text: float = 0.0
    ) -> dict[str, Tensor]:
        """Return the terms of the pupil's loss.

        Args:
            outputs: The pupil's outputs during training.
            images: The teacher's input, 0..1: the pupil's, or a clearer view of it.
            hint: Weight of the share of each block's variance that the pupil misses.
            same: Weight of the divergence from the teacher's output, per time step.
            text: Weight of the CTC loss of the teacher's text, where it is sure (``sure_texts``). At which of
                two steps the teacher puts a character is arbitrary, and a pupil that only imitates the steps
                splits it between them.
        """
        reader, (said, named, seen) = self.reader, outputs
        with half_precision(), torch.no_grad():
            centered = 2 * images - 1
            maps = reader.body.stemmed(centered)
            wanted = [maps := block(maps) for block in reader.body.blocks]
            logits = reader.head(reader.body.steps(maps))
            regions = None if reader.region is None else reader.region(reader.region.colors(centered), maps)
        # The first batch's variances serve for all: computing them takes an eighth of a step.
        self._worth = self._worth or [
            1 / x.float().var((0, 2, 3), keepdim=True).clamp(min=1e-4) for x in wanted
        ]
        missed = sum(map(_missed, seen, wanted, self._worth), torch.zeros(())) / len(seen)
        terms = {"same": same * divergence(logits, said), "hint": hint * missed}
        if text:
            texts = sure_texts(logits, reader.alphabet)
            sure = [i for i, each in enumerate(texts) if each]
            if sure:
                loss = ppocr.ctc_loss(said[sure], [texts[i] for i in sure], reader.alphabet)
                terms["sure_text"] = text * len(sure) / len(texts) * loss
        if regions is not None and named is not None:
            terms["same_region"] = divergence(regions, named)
        return terms


def sure_texts(logits: Tensor, alphabet: str, longest: int = 10) -> list[str]:
    """Return the texts of ``logits`` (B, T, C), "" where the best path's probability is below ``_SURE``.

    Also "" for more than ``longest`` characters, for which there may be too few time steps.
    """
    paths = logits.float().log_softmax(-1).amax(-1).sum(-1).exp()
    texts = ppocr.greedy(logits, alphabet)
    return [
        text if share >= _SURE and len(text) <= longest else ""
        for text, share in zip(texts, paths.tolist(), strict=True)
    ]


class _Missed(torch.autograd.Function):
    """The mean squared error, each channel weighed by ``worth``.

    Forward stores what backward needs, in the maps' own precision: a training step on a CPU is a fifth faster
    than with autograd.
    """

    @staticmethod
    def forward(context: Any, seen: Tensor, wanted: Tensor, worth: Tensor) -> Tensor:
        """Return the mean."""
        missed = seen - wanted
        slope = missed * worth.to(missed.dtype)
        context.save_for_backward(slope)
        return (missed * slope).sum(dtype=torch.float32) / missed.numel()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ``seen``."""
        (slope,), (gradient,) = context.saved_tensors, gradients
        return slope * (2 * gradient.item() / slope.numel()), None, None


def _missed(seen: Tensor, wanted: Tensor, worth: Tensor) -> Tensor:
    result: Tensor = _Missed.apply(seen, wanted.to(seen.dtype), worth)
    return result


def divergence(teacher: Tensor, pupil: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of ``pupil``'s logits from ``teacher``'s."""
    wanted, said = teacher.float().log_softmax(-1), pupil.float().log_softmax(-1)
    return F.kl_div(said, wanted, reduction="none", log_target=True).sum(-1).mean()


# --- its model ---


def quantize_reader(exact: Path, out: Path, crops: Iterable[npt.NDArray[np.uint8]]) -> None:
    """Write the INT8 twin of the lean reader ``exact``, with the ranges of ``crops`` of one width.

    Its stem is packed: it takes whole cells of pixels (``pack_stem``).
    """
    feeds = ({"image": runtime.floats([crop])} for crop in crops)
    quantize(exact, out, feeds, float_nodes(exact), QUANTIZED, ppocr.PERCENTILE, {"image": (0.0, 1.0)})
    onnx.save(pack_stem(onnx.load(out)), out)


def float_nodes(path: Path) -> list[str]:
    """Return the nodes of an exported lean reader to keep in float: gates, and all that follows the maps."""
    nodes = list(onnx.load(str(path)).graph.node)
    maps = next(i for i, node in enumerate(nodes) if node.op_type == "AveragePool")
    kept = [node for node in nodes[maps:] if node.op_type in QUANTIZED]
    for start in [node for node in nodes[:maps] if node.op_type == "ReduceMean"]:
        (name,) = start.output
        for node in nodes[:maps]:
            if name in node.input and node.op_type != "Mul":
                kept.append(node)
                (name,) = node.output
    return [node.name for node in kept if node.op_type in QUANTIZED]


def recovered(model: Path) -> tuple[LeanReader, list[str]]:
    """Return the lean reader of which ``model`` is the INT8 twin, and its regions where it has any."""
    metadata = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    regions: list[str] = json.loads(metadata.get("regions", "[]"))
    weights = float_weights(model)
    hidden = [len(weights[f"body.blocks.{number}.expand.bias"]) for number in range(13)]
    attention = [name for name in ATTENTION if f"body.{name}.qkv.weight" in weights]
    gates = "body.blocks.0.excite.up.weight" in weights
    reader = LeanReader(metadata["alphabet"], len(regions) or None, hidden, attention, gates)
    ppocr.restore(reader, weights)
    return reader.eval(), regions

"""PP-OCRv6 small's text recognizer as a trainable net, and readers made from it.

PaddleOCR publishes the recognizer (Apache-2.0) and the `rapidocr` 3.10.0 wheel carries it as
`PP-OCRv6_rec_small.onnx`. `load_body` rebuilds the net and fills it with those weights; the result equals the
ONNX file's output to about 1e-5. `Reader` puts a small CTC head on it whose rows are taken from the old
18,710-class head, so a new reader reads from its first step and fine-tuning only has to adapt it.

Images go in as float32 (B, 3, 48, W), BGR as OpenCV decodes them, scaled by (x / 255 - 0.5) / 0.5, W a
multiple of 8.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from training.quantize import Weights, float_weights, quantize
from training.rounding import plain_weights, round_weights

HEIGHT = 48
"""Height of the input in pixels; the only one the weights were trained for."""

STRIDE = 8
"""Pixels of width per time step."""

FEATURES = 120
"""Features per time step."""

BLANK = 0
"""Class index of the CTC blank."""

PERCENTILE = 99.999
"""Share of activations, in per cent, that a quantized reader's ranges hold: with the rare outliers in, the
steps left for the others are so coarse that answers change twice as much."""

FROZEN = ("stem", "blocks.0.", "blocks.1.", "blocks.2.")
"""Layers of the body that keep the published weights."""

_NEW_OPSET = 20
"""First ONNX opset with a Gelu operator, which ONNX Runtime runs about as fast as a ReLU convolution
allows."""

Array = npt.NDArray[np.float32]


class SqueezeExcite(nn.Module):
    """Weigh the channels by a gate computed from their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 4, 1)
        self.up = nn.Conv2d(channels // 4, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """Return the weights of the channels of ``x``, (B, C, 1, 1), 0..1."""
        return F.hardsigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, weighed."""
        return x * self.gate(x)


class Block(nn.Module):
    """Depthwise 3x3 convolution, then a pointwise expansion to twice or ``hidden`` channels, and back."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: tuple[int, int] = (1, 1),
        excite: bool = False,
        hidden: int | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs)
        self.excite = SqueezeExcite(inputs) if excite else None
        hidden = hidden or 2 * inputs
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.activation = activation or nn.GELU()
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, with ``x`` added where it keeps its shape."""
        x = self.depthwise(x)
        if self.excite is not None:
            x = self.excite(x)
        y: Tensor = self.project(self.activation(self.expand(x)))
        return x + y if self.residual else y


_HEADS = 8


class Attention(nn.Module):
    """One pre-norm transformer layer over the time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(FEATURES, eps=1e-5)
        self.qkv = nn.Linear(FEATURES, 3 * FEATURES)
        self.out = nn.Linear(FEATURES, FEATURES)
        self.norm2 = nn.LayerNorm(FEATURES, eps=1e-5)
        self.up = nn.Linear(FEATURES, 2 * FEATURES)
        self.down = nn.Linear(2 * FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the time steps (B, T, 120), each having seen the others."""
        batch, steps, width = x.shape
        size = width // _HEADS
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, steps, 3, _HEADS, size).permute(2, 0, 3, 1, 4)
        attention = ((q * size**-0.5) @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(batch, steps, width))
        result: Tensor = x + self.down(F.silu(self.up(self.norm2(x))))
        return result


class Body(nn.Module):
    """Everything before the classes: (B, 3, 48, W) -> (B, W / 8, 120)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 48, 3, 2, 1)
        self.stem2 = nn.Conv2d(48, 24, 2)
        self.stem3 = nn.Conv2d(24, 48, 2)
        self.stem4 = nn.Conv2d(96, 48, 3, 2, 1)
        self.stem5 = nn.Conv2d(48, 96, 1)
        self.blocks = nn.Sequential(
            Block(96, 96, excite=True),
            Block(96, 96),
            Block(96, 96),
            Block(96, 192, (2, 1)),
            Block(192, 192, excite=True),
            Block(192, 192),
            Block(192, 192, excite=True),
            Block(192, 192),
            Block(192, 192, excite=True),
            Block(192, 192),
            Block(192, 384, (2, 1)),
            Block(384, 384, excite=True),
            Block(384, 384),
        )
        self.skip = nn.Sequential(nn.Conv2d(384, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES))
        self.narrow = nn.Sequential(nn.Conv2d(384, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES))
        self.along = nn.Sequential(
            nn.Conv2d(FEATURES, FEATURES, (1, 7), 1, (0, 3), groups=FEATURES, bias=False),
            nn.BatchNorm2d(FEATURES),
        )
        self.attention1 = Attention()
        self.attention2 = Attention()
        self.norm = nn.LayerNorm(FEATURES, eps=1e-6)

    def stemmed(self, x: Tensor) -> Tensor:
        """Map (B, 3, 48, W) to what the blocks take, (B, 96, 12, W / 4)."""
        x = F.pad(F.relu(self.stem1(x)), (0, 1, 0, 1))
        y = F.pad(F.relu(self.stem2(x)), (0, 1, 0, 1))
        x = torch.cat([F.max_pool2d(x, 2, 1), F.relu(self.stem3(y))], 1)
        return F.relu(self.stem5(F.relu(self.stem4(x))))

    def maps(self, x: Tensor) -> Tensor:
        """Map (B, 3, 48, W) to feature maps (B, 384, 3, W / 4)."""
        result: Tensor = self.blocks(self.stemmed(x))
        return result

    def steps(self, maps: Tensor) -> Tensor:
        """Map feature maps (B, 384, 3, W / 4) to time steps (B, W / 8, 120)."""
        maps = F.avg_pool2d(maps, (3, 2))
        shortcut = F.silu(self.skip(maps))
        x = F.silu(self.narrow(maps))
        x = x + F.silu(self.along(x))
        x = x.flatten(2).transpose(1, 2)
        x = self.norm(self.attend(x))
        result: Tensor = x + shortcut.flatten(2).transpose(1, 2)
        return result

    def attend(self, x: Tensor) -> Tensor:
        """Return the time steps (B, T, 120), each having seen the others."""
        result: Tensor = self.attention2(self.attention1(x))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Return the time steps of images."""
        result: Tensor = self.steps(self.maps(x))
        return result

    def quantized(self) -> list[nn.Module]:
        """Return what an INT8 model has in INT8: no depthwise convolutions, no gates, no neck."""
        blocks: list[nn.Module] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            blocks += [block.expand, block.project]
        return [self.stem1, self.stem2, self.stem3, self.stem4, self.stem5, *blocks]

    def prepare(self) -> list[nn.Parameter]:
        """Compute with weights as INT8 will hold them; freeze the first layers and return what may learn.

        Edges are edges, and the first layers' large maps are the dearest to train.
        """
        round_weights(self.quantized())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(FROZEN))
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Body:
        """Switch the mode, but leave the batch norms on the statistics of their large original training."""
        super().train(mode)
        for norm in (self.skip[1], self.narrow[1], self.along[1]):
            norm.eval()
        return self


@dataclasses.dataclass(frozen=True)
class OldHead:
    """The published classifier.

    `weight` (18710, 120), `bias` (18710,), `characters` its labels, blank first.
    """

    weight: Array
    bias: Array
    characters: tuple[str, ...]

    def restricted(self, alphabet: Sequence[str]) -> nn.Linear:
        """Return a head (120 -> blank + alphabet) made of the rows of those characters.

        Upper-case rows only: mixing the lower-case rows in lowered the share of plates read right.
        """
        rows = [BLANK, *(self.characters.index(character) for character in alphabet)]
        head = nn.Linear(FEATURES, len(rows))
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight[rows]))
            head.bias.copy_(torch.from_numpy(self.bias[rows]))
        return head


def load_body() -> tuple[Body, OldHead]:
    """Return the published net and its classifier, of the installed `rapidocr` package.

    The exported graph has lost most layer names, so layers are matched by their order, which the shapes
    confirm. Raises ValueError where the file is not that net.
    """
    import rapidocr

    model = Path(rapidocr.__file__).parent / "models" / "PP-OCRv6_rec_small.onnx"
    published = _Published(onnx.load(str(model)))
    body = Body()
    with torch.no_grad():
        _fill_convolutions(body, published)
        _fill_norms(body, published)
        for first, layer in ((0, body.attention1), (4, body.attention2)):
            for index, linear in enumerate((layer.qkv, layer.out, layer.up, layer.down), first):
                _fill(linear.weight, published.constants[f"linear_{index}.w_0"].T)
                _fill(linear.bias, published.constants[f"linear_{index}.b_0"])
        _fill_layer_norms(body, published)
    listed = next(entry.value for entry in published.model.metadata_props if entry.key == "character")
    characters = ("", *listed.split("\n"), " ")
    head = OldHead(published.constants["linear_8.w_0"].T, published.constants["linear_8.b_0"], characters)
    return body, head


class _Published:
    """The published graph, with what its nodes are fed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = model.graph.node
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._producer = {name: node for node in self.nodes for name in node.output}

    def constant(self, name: str) -> Array | None:
        """Return the array behind a name, through the Identity and Reshape nodes that Paddle inserts."""
        while (
            name not in self.constants
            and name in self._producer
            and self._producer[name].op_type in ("Identity", "Reshape")
        ):
            name = self._producer[name].input[0]
        return self.constants.get(name)

    def needed(self, name: str) -> Array:
        """Return the array behind a name. Raises ValueError where there is none."""
        value = self.constant(name)
        if value is None:
            raise ValueError(f"{name} is not a constant: not the expected recognizer")
        return value

    def bias(self, node: onnx.NodeProto) -> Array:
        """Return a convolution's bias: its own, or the constant that its output is added to."""
        bias = self.constant(node.input[2]) if len(node.input) > 2 else self._added(node)
        if bias is None:
            raise ValueError(f"{node.name} has no bias: not the expected recognizer")
        return bias.reshape(-1)

    def _added(self, node: onnx.NodeProto) -> Array | None:
        for follower in self.nodes:
            if follower.op_type == "Add" and node.output[0] in follower.input:
                return self.constant(next(name for name in follower.input if name != node.output[0]))
        return None

    def vectors(self) -> Iterator[Array]:
        """Yield the 120-vectors left in Mul and Add nodes: layer norms' scales and shifts, in order."""
        for node in self.nodes:
            if node.op_type in ("Mul", "Add"):
                for name in node.input:
                    value = self.constant(name)
                    if value is None or value.size != FEATURES or value.ndim == 4:
                        continue
                    if not self._root(name).startswith(("linear", "conv")):
                        yield value

    def _root(self, name: str) -> str:
        while name not in self.constants:
            name = self._producer[name].input[0]
        return name


def _fill_convolutions(body: Body, published: _Published) -> None:
    convolutions: list[nn.Conv2d] = [body.stem1, body.stem2, body.stem3, body.stem4, body.stem5]
    for block in body.blocks:
        assert isinstance(block, Block)
        excite = [block.excite.down, block.excite.up] if block.excite is not None else []
        convolutions += [block.depthwise, *excite, block.expand, block.project]
    parts = (body.skip, body.narrow, body.along)
    convolutions += [layer for part in parts for layer in part if isinstance(layer, nn.Conv2d)]
    nodes = [node for node in published.nodes if node.op_type == "Conv"]
    if len(nodes) != len(convolutions):
        raise ValueError(
            f"{len(nodes)} convolutions, {len(convolutions)} expected: not the expected recognizer"
        )
    for convolution, node in zip(convolutions, nodes, strict=True):
        _fill(convolution.weight, published.needed(node.input[1]))
        if convolution.bias is not None:
            _fill(convolution.bias, published.bias(node))


def _fill_norms(body: Body, published: _Published) -> None:
    nodes = [node for node in published.nodes if node.op_type == "BatchNormalization"]
    for part, node in zip((body.skip, body.narrow, body.along), nodes, strict=True):
        norm = part[1]
        assert isinstance(norm, nn.BatchNorm2d)
        names = ("weight", "bias", "running_mean", "running_var")
        for name, source in zip(names, node.input[1:], strict=True):
            _fill(getattr(norm, name), published.needed(source))
        norm.eps = next(attribute.f for attribute in node.attribute if attribute.name == "epsilon")


def _fill_layer_norms(body: Body, published: _Published) -> None:
    attention1, attention2 = body.attention1, body.attention2
    vectors = published.vectors()
    for norm in (attention1.norm1, attention1.norm2, attention2.norm1, attention2.norm2, body.norm):
        _fill(norm.weight, next(vectors).reshape(-1))
        _fill(norm.bias, next(vectors).reshape(-1))


def _fill(parameter: Tensor, value: Array) -> None:
    if tuple(parameter.shape) != tuple(value.shape):
        raise ValueError(
            f"shape {value.shape} where {tuple(parameter.shape)} belongs: not the expected recognizer"
        )
    parameter.copy_(torch.tensor(value))


class RegionHead(nn.Module):
    """Says from the plate's design where it is from: feature maps and the colors -> (B, regions).

    The text net's features know shapes but little of color, so the colors of 6 x 20 cells come straight
    from the pixels. One linear layer on standardized inputs: on validation plates it named more states than
    one with a hidden layer, or with finer cells.
    """

    def __init__(self, regions: int) -> None:
        super().__init__()
        inputs = 3 * 384 + 3 * 6 * 20
        self.scale = nn.BatchNorm1d(inputs, affine=False)
        self.out = nn.Linear(inputs, regions)

    def colors(self, image: Tensor) -> Tensor:
        """Return the means of cells of 8 x 8 pixels."""
        return F.avg_pool2d(image, 8)

    def look(self, colors: Tensor, maps: Tensor) -> Tensor:
        """Return what it decides on, (B, 1512): the feature maps' means by row, and the colors."""
        cells = F.interpolate(colors, (6, 20), mode="bilinear")
        return torch.cat([maps.mean(3).flatten(1), cells.flatten(1)], 1)

    def forward(self, colors: Tensor, maps: Tensor) -> Tensor:
        """Return the regions' logits."""
        logits: Tensor = self.out(F.dropout(self.scale(self.look(colors, maps)), 0.3, self.training))
        return logits


class Reader(nn.Module):
    """A line reader: images (B, 3, 48, W) -> CTC logits (B, W / 8, 1 + len(alphabet)), class 0 the blank.

    With `regions` also region logits (B, regions), else None.
    """

    def __init__(self, alphabet: str, regions: int | None = None) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.body, old = load_body()
        self.head = old.restricted(alphabet)
        self.region = RegionHead(regions) if regions else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the text and of the region."""
        maps = self.body.maps(image)
        logits = self.head(self.body.steps(maps))
        return logits, None if self.region is None else self.region(self.region.colors(image), maps)


def to_input(crops: Iterable[npt.NDArray[np.uint8]]) -> Tensor:
    """Turn BGR crops of one size (48 x W x 3) into the net's input (B, 3, 48, W)."""
    stack = np.stack(list(crops)).astype(np.float32)
    return torch.from_numpy(stack.transpose(0, 3, 1, 2) / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )


def ctc_loss(logits: Tensor, texts: Sequence[str], alphabet: str) -> Tensor:
    """Return the batch's mean CTC loss per character, in float32; texts may only use the alphabet."""
    targets = torch.tensor([alphabet.index(character) + 1 for text in texts for character in text])
    lengths = torch.tensor([len(text) for text in texts])
    steps = torch.full((len(texts),), logits.shape[1])
    log = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log, targets, steps, lengths, BLANK, zero_infinity=True)


def greedy(logits: Tensor, alphabet: str) -> list[str]:
    """Return the best path's texts of CTC logits (B, T, C)."""
    texts = []
    for path in logits.argmax(-1).tolist():
        kept = [c for i, c in enumerate(path) if c != BLANK and (i == 0 or c != path[i - 1])]
        texts.append("".join(alphabet[c - 1] for c in kept))
    return texts


def export(reader: nn.Module, path: Path, width: int = 160) -> None:
    """Write the reader as ONNX, batch and width free: input `image`, outputs `logits` (and `regions`)."""
    reader = copy.deepcopy(reader).eval().float()
    plain_weights(reader)
    names = ["logits"] if reader.region is None else ["logits", "regions"]
    batch, wide = torch.export.Dim("batch", min=1, max=256), torch.export.Dim("eighths", min=4, max=128)
    program = torch.onnx.export(
        reader,
        (torch.zeros(2, 3, HEIGHT, width),),
        input_names=["image"],
        output_names=names,
        opset_version=_NEW_OPSET,
        dynamo=True,
        dynamic_shapes=({0: batch, 3: STRIDE * wide},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key="alphabet", value=reader.alphabet)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


QUANTIZED = ("Conv", "Relu", "MaxPool", "Concat")
"""Kinds of a reader's nodes that are quantized, but for its ``float_nodes``.

With what lies between two convolutions in bytes too, nothing goes to float and back there.
"""


def float_nodes(path: Path) -> list[str]:
    """Return the nodes of an exported reader to keep in float.

    The gates of squeeze-and-excitation, the depthwise convolutions and the neck before the attention: they
    hold little of the arithmetic, and in INT8 they lost two of a hundred plates. With depthwise convolutions
    without gates, and shortcuts, in INT8 no text was lost but states were, 88 of 112 named right instead of
    91, for a twentieth of the time. What comes after the feature maps is in float.
    """
    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kept = convolutions[-3:]
    for node in convolutions:
        outputs, inputs, *kernel = shapes[node.input[1]]
        if inputs == 1 or (kernel == [1, 1] and max(outputs, inputs) == 4 * min(outputs, inputs)):
            kept.append(node)
    of_kept = {name for node in kept for name in node.output}
    begun = False
    for node in graph.node:
        begun = begun or node.op_type == "AveragePool"  # the maps end where they are averaged for the neck
        if node.op_type in QUANTIZED[1:] and (begun or of_kept.intersection(node.input)):
            kept.append(node)
    return list(dict.fromkeys(node.name for node in kept))


def quantize_reader(exact: Path, out: Path, crops: Iterable[npt.NDArray[np.uint8]]) -> None:
    """Write the INT8 twin of the reader ``exact``, with the activations' ranges of ``crops`` of one width."""
    feeds = ({"image": to_input([crop]).contiguous().numpy()} for crop in crops)
    quantize(exact, out, feeds, float_nodes(exact), QUANTIZED, PERCENTILE)


def recovered(model: Path, alphabet: str) -> tuple[Reader, list[str]]:
    """Return the reader in ``model``, and its regions where it has any."""
    metadata = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    regions: list[str] = json.loads(metadata.get("regions", "[]"))
    reader = Reader(alphabet, len(regions) or None)
    restore(reader, float_weights(model))
    return reader.eval(), regions


def restore(reader: nn.Module, weights: Weights) -> None:
    """Give ``reader`` the ``weights`` of its INT8 twin, whose exporter has folded two normalizations.

    Raises:
        ValueError: A weight is missing.
    """
    state = reader.state_dict()
    for name in ("narrow", "along"):
        bias = torch.from_numpy(weights.pop(f"body.{name}.0.weight_bias"))
        norm = {"weight": (1 + 1e-5) ** 0.5 * torch.ones_like(bias), "bias": bias}
        norm |= {"running_mean": torch.zeros_like(bias), "running_var": torch.ones_like(bias)}
        weights |= {f"body.{name}.1.{part}": value.numpy() for part, value in norm.items()}
    missing = {name for name in state if not name.endswith("num_batches_tracked")} - weights.keys()
    if missing:
        raise ValueError(f"no {', '.join(sorted(missing))}: not a reader's model")
    for name in state.keys() & weights.keys():
        state[name].copy_(torch.from_numpy(weights[name]))
    reader.load_state_dict(state)

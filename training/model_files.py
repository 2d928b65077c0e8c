"""What is done to a model's file once its net is trained: metadata, weights of 7 bits, and a faster stem.

**Metadata.** What belongs to a model and not to the code that runs it - the names of its classes, its
threshold, its calibration - is written into the file by ``describe``.

**Weights.** ``narrow`` rounds weights of 8 bits anew, to 7: those are read the same on every processor
(docs/processors.md). What training/quantize.py writes has them already.

**Stem.** ``pack_stem`` rewrites a quantized model's first convolution so that it takes pixels as they are, to
the same numbers. A strided convolution on three channels is slow on a CPU: it gathers its input three bytes
at a time. The same sums come from a convolution without a stride over *blocks*: each block of ``s x s``
pixels laid into ``3 * s * s`` channels. As the quantized model's input scale is 1/255 with zero point 0, the
bytes themselves are its quantized input, and neither a conversion to float nor a ``QuantizeLinear`` is left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from training.data import COLORS, ORIENTATIONS, VEHICLE_TYPES

INPUT = "image"

METADATA: dict[str, dict[str, str]] = {
    "plate_detector": {"threshold": "0.3", "classes": json.dumps(VEHICLE_TYPES)},
    "vin_detector": {"threshold": "0.15"},
    "plate_vehicle": {
        "types": json.dumps(VEHICLE_TYPES),
        "colors": json.dumps(COLORS),
        "orientations": json.dumps(ORIENTATIONS),
    },
}
"""What every model of a kind says of itself, by the name of its file."""


LARGEST = 64
"""Largest magnitude of an integer weight: two products with activations, 2 x 255 x 64, fit 16 bits."""


def describe(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Add or replace ``metadata`` in the model at ``path``; return all that it holds then."""
    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata)
    if metadata:
        del model.metadata_props[:]
        for key, value in kept.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, path)
    return kept


def finish(path: Path) -> None:
    """Give the model at ``path`` narrow weights and, by its name, its metadata and a detector's stem.

    What is done already stays as it is.
    """
    describe(path, METADATA.get(path.stem, {}))
    model = onnx.load(path)
    narrow(model)
    if (
        path.stem.endswith("detector")
        and model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ):
        model = pack_stem(model)
    onnx.save(model, path)


def narrow(model: onnx.ModelProto) -> None:
    """Round the integer weights of ``model``'s convolutions, in place, to ``LARGEST`` where one exceeds it.

    Each output gets the scale that just holds its largest weight. Halving all weights instead, which keeps
    the even ones, lost 4 of 100 VINs; this lost none.

    Raises:
        ValueError: Weights are unsigned, not symmetric, or of one scale for all outputs.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "QLinearConv"]:
        names = [node.input[at] for at in (3, 4, 5, 8)]
        weights, scales, zeros, bias = (numpy_helper.to_array(tensors[name]) for name in names)
        if weights.dtype != np.int8 or zeros.any() or scales.shape != (len(weights),):
            raise ValueError(f"{node.input[3]} is not signed and symmetric per output")
        rows = weights.reshape(len(weights), -1).astype(np.float64)
        if np.abs(rows).max() <= LARGEST:
            continue
        steps = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1) / LARGEST
        new = (
            np.round(rows / steps).reshape(weights.shape).astype(np.int8),
            (scales * steps[:, 0]).astype(np.float32),
            zeros,
            np.round(bias / steps[:, 0]).astype(np.int32),
        )
        for name, value in zip(names, new, strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(value, name))


def pack_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with its stem over blocks of uint8 pixels, bit for bit the same answers.

    The result takes ``image``, 1 x 3ss x H/s x W/s uint8 with channels in the order (row, column, color) of
    a block, where ``s`` is the stem's stride and the original took 1 x 3 x H x W float32, 0..1.

    Raises:
        ValueError: The model does not begin with ``QuantizeLinear`` (1/255, zero point 0) and one
            ``QLinearConv`` of equal strides, without dilation or groups; or it is packed already.
    """
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    graph = packed.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantize, conv = _stem(graph)
    if quantize.input[2] in constants and constants[quantize.input[2]].any():
        raise ValueError("the input's zero point is not 0")
    if not np.isclose(constants[quantize.input[1]], 1 / 255, rtol=1e-6):
        raise ValueError(
            f"the input's scale is {constants[quantize.input[1]]}, not 1/255: bytes are not its units"
        )
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    stride, top = attributes.get("strides", [1, 1])[0], attributes.get("pads", [0] * 4)[0]
    if attributes.get("strides") != [stride] * 2 or attributes.get("pads", [0] * 4) != [top] * 4:
        raise ValueError("the stem's strides or pads differ by side")
    if attributes.get("group", 1) != 1 or attributes.get("dilations", [1, 1]) != [1, 1] or stride < 2:
        raise ValueError("the stem is grouped, dilated or without a stride")
    weights, zero = constants[conv.input[3]], constants[conv.input[5]]
    blocks, pads = over_blocks(weights, zero, stride, top)
    name = f"{conv.input[3]}_blocks"
    graph.initializer.append(numpy_helper.from_array(blocks, name))
    replaced = helper.make_node(
        "QLinearConv",
        [INPUT, *conv.input[1:3], name, *conv.input[4:]],
        conv.output,
        conv.name,
        strides=[1, 1],
        dilations=[1, 1],
        group=1,
        pads=pads,
        kernel_shape=blocks.shape[2:],
    )
    at = list(graph.node).index(conv)
    graph.node.remove(conv)
    graph.node.insert(at, replaced)
    graph.node.remove(quantize)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    shape = [1, weights.shape[1] * stride**2, "rows", "columns"]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, shape))
    del graph.value_info[:]
    return packed


def over_blocks(
    weights: NDArray[np.integer], zero: NDArray[np.integer], stride: int, pad: int
) -> tuple[NDArray[np.integer], list[int]]:
    """Return the weights (O x C x k x k) of a strided convolution as those over blocks, and its pads.

    The image is padded by whole blocks instead of by ``pad`` pixels, so the kernel gets the difference as
    leading weights of nothing.
    """
    outputs, channels, size, _ = weights.shape
    before = -(-pad // stride)
    lead = before * stride - pad
    blocks = -(-(lead + size) // stride)
    after = (2 * pad - size) // stride + blocks - before
    wide = np.empty((outputs, channels, blocks * stride, blocks * stride), weights.dtype)
    wide[:] = np.broadcast_to(zero, (outputs,)).reshape(-1, 1, 1, 1)
    wide[:, :, lead : lead + size, lead : lead + size] = weights
    cells = wide.reshape(outputs, channels, blocks, stride, blocks, stride)
    packed = cells.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, stride * stride * channels, blocks, blocks)
    return np.ascontiguousarray(packed), [before, before, after, after]


def _stem(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Return the nodes that quantize the input and convolve it."""
    first = [node for node in graph.node if INPUT in node.input]
    if len(first) != 1 or first[0].op_type != "QuantizeLinear":
        raise ValueError("the model does not begin with one QuantizeLinear")
    then = [node for node in graph.node if first[0].output[0] in node.input]
    if len(then) != 1 or then[0].op_type != "QLinearConv":
        raise ValueError("the quantized input does not go into one QLinearConv")
    return first[0], then[0]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Finish quantized models in place (narrow weights, packed stems); print or set metadata."
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="metadata to write")
    args = parser.parse_args()
    values = dict(value.split("=", 1) for value in args.set)
    for path in args.models:
        finish(path)
        for name, value in describe(path, values).items():
            print(f"{path.name}: {name}={value}")


if __name__ == "__main__":
    main()

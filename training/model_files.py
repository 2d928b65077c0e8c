"""What is done to a model's file once its net is trained: metadata, weights of 7 bits, and a faster stem.

**Metadata.** What belongs to a model and not to the code that runs it - the names of its classes, its
threshold, its calibration - is written into the file by ``describe``.

**Weights.** ``narrow`` rounds weights of 8 bits anew, to 7: those are read the same on every processor
(docs/processors.md). What training/quantize.py writes has them already.

**Stem.** ``pack_stem`` rewrites a quantized model's first convolution so that it takes a picture's bytes as
they lie in memory, to the same numbers. A strided convolution on three channels is slow on a CPU: it gathers
its input three bytes at a time, and has few outputs for each. The same sums come from a convolution over
*groups* of pixels that lie side by side, as many as two outputs span, with both outputs' channels at once. As
the quantized model's input scale is 1/255 with zero point 0, the bytes themselves are its quantized input,
and neither a conversion to float nor a ``QuantizeLinear`` nor a copy is left.

**Doubling.** ``repeat_cells`` writes the doubling of a feature map as concatenations, to the same numbers:
ONNX Runtime's ``Resize`` of bytes takes as long as the convolution before it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from training.data import COLORS, ORIENTATIONS, VEHICLE_TYPES

INPUT = "image"

_PLATES = {"threshold": "0.3", "classes": json.dumps(VEHICLE_TYPES)}

METADATA: dict[str, dict[str, str]] = {
    "plate_detector": _PLATES,
    "plate_detector_second": _PLATES,
    "vin_detector": {"threshold": "0.15"},
    "plate_vehicle": {
        "types": json.dumps(VEHICLE_TYPES),
        "colors": json.dumps(COLORS),
        "orientations": json.dumps(ORIENTATIONS),
    },
}
"""What every model of a kind says of itself, by the name of its file."""


PACKED = (
    "plate_detector",
    "plate_detector_second",
    "plate_vehicle",
    "vin_detector",
    "vin_reader_small",
    "vin_reader_lower",
)
"""Models that take a picture's bytes."""

LARGEST = 64
"""Largest magnitude of an integer weight, that of ONNX Runtime's ``reduce_range`` for signed bytes: two
products with activations, 2 x 255 x 64, fit 16 bits."""


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
    """Give the model at ``path`` narrow weights and, by its name, its metadata and a stem of bytes.

    What is done already stays as it is.
    """
    describe(path, METADATA.get(path.stem, {}))
    model = onnx.load(path)
    narrow(model)
    if path.stem in PACKED and model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        model = pack_stem(model)
    repeat_cells(model)
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
        names = [node.input[at] for at in (3, 4, 5, 8) if at < len(node.input)]
        weights, scales, zeros, *bias = (numpy_helper.to_array(tensors[name]) for name in names)
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
            *(np.round(each / steps[:, 0]).astype(np.int32) for each in bias),
        )
        for name, value in zip(names, new, strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(value, name))


def pack_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with its stem over a picture's bytes, bit for bit the same answers.

    The result takes ``image``, B x H x W/2s x 6s uint8, where ``s`` is the stem's stride and the original
    took B x 3 x H x W float32, 0..1: the pixels (H x W x 3) as they are, in groups of 2s. W is a multiple of
    2s. Other convolutions may take the picture beside the stem, as those that average its colors, if theirs
    are whole groups.

    Raises:
        ValueError: The model does not begin with ``QuantizeLinear`` (1/255, zero point 0) and a
            ``QLinearConv`` of equal strides, without dilation or groups, that leaves no pixel out, or what
            else takes the picture does not take whole groups of it; or it is packed already.
    """
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    graph = packed.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    _count_pictures_first(graph)
    quantize, conv, others = _stem(graph)
    stride, top = _stride_and_pad(quantize, conv, constants)
    weights, zero = constants[conv.input[3]], constants[conv.input[5]]
    grouped, pads = over_groups(weights, zero, stride, top)

    def twice(name: str, value: NDArray[np.generic]) -> str:
        if value.ndim:
            graph.initializer.append(numpy_helper.from_array(np.tile(value, 2), f"{name}_twice"))
            return f"{name}_twice"
        return name

    name = f"{conv.input[3]}_groups"
    shape = numpy_helper.from_array(np.array([0, 0, -1, len(weights)], np.int64), "stem_shape")
    graph.initializer.extend([numpy_helper.from_array(grouped, name), shape])
    scales, zeros, bias = (
        [
            twice(each, constants[each])
            for each in (conv.input[at] for at in (4, 5, 8) if at < len(conv.input))
        ]
        + [""]
    )[:3]
    inputs = ["stem_in", *conv.input[1:3], name, scales, zeros, *conv.input[6:8], bias]
    nodes = [
        helper.make_node("Transpose", [INPUT], ["stem_in"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "QLinearConv",
            inputs if bias else inputs[:-1],
            ["stem_pairs"],
            conv.name,
            strides=[stride, 1],
            dilations=[1, 1],
            group=1,
            pads=pads,
            kernel_shape=grouped.shape[2:],
        ),
        # Two outputs side by side are two cells, once channels come last, as the runtime lays them anyway.
        helper.make_node("Transpose", ["stem_pairs"], ["stem_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["stem_last", "stem_shape"], ["stem_cells"]),
        helper.make_node("Transpose", ["stem_cells"], conv.output, perm=[0, 3, 1, 2]),
    ]
    _replace(graph, conv, nodes)
    for other in others:
        _take_groups(graph, other, 2 * stride)
    graph.node.remove(quantize)
    channels = weights.shape[1] * 2 * stride
    count = graph.input[0].type.tensor_type.shape.dim[0]
    pictures = count.dim_param or count.dim_value or 1
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [pictures, "rows", "groups", channels])
    )
    del graph.value_info[:]
    return packed


def over_groups(
    weights: NDArray[np.integer], zero: NDArray[np.integer], stride: int, pad: int
) -> tuple[NDArray[np.integer], list[int]]:
    """Return the weights (O x C x k x k) of a strided convolution over groups of pixels, and its pads.

    A group is ``2 * stride`` pixels of a row, C channels each, and has the outputs of two cells, the left
    one's first: 2O x 2C stride x k x groups. Pads: top, left, bottom and right, in rows and groups.

    Raises:
        ValueError: The convolution leaves out rows or columns at the end.
    """
    outputs, channels, size, _ = weights.shape
    below = size - stride - pad
    if below < 0:
        raise ValueError("the stem leaves pixels out")
    group = 2 * stride
    before, after = -(-pad // group), (stride + size - 1 - pad) // group
    wide = np.empty((2, outputs, group, channels, size, before + 1 + after), weights.dtype)
    wide[:] = np.broadcast_to(zero, (outputs,)).reshape(1, -1, 1, 1, 1, 1)
    for cell in range(2):
        for column in range(size):
            at, pixel = divmod(before * group + cell * stride - pad + column, group)
            wide[cell, :, pixel, :, :, at] = weights[:, :, :, column]
    grouped = wide.reshape(2 * outputs, group * channels, size, -1)
    return np.ascontiguousarray(grouped), [pad, before, below, after]


def from_groups(grouped: NDArray[np.float64], stride: int, pads: Sequence[int]) -> NDArray[np.float64]:
    """Return the weights that ``over_groups`` has laid out, of a picture in three colors."""
    wide = grouped.reshape(2, len(grouped) // 2, 2 * stride, 3, grouped.shape[2], grouped.shape[3])
    pad, before, _, _ = pads
    columns = [divmod(before * 2 * stride - pad + column, 2 * stride) for column in range(grouped.shape[2])]
    return np.stack([wide[0, :, pixel, :, :, at] for at, pixel in columns], axis=-1)


def repeat_cells(model: onnx.ModelProto) -> None:
    """Write every doubling of a feature map of bytes in ``model`` as concatenations, in place."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Resize"]:
        (user,) = (other for other in graph.node if node.output[0] in other.input)
        scales = constants.get(node.input[2]) if len(node.input) == 3 else None
        mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"nearest")
        if (
            mode != b"nearest"
            or scales is None
            or scales.tolist() != [1, 1, 2, 2]
            or user.op_type != "QLinearAdd"
        ):
            continue
        (like,) = (name for name in (user.input[0], user.input[3]) if name != node.output[0])
        name = f"{node.name}_"
        shape = numpy_helper.from_array(np.array([0, 0, 1, -1], np.int64), f"{name}row")
        graph.initializer.append(shape)
        nodes = [
            helper.make_node("Transpose", [node.input[0]], [f"{name}last"], perm=[0, 2, 3, 1]),
            helper.make_node("Concat", [f"{name}last"] * 2, [f"{name}across"], axis=3),
            helper.make_node("Reshape", [f"{name}across", f"{name}row"], [f"{name}rows"]),
            helper.make_node("Concat", [f"{name}rows"] * 2, [f"{name}down"], axis=2),
            helper.make_node("Transpose", [like], [f"{name}like"], perm=[0, 2, 3, 1]),
            helper.make_node("Shape", [f"{name}like"], [f"{name}shape"]),
            helper.make_node("Reshape", [f"{name}down", f"{name}shape"], [f"{name}cells"]),
            helper.make_node("Transpose", [f"{name}cells"], node.output, perm=[0, 3, 1, 2]),
        ]
        _replace(graph, node, nodes)
    del graph.value_info[:]


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Put ``nodes`` in the place of ``node``; constants that nothing uses then are dropped."""
    at = list(graph.node).index(node)
    graph.node.remove(node)
    for place, each in enumerate(nodes, at):
        graph.node.insert(place, each)
    used = {name for each in graph.node for name in each.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _stem(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.NodeProto, list[onnx.NodeProto]]:
    """Return the node that quantizes the input, and those that convolve it: the stem, and coarser ones."""
    first = [node for node in graph.node if INPUT in node.input and node.op_type != "Shape"]
    if len(first) != 1 or first[0].op_type != "QuantizeLinear":
        raise ValueError("the model does not begin with one QuantizeLinear")
    then = [node for node in graph.node if first[0].output[0] in node.input]
    if not then or any(node.op_type != "QLinearConv" for node in then):
        raise ValueError("the quantized input does not go into QLinearConv alone")
    stem, *others = sorted(then, key=lambda node: _attributes(node)["strides"][0])
    return first[0], stem, others


def _stride_and_pad(
    quantize: onnx.NodeProto, conv: onnx.NodeProto, constants: Mapping[str, NDArray[np.generic]]
) -> tuple[int, int]:
    """Return the stem's, equal on all sides. Raises ``ValueError`` where ``pack_stem`` cannot take it."""
    if quantize.input[2] in constants and constants[quantize.input[2]].any():
        raise ValueError("the input's zero point is not 0")
    if not np.isclose(constants[quantize.input[1]], 1 / 255, rtol=1e-6):
        raise ValueError(
            f"the input's scale is {constants[quantize.input[1]]}, not 1/255: bytes are not its units"
        )
    attributes = _attributes(conv)
    stride, top = attributes["strides"][0], attributes["pads"][0]
    if attributes["strides"] != [stride] * 2 or attributes["pads"] != [top] * 4:
        raise ValueError("the stem's strides or pads differ by side")
    if attributes["group"] != 1 or attributes["dilations"] != [1, 1] or stride < 2:
        raise ValueError("the stem is grouped, dilated or without a stride")
    return stride, top


def _count_pictures_first(graph: onnx.GraphProto) -> None:
    """Ask the input itself how many pictures it holds, and not what is made of its bytes, in place."""
    first = {name for node in graph.node if INPUT in node.input for name in node.output}
    for floats in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        users = [node for node in graph.node if floats.output[0] in node.input]
        counts = all(node.op_type == "Shape" and _attributes(node).get("end") == 1 for node in users)
        if floats.input[0] in first and counts:
            for node in users:
                node.input[0] = INPUT
            graph.node.remove(floats)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    plain: dict[str, Any] = {"strides": [1, 1], "pads": [0] * 4, "group": 1, "dilations": [1, 1]}
    return plain | {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _take_groups(graph: onnx.GraphProto, node: onnx.NodeProto, group: int) -> None:
    """Let a convolution over whole groups of pixels take ``stem_in``, in place."""
    attributes = _attributes(node)
    tensor = next(tensor for tensor in graph.initializer if tensor.name == node.input[3])
    weights = numpy_helper.to_array(tensor)
    outputs, channels, high, wide = weights.shape
    (down, across), plain = attributes["strides"], (attributes["group"], *attributes["dilations"])
    if wide % group or across % group or any(attributes["pads"]) or plain != (1, 1, 1):
        raise ValueError("a convolution of the input takes parts of groups of pixels")
    laid = weights.reshape(outputs, channels, high, wide // group, group).transpose(0, 4, 1, 2, 3)
    laid = laid.reshape(outputs, group * channels, high, wide // group)
    name = f"{node.input[3]}_wide"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(laid), name))
    inputs = ["stem_in", *node.input[1:3], name, *node.input[4:]]
    new = helper.make_node(
        "QLinearConv",
        inputs,
        node.output,
        node.name,
        strides=[down, across // group],
        kernel_shape=laid.shape[2:],
    )
    _replace(graph, node, [new])


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

"""FP32 ONNX to INT8 ONNX: static quantization in QDQ form, as x86 and arm64 processors run it best.

Activations are unsigned and asymmetric, weights signed and symmetric per output channel, of 7 bits: so no x86
processor saturates (training/rounding.py). Nodes that must keep
their precision - the last of a head, everything that decodes - are named by the caller.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.model_files import from_groups

Feed = dict[str, NDArray[Any]]
Weights = dict[str, NDArray[np.float32]]


_AT_ONCE = 10
"""Inputs whose activations are held in memory together while ranges are found."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[Feed]) -> None:
        found = list(feeds)
        self._feeds = found[: len(found) // _AT_ONCE * _AT_ONCE] or found
        self._next: Iterator[Feed] = iter(self._feeds)

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next = iter(self._feeds[start_index:end_index])

    def get_next(self) -> Feed | None:
        return next(self._next, None)


def quantize(
    fp32: Path,
    int8: Path,
    calibration: Iterable[Feed],
    keep_float: Sequence[str] = (),
    op_types: Sequence[str] = ("Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Resize", "Relu"),
    percentile: float | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write ``int8``, the quantized and optimized twin of ``fp32``.

    Args:
        fp32: The model to quantize, batch normalization folded.
        int8: Where the result goes. It is optimized as far as does not depend on this machine, so that
            opening it costs less; its integer operators are ONNX Runtime's.
        calibration: 200-500 inputs from the training photos, by input name; they set the activations' ranges.
        keep_float: Names of nodes to leave alone.
        op_types: Kinds of nodes to quantize.
        percentile: Share of activations, in per cent, that the range must hold (99.99 drops rare outliers),
            from inputs of one shape; the full range where None.
        ranges: Least and largest value of tensors by name, where that is known.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        names = {node.name for node in onnx.load(prepared).graph.node}
        missing = set(keep_float) - names
        if missing:
            raise ValueError(f"no such nodes: {sorted(missing)}")
        feeds = _Reader(calibration)
        extra: dict[str, object] = {"ActivationSymmetric": False, "WeightSymmetric": True}
        extra |= {"CalibStridedMinMax": min(_AT_ONCE, len(feeds))}  # despite its name for every method
        extra["TensorQuantOverrides"] = {
            name: [{"rmin": np.float32(least), "rmax": np.float32(largest)}]
            for name, (least, largest) in (ranges or {}).items()
        }
        if percentile is not None:
            extra["CalibPercentile"] = percentile
        quantize_static(
            str(prepared),
            str(quantized),
            feeds,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(op_types),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep_float),
            calibrate_method=CalibrationMethod.MinMax if percentile is None else CalibrationMethod.Percentile,
            extra_options=extra,
        )
        options = ort.SessionOptions()
        # "Extended" fuses to integer convolutions; "all" would also write this machine's memory layouts.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(int8)
        options.log_severity_level = 3
        ort.InferenceSession(str(quantized), options, providers=["CPUExecutionProvider"])


def float_weights(path: Path) -> Weights:
    """Return the weights of a quantized model by their names in the net that it was exported from.

    Convolutions are dequantized, a stem over groups of pixels (training/model_files.py) is laid out as it
    was. The matrix of a linear layer, whose name the exporter drops, takes the name of the bias added to its
    product, and goes back to outputs first.
    """
    graph = onnx.load(str(path)).graph
    # Copies, as arrays over the file's bytes are not writable, and Torch warns of those.
    constants = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
    found: Weights = {}
    bias_after = {
        name: next(other for other in node.input if other != name)
        for node in graph.node
        if node.op_type == "Add"
        for name in node.input
    }
    # A layer normalization with a shortcut holds the bias of the product that it takes in.
    bias_after |= {
        node.input[1]: node.input[4] for node in graph.node if node.op_type == "SkipLayerNormalization"
    }
    for node in graph.node:
        if node.op_type == "QLinearConv":
            name = node.input[3].removesuffix("_groups").removesuffix("_quantized")
            scale = constants[node.input[4]].astype(np.float64)
            if np.any(constants[node.input[5]]):
                raise ValueError(f"{name} is not symmetric")
            weight = constants[node.input[3]].astype(np.float64)
            if node.input[3].endswith("_groups"):
                attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
                weight = from_groups(weight, attributes["strides"][0], attributes["pads"])
                scale = scale[: len(weight)]
            found[name] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
            if len(node.input) > 8:
                step = float(constants[node.input[1]]) * scale
                name = node.input[8].removesuffix("_twice").removesuffix("_quantized")
                found[name] = (constants[node.input[8]][: len(scale)] * step).astype(np.float32)
        elif node.op_type == "MatMul" and node.input[1] in constants:
            bias = bias_after[node.output[0]]
            found[bias.removesuffix("bias") + "weight"] = constants[node.input[1]].T.astype(np.float32)
        elif node.op_type == "Gemm" and node.input[1] in constants:
            matrix = constants[node.input[1]].astype(np.float32)
            outputs_first = any(each.name == "transB" and each.i for each in node.attribute)
            found[node.input[2].removesuffix("bias") + "weight"] = matrix if outputs_first else matrix.T
    kept = (".weight", ".bias", "_bias", ".running_mean", ".running_var")
    return found | {
        name: value for name, value in constants.items() if name.endswith(kept) and value.dtype == np.float32
    }

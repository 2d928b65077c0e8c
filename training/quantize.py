"""FP32 ONNX to INT8 ONNX: static quantisation in QDQ form, as an x86 CPU with VNNI (and arm64) runs it best.

Activations are unsigned and asymmetric, weights signed and symmetric per output channel. Nodes that must keep
their precision - the last of a head, everything that decodes - are named by the caller.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Feed = dict[str, NDArray[Any]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantize(
    fp32: Path,
    int8: Path,
    calibration: Iterable[Feed],
    keep_float: Sequence[str] = (),
    op_types: Sequence[str] = ("Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Resize", "Relu"),
    percentile: float | None = None,
) -> None:
    """Write ``int8``, the quantised and optimised twin of ``fp32``.

    Args:
        fp32: The model to quantise, batch normalisation folded.
        int8: Where the result goes. It is optimised as far as does not depend on this machine, so that
            opening it costs less; its integer operators are ONNX Runtime's.
        calibration: 200-500 inputs from the training photos, by input name; they set the activations' ranges.
        keep_float: Names of nodes to leave alone.
        op_types: Kinds of nodes to quantise.
        percentile: Share of activations, in per cent, that the range must hold (99.99 drops rare outliers),
            from inputs of one shape; the full range where None.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        names = {node.name for node in onnx.load(prepared).graph.node}
        missing = set(keep_float) - names
        if missing:
            raise ValueError(f"no such nodes: {sorted(missing)}")
        extra: dict[str, object] = {"ActivationSymmetric": False, "WeightSymmetric": True}
        if percentile is not None:
            extra["CalibPercentile"] = percentile
        quantize_static(
            str(prepared),
            str(quantised),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(op_types),
            per_channel=True,
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
        ort.InferenceSession(str(quantised), options, providers=["CPUExecutionProvider"])

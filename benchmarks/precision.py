"""INT8 beside FP32: size, work and the nodes that stay in float, for every model of a function.

    python -m benchmarks.precision FP32_FOLDER [--api plate] [--runs 100]

FP32_FOLDER holds the models before quantization under the names that they have in the package; the
training steps write them. Both are opened as the function opens them and run on the same input in turn, on
one thread; a figure is the least CPU-milliseconds of all runs, which other work disturbs least.
What quantization costs in accuracy is ``python -m benchmarks.accuracy`` with ``--models`` for each folder.
It needs ``pip install onnx``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from carsight import runtime

SIDES = {
    "plate_detector": (384, 640),
    "plate_detector_second": (384, 640),
    "vin_detector": (384, 640),
    "plate_reader": (48, 160),
    "plate_reader_lean": (48, 160),
    "vin_reader": (48, 384),
    "vin_reader_small": (48, 384),
    "vin_reader_hard": (48, 384),
    "vin_reader_lower": (48, 384),
    "plate_vehicle": (128, 128),
}
"""Height and width to run a model on where it takes any."""

INTEGER = {
    "QLinearConv",
    "QLinearMatMul",
    "QLinearAdd",
    "QLinearConcat",
    "QLinearSigmoid",
    "QLinearMul",
    "QGemm",
}
"""ONNX Runtime's operators on integers, beside those between DequantizeLinear and QuantizeLinear."""

WORK = {"Conv", "ConvTranspose", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
"""Operators worth quantizing: all others move or clip numbers."""


def sample(session: ort.InferenceSession, name: str) -> dict[str, Any]:
    """Return an input of noise in the size that ``session`` takes, or that photos have where it takes any."""
    (wanted,) = session.get_inputs()
    shape = [
        size if isinstance(size, int) else usual
        for size, usual in zip(wanted.shape, (1, 3, *SIDES[name]), strict=True)
    ]
    return {wanted.name: np.random.default_rng(1).random(shape, np.float32)}


def least(sessions: Iterable[ort.InferenceSession], feed: dict[str, Any], runs: int) -> list[float]:
    """CPU-milliseconds of the quickest of ``runs`` inferences of each session, taken in turn."""
    sessions = list(sessions)
    best = [float("inf")] * len(sessions)
    for _ in range(runs):
        for n, session in enumerate(sessions):
            start = time.process_time()
            session.run(None, feed)
            best[n] = min(best[n], (time.process_time() - start) * 1000)
    return best


def kept_in_float(path: Path) -> tuple[int, Counter[str]]:
    """How many nodes of a model do the arithmetic worth quantizing, and what kinds of them do it in float."""
    graph = onnx.load(path).graph
    integers = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    work = [node for node in graph.node if node.op_type in WORK | INTEGER]
    floating: Counter[str] = Counter()
    for node in work:
        if node.op_type in INTEGER or integers.issuperset(node.input[:2]):
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        shape = "x".join(map(str, weights.get(node.input[1], ()))) or "two activations"
        floating[f"{'depthwise ' * (groups > 1)}{node.op_type.removeprefix('Fused')} of {shape}"] += 1
    return len(work), floating


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fp32", type=Path)
    parser.add_argument("--api", choices=("plate", "vin"), default="plate")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    floating: dict[str, Counter[str]] = {}
    print("| model | FP32, MB | INT8, MB | FP32, CPU-ms | INT8, CPU-ms | INT8 / FP32 | nodes in float |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for int8 in sorted(runtime.MODELS.glob(f"{options.api}_*.onnx")):
        fp32 = options.fp32 / int8.name
        sizes = [path.stat().st_size / 1e6 for path in (fp32, int8)]
        sessions = [runtime.session(path) for path in (fp32, int8)]
        slow, quick = least(sessions, sample(sessions[0], int8.stem), options.runs)
        nodes, floating[int8.stem] = kept_in_float(int8)
        kept = floating[int8.stem].total()
        print(
            f"| {int8.stem} | {sizes[0]:.2f} | {sizes[1]:.2f} | {slow:.2f} | {quick:.2f} | "
            f"{quick / slow:.2f} | {kept} of {nodes} |"
        )
    for name, kinds in floating.items():
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        print(f"\n{name}, in float: {listed or 'none'}")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Calibrating by entropy gives the ranges of MinMax: 128 bins are too few, and quantize_static hands no other number on.
. "$(dirname "$0")/prepare.bash"
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON'
import contextlib
import io
import logging
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

logging.disable()
SHAPE = (1, 3, 64, 64)
rng = np.random.default_rng(7)
KINDS = {
    "normal": lambda n: rng.normal(size=SHAPE),
    "Laplace": lambda n: rng.laplace(size=SHAPE),
    "Student, 3 degrees": lambda n: rng.standard_t(3, size=SHAPE),
    "after a ReLU": lambda n: np.maximum(rng.normal(size=SHAPE), 0),
    "wider and wider": lambda n: rng.normal(size=SHAPE) * (n + 1),
}
weights = numpy_helper.from_array(rng.normal(size=(4, 3, 1, 1)).astype(np.float32), "w")
sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, depth, 64, 64]) for name, depth in (("x", 3), ("y", 4))]
graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
onnx.save(model, "float.onnx")


class Batches(CalibrationDataReader):
    def __init__(self, batches):
        self.left = iter(batches)

    def get_next(self):
        batch = next(self.left, None)
        return None if batch is None else {"x": batch}


def scales(batches, method, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static("float.onnx", "int8.onnx", Batches(batches), calibrate_method=method, extra_options=options)
    found = {i.name: float(numpy_helper.to_array(i)) for i in onnx.load("int8.onnx").graph.initializer if i.name in ("x_scale", "y_scale")}
    return found["x_scale"], found["y_scale"]


def largest(batches, bins):
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            "float.onnx", calibrate_method=CalibrationMethod.Entropy, extra_options={"num_bins": bins}
        )
        calibrator.collect_data(Batches(batches))
        return float(calibrator.compute_data()["x"].range_value[1])


print("onnxruntime", onnxruntime.__version__)
print("assumed: Entropy leaves out rare values, and an option that is passed is used or refused")
holds = True
for kind, make in KINDS.items():
    batches = [make(n).astype(np.float32) for n in range(8)]
    minmax, entropy = (scales(batches, method) for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy))
    told = scales(batches, CalibrationMethod.Entropy, num_bins=2048)
    most, cut = max(float(batch.max()) for batch in batches), largest(batches, 2048)
    print(
        f"seen: {kind:18} scales by MinMax {minmax[0]:.4f} {minmax[1]:.4f}, by Entropy {entropy[0]:.4f} {entropy[1]:.4f}, "
        f"with num_bins=2048 told to quantize_static {told[0]:.4f} {told[1]:.4f}; told to the calibrator it cuts {most:.1f} to {cut:.1f}"
    )
    holds &= minmax == told == entropy and cut < most
sys.exit(not holds)
PYTHON

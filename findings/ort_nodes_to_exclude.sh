#!/usr/bin/env bash
# A layer that is kept out of quantization by its name is quantized after the preparation that the quantizer itself asks for.
. "$(dirname "$0")/prepare.bash"
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

logging.disable(logging.WARNING)  # the model as exported earns the advice to prepare it
RNG = np.random.default_rng(0)
HEAD = ["/head/MatMul", "/head/Add"]  # as the exported model, and any viewer of it, names them
WEIGHTS = {
    "body.weight": RNG.normal(size=(64, 64)),
    "body.bias": RNG.normal(size=64),
    "head.weight": RNG.normal(size=(64, 37)),
    "head.bias": RNG.normal(size=37),
}


class Inputs(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": RNG.random((8, 64), np.float32)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


def nodes(path):
    return list(onnx.load(path).graph.node)


def quantized(path, excluded):
    """Which weights are integers, once `path` has been quantized but for `excluded`."""
    quantize_static(path, "quantized.onnx", Inputs(), nodes_to_exclude=excluded)
    kept = {tensor.name for tensor in onnx.load("quantized.onnx").graph.initializer}
    return [name for name in ("body.weight", "head.weight") if name not in kept]


layers = [  # two linear layers, as PyTorch exports them from three-dimensional inputs
    helper.make_node("MatMul", ["x", "body.weight"], ["a"], name="/body/MatMul"),
    helper.make_node("Add", ["a", "body.bias"], ["b"], name="/body/Add"),
    helper.make_node("Relu", ["b"], ["c"], name="/Relu"),
    helper.make_node("MatMul", ["c", "head.weight"], ["d"], name=HEAD[0]),
    helper.make_node("Add", ["d", "head.bias"], ["y"], name=HEAD[1]),
]
graph = helper.make_graph(
    layers,
    "reader",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 37])],
    [numpy_helper.from_array(value.astype(np.float32), name) for name, value in WEIGHTS.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
quant_pre_process("model.onnx", "prepared.onnx", skip_symbolic_shape=True)

print("onnxruntime 1.31.1, onnx 1.23.2")
print(f"assumed: nodes_to_exclude={HEAD} keeps the head in float, or there is an error")
seen = [
    ("as exported", quantized("model.onnx", HEAD)),
    ("prepared by quant_pre_process", quantized("prepared.onnx", HEAD)),
    ("prepared, a name that never was", quantized("prepared.onnx", ["/haed/MatMul"])),
    ("prepared, by the new name", quantized("prepared.onnx", ["/head/MatMul/MatMulAddFusion"])),
]
print(f"seen: the prepared model's nodes are {', '.join(node.name for node in nodes('prepared.onnx'))}")
for model, names in seen:
    print(f"seen: {model}: quantized are {' and '.join(names)}")
both = ["body.weight", "head.weight"]
sys.exit([names for _, names in seen] != [["body.weight"], both, both, ["body.weight"]])
PYTHON

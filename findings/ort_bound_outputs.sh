#!/usr/bin/env bash
# The array of a bound output is the runtime's own memory: what was kept of one run shows the next run's result.
. "$(dirname "$0")/prepare.bash"
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", sides[:1], sides[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
options = ort.SessionOptions()
options.log_severity_level = 4
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
print("onnxruntime", ort.__version__)
print("assumed: each run's result is an array of its own, and `bind_output` by name alone leaves its shape to each run")
binding = session.io_binding()
binding.bind_output("y")
kept, copied = [], []
for value in (1, 2, 3):
    binding.bind_cpu_input("x", np.full(2, value, np.float32))
    session.run_with_iobinding(binding)
    kept.append(binding.get_outputs()[0].numpy())
    copied.append(binding.copy_outputs_to_cpu()[0])
seen = [array.tolist() for array in kept]
print(f"seen: three runs of [1, 1], [2, 2] and [3, 3], get_outputs()[0].numpy(): {seen}")
print(f"seen: copy_outputs_to_cpu(): {[array.tolist() for array in copied]}")
binding.bind_cpu_input("x", np.full(5, 4, np.float32))
try:
    session.run_with_iobinding(binding)
    refused = False
except RuntimeError:
    refused = True
print(f"seen: a run of another size, the output never having been given one: {'refused' if refused else 'taken'}")
sys.exit(not (seen == [[-3, -3]] * 3 and refused and [a[0] for a in copied] == [-1, -2, -3]))
PYTHON

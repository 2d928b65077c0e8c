#!/usr/bin/env bash
# A model that ONNX Runtime optimized and saved on one processor loads on another without a word and computes garbage.
. "$(dirname "$0")/prepare.bash"
grep -q avx512f /proc/cpuinfo || { echo "needs an x86-64 machine with AVX-512"; exit 2; }
with_emulator
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cat >"$home/model.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in ((32, 16, 3, 3), (32, 32, 3, 3))]
nodes = [
    helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1] * 4),
]
sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 16, 16]) for n, c in (("x", 16), ("y", 32))]
graph = helper.make_graph(
    nodes, "two", sides[:1], sides[1:], [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
onnx.save(model, "as_made.onnx")
for level in ("EXTENDED", "ALL"):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = f"saved_at_{level}.onnx"
    ort.InferenceSession("as_made.onnx", options, providers=["CPUExecutionProvider"])
PYTHON
cat >"$home/run.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort

x = np.random.default_rng(5).normal(size=(1, 16, 16, 16)).astype(np.float32)
names = ("as_made", "saved_at_EXTENDED", "saved_at_ALL")
sessions = [ort.InferenceSession(f"{n}.onnx", providers=["CPUExecutionProvider"]) for n in names]
np.savez(sys.argv[1], *(session.run(None, {"x": x})[0] for session in sessions))
PYTHON
cd "$home"
venv/bin/python model.py
venv/bin/python run.py here.npz
"$emulator" -cpu Haswell venv/bin/python run.py there.npz 2>messages || { cat messages; exit 2; }
venv/bin/python - <<'PYTHON'
import sys

import numpy as np

here, there = (list(np.load(f"{name}.npz").values()) for name in ("here", "there"))
print("onnxruntime 1.31.1, a float model of two convolutions; outputs up to", round(float(np.abs(here[0]).max()), 1))
print("assumed: a saved model that does not suit a processor is refused, warned of, or merely slower")
errors = [float(np.abs(a - b).max()) for a, b in zip(here, there)]
said = [line for line in open("messages") if "qemu" not in line]
for name, error in zip(("as made", "saved at EXTENDED", "saved at ALL"), errors):
    print(f"seen: {name}, optimized with AVX-512, run with AVX2: largest difference {error:.2g}")
print("seen: messages of the runtime:", said or "none")
sys.exit(not (errors[0] < 1e-4 and errors[1] < 1e-4 and errors[2] > 1) or bool(said))
PYTHON

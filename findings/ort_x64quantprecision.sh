#!/usr/bin/env bash
# session.x64quantprecision, ONNX Runtime's cure for saturating INT8: silent where it does nothing, and S8S8 will not load.
. "$(dirname "$0")/prepare.bash"
with_emulator
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cat >"$home/opened.py" <<'PYTHON'
import onnxruntime as ort


def opened(name, level, precise="0", saved=""):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.add_session_config_entry("session.x64quantprecision", precise)
    options.optimized_model_filepath = saved
    return ort.InferenceSession(f"{name}.onnx", options, providers=["CPUExecutionProvider"])
PYTHON
cat >"$home/models.py" <<'PYTHON'
import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from opened import opened

rng = np.random.default_rng(7)
w = (rng.integers(100, 128, (16, 16, 3, 3)) * rng.choice([1, 1, 1, -1], (16, 16, 3, 3))).astype(np.int8)
for name, kind, dtype, zero in (("u8s8", T.UINT8, np.uint8, 0), ("s8s8", T.INT8, np.int8, -128)):
    one = np.float32(1)
    constants = {"xs": one, "xz": dtype(zero), "w": w, "ws": one, "wz": np.int8(0), "ys": np.float32(16384),
                 "yz": dtype(zero + 128)}
    node = helper.make_node(
        "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], kernel_shape=[3, 3], pads=[1] * 4
    )
    sides = [helper.make_tensor_value_info(n, kind, [1, 16, 16, 16]) for n in "xy"]
    graph = helper.make_graph(
        [node], name, sides[:1], sides[1:], [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, f"{name}.onnx")
for level in ("EXTENDED", "ALL"):
    opened("u8s8", level, saved=f"saved_at_{level}.onnx")
PYTHON
cat >"$home/run.py" <<'PYTHON'
import json
import sys

import numpy as np
from opened import opened

x = np.random.default_rng(5).integers(200, 256, (1, 16, 16, 16))
outputs = {}
for name in ("u8s8", "saved_at_EXTENDED", "saved_at_ALL", "s8s8"):
    for precise in "01":
        for level in ("BASIC", "ALL"):
            try:
                session = opened(name, level, precise)
            except Exception as error:
                outputs[f"{name} {precise} {level}"] = type(error).__name__
                continue
            feed = (x - 128).astype(np.int8) if name == "s8s8" else x.astype(np.uint8)
            outputs[f"{name} {precise} {level}"] = session.run(None, {"x": feed})[0].astype(int).tolist()
json.dump(outputs, open(sys.argv[1], "w"))
PYTHON
cd "$home"
venv/bin/python models.py
emulate SandyBridge Haswell
venv/bin/python - <<'PYTHON'
import json
import sys

old, avx2 = (json.load(open(name)) for name in ("SandyBridge", "Haswell"))


def state(name, precise, level):
    seen = avx2[f"{name} {precise} {level}"]
    if isinstance(seen, str):
        return f"does not load ({seen})"
    return "exact" if seen == old[f"{name} 0 BASIC"] else "saturates"


print("onnxruntime 1.31.1 on an AVX2 processor without VNNI; one convolution")
print("assumed: with the option every integer model is exact, or the runtime says that it cannot be")
seen = {}
for name in ("u8s8", "saved_at_EXTENDED", "saved_at_ALL", "s8s8"):
    for level in ("BASIC", "ALL"):
        seen[name, level] = state(name, 0, level), state(name, 1, level)
        print(f"seen: {name:18} opened at {level:5}: without the option {seen[name, level][0]}, with it {seen[name, level][1]}")
sys.exit(
    seen["u8s8", "BASIC"] != ("saturates", "saturates")
    or seen["u8s8", "ALL"] != ("saturates", "exact")
    or seen["saved_at_EXTENDED", "ALL"] != ("saturates", "exact")
    or seen["saved_at_ALL", "ALL"] != ("saturates", "saturates")
    or seen["s8s8", "ALL"][0] != "exact"
    or "does not load" not in seen["s8s8", "ALL"][1]
)
PYTHON

#!/usr/bin/env bash
# INT8 that an AVX2 processor gets wrong is right on an older one, and not every integer operator is concerned.
. "$(dirname "$0")/prepare.bash"
with_emulator
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cat >"$home/models.py" <<'PYTHON'
"""Models of one integer operator each, U8 activations and S8 weights, and what exact arithmetic makes of them."""

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

rng = np.random.default_rng(7)
x = rng.integers(200, 256, (8, 64)).astype(np.uint8)
w = (rng.integers(100, 128, (64, 16)) * rng.choice([1, 1, 1, -1], (64, 16))).astype(np.int8)
exact = x.astype(np.int64) @ w
quantized = np.clip(np.rint(exact / 16384) + 128, 0, 255)
pixels = x.T.reshape(1, 64, 8, 1)  # the same product as a convolution of 1 x 1
kernel = w.T.reshape(16, 64, 1, 1)
depth_w = (rng.integers(100, 128, (64, 1, 3, 1))).astype(np.int8)
columns = np.pad(pixels.astype(np.int64), ((0, 0), (0, 0), (1, 1), (0, 0)))
depth = sum(columns[:, :, k : k + 8] * depth_w[None, :, 0, k, None] for k in range(3))
depth = np.clip(np.rint(depth / 1024) + 0, 0, 255)


def save(name, operator, inputs, shape_in, kind_in, shape_out, kind_out, answer, feed, constants, domain="", **attributes):
    node = helper.make_node(operator, inputs, ["y"], domain=domain, **attributes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], name, [info("x", kind_in, shape_in)], [info("y", kind_out, shape_out)],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    onnx.save(model, f"{name}.onnx")
    np.savez(f"{name}.npz", feed=feed, answer=answer)


u8, s8, one = np.uint8, np.int8, np.float32(1)
scales = {"xs": one, "xz": u8(0), "ws": one, "wz": s8(0), "ys": np.float32(16384), "yz": u8(128)}
linear = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
save("MatMulInteger", "MatMulInteger", ["x", "w"], [8, 64], T.UINT8, [8, 16], T.INT32, exact, x, {"w": w})
save("QLinearMatMul", "QLinearMatMul", linear, [8, 64], T.UINT8, [8, 16], T.UINT8, quantized, x, {"w": w, **scales})
save("QGemm", "QGemm", [*linear[:6], "", *linear[6:]], [8, 64], T.UINT8, [8, 16], T.UINT8, quantized, x,
     {"w": w, **scales}, "com.microsoft")
as_image = [1, 64, 8, 1], T.UINT8, [1, 16, 8, 1]
image_answer = quantized.T.reshape(1, 16, 8, 1)
save("QLinearConv", "QLinearConv", linear, *as_image, T.UINT8, image_answer, pixels, {"w": kernel, **scales})
save("ConvInteger", "ConvInteger", ["x", "w"], *as_image, T.INT32, exact.T.reshape(1, 16, 8, 1), pixels, {"w": kernel})
save("QLinearConv_depthwise", "QLinearConv", linear, [1, 64, 8, 1], T.UINT8, [1, 64, 8, 1], T.UINT8, depth, pixels,
     {"w": depth_w, **scales, "ys": np.float32(1024), "yz": u8(0)}, group=64, kernel_shape=[3, 1], pads=[1, 0, 1, 0])
signed = {**scales, "xz": s8(-128), "yz": s8(0)}
save("QLinearConv_S8S8", "QLinearConv", linear, [1, 64, 8, 1], T.INT8, [1, 16, 8, 1], T.INT8, image_answer - 128,
     (pixels.astype(int) - 128).astype(s8), {"w": kernel, **signed})
PYTHON
cat >"$home/run.py" <<'PYTHON'
import glob
import json
import sys

import numpy as np
import onnxruntime as ort

wrong = {}
for path in sorted(glob.glob("*.onnx")):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    case = np.load(path.replace(".onnx", ".npz"))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": case["feed"]})
    wrong[path[:-5]] = round(100 * float(np.mean(answer.astype(np.int64) != case["answer"])))
json.dump(wrong, open(sys.argv[1], "w"))
PYTHON
cd "$home"
venv/bin/python models.py
emulate SandyBridge Haswell
"$emulator" --version | head -1
venv/bin/python - <<'PYTHON'
import json
import sys

print("onnxruntime 1.31.1, exact integer arithmetic as the measure; share of outputs that are wrong")
print("assumed: all integer operators of a processor are right or all saturate; newer processors are no worse")
old, avx2 = (json.load(open(name)) for name in ("SandyBridge", "Haswell"))
for name in old:
    print(f"seen: {name:22} AVX (2011): {old[name]:3} %   AVX2 (2013): {avx2[name]:3} %")
saturating = {name for name, share in avx2.items() if share > 20}
right = {name for name, share in avx2.items() if share == 0}
sys.exit(
    any(old.values())
    or saturating != {"MatMulInteger", "QLinearMatMul", "QGemm", "QLinearConv"}
    or right != {"ConvInteger", "QLinearConv_depthwise", "QLinearConv_S8S8"}
)
PYTHON

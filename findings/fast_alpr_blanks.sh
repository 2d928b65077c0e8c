#!/usr/bin/env bash
# fast-alpr's confidences are not one a character: blanks count, and lift the mean of a doubtful plate over any threshold.
. "$(dirname "$0")/prepare.bash"
with_packages fast-alpr==0.4.0 fast-plate-ocr==1.1.0 open-image-models==0.6.0 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cd "$home"
"$python" - <<'PYTHON' 2>log || { rc=$?; [ "$rc" = 1 ] || cat log; exit "$rc"; }
import statistics
import sys
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import onnx
import yaml
from fast_alpr import ALPR
from fast_alpr.default_ocr import DefaultOCR
from onnx import TensorProto, helper, numpy_helper

# A network that finds each character of five at 0.60 and five blanks at 1.00, whatever it is shown.
ALPHABET, SLOTS, TEXT = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_", 10, "AB123"
answer = np.zeros((1, SLOTS, len(ALPHABET)), np.float32)
for slot, character in enumerate(TEXT.ljust(SLOTS, "_")):
    answer[0, slot, ALPHABET.index(character)] = 1 if character == "_" else 0.6
    if character != "_":
        answer[0, slot, ALPHABET.index("Z")] = 0.4
nodes = [
    helper.make_node("Cast", ["input"], ["pixels"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMin", ["pixels"], ["least"], keepdims=0),
    helper.make_node("Mul", ["least", "zero"], ["nothing"]),
    helper.make_node("Add", ["answer", "nothing"], ["plate"]),
]
graph = helper.make_graph(
    nodes,
    "reader",
    [helper.make_tensor_value_info("input", TensorProto.UINT8, [None, 64, 128, 1])],
    [helper.make_tensor_value_info("plate", TensorProto.FLOAT, [1, SLOTS, len(ALPHABET)])],
    [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(answer, "answer")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
onnx.save(model, "reader.onnx")
config = {"max_plate_slots": SLOTS, "alphabet": ALPHABET, "pad_char": "_", "img_height": 64, "img_width": 128}
with open("reader.yaml", "w") as file:
    yaml.safe_dump(config, file)
box = SimpleNamespace(x1=10, y1=10, x2=90, y2=40)
finder = SimpleNamespace(predict=lambda frame: [SimpleNamespace(bounding_box=box)])
reader = DefaultOCR(device="cpu", hub_ocr_model=None, model_path="reader.onnx", config_path="reader.yaml")
read = ALPR(detector=finder, ocr=reader).predict(np.zeros((60, 100, 3), np.uint8))[0].ocr
mean = statistics.mean(read.confidence)
print("fast-alpr", version("fast-alpr"), "with fast-plate-ocr", version("fast-plate-ocr"))
print("assumed: 'one value per character', whose mean, which fast-alpr itself draws, is 0.60 here")
print(f"seen: {read.text}, {len(read.text)} characters, {len(read.confidence)} values: {[round(v, 2) for v in read.confidence]}")
print(f"seen: the mean is {mean:.2f}; of the text's own characters {statistics.mean(read.confidence[: len(read.text)]):.2f}")
sys.exit(not (read.text == TEXT and len(read.confidence) == SLOTS and abs(mean - 0.8) < 0.01))
PYTHON

#!/usr/bin/env bash
# A reader that is cut before its softmax has lost its alphabet: onnx's own extract_model leaves the model's metadata out.
. "$(dirname "$0")/prepare.bash"
with_packages onnx==1.23.2 onnxslim==0.1.98 onnxsim==0.8.1 numpy==2.4.6
"$home/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps rapidocr==3.10.0 >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
cd "$home"
"$python" - <<'PYTHON'
import sys
from importlib.metadata import distribution, version

import onnx
import onnxsim
import onnxslim
from onnx import compose, shape_inference, utils, version_converter

READER = distribution("rapidocr").locate_file("rapidocr/models/PP-OCRv6_rec_small.onnx")


def characters(model):
    """How many characters the alphabet has that a reader carries in its metadata, as RapidOCR looks for it."""
    listed = {entry.key: entry.value for entry in model.metadata_props}
    return len(listed["character"].splitlines()) if "character" in listed else None


model = onnx.load(READER)
last = model.graph.node[-1]
(logits,), (given,) = last.input, model.graph.input
utils.extract_model(READER, "cut.onnx", [given.name], [logits])
cut = onnx.load("cut.onnx")
kept = {
    "onnx.shape_inference.infer_shapes": shape_inference.infer_shapes(model),
    "onnx.version_converter.convert_version": version_converter.convert_version(model, model.opset_import[0].version + 1),
    "onnx.compose.add_prefix": compose.add_prefix(model, "reader_"),
    "onnxslim.slim": onnxslim.slim(model),
    "onnxsim.simplify": onnxsim.simplify(model)[0],
}
print(", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxslim", "onnxsim", "rapidocr")))
print("assumed: what takes a model and saves another keeps what the model carries, such as a reader's alphabet")
print(f"seen: the reader ends with {last.op_type}; its alphabet has {characters(model)} characters")
for name, made in kept.items():
    print(f"seen: {name}: {characters(made)}")
print(f"seen: onnx.utils.extract_model, up to the {last.op_type}: {characters(cut)}; metadata: {list(cut.metadata_props)}")
counts = {characters(made) for made in kept.values()}
sys.exit(last.op_type != "Softmax" or counts != {characters(model)} or None in counts or characters(cut) is not None)
PYTHON

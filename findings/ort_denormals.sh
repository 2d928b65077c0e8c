#!/usr/bin/env bash
# session.set_denormal_as_zero changes Python's own arithmetic, and does nothing unless the process's first session has it.
. "$(dirname "$0")/prepare.bash"
with_packages onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
cat >"$home/run.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "sum", sides[:1], sides[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
tiny, smallest = np.full(1, 1e-40, np.float32), 5e-324


def session(value):
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.add_session_config_entry("session.set_denormal_as_zero", value)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


seen = []
for value in sys.argv[1:]:
    opened = session(value)
    flushed = not opened.run(None, {"x": tiny})[0][0]
    seen.append((flushed, not (tiny + tiny)[0], not smallest * 1.0))
    print(f"seen: {' then '.join(sys.argv[1:])}: session with {value}: 1e-40 + 1e-40 is zero in the session: "
          f"{flushed}, then in NumPy: {seen[-1][1]}, and 5e-324 * 1.0 in Python: {seen[-1][2]}")
sys.exit(seen != [(sys.argv[1] == "1",) * 3] * 2)
PYTHON
cd "$home"
echo "onnxruntime 1.31.1, one thread, on $(uname -m)"
echo "assumed: the option of a session holds for that session, and for nothing else"
holds=0
venv/bin/python run.py 1 0 || holds=1
venv/bin/python run.py 0 1 || holds=1
exit "$holds"

"""How ONNX models are opened: once per process, with no more threads than the function has processors."""

from __future__ import annotations

import math
import os
from pathlib import Path

import onnxruntime as ort

MODELS = Path(__file__).with_name("models")
"""The folder of the models that ship with the package."""

_MEGABYTES_PER_VCPU = 1769
"""Lambda gives one vCPU per 1,769 MB of memory (AWS Lambda Developer Guide, "Configure memory")."""


def threads() -> int:
    """Threads worth giving to one inference: the vCPU share, at least 1.

    Two threads on one vCPU measured twice as slow as one, so a share below two counts as one.
    Outside Lambda one thread per call is the default too: many callers may share a recognizer.
    """
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    return max(1, math.floor(int(memory) / _MEGABYTES_PER_VCPU)) if memory else 1


def session(path: Path) -> ort.InferenceSession:
    """Open the model at ``path`` for the CPU. Safe to run from many threads at once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Waiting threads must not burn the vCPU share that other work is billed for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

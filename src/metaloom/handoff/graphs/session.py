"""Sessions of ONNX Runtime on the CPU."""

from __future__ import annotations

import onnxruntime


def session_of(data: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on a graph, which writes no log."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads  # errors are raised anyway
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

"""Sessions of ONNX Runtime on the CPU."""

from __future__ import annotations

import onnxruntime


def session_of(data: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on a graph, which says nothing but errors."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

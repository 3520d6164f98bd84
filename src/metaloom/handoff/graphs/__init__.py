"""ONNX graphs: of a task's model, of learning a task, and smaller variants of both."""

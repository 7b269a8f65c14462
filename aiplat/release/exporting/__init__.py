"""Models for other places: ONNX files, containers, Kubernetes and devices."""

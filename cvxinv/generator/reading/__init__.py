"""Readers of trained generators: torch modules, ONNX files, file pairs."""

"""The nodes of an ONNX graph, computed with torch; a new one is a small function with the names of its operators."""

from . import elementwise, maps, moves, pictures
from .node import OPERATORS

__all__ = ["OPERATORS", "elementwise", "maps", "moves", "pictures"]

"""Steps of a forward pass, said in ops; a new one is a small function with the names of its operations."""

from . import elementwise, maps, moves, pictures
from .call import SAYINGS

__all__ = ["SAYINGS", "elementwise", "maps", "moves", "pictures"]

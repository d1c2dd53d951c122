"""The trained generator: maps, activations, the chain of them, and how it is read from modules and files."""

"""Inversion of trained ReLU generators, layer by layer, with certificates."""

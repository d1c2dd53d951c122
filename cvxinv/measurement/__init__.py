"""Measurements: which part of a signal x = G(z) was seen, and how it is compared with y."""

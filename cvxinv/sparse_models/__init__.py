"""Signals that are sparse, without a generator: what generative priors are compared with."""

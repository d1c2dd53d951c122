"""Solvers of layer problems: CVXPY (`reference`), torch methods one file each, and `choose`, which says which for what."""

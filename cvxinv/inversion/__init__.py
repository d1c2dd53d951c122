"""Inversion of whole generators: one file per method, `invert` in front, `verify` as the judge."""

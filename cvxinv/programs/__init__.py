"""Adapters to other programs, each imported only where it is asked for: none of these programs is required."""

"""Runs: an inversion in chunks, here or on a cluster, that may stop at any time and go on where it stopped."""

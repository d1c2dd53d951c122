"""Methods for signals that share one Gram matrix."""

"""What every layer problem stands on: rows, the problem, its bounds, and the one judge."""

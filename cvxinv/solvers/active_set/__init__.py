"""Methods that guess which unknowns and rows are active and solve the rest exactly."""

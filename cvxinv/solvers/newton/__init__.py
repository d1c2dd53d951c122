"""Newton's method on smoothed or parametrised conditions: interior points, root finding."""

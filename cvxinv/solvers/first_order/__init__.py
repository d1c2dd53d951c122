"""First-order methods: their docstring is the algorithm."""

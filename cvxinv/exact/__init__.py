"""Proof that an inversion is the best there is: bounds on the misfit of every other latent of a box."""

"""Exercises that the judge grades: what is asked, instances, and what an answer that fails most likely got wrong."""

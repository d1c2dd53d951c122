"""Methods of inversion beside each other on one task: who takes part, what each gave, and which to take."""

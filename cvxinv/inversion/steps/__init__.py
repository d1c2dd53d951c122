"""Steps that methods of inversion have in common."""

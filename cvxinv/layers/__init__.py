"""Layer problems: one file each, with statement, certificate and proximal pieces side by side."""

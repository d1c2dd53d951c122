"""Files that ship with the package: one small generator and 64 handwritten digits."""

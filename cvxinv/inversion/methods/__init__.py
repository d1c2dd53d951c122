"""Methods of whole inversions, one file each."""

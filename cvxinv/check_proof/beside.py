"""What is taken from the files beside this folder: check.py, check_fits.py and check_inversion.py."""

try:
    from ..check import MOST_WORK, ZERO, Verdict, entries, floats, grid, main, need, read, root, say, shape
    from ..check_fits import FITS
    from ..check_fits import claims as fits
    from ..check_inversion import PRIME
    from ..check_inversion import claims as inversions
except ImportError:  # alone
    from check import (  # type: ignore[no-redef]
        MOST_WORK,
        ZERO,
        Verdict,
        entries,
        floats,
        grid,
        main,
        need,
        read,
        root,
        say,
        shape,
    )
    from check_fits import FITS  # type: ignore[no-redef]
    from check_fits import claims as fits  # type: ignore[no-redef]
    from check_inversion import PRIME  # type: ignore[no-redef]
    from check_inversion import claims as inversions  # type: ignore[no-redef]

__all__ = [
    "FITS",
    "MOST_WORK",
    "PRIME",
    "ZERO",
    "Verdict",
    "entries",
    "fits",
    "floats",
    "grid",
    "inversions",
    "main",
    "need",
    "read",
    "root",
    "say",
    "shape",
]

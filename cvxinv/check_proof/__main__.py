"""`python -m check_proof FILE...`, with the three files beside this folder."""

import sys

from . import check_file
from .beside import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], check_file))

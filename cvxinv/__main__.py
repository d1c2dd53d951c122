"""`python -m cvxinv`: the command line."""

from .command.cli import main

if __name__ == "__main__":
    main()

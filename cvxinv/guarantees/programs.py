"""Linear programs, by HiGHS as scipy has it."""

from typing import Any

import numpy as np


def linear_program(cost: np.ndarray, **stated: Any) -> Any:
    """What `scipy.optimize.linprog` finds; stated: its constraints, limits and options."""
    from scipy.optimize import linprog  # late: importing the package loads torch and little else

    return linprog(cost, method="highs", **stated)

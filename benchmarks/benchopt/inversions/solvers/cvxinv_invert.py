"""cvxinv's methods of inversion with their own settings, each run once."""

from benchopt import BaseSolver

import cvxinv as ci


class Solver(BaseSolver):
    name = "cvxinv"
    requirements = ["pip::cvxinv"]
    sampling_strategy = "run_once"
    parameters = {"method": ["hybrid", "levenberg_marquardt", "gradient_descent"]}
    test_config = {"method": "hybrid"}

    def set_objective(self, generator, y, seen):
        self.generator, self.y, self.seen = generator, y, seen

    def run(self, _):
        self.z = ci.invert(
            self.generator, self.y, self.method, measurement=self.seen, on_fail="ignore", progress=False
        ).z  # fmt: skip

    def get_result(self):
        return {"z": self.z.numpy()}

"""HiGHS on quadratic programs in a process of its own, so that its aborts cost one signal and not the caller.

One in some ten thousand small QPs with a singular Hessian ends inside of HiGHS with signal 6 or 11 (seen with highspy
1.15 on one latent layer among many, after other solves in the same process and not by itself); no Python code can catch
that. The process is started when the first such problem comes (and imports CVXPY), is asked again and again, and
is started anew after it died. It ends when its input does, which is when the caller's process ends.
"""

import atexit
import os
import pickle
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any, BinaryIO

_COMMAND = [os.path.abspath(__file__)]
_GRACE = 30.0  # seconds beyond its own time limit until the process counts as hung


class DiedError(ArithmeticError):
    """The solver's process ended without an answer."""


class Apart:
    """A process that solves what it is sent, one problem at a time; safe to share between threads and across forks.

    died: how often it ended without an answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self.died = 0

    def solve(self, data: dict[str, Any], verbose: bool, options: dict[str, Any]) -> dict[str, Any]:
        """What CVXPY's interface of HiGHS makes of the data of a QP.

        Raises DiedError if the process aborted or overran its `time_limit` by half a minute, and whatever else the
        interface raised.
        """
        with self._lock:
            process = self._running()
            limit = options.get("time_limit")
            timer = threading.Timer(limit + _GRACE, process.kill) if limit is not None else None
            if timer is not None:
                timer.start()
            try:
                assert process.stdin is not None and process.stdout is not None
                _send(process.stdin, (data, verbose, options))
                answer = pickle.load(process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError):
                self.died += 1
                raise DiedError(f"HIGHS aborted on this problem (exit status {self._stop()})") from None
            except BaseException:
                # an interrupted talk leaves half an answer in the pipe
                self._stop()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _running(self) -> "subprocess.Popen[bytes]":
        # after a fork both sides hold the same pipes: the child starts a process of its own
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process = subprocess.Popen([sys.executable, *_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._owner = os.getpid()
            atexit.register(self._leave, self._process, self._owner)
        return self._process

    @staticmethod
    def _leave(process: "subprocess.Popen[bytes]", owner: int) -> None:
        """End a process with its caller's, its pipes closed; one that died is closed already."""
        if os.getpid() != owner:
            return  # a fork's pipes are its parent's too
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _stop(self) -> int:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            status = process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()
            except OSError:
                pass  # what was left to write has no reader
        return status


def solve_apart(problem: Any, settings: dict[str, Any]) -> None:
    """`problem.solve(solver="HIGHS", **settings)` of a quadratic CVXPY problem, with HiGHS in the process of its own."""
    from cvxpy.reductions.solvers.qp_solvers.highs_qpif import HIGHS

    options = dict(settings)
    verbose = bool(options.pop("verbose", False))
    data, chain, inverse = problem.get_problem_data("HIGHS", solver_opts=options)
    if not isinstance(chain.solver, HIGHS):
        # nothing quadratic is left of it, as without on rows: a linear program
        problem.solve("HIGHS", **settings)
        return
    # arrays, matrices and counts; CVXPY's own objects stay here
    plain = {key: value for key, value in data.items() if key != "param_prob"}
    problem.unpack_results(HIGHS_QP.solve(plain, verbose, options), chain, inverse)


HIGHS_QP = Apart()


def _send(pipe: Any, content: object) -> None:
    pickle.dump(content, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The other side: answer until the requests end."""
    from cvxpy.reductions.solvers.qp_solvers.highs_qpif import HIGHS

    while True:
        try:
            data, verbose, options = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Any = HIGHS().solve_via_data(data, False, verbose, options)
            del answer["basis"]
            answer["info"] = SimpleNamespace(**_plain(answer["info"]))
            found = answer["solution"]
            answer["solution"] = SimpleNamespace(col_value=list(found.col_value), row_dual=list(found.row_dual))
        except Exception as error:
            # the caller's side knows these; an exception of another kind may not survive the way
            answer = error if type(error) in (ValueError, ArithmeticError) else ArithmeticError(str(error))
        _send(answers, answer)


def _plain(info: Any) -> dict[str, Any]:
    named = {name: getattr(info, name) for name in dir(info) if not name.startswith("_")}
    return {name: value for name, value in named.items() if isinstance(value, int | float)}


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules are nobody's business here
    # whatever the solver prints goes to stderr: stdout carries the answers
    with os.fdopen(os.dup(1), "wb") as _answers:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, _answers)

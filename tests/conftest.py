"""Fixtures and switches that all tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

import cvxinv

hypothesis.settings.register_profile(
    "cvxinv",
    deadline=None,  # one slow solve on a busy machine is no failure
    derandomize=bool(os.environ.get("CI")),
    max_examples=40,
)
hypothesis.settings.load_profile("cvxinv")

DATA_MISSING = "CVXINV_DATA is not set: it names a folder with generators/ and datasets/"
GENERATORS_RUN: list[str] = []  # of all workers, where there are several


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason printed, what this machine cannot run."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device here: torch.cuda.is_available() is False")
    if item.get_closest_marker("generators") and not os.environ.get("CVXINV_DATA"):
        pytest.skip(DATA_MISSING)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and not report.skipped and "generators" in report.keywords:
        GENERATORS_RUN.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell `.ci/run` how many tests on trained generators really ran."""
    path = os.environ.get("CVXINV_GENERATOR_COUNT_FILE")
    if path and not hasattr(session.config, "workerinput"):
        Path(path).write_text("\n".join([str(len(GENERATORS_RUN)), *GENERATORS_RUN]) + "\n")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    ran = len(GENERATORS_RUN)
    if ran or os.environ.get("CVXINV_DATA"):
        terminalreporter.write_line(f"tests on trained generators that ran: {ran}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the trained generators and image sets; skips where there is none."""
    if not os.environ.get("CVXINV_DATA"):
        pytest.skip(DATA_MISSING)
    return Path(os.environ["CVXINV_DATA"])


@pytest.fixture(scope="session")
def real_generator(data_dir: Path) -> Callable[..., "cvxinv.Generator"]:
    """`real_generator(name, **options)` loads one trained generator as a user would."""

    def load(name: str, **options) -> "cvxinv.Generator":
        return cvxinv.load_generator(data_dir / "generators" / f"{name}.safetensors", **options)

    return load


def global_state() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul precision": torch.get_float32_matmul_precision(),
        "numpy errstate": np.geterr(),
    }


@pytest.fixture(autouse=True)
def no_global_state_changes() -> Iterator[None]:
    """A library that turns a global switch changes its user's other results."""
    before = global_state()
    yield
    after = global_state()
    changed = {k: (before[k], after[k]) for k in before if before[k] != after[k]}
    assert not changed, f"global state changed (before, after): {changed}"

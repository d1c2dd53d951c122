"""CONTRIBUTING.md followed to the letter in a copy of the package: an activation and a measurement, one class each."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ACTIVATION = '''
@dataclass(frozen=True)
class Softplus(AbstractActivation):
    """log(1 + e^u), with values above 0."""

    name: ClassVar[str] = "softplus"
    range: ClassVar[tuple[float, float]] = (0.0, inf)
    torch_modules: ClassVar[tuple[str, ...]] = ("Softplus",)

    def __call__(self, u: Tensor) -> Tensor:
        return torch.nn.functional.softplus(u)

    def derivative(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y + torch.log(-torch.expm1(-y))


'''

USE_OF_ACTIVATION = """
import pathlib, sys, torch, cvxinv as ci
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 60), nn.Softplus()).double().eval()
G = ci.load_generator(net)
z = G.sample_latent(3, torch.Generator().manual_seed(0))
assert G.layers[-1].activation == ci.Softplus() and torch.allclose(G(z), net(z))
ci.save_generator(G, "net")
again = ci.load_generator("net")
assert again.layers[-1].activation == ci.Softplus() and torch.equal(again(z), G(z))
assert torch.equal(ci.load_generator(net[:-1], output="softplus")(z), G(z))
for method in ci.METHODS:
    R = ci.invert(G, G(z), method, on_fail="ignore", **({"truth": z} if method == "oracle" else {}))
    assert method == "gradient_descent" or R.verdict.explained.all(), method
try:
    R.export("claims", G, G(z))
except ValueError as error:
    assert "activation that certificates know" in str(error)
else:
    raise AssertionError("a file was written that the checker refuses")
"""

MEASUREMENT = '''
@dataclass(frozen=True, eq=False)
class Blur(AbstractMeasurement):
    """Neighbours mixed: x_i and weight x_(i-1), circular, of signals of `d` numbers."""

    d: int
    weight: float

    @property
    def length(self) -> int:
        return self.d

    def observe(self, x: Tensor) -> Tensor:
        return x + self.weight * x.roll(1, -1)


'''

USE_OF_MEASUREMENT = """
import torch, cvxinv as ci
from torch import nn
from cvxinv.check_inversion import check_file
from cvxinv.inversion.export import certificate_files
torch.manual_seed(0)
G = ci.load_generator(nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 60)).double().eval())
z = G.sample_latent(3, torch.Generator().manual_seed(0))
blur = ci.Blur(60, 0.5)
y = blur.observe(G(z))
for method in ci.METHODS:
    R = ci.invert(G, y, method, measurement=blur, on_fail="ignore", **({"truth": z} if method == "oracle" else {}))
    assert method == "gradient_descent" or R.verdict.explained.all(), method
    assert R.settings["measurement"] == "Blur"
R = ci.invert(G, y, measurement=blur)
ci.write_report(R, "report.html", y=y, generator=G, measurement=blur)
R.export("claims", G, y, blur)
assert all(v.accepted for file in certificate_files("claims") for v in check_file(file))
"""


METHOD = '''
from dataclasses import dataclass

from ..answer import Latents
from ..method import AbstractMethod
from ..steps.newton import descend
from ..steps.starts import Starts
from ..task import Task


@dataclass(frozen=True, eq=False)
class OneStart(AbstractMethod):
    """Levenberg-Marquardt from one random latent."""

    first: int = 0

    def run(self, task: Task, starts: Starts) -> Latents:
        return Latents(descend(task, starts.latents(self.first).expand(task.N, -1)).z)
'''

USE_OF_METHOD = """
import torch
import cvxinv as ci
from cvxinv.command.cli import app

torch.manual_seed(0)
G = ci.load_generator(torch.nn.Sequential(torch.nn.Linear(3, 40), torch.nn.LeakyReLU(0.5), torch.nn.Linear(40, 60)))
y = G(G.sample_latent(3, torch.Generator().manual_seed(1)))
R = ci.invert(G, y, "one_start", first=2)
assert "one_start" in ci.METHODS and R.verdict.explained.all() and R.settings["first"] == 2
R.save("result")
assert ci.Inversion.load("result").method == "one_start" and "can be trusted" in R.explain(0, generator=G)
try:
    ci.invert(G, y, "one_start", frist=2)
except TypeError as error:
    assert "did you mean 'first'" in str(error)
"""


def errand(title: str) -> str:
    """The steps of one errand of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.search(rf"\*\*{title}\*\*\n(.*?)(?=\n\*\*|\nA recipe)", text, re.S)[1]


@pytest.mark.parametrize(
    ("title", "file", "kinds", "code", "name", "use"),
    [
        ("Add an activation", "generator/activations.py", "KINDS", ACTIVATION, "Softplus", USE_OF_ACTIVATION),
        ("Add a measurement", "measurement.py", "_KINDS", MEASUREMENT, "Blur", USE_OF_MEASUREMENT),
    ],
    ids=["activation", "measurement"],
)
def test_the_errand_followed_to_the_letter_is_all_it_takes(
    title: str, file: str, kinds: str, code: str, name: str, use: str, tmp_path: Path
):
    steps = errand(title)
    named = set(re.findall(r"`([\w/.]+\.(?:py|md))`", steps.split("\n\n")[0]))
    assert named == {f"cvxinv/{file}", "cvxinv/__init__.py", "CHANGELOG.md"} and f"`{kinds}`" in steps
    shutil.copytree(ROOT / "cvxinv", tmp_path / "cvxinv", ignore=shutil.ignore_patterns("__pycache__"))
    path, public = tmp_path / "cvxinv" / file, tmp_path / "cvxinv" / "__init__.py"
    text = path.read_text()
    line = next(line for line in text.splitlines(keepends=True) if re.match(rf"{kinds}\b.*= \(", line))
    path.write_text(text.replace(line, code.lstrip("\n") + line.rstrip(")\n") + f", {name})\n"))
    public.write_text(public.read_text() + f"from .{file.removesuffix('.py').replace('/', '.')} import {name}\n")
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_method_is_one_file_and_one_line(tmp_path: Path):
    named = set(re.findall(r"`([\w/.<>]+\.(?:py|md))`", errand("Add a method of inversion").split("\n\n")[0]))
    folder = "cvxinv/inversion/methods"
    assert named == {f"{folder}/<name>.py", "../method.py", f"{folder}/__init__.py", "CHANGELOG.md"}
    shutil.copytree(ROOT / "cvxinv", tmp_path / "cvxinv", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / folder / "one_start.py").write_text(METHOD)
    known = tmp_path / folder / "__init__.py"
    line = "from .oracle import Oracle as Oracle\n"
    assert line in known.read_text()
    known.write_text(known.read_text().replace(line, "from .one_start import OneStart as OneStart\n" + line))
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", USE_OF_METHOD]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

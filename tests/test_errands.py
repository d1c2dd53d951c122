"""CONTRIBUTING.md followed to the letter in a copy of the package: an activation and a measurement, one class each."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

ACTIVATION = '''
@dataclass(frozen=True)
class LogSigmoid(AbstractActivation):
    """-log(1 + e^-u), with values below 0."""

    name: ClassVar[str] = "log_sigmoid"
    range: ClassVar[tuple[float, float]] = (-inf, 0.0)
    torch_modules: ClassVar[tuple[str, ...]] = ("LogSigmoid",)

    def __call__(self, u: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(u)

    def derivative(self, u: Tensor) -> Tensor:
        return (-u).sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        return y - torch.log(-torch.expm1(y))


'''

USE_OF_ACTIVATION = """
import pathlib, sys, torch, cvxinv as ci
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 60), nn.LogSigmoid()).double().eval()
G = ci.load_generator(net)
z = G.sample_latent(3, torch.Generator().manual_seed(0))
assert G.layers[-1].activation == ci.LogSigmoid() and torch.allclose(G(z), net(z))
ci.save_generator(G, "net")
again = ci.load_generator("net")
assert again.layers[-1].activation == ci.LogSigmoid() and torch.equal(again(z), G(z))
assert torch.equal(ci.load_generator(net[:-1], output="log_sigmoid")(z), G(z))
for method in (m for m in ci.METHODS if "phase" not in m):
    R = ci.invert(G, G(z), method, on_fail="ignore", **({"truth": z} if method == "oracle" else {}))
    exact = method in ("hybrid", "latent_pursuit", "layered_basis_pursuit", "levenberg_marquardt", "oracle")
    assert R.verdict.explained.all() if exact else (R.verdict.relative_misfit < 0.1).all(), method
try:
    R.export("claims", G, G(z))
except ValueError as error:
    assert "activation that certificates know" in str(error)
else:
    raise AssertionError("a file was written that the checker refuses")
"""

MEASUREMENT = '''
from dataclasses import dataclass

from torch import Tensor

from .abstract import AbstractMeasurement


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
for method in (m for m in ci.METHODS if "phase" not in m):
    R = ci.invert(G, y, method, measurement=blur, on_fail="ignore", **({"truth": z} if method == "oracle" else {}))
    exact = method in ("hybrid", "latent_pursuit", "layered_basis_pursuit", "levenberg_marquardt", "oracle")
    assert R.verdict.explained.all() if exact else (R.verdict.relative_misfit < 0.1).all(), method
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


def follow(use: str, tmp_path: Path) -> None:
    """Run what uses the copy of the package in `tmp_path`."""
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def copied(tmp_path: Path) -> Path:
    """A copy of the package."""
    return Path(shutil.copytree(ROOT / "cvxinv", tmp_path / "cvxinv", ignore=shutil.ignore_patterns("__pycache__")))


def export(package: Path, line: str) -> None:
    public = package / "__init__.py"
    public.write_text(public.read_text() + line + "\n")


def test_an_activation_is_one_class_and_its_place(tmp_path: Path):
    steps, file = errand("Add an activation"), "generator/activations.py"
    named = set(re.findall(r"`([\w/.]+\.(?:py|md))`", steps.split("\n\n")[0]))
    assert named == {f"cvxinv/{file}", "cvxinv/__init__.py", "CHANGELOG.md"} and "`KINDS`" in steps
    package = copied(tmp_path)
    text = (package / file).read_text()
    line = next(line for line in text.splitlines(keepends=True) if re.match(r"KINDS\b.*= \(", line))
    (package / file).write_text(text.replace(line, f"{ACTIVATION.lstrip()}{line}    LogSigmoid,\n"))
    export(package, "from .generator.activations import LogSigmoid")
    follow(USE_OF_ACTIVATION, tmp_path)


def test_a_measurement_is_one_file_and_one_line(tmp_path: Path):
    named = set(re.findall(r"`([\w/.<>]+\.(?:py|md))`", errand("Add a measurement").split("\n\n")[0]))
    assert named == {"cvxinv/measurement/<name>.py", "cvxinv/__init__.py", "CHANGELOG.md"}
    package = copied(tmp_path)
    (package / "measurement" / "blur.py").write_text(MEASUREMENT)
    export(package, "from .measurement.blur import Blur")
    follow(USE_OF_MEASUREMENT, tmp_path)


def test_a_method_is_one_file_and_one_line(tmp_path: Path):
    named = set(re.findall(r"`([\w/.<>]+\.(?:py|md))`", errand("Add a method of inversion").split("\n\n")[0]))
    folder = "cvxinv/inversion/methods"
    assert named == {f"{folder}/<name>.py", "../method.py", f"{folder}/__init__.py", "CHANGELOG.md"}
    package = copied(tmp_path)
    (package / "inversion" / "methods" / "one_start.py").write_text(METHOD)
    known = package / "inversion" / "methods" / "__init__.py"
    line = "from .oracle import Oracle as Oracle\n"
    assert line in known.read_text()
    known.write_text(known.read_text().replace(line, "from .one_start import OneStart as OneStart\n" + line))
    follow(USE_OF_METHOD, tmp_path)

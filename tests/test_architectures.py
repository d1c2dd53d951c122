"""Each architecture of the table is read, loaded as opaque, or refused with a cure that works."""

import ast
import re
import warnings

import pytest
import torch
from architectures import TABLE, Row, ready
from torch import Tensor

import cvxinv as ci

RTOL = 1e-10  # what the reader itself allows; a misread step is far beyond it


def names(*outcomes: str) -> list[str]:
    return [name for name, row in TABLE.items() if row.outcome in outcomes]


def made(row: Row) -> tuple[torch.nn.Module, object]:
    """The network, with numbers that are the same in each run, and what is given to `load_generator`."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the old norms of weights, and of torch.jit
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(0)
        net = ready(row.build())
        net = net if row.single else net.double()
        return net, net if row.source is None else row.source(net)


def latents(row: Row, N: int) -> Tensor:
    z = torch.randn(N, *row.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return z.float() if row.single else z


def assert_computes(G: ci.Generator, row: Row, net: torch.nn.Module) -> None:
    """Values of several numbers of latents, and products with Jacobians, are those of the network."""
    allowed = 1e-5 if row.single else RTOL  # float32 roundings
    for N in (6, 1):
        z = latents(row, N)
        with torch.no_grad():
            expected = row.value(net, z)
        assert G.signal_shape == tuple(expected.shape[1:])
        assert (G(z.double().flatten(1)) - expected.flatten(1)).norm() <= allowed * expected.norm()
    z = latents(row, 2).requires_grad_()
    x = row.value(net, z).flatten(1)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (expected,) = torch.autograd.grad(x, z, v.to(x.dtype))
    _, J = G.linearize(z.detach().double().flatten(1))
    assert (torch.einsum("nd,ndk->nk", v, J) - expected.flatten(1)).norm() <= allowed * expected.norm()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", names("read"))
def test_architecture_is_read(name: str):
    row = TABLE[name]
    net, source = made(row)
    assert_computes(ci.load_generator(source, **row.options), row, net)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", names("opaque", "refused"))
def test_what_is_not_read_names_its_cure(name: str):
    row = TABLE[name]
    net, source = made(row)
    with pytest.raises((TypeError, ValueError), match=row.words) as caught:
        ci.load_generator(source, **row.options)
    if row.outcome == "opaque":
        size = re.search(r"pass opaque=True with latent_dim=(\d+|\([\d, ]+\))", str(caught.value))
        assert size is not None, str(caught.value)
        assert_computes(ci.load_generator(source, opaque=True, latent_dim=ast.literal_eval(size[1])), row, net)


def test_the_table_has_many_rows():
    assert len(TABLE) >= 40

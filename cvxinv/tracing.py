"""Reading a torch module: its forward pass is traced symbolically, and the chain it makes is folded into a
generator.

Everything happens on a float64 copy on the CPU: the user's module, its mode and torch's global state stay as
they are. What was read is compared with the copy on random latents before it is given out.
"""

import copy
import operator
from collections.abc import Iterator
from math import isqrt, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .activations import AbstractActivation, LeakyReLU, PLUModule, ReLU, Sigmoid, Tanh
from .errors import UnsupportedLayerError
from .folding import Chain, per_output
from .generator import Generator
from .maps import Conv2d, ConvTranspose2d, Dense

_PROBES = 3
_CHECKS = 16
_RTOL = 1e-10  # float64 roundings of a deep chain stay below 1e-12; a misread step does not

_MODULES = (
    nn.Linear, nn.ConvTranspose2d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh,
    nn.Sigmoid, PLUModule, nn.Identity, _DropoutNd, nn.Flatten, nn.Unflatten,
)  # fmt: skip
_ACTIVATIONS: dict[Any, AbstractActivation] = {
    torch.relu: ReLU(), F.relu: ReLU(), torch.relu_: ReLU(), F.relu_: ReLU(), "relu": ReLU(), "relu_": ReLU(),
    torch.tanh: Tanh(), F.tanh: Tanh(), "tanh": Tanh(), "tanh_": Tanh(),
    torch.sigmoid: Sigmoid(), F.sigmoid: Sigmoid(), "sigmoid": Sigmoid(), "sigmoid_": Sigmoid(),
}  # fmt: skip
_LEAKY = (F.leaky_relu, F.leaky_relu_)
_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout)
_RESHAPES = (
    torch.flatten, torch.reshape, torch.unflatten, torch.squeeze, torch.unsqueeze,
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous",
)  # fmt: skip
_SIZES = ("size", "dim", "numel")
_INTEGERS = (operator.getitem, operator.mul, operator.floordiv, operator.add, operator.sub, int)
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError)
_TRACE_ERRORS = (*_RUN_ERRORS, fx.proxy.TraceError, AttributeError, KeyError, NameError)
_CURE = (
    "supported are Linear, ConvTranspose2d, Conv2d, BatchNorm, ReLU, LeakyReLU, reshapes, dropout in eval "
    "mode, and at the output Tanh, Sigmoid, PLUModule; replace it, or pass a part of the model without it"
)


def read_module(module: nn.Module, latent_dim: int | None = None) -> Generator:
    """The generator that `module` computes, in float64 on the CPU.

    Raises: ValueError for a module in training mode, without running statistics, with non-finite weights,
    without a recognisable latent size, or that computes something else than what was read;
    UnsupportedLayerError, with the module path, for what no chain of maps and activations can hold.
    """
    check_ready(module)
    twin = _copy(module)
    graph = _trace(twin)
    steps = _steps(graph, twin)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        shape, shapes = _probe(twin, graph, steps, latent_dim)
        chain = Chain(shape)
        for node in steps:
            _Step(chain, twin, node).append(shapes[node])
        generator = chain.finish(_last_shape(steps, shapes))
        _compare(generator, twin, shape)
    return generator


def check_ready(module: nn.Module) -> None:
    """Raise ValueError unless the module computes one fixed function: eval mode, statistics, finite
    weights."""
    for path, part in module.named_modules():
        where = f"{path or 'module'} ({type(part).__name__})"
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise ValueError(
                f"expected a batch norm with running statistics, got none in {where}; "
                "build it with track_running_stats=True and train it so"
            )
        if part.training and isinstance(part, _BatchNorm | _DropoutNd):
            raise ValueError(f"expected a module in eval mode, got {where} in training mode; call .eval() first")
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            raise ValueError(f"expected initialised weights, got a lazy {path}; run the module once on a latent")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"expected finite weights, got NaN or infinite entries in {path}; retrain the module")


def _copy(module: nn.Module) -> nn.Module:
    try:
        twin = copy.deepcopy(module)
    except RuntimeError as error:
        raise ValueError(
            f"expected a module that copy.deepcopy can copy, got {error}; "
            "remove old-style weight norms with torch.nn.utils.remove_weight_norm"
        ) from error
    # a supported module alone is a chain of one; traced itself, it would show its inside
    twin = nn.Sequential(twin) if _is_supported(twin) else twin
    return twin.to(device="cpu", dtype=torch.float64).requires_grad_(False)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Torch's own modules, and user subclasses of supported ones that keep their forward."""
        return _is_supported(m) or super().is_leaf_module(m, module_qualified_name)


def _is_supported(part: nn.Module) -> bool:
    return any(isinstance(part, kind) and type(part).forward is kind.forward for kind in _MODULES)


def _trace(twin: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(twin)
    except _TRACE_ERRORS as error:
        raise UnsupportedLayerError(
            f"expected a forward pass that torch.fx can trace, got {type(error).__name__}: {error}; "
            "remove control flow that depends on values, or pass the plain part of the model as nn.Sequential"
        ) from error


def _live(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that the output depends on, in order."""
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or not live.isdisjoint(node.users):
            live.add(node)
    return [node for node in graph.nodes if node in live]


def _place(node: fx.Node, twin: nn.Module) -> str:
    """Where a node stands, in the user's words: `net.2 (Softmax)`, or `net.forward (softmax)`."""
    if node.op == "call_module":
        return f"{node.target} ({type(twin.get_submodule(str(node.target))).__name__})"
    owners = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{owners[-1] + '.' if owners else ''}forward ({name})"


def _is_integer(node: fx.Node) -> bool:
    """Whether the node is a shape, or an integer made of shapes."""
    if node.op == "call_method":
        return node.target in _SIZES
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return node.target in _INTEGERS and all(_is_integer(source) for source in node.all_input_nodes)


def _steps(graph: fx.Graph, twin: nn.Module) -> list[fx.Node]:
    """The nodes of the chain from the latent to the output, in order; shapes on the side are left out."""
    nodes = [node for node in _live(graph) if not _is_integer(node)]
    current = _latent_node(nodes)
    steps: list[fx.Node] = []
    for node in nodes:
        if node.op == "placeholder":
            continue
        inputs = [source for source in node.all_input_nodes if not _is_integer(source)]
        place = "the output" if node.op == "output" else _place(node, twin)
        if node.op == "get_attr" or (not inputs and node.op != "output"):
            raise UnsupportedLayerError(
                f"expected steps on the signal alone, got {place}, a tensor of its own; "
                "use the modules nn.Linear, nn.Conv2d, ... for weights and leave constants and noise out"
            )
        signal = node.args[0] if node.args else node.kwargs.get("input")
        if inputs != [current] or signal is not current:
            raise UnsupportedLayerError(
                "expected a chain in which every step takes the step before, got a branch or skip connection "
                f"at {place}; invert a feed-forward part of the model"
            )
        if node.op != "output":
            _check_kind(node, twin, place)
            steps.append(node)
            current = node
    return steps


def _latent_node(nodes: list[fx.Node]) -> fx.Node:
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1 or str(inputs[0].target).startswith("*"):
        names = ", ".join(str(node.target) for node in inputs) or "none"
        raise UnsupportedLayerError(
            f"expected a forward pass of one input, the latent, got the inputs {names}; "
            "wrap the module so that labels and other inputs are fixed"
        )
    return inputs[0]


def _check_kind(node: fx.Node, twin: nn.Module, place: str) -> None:
    if node.op == "call_module":
        known = isinstance(twin.get_submodule(str(node.target)), _MODULES)
    else:
        known = node.target in _ACTIVATIONS or node.target in (*_LEAKY, *_DROPOUTS, *_RESHAPES)
    if not known:
        raise UnsupportedLayerError(f"expected a step that can be read, got {place}; {_CURE}")


def _probe(
    twin: nn.Module, graph: fx.Graph, steps: list[fx.Node], latent_dim: int | None
) -> tuple[tuple[int, ...], dict[fx.Node, tuple[int, ...]]]:
    """The shape of one latent that runs, and the shape of every step's result for three latents."""
    tried, reason = [], "no layer says how many latent coordinates there are"
    for shape in _candidates(steps, twin, latent_dim):
        recorder = _ShapeRecorder(twin, graph)
        try:
            recorder.run(_latents(_PROBES, shape))
        except _RUN_ERRORS as error:
            tried.append(shape)
            reason = str(error).strip().splitlines()[0]
            continue
        return shape, recorder.shapes
    raise ValueError(
        f"expected a module that runs on latents of a shape it implies, got none among {tried} ({reason}); "
        "pass latent_dim=..., or mend the module if the shapes of its layers do not meet"
    )


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph):
        super().__init__(module, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        # a latent shape that does not fit is no error here, so its message needs no trace of the graph
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and keep the shape of its result."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _latents(N: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _candidates(steps: list[fx.Node], twin: nn.Module, latent_dim: int | None) -> list[tuple[int, ...]]:
    """Shapes of one latent that the first steps suggest, without repetition."""
    shapes = [shape for node in steps for shape in _implied(node, twin)]
    if latent_dim is not None:
        shapes = [shape for shape in shapes if prod(shape) == latent_dim]
        shapes += [(latent_dim,), (latent_dim, 1, 1)]
        shapes += [shape for node in steps for shape in _squares(node, twin, latent_dim)]
    return list(dict.fromkeys(shapes))[:8]


def _implied(node: fx.Node, twin: nn.Module) -> Iterator[tuple[int, ...]]:
    if node.op == "call_module":
        part = twin.get_submodule(str(node.target))
        if isinstance(part, nn.Linear):
            yield (part.in_features,)
        elif isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
            yield (part.in_channels, 1, 1)
        elif isinstance(part, nn.BatchNorm1d):
            yield (part.num_features,)
        elif isinstance(part, nn.BatchNorm2d):
            yield (part.num_features, 1, 1)
        elif isinstance(part, nn.Unflatten):
            sizes = part.unflattened_size
            yield (prod(size[1] if isinstance(size, tuple) else size for size in sizes),)
    elif node.target in ("view", "reshape", torch.reshape, "unflatten", torch.unflatten):
        sizes = _sizes_after_batch(node)
        if sizes and all(isinstance(size, int) and size > 0 for size in sizes):
            yield (prod(sizes),)


def _sizes_after_batch(node: fx.Node) -> list[Any]:
    """The sizes of one signal in `unflatten(1, sizes)`, `view(N, *sizes)` or `view((N, *sizes))`."""
    rest: list[Any] = list(node.args[1:])
    if node.target in ("unflatten", torch.unflatten):
        return list(rest[1]) if len(rest) == 2 and isinstance(rest[1], tuple | list) else []
    return list(rest[0][1:]) if rest and isinstance(rest[0], tuple | list) else rest[1:]


def _squares(node: fx.Node, twin: nn.Module, latent_dim: int) -> Iterator[tuple[int, ...]]:
    """Latents that are square pictures of the channels that a convolution takes."""
    part = twin.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(part, nn.ConvTranspose2d | nn.Conv2d) and latent_dim % part.in_channels == 0:
        side = isqrt(latent_dim // part.in_channels)
        if part.in_channels * side**2 == latent_dim:
            yield (part.in_channels, side, side)


def _last_shape(steps: list[fx.Node], shapes: dict[fx.Node, tuple[int, ...]]) -> tuple[int, ...] | None:
    return shapes[steps[-1]][1:] if steps else None


class _Step:
    """One node, appended to a chain."""

    def __init__(self, chain: Chain, twin: nn.Module, node: fx.Node):
        self.chain, self.twin, self.node = chain, twin, node
        self.place = _place(node, twin)

    def append(self, shape: tuple[int, ...]) -> None:
        """Append the node, whose result on the three probes has `shape`."""
        if shape[:1] != (_PROBES,):
            raise UnsupportedLayerError(
                f"expected a first axis that counts the latents at every step, got shape {shape} for "
                f"{_PROBES} latents at {self.place}; reshape with view(z.size(0), ...) or nn.Flatten"
            )
        if self.node.op == "call_module":
            self._module(self.twin.get_submodule(str(self.node.target)), shape[1:])
        else:
            self._function()
        self.chain.shape = shape[1:]

    def _module(self, part: nn.Module, shape: tuple[int, ...]) -> None:
        if len(self.node.args) != 1 or self.node.kwargs:
            raise self._unsupported("called with more than one input")
        if isinstance(part, nn.Linear):
            self._linear(part, shape)
        elif isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
            self._convolution(part, shape)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            self.chain.add_diagonal(*fold_batch_norm(part.running_mean, part.running_var, part.weight, part.bias, part.eps))
        elif isinstance(part, PLUModule):
            self._activation(part.activation)
        elif isinstance(part, nn.LeakyReLU):
            self._activation(self._leaky(part.negative_slope))
        elif isinstance(part, nn.ReLU | nn.Tanh | nn.Sigmoid):
            self._activation({nn.ReLU: ReLU(), nn.Tanh: Tanh(), nn.Sigmoid: Sigmoid()}[_kind(part)])

    def _function(self) -> None:
        target, kwargs = self.node.target, self.node.kwargs
        if target in _ACTIVATIONS:
            self._activation(_ACTIVATIONS[target])
        elif target in _LEAKY:
            slope = kwargs.get("negative_slope", self.node.args[1] if len(self.node.args) > 1 else 0.01)
            self._activation(self._leaky(slope))
        elif target in _DROPOUTS:
            p = kwargs.get("p", self.node.args[1] if len(self.node.args) > 1 else 0.5)
            default = target is not F.alpha_dropout
            training = kwargs.get("training", self.node.args[2] if len(self.node.args) > 2 else default)
            if training and p != 0:
                raise ValueError(
                    f"expected dropout in eval mode, got {self.place} with training={training}; "
                    "pass training=self.training and call .eval()"
                )

    def _linear(self, part: nn.Linear, shape: tuple[int, ...]) -> None:
        if prod(self.chain.shape) != part.in_features:
            raise self._unsupported(f"applied to each row of a signal of shape {self.chain.shape}")
        W = Dense(part.weight.detach())
        b = part.weight.new_zeros(W.m) if part.bias is None else part.bias.detach()
        self.chain.add_map(W, b, shape)

    def _convolution(self, part: nn.ConvTranspose2d | nn.Conv2d, shape: tuple[int, ...]) -> None:
        if part.padding_mode != "zeros":
            raise self._unsupported(f"with padding_mode {part.padding_mode!r}, only 'zeros' can be read")
        if len(self.chain.shape) != 3:
            raise self._unsupported(f"on a signal of shape {self.chain.shape}, not (channels, height, width)")
        weight, place = part.weight.detach(), (part.stride, self._padding(part), part.dilation, part.groups)
        W: Conv2d | ConvTranspose2d
        if isinstance(part, nn.ConvTranspose2d):
            W = ConvTranspose2d(weight, self.chain.shape, *place, part.output_padding)  # type: ignore[arg-type]
        else:
            W = Conv2d(weight, self.chain.shape, *place)  # type: ignore[arg-type]
        b = weight.new_zeros(W.m) if part.bias is None else per_output(part.bias.detach(), W.shape_out)
        self.chain.add_map(W, b, shape)

    def _padding(self, part: nn.ConvTranspose2d | nn.Conv2d) -> tuple[int, ...]:
        if not isinstance(part.padding, str):
            return part.padding
        if part.padding == "valid":
            return (0, 0)
        total = [d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True)]
        if any(size % 2 for size in total):
            raise self._unsupported("with padding 'same' and an even kernel, which pads one side more")
        return tuple(size // 2 for size in total)

    def _activation(self, activation: AbstractActivation) -> None:
        self.chain.add_activation(activation, self.place)

    def _leaky(self, slope: Any) -> AbstractActivation:
        if not isinstance(slope, int | float) or not 0 <= slope < 1:
            raise self._unsupported(f"with slope {slope}, only slopes in [0, 1) can be read")
        return leaky(slope)

    def _unsupported(self, what: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"expected a step that can be read, got {self.place} {what}; {_CURE}")


def _kind(part: nn.Module) -> type[nn.Module]:
    return next(kind for kind in _MODULES if isinstance(part, kind))


def leaky(slope: float) -> AbstractActivation:
    """LeakyReLU of a slope in [0, 1); with slope 0 it is the ReLU."""
    return ReLU() if slope == 0 else LeakyReLU(float(slope))


def fold_batch_norm(
    mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Scale and shift, one number per channel, that a batch norm applies in eval mode."""
    assert mean is not None and var is not None
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach()
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias.detach()


def _compare(generator: Generator, twin: nn.Module, shape: tuple[int, ...]) -> None:
    z = _latents(_CHECKS, shape)
    expected, got = twin(z.clone()).flatten(1), generator(z.flatten(1))
    scale = max(float(expected.norm()), torch.finfo(torch.float64).tiny)
    relative = float((expected - got).norm()) / scale if expected.shape == got.shape else float("inf")
    # negated, so that NaN is caught too
    if not relative <= _RTOL:
        raise ValueError(
            f"expected the module to compute what was read from it, got a relative "
            f"difference of {relative:.1e} on {_CHECKS} random latents (allowed {_RTOL:.0e}); "
            "remove forward hooks, in-place changes and randomness"
        )

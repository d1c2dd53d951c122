"""Reading a torch module: its forward pass is traced symbolically, said in ops, and folded into a generator.

Everything happens on a float64 copy on the CPU: the user's module, its mode and torch's global state stay as
they are. What was read is compared with the copy on random latents before it is given out.
"""

import copy
import operator
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ...errors import UnsupportedLayerError
from ...inputs import plain_tensor
from .. import ops
from ..activations import KINDS, AbstractActivation, all_kinds
from ..chain import Generator
from ..folding import fold
from ..maps import Resampling2d
from .agreement import check_agreement
from .labels import fixed_label, no_label

_PROBES = 3
_CHECKS = 16
_RTOL = 1e-10  # float64 roundings of a deep chain stay below 1e-12; a misread step does not

# these pick pixels; ZeroPad2d is a ConstantPad2d
_RESAMPLINGS = (nn.Upsample, nn.ConstantPad2d, nn.ReplicationPad2d, nn.ReflectionPad2d, nn.CircularPad2d)
_MODULES = (
    nn.Linear, nn.ConvTranspose2d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, _DropoutNd, nn.Flatten, nn.Unflatten,
    *_RESAMPLINGS,
)  # fmt: skip
# the latent that a module takes where it comes first
_LATENTS: dict[type[nn.Module], Callable[[Any], ops.Shape]] = {
    nn.Linear: lambda part: (part.in_features,),
    nn.ConvTranspose2d: lambda part: (part.in_channels, 1, 1),
    nn.Conv2d: lambda part: (part.in_channels, 1, 1),
    nn.BatchNorm1d: lambda part: (part.num_features,),
    nn.BatchNorm2d: lambda part: (part.num_features, 1, 1),
    nn.Unflatten: lambda part: (prod(n[1] if isinstance(n, tuple) else n for n in part.unflattened_size),),
}
_DEFAULTS = {"negative_slope": 0.01}  # torch's, for numbers that a functional call leaves out
_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout)
_RESHAPES = (
    torch.flatten, torch.reshape, torch.unflatten, torch.squeeze, torch.unsqueeze,
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous",
)  # fmt: skip
_NEAREST = ("nearest", "nearest-exact")
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_PRODUCTS = (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
_WITH_LABEL = (*_CONCATENATIONS, *_SUMS, *_PRODUCTS)
_SIZES = ("size", "dim", "numel")
_INTEGERS = (operator.getitem, operator.mul, operator.floordiv, operator.add, operator.sub, int)
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError)
_TRACE_ERRORS = (*_RUN_ERRORS, fx.proxy.TraceError, AttributeError, KeyError, NameError)
_CURE = (
    "supported are Linear, ConvTranspose2d, Conv2d, BatchNorm, ReLU, LeakyReLU, nearest upsampling, padding, reshapes, "
    "dropout in eval mode, and at the output Tanh, Sigmoid, PLUModule; replace it, or pass a part of the model without it"
)


def read_module(module: nn.Module, latent_dim: int | None = None, label: int | None = None) -> Generator:
    """The generator that `module` computes, in float64 on the CPU; of a conditional one, that of `label`.

    What the forward pass makes of the label alone (an embedding, one-hot numbers, maps of these) is computed once;
    where it joins the signal, by concatenation, product or sum, it is folded into the next map and its bias.

    Raises: ValueError for a module in training mode, without running statistics, with non-finite weights,
    without a recognisable latent size, with a missing or wrong label, or that computes something else than what was
    read; UnsupportedLayerError, with the module path, for what no chain of maps and activations can hold.
    """
    check_ready(module)
    twin = _copy(module)
    graph = _trace(twin)
    inputs = _read_inputs(graph, twin, label)
    steps = _steps(graph, twin, inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        shape, seen = _probe(twin, graph, steps, inputs, latent_dim)
        described = {} if inputs.label is None else {"label": inputs.label}
        generator = fold(_said(twin, steps, shape, seen), shape, description=described)
        _compare(generator, twin, shape, inputs)
    return generator


def check_ready(module: nn.Module) -> None:
    """Raise ValueError unless the module computes one fixed function: eval mode, statistics, finite
    weights."""
    for path, part in module.named_modules():
        where = f"{path or 'module'} ({type(part).__name__})"
        if wrapped := _wrapper(part):
            raise UnsupportedLayerError(
                f"expected an nn.Module that torch.fx can trace, got {where} of {wrapped[0]}; pass {wrapped[1]}"
            )
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
        plain = plain_tensor(tensor, path)  # refuses complex, sparse and quantised ones
        if plain.is_meta:
            raise ValueError(f"expected weights with numbers in them, got {path} on meta; load the weights first")
        if plain.is_floating_point() and plain.dtype.itemsize < 2:
            raise TypeError(f"expected weights of at least 16 bits, got {path} in {plain.dtype}; pass module.float()")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"expected finite weights, got NaN or infinite entries in {path}; retrain the module")


def _wrapper(part: nn.Module) -> tuple[str, str] | None:
    """Who wrapped a module so that its forward pass does not show, and what to pass instead."""
    dynamo = sys.modules.get("torch._dynamo")  # importing it takes seconds, and without it nothing is compiled
    if isinstance(part, torch.jit.ScriptModule):
        return "torch.jit", "the module that was scripted or traced"
    if dynamo is not None and isinstance(part, dynamo.OptimizedModule):
        return "torch.compile", "the module that was compiled, its ._orig_mod"
    if isinstance(part, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "torch.nn.parallel", "the module inside, its .module"
    return None


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
    """Whether it is a module that can be read, and computes what those of its kind do."""
    maps = any(isinstance(part, kind) and type(part).forward is kind.forward for kind in _MODULES)
    return maps or _activation_of(part) is not None


def _activation_of(part: nn.Module) -> type[AbstractActivation] | None:
    """The activation that names the module's class, or one that it inherits its forward pass from."""
    same = [cls for cls in type(part).__mro__ if getattr(cls, "forward", None) is type(part).forward]
    ours = {cls.__name__ for cls in same if cls.__module__.split(".")[0] in ("torch", "cvxinv")}
    names = {cls.__name__ for cls in same}
    kinds = (kind for kind in all_kinds() if not (ours if kind in KINDS else names).isdisjoint(kind.torch_modules))
    return next(kinds, None)


def _activation_named(target: Any) -> type[AbstractActivation] | None:
    """The activation that a function or a method of tensors bears the name of: `F.relu`, `torch.relu_`, "relu"."""
    name = (target if isinstance(target, str) else getattr(target, "__name__", "")).removesuffix("_")
    return next((kind for kind in all_kinds() if kind.name == name), None)


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
    """Whether the node is a shape, an integer made of shapes, a dtype or a device."""
    if node.op == "call_method":
        return node.target in _SIZES
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device")
    return node.target in _INTEGERS and all(_is_integer(source) for source in node.all_input_nodes)


@dataclass(frozen=True)
class _Inputs:
    """The forward pass' inputs: the latent, and of a conditional generator the label with the nodes that it decides.

    `places` are the inputs up to the last one that is needed; `labelled` are the nodes that the label alone decides, and
    `aside` what these are made of besides.
    """

    places: tuple[fx.Node, ...]
    latent: fx.Node
    label_node: fx.Node | None = None
    label: int | None = None
    labelled: frozenset[fx.Node] = frozenset()
    aside: frozenset[fx.Node] = frozenset()

    def arguments(self, z: Tensor) -> list[Any]:
        """What the forward pass is called with for latents `z`; inputs that it does not need keep their default."""
        given = {self.latent: z}
        if self.label_node is not None and self.label is not None:
            given[self.label_node] = torch.full((z.shape[0],), self.label, dtype=torch.int64)
        return [given.get(node, node.args[0] if node.args else None) for node in self.places]


def _read_inputs(graph: fx.Graph, twin: nn.Module, label: int | None) -> _Inputs:
    nodes = [node for node in _live(graph) if not _is_integer(node)]
    needed = [node for node in nodes if node.op == "placeholder"]
    labels = [node for node in needed if _looked_up(nodes, node, twin)]
    if len(needed) == 2 and not labels and label is not None:
        labels = needed[1:]
    if len(needed) != 1 + len(labels) or len(labels) > 1 or str(needed[0].target).startswith("*"):
        names = ", ".join(str(node.target) for node in needed) or "none"
        raise UnsupportedLayerError(
            f"expected a forward pass of one input, the latent, or of a latent and a class label, got the inputs {names}; "
            "wrap the module so that other inputs are fixed, or pass label=... if the second one is an integer class"
        )
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    places = tuple(inputs[: 1 + inputs.index(needed[-1])])
    if not labels:
        no_label(label)
        return _Inputs(places, needed[0])
    label_node = labels[0]
    latent = next(node for node in needed if node is not label_node)
    number = fixed_label(label, min(_looked_up(nodes, label_node, twin), default=None))
    labelled = _reached(nodes, label_node) - _reached(nodes, latent)
    aside = _reached(nodes[::-1], *labelled, backwards=True) - labelled
    return _Inputs(places, latent, label_node, number, frozenset(labelled), frozenset(aside))


def _looked_up(nodes: list[fx.Node], source: fx.Node, twin: nn.Module) -> list[int]:
    """How many classes each look-up knows that `source` goes into."""
    return [size for node in _reached(nodes, source) if (size := _classes(node, twin)) is not None]


def _classes(node: fx.Node, twin: nn.Module) -> int | None:
    """How many classes there are, where the node looks a label up."""
    if node.op == "call_module":
        part = twin.get_submodule(str(node.target))
        return part.num_embeddings if isinstance(part, nn.Embedding) else None
    if node.target is F.one_hot:
        size = node.kwargs.get("num_classes", node.args[1] if len(node.args) > 1 else None)
        return size if isinstance(size, int) and size > 0 else None
    return None


def _reached(nodes: list[fx.Node], *starts: fx.Node, backwards: bool = False) -> set[fx.Node]:
    """`starts`, and of `nodes`, which are in order, all that depend on them (`backwards`: that they depend on)."""
    reached = set(starts)
    for node in nodes:
        if not reached.isdisjoint(node.users if backwards else node.all_input_nodes):
            reached.add(node)
    return reached


def _steps(graph: fx.Graph, twin: nn.Module, inputs: _Inputs) -> list[fx.Node]:
    """The nodes of the chain from the latent to the output, in order; shapes and label on the side are left out."""
    nodes = [node for node in _live(graph) if not _is_integer(node)]
    current = inputs.latent
    steps: list[fx.Node] = []
    for node in nodes:
        if node.op == "placeholder" or node in inputs.labelled or node in inputs.aside:
            continue
        sources = [source for source in node.all_input_nodes if not _is_integer(source)]
        place = "the output" if node.op == "output" else _place(node, twin)
        if node.op == "get_attr" or (not sources and node.op != "output"):
            raise UnsupportedLayerError(
                f"expected steps on the signal alone, got {place}, a tensor of its own; "
                "use the modules nn.Linear, nn.Conv2d, ... for weights and leave constants and noise out"
            )
        joins = node.target in _WITH_LABEL and any(source in inputs.labelled for source in sources)
        signals = [source for source in sources if source not in inputs.labelled] if joins else sources
        signal = node.args[0] if node.args else node.kwargs.get("input")
        if signals != [current] or (signal is not current and not joins):
            raise UnsupportedLayerError(
                "expected a chain in which every step takes the step before, got a branch or skip connection "
                f"at {place}; invert a feed-forward part of the model"
            )
        if node.op != "output":
            if not joins:
                _check_kind(node, twin, place)
            steps.append(node)
            current = node
    return steps


def _check_kind(node: fx.Node, twin: nn.Module, place: str) -> None:
    if node.op == "call_module":
        part = twin.get_submodule(str(node.target))
        known = isinstance(part, _MODULES) or _activation_of(part) is not None
    else:
        known = node.target in (*_DROPOUTS, *_RESHAPES, F.pad, F.interpolate) or _activation_named(node.target) is not None
    if not known:
        raise UnsupportedLayerError(f"expected a step that can be read, got {place}; {_CURE}")


def _probe(
    twin: nn.Module, graph: fx.Graph, steps: list[fx.Node], inputs: _Inputs, latent_dim: int | None
) -> "tuple[tuple[int, ...], _Recorder]":
    """The shape of one latent that runs, and what running three latents showed."""
    tried, reason = [], "no layer says how many latent coordinates there are"
    for shape in _candidates(steps, twin, inputs, latent_dim):
        recorder = _Recorder(twin, graph, inputs.labelled)
        try:
            recorder.run(*inputs.arguments(_latents(_PROBES, shape)))
        except _RUN_ERRORS as error:
            tried.append(shape)
            reason = str(error).strip().splitlines()[0]
            continue
        return shape, recorder
    called = "" if inputs.label_node is None else f", with a label of shape ({_PROBES},) as {inputs.label_node.target}"
    raise ValueError(
        f"expected a module that runs on latents of a shape it implies, got none among {tried}{called} ({reason}); "
        "pass latent_dim=..., or mend the module if the shapes of its layers do not meet"
    )


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the shape of every step's result, and the results that the label alone decides."""

    def __init__(self, module: nn.Module, graph: fx.Graph, labelled: frozenset[fx.Node]):
        super().__init__(module, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.values: dict[fx.Node, Tensor] = {}
        self.labelled = labelled
        # a latent shape that does not fit is no error here, so its message needs no trace of the graph
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and keep what is to be kept of its result."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
            if n in self.labelled:
                self.values[n] = result.clone()
        return result


def _latents(N: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _candidates(steps: list[fx.Node], twin: nn.Module, inputs: _Inputs, latent_dim: int | None) -> list[tuple[int, ...]]:
    """Shapes of one latent that the first steps suggest, without repetition."""
    shapes = [shape for node in steps for shape in _implied(node, twin)]
    widths = [width for node in inputs.labelled if (width := _label_width(node, twin)) is not None]
    # with the label beside it, the latent is narrower than the first layer; with the label as a factor, as wide
    beside = [(shape[0] - width, *shape[1:]) for shape in shapes[:2] for width in widths if shape[0] > width]
    shapes = [*beside, *shapes, *((width,) for width in widths)]
    if latent_dim is not None:
        shapes = [shape for shape in shapes if prod(shape) == latent_dim]
        shapes += [(latent_dim,), (latent_dim, 1, 1)]
        shapes += [shape for node in steps for shape in _squares(node, twin, latent_dim)]
    return list(dict.fromkeys(shapes))[:8]


def _label_width(node: fx.Node, twin: nn.Module) -> int | None:
    """How many numbers per signal the node makes of the label."""
    if node.op != "call_module":
        return _classes(node, twin)
    part = twin.get_submodule(str(node.target))
    return part.embedding_dim if isinstance(part, nn.Embedding) else getattr(part, "out_features", None)


def _implied(node: fx.Node, twin: nn.Module) -> Iterator[tuple[int, ...]]:
    if node.op == "call_module":
        part: Any = twin.get_submodule(str(node.target))
        yield from (shape(part) for kind, shape in _LATENTS.items() if isinstance(part, kind))
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


def _said(twin: nn.Module, steps: list[fx.Node], shape: ops.Shape, seen: "_Recorder") -> ops.Ops:
    """The steps in ops, for latents of `shape`; each with its place."""
    for node in steps:
        step = _Step(twin, node, shape, seen)
        yield from ((ops.Place(step.place, _CURE), op) for op in step.read())
        shape = step.after


class _Step:
    """One node between signals of shapes `before` and `after`; `values` are what the label alone decides, on the probes."""

    def __init__(self, twin: nn.Module, node: fx.Node, before: ops.Shape, seen: "_Recorder"):
        self.twin, self.node, self.before, self.values, self.place = twin, node, before, seen.values, _place(node, twin)
        shape = seen.shapes[node]
        if shape[:1] != (_PROBES,):
            raise UnsupportedLayerError(
                f"expected a first axis that counts the latents at every step, got shape {shape} for "
                f"{_PROBES} latents at {self.place}; reshape with view(z.size(0), ...) or nn.Flatten"
            )
        self.after = shape[1:]

    def read(self) -> Iterator[ops.AbstractOp]:
        """What the node does to a signal. Raises: UnsupportedLayerError, ValueError."""
        if self.node.op == "call_module":
            yield from self._module(self.twin.get_submodule(str(self.node.target)))
        elif self.node.target in _WITH_LABEL:
            yield self._with_label()
        elif self.node.target in _RESHAPES:
            yield ops.Reshape(shape=self.after)
        else:
            yield from self._function()

    def _module(self, part: nn.Module) -> Iterator[ops.AbstractOp]:
        if len(self.node.args) != 1 or self.node.kwargs:
            raise self._unsupported("called with more than one input")
        if isinstance(part, nn.Linear):
            if prod(self.before) != part.in_features:
                raise self._unsupported(f"applied to each row of a signal of shape {self.before}")
            yield ops.Linear.of(part)
            yield ops.Reshape(shape=self.after)
        elif isinstance(part, nn.ConvTranspose2d):
            self._picture()
            yield ops.TransposedConvolution.of(part)
        elif isinstance(part, nn.Conv2d):
            yield from self._convolution(part)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            yield ops.BatchNorm.of(part)
        elif isinstance(part, nn.Flatten | nn.Unflatten):
            yield ops.Reshape(shape=self.after)
        elif isinstance(part, _RESAMPLINGS):
            yield self._resample(part, getattr(part, "mode", None), getattr(part, "value", 0.0))
        elif kind := _activation_of(part):
            yield self._activation(kind, [getattr(part, name) for name in kind.parameter_names])

    def _function(self) -> Iterator[ops.AbstractOp]:
        target = self.node.target
        if target in (F.pad, F.interpolate):
            yield self._resampling_function()
        elif kind := _activation_named(target):
            names = enumerate(kind.parameter_names, 1)
            yield self._activation(kind, [self._argument(name, place, _DEFAULTS.get(name)) for place, name in names])
        elif target in _DROPOUTS:
            training = self._argument("training", 2, target is not F.alpha_dropout)
            if training and self._argument("p", 1, 0.5) != 0:
                raise ValueError(
                    f"expected dropout in eval mode, got {self.place} with training={training}; "
                    "pass training=self.training and call .eval()"
                )

    def _argument(self, name: str, place: int, default: Any) -> Any:
        return self.node.kwargs.get(name, self.node.args[place] if len(self.node.args) > place else default)

    def _convolution(self, part: nn.Conv2d) -> Iterator[ops.AbstractOp]:
        picture, pads, padding = self._picture(), _pads(part), (0, 0)
        if part.padding_mode == "zeros" and pads[::2] == pads[1::2]:
            padding = (pads[2], pads[0])
        elif any(pads):  # other paddings than a convolution's own become a map in front of it
            yield ops.Resampling.of(Resampling2d.padding(picture, pads, part.padding_mode))
        yield ops.Convolution.of(part, padding=padding, padding_mode="zeros")

    def _resampling_function(self) -> ops.AbstractOp:
        target, args, kwargs = self.node.target, self.node.args[1:], dict(self.node.kwargs)
        kwargs.pop("input", None)
        if any(isinstance(value, fx.Node) for value in self.node.all_input_nodes[1:]):
            raise self._unsupported("with sizes that depend on the signal's")
        assert callable(target)
        mode = self._argument("mode", 3, "nearest") if target is F.interpolate else None
        value = self._argument("value", 3, 0.0) if target is F.pad else None
        return self._resample(lambda x: target(x, *args, **kwargs), mode, value)

    def _resample(self, step: Callable[[Tensor], Tensor], mode: Any, value: Any) -> ops.AbstractOp:
        """What `step` does to pictures: it shows on pictures that number their rows and columns from 1."""
        before = self._picture()
        if mode is not None and mode not in _NEAREST:
            raise self._unsupported(f"with mode {mode!r}, only 'nearest' can be read")
        if value not in (None, 0):
            raise self._unsupported(f"with value {value}, only padding with zeros can be read")
        grid = torch.meshgrid(*(torch.arange(1, size + 1, dtype=torch.float64) for size in before[1:]), indexing="ij")
        rows, columns = (step(numbers.expand(1, *before)) for numbers in grid)
        if tuple(rows.shape[:2]) != (1, before[0]):
            raise self._unsupported("on other axes than height and width")
        picks = (rows[0, 0].amax(1).long() - 1, columns[0, 0].amax(0).long() - 1)
        return ops.Resampling.of(Resampling2d.picking(before, *picks))

    def _picture(self) -> tuple[int, int, int]:
        if len(self.before) != 3:
            raise self._unsupported(f"on a signal of shape {self.before}, not (channels, height, width)")
        return self.before

    def _with_label(self) -> ops.AbstractOp:
        """What the label decides: channels beside the signal, a factor or a summand."""
        if self.node.target in _CONCATENATIONS:
            return self._concatenate()
        sides = [*self.node.args, *(value for key, value in self.node.kwargs.items() if key in ("input", "other"))]
        fixed = [side for side in sides if isinstance(side, fx.Node) and side in self.values]
        known = len(sides) == 2 and len(fixed) == 1 and not self.node.kwargs.keys() - {"input", "other"}
        if not known or self.after != self.before:
            raise self._unsupported("on a label in a form that cannot be read")
        numbers = self._fixed(self.values[fixed[0]].expand(_PROBES, *self.after)).reshape(-1)
        if self.node.target in _PRODUCTS:
            return ops.Diagonal(scale=numbers, shift=torch.zeros_like(numbers))
        return ops.Diagonal(scale=torch.ones_like(numbers), shift=numbers)

    def _concatenate(self) -> ops.AbstractOp:
        parts: Any = self.node.args[0] if self.node.args else self.node.kwargs["tensors"]
        tensors = [self.values.get(part) for part in parts]
        place = next(i for i, tensor in enumerate(tensors) if tensor is None)
        sides = [[self._fixed(t) for t in side if t is not None] for side in (tensors[:place], tensors[place + 1 :])]
        rest = self.before[1:]
        channels = self.before[0] + sum(t.shape[0] for side in sides for t in side)
        if self.after != (channels, *rest) or any(t.shape[1:] != rest for side in sides for t in side):
            raise self._unsupported(f"beside a signal of shape {self.before} along another axis than its first")
        empty = torch.zeros(0, *rest, dtype=torch.float64)
        before, after = (torch.cat([empty, *side]) for side in sides)
        return ops.Channels(before=before, after=after)

    def _fixed(self, values: Tensor) -> Tensor:
        """One signal's numbers, in float64, of values that are the same for every signal."""
        if values.shape[:1] != (_PROBES,) or not torch.equal(values, values[:1].expand_as(values)):
            raise self._unsupported("on what is not the same for every signal of one label")
        return values[0].double()

    def _activation(self, kind: type[AbstractActivation], numbers: list[Any]) -> ops.AbstractOp:
        try:
            return ops.Activation(kind.of(*numbers))
        except ValueError as error:
            said = ", ".join(f"{name} {number}" for name, number in zip(kind.parameter_names, numbers, strict=True))
            raise self._unsupported(f"with {said} ({error})") from error

    def _unsupported(self, what: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"expected a step that can be read, got {self.place} {what}; {_CURE}")


def _pads(part: nn.Conv2d) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) that a convolution pads; "same" pads one more behind where the sum is odd."""
    if part.padding == "same":
        down, across = (d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True))
        return across // 2, across - across // 2, down // 2, down - down // 2
    top, left = (0, 0) if isinstance(part.padding, str) else part.padding
    return left, left, top, top


def _compare(generator: Generator, twin: nn.Module, shape: tuple[int, ...], inputs: _Inputs) -> None:
    z = _latents(_CHECKS, shape)
    expected, source = twin(*inputs.arguments(z.clone())).flatten(1), "the module to compute what was read from it"
    cure = "remove forward hooks, in-place changes and randomness"
    check_agreement(expected, generator(z.flatten(1)), _RTOL, source=source, cure=cure)

"""The pair NAME.safetensors + NAME.json of `docs/format.md`: each entry of its `layers` is an op, read and written by its
fields."""

from dataclasses import MISSING, Field, fields
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from ...errors import UnsupportedLayerError
from ...files import parse_json, read_tensors, write_pair
from ...inputs import is_finite
from ...surroundings import undisturbed
from ..abstract import AbstractGenerator, check_distribution, in_order
from ..activations import KINDS, AbstractActivation, in_files
from ..chain import Generator, factors
from ..folding import fold
from ..maps import AbstractMap
from ..ops import (
    OPS,
    AbstractMapOp,
    AbstractOp,
    Activation,
    Diagonal,
    Embedding,
    Pair,
    Place,
    Reshape,
    Shape,
    Softmax,
    Triple,
    per_channel,
)  # fmt: skip
from .labels import fixed_label, no_label

_FORMAT = "cvxinv generator format"
_VERSION = 1
# what the format says about its own files: not part of a generator's description
_OWN_KEYS = ("format", "version", "layers", "tensors", "parameters", "sha256", "bytes")


@undisturbed
def save_generator(generator: Generator, path: str | Path) -> None:
    """Write `path`.safetensors and `path`.json (either suffix may be given), both whole or neither.

    Loading them in the generator's own dtype gives the same maps, bit for bit. Raises: ValueError for a map or an activation
    that the format does not know, before anything is written.
    """
    if isinstance(generator, AbstractGenerator) and not isinstance(generator, Generator):
        raise ValueError(
            f"expected a chain of layers, which is what files hold, got {generator.kind}; keep its code with the weights, "
            "torch.save(module.state_dict(), path), and load it again with load_generator(module, opaque=True)"
        )
    if not isinstance(generator, Generator):
        raise TypeError(f"expected a Generator, got {type(generator).__name__}; pass load_generator(module) for a module")
    weights_path, json_path = pair_of(path)
    entries: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for index, op in enumerate(ops_of(generator)):
        entry, own = entry_of(op, f"layers.{index}")
        entries.append(entry)
        tensors |= own
    described = {key: value for key, value in generator.description.items() if key not in _OWN_KEYS}
    described["latent"] = {**described.get("latent", {}), "dim": generator.latent_dim}
    described["output"] = {**described.get("output", {}), "image_shape": list(generator.signal_shape)}
    spec = {"format": _FORMAT, "version": _VERSION, **described, "layers": entries}
    write_pair(weights_path, tensors, json_path, spec)


def pair_of(path: str | Path) -> tuple[Path, Path]:
    """The two files of a name; only the format's own suffixes are cut off, so that a name may hold dots."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    if path.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin"):
        raise ValueError(
            f"expected NAME.safetensors with NAME.json, got {path}, a pickle; "
            "load its state_dict into the module that it belongs to, and pass the module"
        )
    return stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")


# --- a generator in ops -----------------------------------------------------------------------------


def ops_of(generator: Generator) -> list[AbstractOp]:
    """The ops that a generator is written as. Raises: ValueError for what the format does not know."""
    ops: list[AbstractOp] = []
    shape: Shape = (generator.latent_dim,)
    for layer in generator.layers:
        parts = factors(layer.W)
        for position, W in enumerate(parts):
            before, after = W.shapes
            if before != shape:
                ops.append(Reshape(shape=before))
            bias = _short_bias(layer.b, after) if position == len(parts) - 1 else None
            ops.append(_map_op(W, composed=position > 0, bias=bias))
            shape = after
        if not in_files(layer.activation):
            known = ", ".join(kind.__name__ for kind in KINDS)
            raise ValueError(
                f"expected an activation that files know ({known}), got {layer.activation!r}; "
                "save generator.with_output('identity') and load it with load_generator(path, output=...)"
            )
        ops += _activation_ops(layer.activation, shape)
    return ops


def _activation_ops(activation: AbstractActivation, shape: Shape) -> list[AbstractOp]:
    phi, scale, shift = activation.parts
    if not phi.elementwise:
        (grouped, axis) = phi.groups
        return [*([] if grouped == shape else [Reshape(shape=grouped)]), Softmax(axis=axis)]
    ops: list[AbstractOp] = [] if phi.linear else [Activation(phi)]
    if (scale, shift) != (1.0, 0.0):
        scales, shifts = (torch.full(shape[:1], number, dtype=torch.float64) for number in (scale, shift))
        ops.append(Diagonal(scale=scales, shift=shifts))
    return ops


def _map_op(W: AbstractMap, **others: Any) -> AbstractOp:
    for kind in OPS.values():
        if issubclass(kind, AbstractMapOp) and kind.saves is type(W):
            return kind.of(W, **others)
    raise ValueError(
        f"expected maps Dense, Conv2d, ConvTranspose2d, Resampling2d and their compositions, got {type(W).__name__}; "
        "save Dense(W.matrix()) in its place"
    )


def _short_bias(b: Tensor, shape: Shape) -> Tensor:
    """One number per channel where the bias does not depend on the position, else one per output."""
    channels = per_channel(b, shape[0])
    return b.reshape(shape) if channels is None else channels


def entry_of(op: AbstractOp, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is written of an op: its entry, and its tensors under names that begin with `key`."""
    if isinstance(op, Activation):
        numbers = op.activation.parameters
        return {
            "op": op.activation.name,
            **{key: None if value in (inf, -inf) else value for key, value in numbers.items()},
        }, {}
    entry: dict[str, Any] = {"op": op.names[0]}
    tensors: dict[str, Tensor] = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Tensor):
            tensors[f"{key}.{field.name}"] = value
        elif isinstance(value, tuple):
            entry[field.name] = list(value)
        elif value is not None and not (isinstance(value, bool | str) and value == field.default):
            entry[field.name] = value
    if isinstance(op, AbstractMapOp):
        entry["bias"] = op.bias is not None
    return entry, tensors


# --- reading ----------------------------------------------------------------------------------------


def read_pair(pair: tuple[Path, Path], latent_dim: int | None, label: int | None) -> Generator:
    """The generator of two files that are there. Raises: ValueError, UnsupportedLayerError, with file and layer."""
    weights_path, json_path = pair
    spec = _read_spec(json_path)
    # torch counts training batches in every batch norm; evaluation does not need it
    read = read_tensors(weights_path, spec.get("sha256"), json_path.name, "generator")
    tensors = {name: tensor for name, tensor in read.items() if not name.endswith(".num_batches_tracked")}
    n0 = spec["latent"]["dim"]
    if latent_dim not in (None, n0):
        raise ValueError(f"expected latent_dim={n0} as {json_path} says, got {latent_dim}; leave latent_dim out")
    ops = [_Entry(entry, index, json_path, tensors).read(label) for index, entry in enumerate(spec["layers"])]
    if not any(OPS.get(entry["op"]) is Embedding for entry in spec["layers"]):
        no_label(label)
    if tensors:
        raise ValueError(
            f"expected tensors of the layers that {json_path} lists, got also {', '.join(sorted(tensors))}; "
            "use the two files that belong together"
        )
    description = {"name": weights_path.stem} | {key: value for key, value in spec.items() if key not in _OWN_KEYS}
    description |= {} if label is None else {"label": int(label)}
    if "image_shape" in (output := spec.get("output", {})):
        ops.append((Place(f"output.image_shape of {json_path}", "correct it"), Reshape(shape=tuple(output["image_shape"]))))
    return fold(ops, (n0,), description)


def _read_spec(path: Path) -> dict[str, Any]:
    spec = parse_json(path.read_bytes(), path)
    layers = spec.get("layers") if isinstance(spec, dict) else None
    if not isinstance(layers, list) or not all(isinstance(op, dict) and "op" in op for op in layers):
        raise ValueError(
            f"expected an object with a list 'layers' of objects that have an 'op' in {path}, got "
            "something else; docs/format.md describes the file"
        )
    if spec.get("version", _VERSION) != _VERSION:
        raise ValueError(f"expected version {_VERSION} in {path}, got {spec['version']}; update cvxinv to read it")
    latent, output = spec.get("latent"), spec.get("output", {})
    if not isinstance(latent, dict) or not _whole(latent.get("dim")) or latent["dim"] < 1:
        raise ValueError(f'expected "latent": {{"dim": n0}} with n0 >= 1 in {path}, got {latent!r}; add it')
    check_distribution(latent, f'"latent" in {path}')
    if not isinstance(output, dict):
        raise ValueError(f'expected "output": {{...}} in {path}, got {output!r}; correct or remove it')
    shape, ends = output.get("image_shape"), output.get("range")
    if "image_shape" in output and not (isinstance(shape, list) and shape and all(_whole(n) and n >= 1 for n in shape)):
        raise ValueError(
            f'expected "image_shape" of "output" in {path} as integers >= 1, got {shape!r}; correct or remove it'
        )
    if ends is not None and not (isinstance(ends, list) and len(ends) == 2 and in_order(*ends)):
        raise ValueError(f'expected "range" of "output" in {path} as [low, high], got {ends!r}; correct or remove it')
    sha256 = spec.get("sha256")
    if sha256 is not None and not isinstance(sha256, str):
        raise ValueError(f'expected "sha256" in {path} as a text, got {sha256!r}; correct or remove it')
    return spec


def _whole(value: object) -> bool:
    """Whether a value of JSON is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


class _Entry:
    """One entry of `layers`, read into an op by that op's fields; it takes its tensors out of `tensors`."""

    def __init__(self, entry: dict[str, Any], index: int, path: Path, tensors: dict[str, Tensor]):
        self.entry, self.index, self.tensors = entry, index, tensors
        self.place = Place(f"layer {index} ({entry['op']}) of {path}", "docs/format.md describes the op")

    def read(self, label: int | None) -> tuple[Place, AbstractOp]:
        """The op, and where it stands. Raises: ValueError, UnsupportedLayerError."""
        kind = OPS.get(self.entry["op"])
        if kind is None:
            return self.place, Activation(self._activation())
        op = kind(**{field.name: value for field in fields(kind) if (value := self._value(field)) is not MISSING})
        if isinstance(op, Embedding):
            op = op.row(fixed_label(label, op.embedding.shape[0]))
        return self.place, op

    def _value(self, field: Field) -> Any:
        """What the entry says of a field, in float64; MISSING where it may and does say nothing."""
        name, kind, about = field.name, field.type, None
        if get_origin(kind) is Annotated:
            kind, about = get_args(kind)
        if kind in (Tensor, Tensor | None):
            needed = kind is Tensor or self.entry.get(name) is True
            return self._tensor(name, about) if needed or self._key(name) in self.tensors else MISSING
        if kind is bool:
            return self.entry.get(name) is True
        if name not in self.entry and field.default is not MISSING:
            return MISSING
        if get_origin(kind) is Literal:
            return self._word(name, get_args(kind))
        return self._number(name) if kind is float else self._integers(name, kind, about or 0)

    def _tensor(self, name: str, axes: int | str | None) -> Tensor:
        key = self._key(name)
        if key not in self.tensors:
            raise self.place.wrong(f"a tensor {key}", "none")
        tensor = self.tensors.pop(key)
        if axes == "integers":
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise self.place.wrong(f"integers in {key}", f"{tensor.dtype}")
            return tensor.long()
        if not tensor.is_floating_point() or axes not in (None, tensor.ndim):
            words = "" if axes is None else f" of {axes} axes"
            raise self.place.wrong(f"a floating {key}{words}", f"{tensor.dtype}, {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise self.place.wrong(f"finite entries in {key}", "NaN or infinite ones")
        return tensor.double()

    def _key(self, name: str) -> str:
        return f"layers.{self.index}.{name}"

    def _number(self, name: str) -> float:
        value: Any = self.entry.get(name)
        if not is_finite(value):
            raise self.place.wrong(f"a finite number {name!r}", f"{value!r}"[:40])
        return float(value)

    def _parameter(self, kind: type[AbstractActivation], name: str) -> Any:
        """A number of an activation, or a word where one stands by default; null for an end that is not there."""
        open_ended = kind.name == "clamp" and name in self.entry and self.entry[name] is None
        if open_ended or isinstance(self.entry.get(name), str):
            return self.entry[name]
        return self._number(name)

    def _word(self, name: str, known: tuple[str, ...]) -> str:
        word = self.entry[name]
        if word not in known:
            raise UnsupportedLayerError(
                f"expected {name} {' or '.join(map(repr, known))}, got {word!r} in {self.place.words}; retrain with it"
            )
        return word

    def _integers(self, name: str, kind: Any, least: int) -> Any:
        """One integer, two or three (or one for all), or a whole shape, as `kind` says; all of them >= `least`."""
        value: Any = self.entry.get(name)
        count = {Pair: 2, Triple: 3}.get(kind)
        given = [value] if kind is int else [value] * count if count and _whole(value) else value
        whole = isinstance(given, list) and all(_whole(v) and v >= least for v in given)
        if not whole or count not in (None, len(given)):
            words = {int: "an integer", Pair: f"one integer >= {least} or two" if least else "an integer or two"}
            words |= {Triple: "an integer or three"}
            raise self.place.wrong(f"{name} as {words.get(kind, 'a list of integers')}", f"{value!r}")
        return given[0] if kind is int else tuple(given)

    def _activation(self) -> AbstractActivation:
        kind = next((kind for kind in KINDS if kind.name == self.entry["op"]), None)
        if kind is None:
            raise UnsupportedLayerError(
                f"expected an op of docs/format.md, got {self.place.words}, which is unknown; "
                "build the generator without it, or save the part of it that does without"
            )
        numbers = [self._parameter(kind, name) for name in kind.parameter_names]
        try:
            return kind.of(*numbers)
        except ValueError as error:
            raise self.place.refused(error, ", ".join(map(str, numbers))) from error

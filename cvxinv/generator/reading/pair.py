"""Loading and saving generators: torch modules, and the pair NAME.safetensors + NAME.json of
`docs/format.md`."""

import difflib
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ...errors import UnsupportedLayerError
from ...shipped import shipped_file, shipped_generators
from ...surroundings import undisturbed
from ..activations import KINDS, PLU, AbstractActivation, Identity, Sigmoid, Tanh, in_files
from ..chain import Generator, Layer, factors
from ..folding import Chain, fixed_label, no_label, per_channel, per_output
from ..maps import AbstractMap, Conv2d, ConvTranspose2d, Dense, Resampling2d
from .module import fold_batch_norm, leaky, read_module
from .onnx_file import read_onnx

_FORMAT = "cvxinv generator format"
_VERSION = 1
# what the format says about its own files: not part of a generator's description
_OWN_KEYS = ("format", "version", "layers", "tensors", "parameters", "sha256", "bytes")
_LABEL_OP = "concat_label_embedding"


@undisturbed
def load_generator(
    source: nn.Module | str | Path,
    output: str | AbstractActivation | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    latent_dim: int | None = None,
    label: int | None = None,
) -> Generator:
    """The generator that a torch module computes, that a file pair NAME.safetensors + NAME.json holds, or NAME.onnx.

    "digits_8x8" and "mnist_gan" ship with the package; a file pair of that name in the current folder comes first.

    Batch norms are folded in float64; the result is cast to `dtype` last. `output` replaces the last
    activation ("identity", "relu", "leaky_relu", "leaky_relu:0.2", ... or an activation object). `latent_dim`
    says how many latent coordinates a module takes, where its layers do not. `label` chooses the class of a conditional
    generator and is folded in. The module is not changed.

    A module is compared with what was read from it on random latents, in float64. An ONNX file (extra `[onnx]`) is
    compared with onnxruntime where that is installed; the description says what it was compared with.

    Raises: UnsupportedLayerError (a TypeError), with the module path, the layer or the node of the file, for what
    cannot be read; FileNotFoundError for a missing file; ValueError for a damaged one, for a module that
    is not ready, and for a missing or wrong label; BackendNotInstalledError for an ONNX file without the extra.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"expected dtype torch.float32 or torch.float64, got {dtype}; pass one of the two")
    if isinstance(source, nn.Module):
        generator = read_module(source, latent_dim, label)
    elif isinstance(source, str | Path) and Path(source).suffix == ".onnx":
        if not Path(source).is_file():
            raise FileNotFoundError(
                f"expected an ONNX file, got no {source}; give the path of NAME.onnx{_near_onnx(source)}"
            )
        generator = read_onnx(Path(source), latent_dim, label)
    elif isinstance(source, str | Path):
        generator = _read_pair(source, latent_dim, label)
    else:
        raise TypeError(
            f"expected an nn.Module or a path, got {type(source).__name__}; "
            "pass the module itself (not its state_dict), or the path of NAME.safetensors with NAME.json, or of NAME.onnx"
        )
    generator = generator.to(dtype, device)
    return generator if output is None else generator.with_output(output)


@undisturbed
def save_generator(generator: Generator, path: str | Path) -> None:
    """Write `path`.safetensors and `path`.json (either suffix may be given), each whole or not at all.

    Loading them in the generator's own dtype gives the same maps, bit for bit.
    """
    if not isinstance(generator, Generator):
        raise TypeError(f"expected a Generator, got {type(generator).__name__}; pass load_generator(module) for a module")
    weights_path, json_path = _pair(path)
    tensors: dict[str, Tensor] = {}
    layers = _write_layers(generator, tensors)
    described = {key: value for key, value in generator.description.items() if key not in _OWN_KEYS}
    described["latent"] = {**described.get("latent", {}), "dim": generator.latent_dim}
    described["output"] = {**described.get("output", {}), "image_shape": list(generator.signal_shape)}
    weights = save(tensors)
    spec = {"format": _FORMAT, "version": _VERSION, **described, "layers": layers}
    spec["sha256"] = hashlib.sha256(weights).hexdigest()
    text = json.dumps(spec, indent=1) + "\n"
    _write_atomically(weights_path, weights)
    _write_atomically(json_path, text.encode())


def _pair(path: str | Path) -> tuple[Path, Path]:
    """The two files of a name; only the format's own suffixes are cut off, so that a name may hold dots."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    if path.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin"):
        raise ValueError(
            f"expected NAME.safetensors with NAME.json, got {path}, a pickle; "
            "load its state_dict into the module that it belongs to, and pass the module"
        )
    return stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")


def _write_atomically(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _near_onnx(path: str | Path) -> str:
    """The ONNX files beside a path that is not there, closest names first, for its error message."""
    folder, stem = Path(path).absolute().parent, Path(path).stem
    names = [p.name for p in folder.glob("*.onnx") if not p.name.startswith(".")]
    closest = sorted(names, key=lambda name: (-difflib.SequenceMatcher(None, stem, Path(name).stem).ratio(), name))
    return f"; ONNX files near it: {', '.join(closest[:5])}" if closest else ""


def _read_pair(path: str | Path, latent_dim: int | None, label: int | None) -> Generator:
    weights_path, json_path = _pair(path)
    if str(path) in shipped_generators() and not (weights_path.is_file() or json_path.is_file()):
        with shipped_file(str(path)) as inside:
            return _read_pair(inside, latent_dim, label)
    for needed in (json_path, weights_path):
        if not needed.is_file():
            raise FileNotFoundError(
                f"expected the two files {weights_path.name} and {json_path.name}, got no {needed}; "
                f"keep both in one folder and pass the path of either, or without suffix{_near_onnx(weights_path)}"
            )
    spec = _read_json(json_path)
    tensors = _read_tensors(weights_path, spec)
    n0 = spec["latent"]["dim"]
    if latent_dim not in (None, n0):
        raise ValueError(f"expected latent_dim={n0} as {json_path} says, got {latent_dim}; leave latent_dim out")
    if not any(op["op"] == _LABEL_OP for op in spec["layers"]):
        no_label(label)
    chain = Chain((n0,))
    for index, op in enumerate(spec["layers"]):
        _FileStep(chain, op, index, json_path, tensors, label).append()
    if tensors:
        raise ValueError(
            f"expected tensors of the layers that {json_path} lists, got also {', '.join(sorted(tensors))}; "
            "use the two files that belong together"
        )
    description = {key: value for key, value in spec.items() if key not in _OWN_KEYS}
    if label is not None:
        description["label"] = int(label)
    shape = description.get("output", {}).get("image_shape", chain.shape)
    if prod(shape) != prod(chain.shape):
        raise ValueError(
            f"expected an output.image_shape of {prod(chain.shape)} numbers in {json_path}, got {shape}; correct it"
        )
    return chain.finish(tuple(shape), description)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got {error}; the file is damaged, fetch it again") from error
    layers = spec.get("layers") if isinstance(spec, dict) else None
    if not isinstance(layers, list) or not all(isinstance(op, dict) and "op" in op for op in layers):
        raise ValueError(
            f"expected an object with a list 'layers' of objects that have an 'op' in {path}, got "
            "something else; docs/format.md describes the file"
        )
    if spec.get("version", _VERSION) != _VERSION:
        raise ValueError(f"expected version {_VERSION} in {path}, got {spec['version']}; update cvxinv to read it")
    latent, output = spec.get("latent"), spec.get("output", {})
    if not isinstance(latent, dict) or not isinstance(latent.get("dim"), int) or latent["dim"] < 1:
        raise ValueError(f'expected "latent": {{"dim": n0}} with n0 >= 1 in {path}, got {latent!r}; add it')
    if not isinstance(output, dict):
        raise ValueError(f'expected "output": {{...}} in {path}, got {output!r}; correct or remove it')
    return spec


def _read_tensors(path: Path, spec: dict[str, Any]) -> dict[str, Tensor]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if spec.get("sha256", digest) != digest:
        raise ValueError(
            f"expected the weights with the sha256 that the JSON file names, got others in {path} "
            f"({len(content)} bytes, truncated or of another generator); fetch both files again"
        )
    try:
        tensors = load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"expected a safetensors file, got {error} in {path}; the file is truncated or of another kind, fetch it again"
        ) from error
    # torch counts training batches in every batch norm; evaluation does not need it
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}


class _FileStep:
    """One entry of `layers`, appended to a chain; it takes its tensors out of `tensors`."""

    def __init__(
        self, chain: Chain, op: dict[str, Any], index: int, path: Path, tensors: dict[str, Tensor], label: int | None
    ):
        self.chain, self.op, self.index, self.tensors, self.label = chain, op, index, tensors, label
        self.place = f"layer {index} ({op['op']}) of {path}"

    def append(self) -> None:
        """Append the entry."""
        kinds: dict[str, Callable[[], None]] = {
            "linear": self._linear,
            "conv_transpose2d": self._convolution,
            "conv2d": self._convolution,
            "batch_norm1d": self._batch_norm,
            "batch_norm2d": self._batch_norm,
            "reshape": self._reshape,
            "upsample_nearest": self._upsample,
            "resample2d": self._resample,
            _LABEL_OP: self._label,
        }
        kind = self.op["op"]
        if kind in kinds:
            kinds[kind]()
        else:
            self.chain.add_activation(self._activation(kind), self.place)

    def _activation(self, kind: str) -> AbstractActivation:
        plain: dict[str, AbstractActivation] = {"identity": Identity(), "tanh": Tanh(), "sigmoid": Sigmoid()}
        if kind in plain:
            return plain[kind]
        if kind == "plu":
            return PLU(self._number("a"), self._number("c"))
        if kind not in ("relu", "leaky_relu"):
            raise UnsupportedLayerError(
                f"expected an op of docs/format.md, got {self.place}, which is unknown; "
                "build the generator without it, or save the part of it that does without"
            )
        slope = self._number("negative_slope") if kind == "leaky_relu" else 0.0
        if not 0 <= slope < 1:
            raise self._wrong("a negative_slope in [0, 1)", f"{slope}")
        return leaky(slope)

    def _linear(self) -> None:
        weight = self._tensor("weight", 2)
        if weight.shape[1] != prod(self.chain.shape):
            raise self._wrong(f"a weight of shape (out, {prod(self.chain.shape)})", f"{tuple(weight.shape)}")
        shape = (weight.shape[0],)
        self.chain.add_map(Dense(weight), self._bias(shape), shape, self._flag("composed"))

    def _convolution(self) -> None:
        weight, transposed = self._tensor("weight", 4), self.op["op"] == "conv_transpose2d"
        self._picture()
        stride, padding, dilation = (self._two(*key) for key in (("stride", 1), ("padding", 0), ("dilation", 1)))
        groups = self.op.get("groups", 1)
        channels = weight.shape[0] if transposed else weight.shape[1] * groups
        if channels != self.chain.shape[0] or groups < 1 or weight.shape[0] % groups:
            raise self._wrong(f"a weight for {self.chain.shape[0]} channels", f"{tuple(weight.shape)} with groups={groups}")
        padding = self._padded(padding)
        try:
            W: AbstractMap
            if transposed:
                extra = self._two("output_padding", 0)
                W = ConvTranspose2d(weight, self._picture(), stride, padding, dilation, groups, extra)
            else:
                W = Conv2d(weight, self._picture(), stride, padding, dilation, groups)
        except RuntimeError as error:
            raise self._wrong("stride, padding, ... that fit the weight", str(error).splitlines()[0]) from error
        self.chain.add_map(W, self._bias(W.shape_out), W.shape_out, self._flag("composed"))

    def _padded(self, padding: tuple[int, int]) -> tuple[int, int]:
        """What is left for the convolution to pad with zeros; padding by edges becomes a map in front of it."""
        mode = self.op.get("padding_mode", "zeros")
        if mode == "zeros":
            return padding
        if mode != "replicate" or self.op["op"] != "conv2d":
            raise UnsupportedLayerError(
                f"expected padding_mode 'zeros', or 'replicate' of a conv2d, got {mode!r} in {self.place}; "
                "retrain with one of these"
            )
        top, left = padding
        W = Resampling2d.padding(self._picture(), (left, left, top, top), mode)
        self.chain.add_map(W, torch.zeros(W.m, dtype=W.dtype), W.shape_out, self._flag("composed"))
        return 0, 0

    def _picture(self) -> tuple[int, int, int]:
        if len(self.chain.shape) != 3:
            raise self._wrong("an input (channels, height, width)", f"{self.chain.shape} (put a reshape before it)")
        channels, height, width = self.chain.shape
        return channels, height, width

    def _upsample(self) -> None:
        scale = self._two("scale", 0)
        if min(scale) < 1:
            raise self._wrong("scale as one integer >= 1 or two", f"{self.op.get('scale')!r}")
        W = Resampling2d.nearest(self._picture(), scale)
        self.chain.add_map(W, torch.zeros(W.m, dtype=W.dtype), W.shape_out)

    def _resample(self) -> None:
        channels, *picture = self._picture()
        rows, columns = self._tensor("rows", 2), self._tensor("columns", 2)
        if [rows.shape[1], columns.shape[1]] != picture:
            raise self._wrong(
                f"rows and columns for pictures of {picture}", f"{tuple(rows.shape)} and {tuple(columns.shape)}"
            )
        W = Resampling2d(rows, columns, channels)
        self.chain.add_map(W, self._bias(W.shape_out), W.shape_out, self._flag("composed"))

    def _label(self) -> None:
        embedding = self._tensor("embedding", 2)
        if len(self.chain.shape) != 1:
            raise self._wrong("a flat signal", f"{self.chain.shape} (put it before the reshape)")
        chosen = embedding[fixed_label(self.label, embedding.shape[0])]
        self.chain.add_channels(chosen[:0], chosen)

    def _batch_norm(self) -> None:
        channels = (self.chain.shape[0],)
        mean, var = self._sized("running_mean", channels), self._sized("running_var", channels)
        if bool((var < 0).any()):
            raise self._wrong("a running_var >= 0", f"{float(var.min())}")
        weight, bias = (self._sized(n, channels) if self._has(n) else None for n in ("weight", "bias"))
        self.chain.add_diagonal(*fold_batch_norm(mean, var, weight, bias, self._number("eps")))

    def _reshape(self) -> None:
        shape = self.op.get("shape")
        if not isinstance(shape, list) or prod(shape) != prod(self.chain.shape):
            raise self._wrong(f"a shape of {prod(self.chain.shape)} numbers", f"{shape}")
        self.chain.shape = tuple(shape)

    def _key(self, name: str) -> str:
        return f"layers.{self.index}.{name}"

    def _has(self, name: str) -> bool:
        return self._key(name) in self.tensors

    def _tensor(self, name: str, ndim: int) -> Tensor:
        if not self._has(name):
            raise self._wrong(f"a tensor {self._key(name)}", "none")
        tensor = self.tensors.pop(self._key(name))
        if not tensor.is_floating_point() or tensor.ndim != ndim:
            raise self._wrong(f"a floating {self._key(name)} of {ndim} axes", f"{tensor.dtype}, {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise self._wrong(f"finite entries in {self._key(name)}", "NaN or infinite ones")
        return tensor.double()

    def _sized(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._tensor(name, len(shape))
        if tuple(tensor.shape) != shape:
            raise self._wrong(f"{self._key(name)} of shape {shape}", f"{tuple(tensor.shape)}")
        return tensor

    def _bias(self, shape: tuple[int, ...]) -> Tensor:
        """The full bias, `(m,)`, from none, one per channel or one per output."""
        if not self._has("bias") and not self._flag("bias"):
            return torch.zeros(prod(shape), dtype=torch.float64)
        full = self._has("bias") and self.tensors[self._key("bias")].ndim == len(shape)
        return per_output(self._sized("bias", shape if full else shape[:1]), shape)

    def _flag(self, name: str) -> bool:
        return self.op.get(name) is True

    def _number(self, name: str) -> float:
        value = self.op.get(name)
        if not isinstance(value, int | float):
            raise self._wrong(f"a number {name!r}", f"{value!r}")
        return float(value)

    def _two(self, name: str, default: int) -> tuple[int, int]:
        value = self.op.get(name, default)
        pair = [value, value] if isinstance(value, int) else value
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(v, int) and v >= 0 for v in pair):
            raise self._wrong(f"{name} as an integer or two", f"{value!r}")
        return pair[0], pair[1]

    def _wrong(self, expected: str, got: str) -> ValueError:
        return ValueError(f"expected {expected} in {self.place}, got {got}; docs/format.md describes the op")


def _write_layers(generator: Generator, tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The entries of `layers`; their tensors go into `tensors`."""
    ops: list[dict[str, Any]] = []
    shape: tuple[int, ...] = (generator.latent_dim,)
    for layer in generator.layers:
        parts = factors(layer.W)
        for position, W in enumerate(parts):
            shape_in, shape_out = _shapes(W)
            if shape_in != shape:
                ops.append({"op": "reshape", "shape": list(shape_in)})
            entry, weights = _map_entry(W)
            shape = shape_out
            if position > 0:
                entry["composed"] = True
            key = f"layers.{len(ops)}"
            tensors.update({f"{key}.{name}": _plain(weight) for name, weight in weights.items()})
            if position == len(parts) - 1:
                entry["bias"] = True
                tensors[f"{key}.bias"] = _short_bias(layer, shape_out)
            ops.append(entry)
        ops.extend(_activation_entries(layer.activation))
    return ops


def _shapes(W: AbstractMap) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(W, Conv2d | ConvTranspose2d | Resampling2d):
        return W.shape_in, W.shape_out
    return (W.n,), (W.m,)


def _map_entry(W: AbstractMap) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if isinstance(W, Dense):
        return {"op": "linear", "bias": False}, {"weight": W.weight}
    if isinstance(W, Resampling2d):
        return {"op": "resample2d", "bias": False}, {"rows": W.rows, "columns": W.columns}
    if not isinstance(W, Conv2d | ConvTranspose2d):
        raise ValueError(
            f"expected maps Dense, Conv2d, ConvTranspose2d, Resampling2d and their compositions, got {type(W).__name__}; "
            "save Dense(W.matrix()) in its place"
        )
    entry: dict[str, Any] = {"op": "conv2d" if isinstance(W, Conv2d) else "conv_transpose2d", "bias": False}
    for name in ("stride", "padding", "dilation", "output_padding"):
        entry[name] = list(getattr(W, name))
    return {**entry, "groups": W.groups}, {"weight": W.weight}


def _short_bias(layer: Layer, shape: tuple[int, ...]) -> Tensor:
    """One number per channel where the bias does not depend on the position, else one per output."""
    channels = per_channel(layer.b, shape[0])
    return _plain(layer.b.reshape(shape) if channels is None else channels)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _activation_entries(activation: AbstractActivation) -> list[dict[str, Any]]:
    if not in_files(activation):
        raise ValueError(
            f"expected an activation that files know ({', '.join(kind.__name__ for kind in KINDS)}), got {activation!r}; "
            "save generator.with_output('identity') and load it with load_generator(path, output=...)"
        )
    return [] if activation.linear else [{"op": activation.name, **activation.parameters}]

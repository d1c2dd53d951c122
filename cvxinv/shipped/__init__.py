"""Files that ship with the package: two generators, and 64 handwritten digits. SOURCES.md says where they come from."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path


def shipped_generators() -> list[str]:
    """Names of the generators that ship, each a pair NAME.safetensors and NAME.json."""
    # the digits that ship beside them are signals and have no JSON
    names = {entry.name for entry in resources.files(__name__).iterdir()}
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(stem for stem in stems if f"{stem}.safetensors" in names)


@contextmanager
def shipped_file(name: str) -> Iterator[Path]:
    """Path of NAME.safetensors while the context lasts; inside an archive that is a copy."""
    with resources.as_file(resources.files(__name__)) as folder:
        yield folder / f"{name}.safetensors"

"""A training that was broken off goes on: what was measured, and all parts that learn, in one file, whole or not at all.

No training stands here; the scripts beside it import this.
"""

from pathlib import Path

import torch


def taken_up(path: Path, state: dict, **parts) -> dict:
    """The state that was kept, with which the parts are loaded; `state` where there is none yet.

    parts: by name whatever has `state_dict`. Raises SystemExit where what was kept has another `state["recipe"]`.
    """
    if not path.exists():
        return state
    found = torch.load(path, weights_only=True)
    if found["state"]["recipe"] != state["recipe"]:
        raise SystemExit(f"expected {path} of the same settings, got {found['state']['recipe']}; pass another --out")
    for name, part in parts.items():
        part.load_state_dict(found[name])
    return found["state"]


def keep(path: Path, state: dict, **parts) -> None:
    """Write all that it takes to go on."""
    put(path, {"state": state} | {name: part.state_dict() for name, part in parts.items()})


def put(path: Path, content: dict) -> None:
    """Write what torch can save, whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)

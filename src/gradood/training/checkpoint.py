"""A run on disk: one safetensors file with strict JSON in it, written whole, never pickled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gradood.errors import ArtifactError
from gradood.io.atomic import replace

__all__ = ["Saved", "load", "save", "save_text"]

_DOCUMENT, _SEAL = "gradood_training", "sha256"


@dataclass(frozen=True, eq=False, slots=True)
class Saved:
    """What a checkpoint holds.

    Attributes:
        tensors: by name, on the CPU.
        document: plain JSON.
    """

    tensors: dict[str, Tensor]
    document: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, without it."""
        start = f"{prefix}."
        return {n[len(start) :]: t for n, t in self.tensors.items() if n.startswith(start)}


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a checkpoint; whoever reads meanwhile, or after a kill, finds the one before.

    Args:
        path: the file.
        tensors: by name.
        document: plain JSON values.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    # Tied weights share memory, which safetensors refuses.
    plain = {n: t.detach().cpu().contiguous().clone() for n, t in sorted(tensors.items())}
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    seal = _seal(plain, text)
    content = safetensors.torch.save(plain, {_DOCUMENT: text, _SEAL: seal})
    expected = hashlib.sha256(content).digest()

    def verify(file: BinaryIO) -> None:
        if hashlib.sha256(file.read()).digest() != expected:
            raise OSError(f"{str(path)!r} reads back otherwise than it was written.")

    replace(path, [content], verify)


def load(path: Path) -> Saved:
    """Read a checkpoint.

    Raises:
        ArtifactError: it is absent, damaged, or no checkpoint of this library.
    """
    if not path.is_file():
        raise ArtifactError(f"no checkpoint at {str(path)!r}; start the run without --resume.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(
            f"{str(path)!r} cannot be read as a checkpoint: {error}; it is damaged. Start the run "
            "again in another folder."
        ) from error
    text = metadata.get(_DOCUMENT)
    if text is None:
        raise ArtifactError(
            f"{str(path)!r} is no checkpoint of a training run; expected one that gradood wrote."
        )
    if _seal(tensors, text) != metadata.get(_SEAL):
        raise ArtifactError(
            f"{str(path)!r} does not match its SHA-256; it is damaged or was changed. Start the "
            "run again in another folder."
        )
    return Saved(tensors, json.loads(text))


def save_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    replace(path, [text.encode()], lambda file: None)


def _seal(tensors: Mapping[str, Tensor], text: str) -> str:
    """Over every name, type, shape and number, and the document."""
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()

"""Tensors kept between runs under what they were made of, never under a name that a user gives.

```text
<folder>/ab/ab12…/        one place per key: a shard of a data set as one model reads it, or a fit
    3f….safetensors       tensors gathered together, each with its SHA-256
```

A file is there whole or not at all. Several processes may share a folder. What was damaged, by a
failing disk or a power failure, is told by its digest, dropped with a warning, and made again.
"""

import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gradood._io.canonical import encode
from gradood._io.hashing import tensor_digest
from gradood.errors import CacheWarning

__all__ = ["Cache", "Place", "default_folder", "key_of"]

_STALE = 3600.0
"""Seconds after which a temporary file is taken for what a killed process left."""


def default_folder() -> Path:
    """``gradood/arena`` in XDG_CACHE_HOME, or else in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gradood" / "arena"


def key_of(**parts: Any) -> str:
    """SHA-256 over plain values by name."""
    return hashlib.sha256(encode(parts).encode("ascii")).hexdigest()


class Cache:
    """A folder of tensors.

    Args:
        folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full = False

    def place(self, key: str) -> "Place":
        """Where the tensors of a key are.

        Args:
            key: from `key_of`.
        """
        return Place(self, self.folder / key[:2] / key)

    def size(self) -> int:
        """Bytes of all files in it, whichever run kept them.

        Cost: asks for the size of each file.
        """
        total = 0
        for place, _, files in os.walk(self.folder):
            for name in files:
                with suppress(OSError):  # Another process may be at work on it.
                    total += os.lstat(os.path.join(place, name)).st_size
        return total


class Place:
    """The tensors of one key.

    Args:
        cache: it belongs to.
        folder: its own.
    """

    def __init__(self, cache: Cache, folder: Path) -> None:
        self._cache = cache
        self.folder = folder

    def load(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Those of the tensors that are there, and as they were when they were kept.

        Args:
            names: wanted; None for all.

        Cost: only what is wanted is read, and hashed.
        """
        wanted = None if names is None else set(names)
        found: dict[str, Tensor] = {}
        for pack in sorted(self.folder.glob("*.safetensors")):
            try:
                found |= _sound(pack, wanted, found.keys())
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                if not pack.exists():  # Another process found the damage first.
                    continue
                warnings.warn(
                    f"the cached file {str(pack)!r} is damaged ({error}); it is dropped, and what "
                    "it held is computed again.",
                    CacheWarning,
                    stacklevel=2,
                )
                with suppress(OSError):
                    pack.unlink()
        return found

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep these; on a full disk warn once, and keep nothing more."""
        if not tensors or self._cache.full:
            return
        name = hashlib.sha256("\n".join(sorted(tensors)).encode()).hexdigest()[:32]
        temporary = self.folder / f".{name}.{secrets.token_hex(8)}.tmp"
        plain = _apart(tensors)
        digests = {key: tensor_digest(tensor) for key, tensor in plain.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_stale()
            # No fsync: what a power failure takes is made again, and the digest tells.
            save_file(plain, temporary, {"sha256": json.dumps(digests)})
            os.replace(temporary, self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            self._cache.full = True
            warnings.warn(
                f"nothing more is kept in the cache {str(self._cache.folder)!r}: {error}; the run "
                "goes on without. Make room, or name another folder with --cache.",
                CacheWarning,
                stacklevel=2,
            )
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        for left in self.folder.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    left.unlink()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and none in the memory of another, which safetensors refuses to write."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        start = own.untyped_storage().data_ptr()
        found[key] = own.clone() if start in taken else own
        taken.add(start)
    return found


def _sound(pack: Path, wanted: set[str] | None, known: Iterable[str]) -> dict[str, Tensor]:
    """The wanted tensors of a file.

    Raises:
        ValueError: a digest differs.
    """
    found: dict[str, Tensor] = {}
    with safe_open(pack, framework="pt") as file:
        every: list[str] = list(file.keys())
        names = [n for n in every if (wanted is None or n in wanted) and n not in known]
        digests = json.loads(file.metadata()["sha256"]) if names else {}
        for name in names:
            tensor = file.get_tensor(name)
            if tensor_digest(tensor) != digests[name]:
                raise ValueError(f"the SHA-256 of {name} differs")
            found[name] = tensor
    return found

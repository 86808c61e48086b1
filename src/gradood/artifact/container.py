"""The bytes of an artifact: a safetensors file of which every bit is covered by a SHA-256.

```text
8 bytes   length of the header, little-endian
header    canonical JSON: {"__metadata__": {"gradood": manifest, "payload_sha256": …, "sha256": …},
          tensor: {"data_offsets": [begin, end], "dtype": …, "shape": […]}, …}, padded with spaces
payload   the tensors, without gaps: wider types first, then by name
```
``sha256`` is the seal: over length and header with its own 64 digits replaced by zeros. The header
holds the payload's hash, so the seal stands for the whole file. Of all this, a later format keeps
the length, a JSON header, the seal, and ``format`` and ``library`` in the manifest; from these an
older reader can tell that a file is intact but too new.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradood._io.canonical import encode, parse
from gradood.errors import ArtifactError

__all__ = [
    "Header",
    "ITEM_SIZES",
    "MAX_HEADER",
    "Spec",
    "Stored",
    "build",
    "ordered_specs",
    "understand",
    "unseal",
]

MAX_HEADER = 16 * 2**20
"""Bytes that a header may have."""
ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "I8", "U8"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes of one number by safetensors' name of its type; other types are refused."""
_MAX_TENSORS, _MAX_DIMENSIONS, _MAX_NAME = 32_768, 32, 512
_METADATA, _MANIFEST, _PAYLOAD, _SEAL = "__metadata__", "gradood", "payload_sha256", "sha256"
_ZEROS = "0" * 64
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Spec:
    """Type and shape of a tensor.

    Attributes:
        dtype: safetensors' name, a key of `ITEM_SIZES`.
        shape: sizes, each ≥ 0.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return ITEM_SIZES[self.dtype] * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as bytes: C order, little-endian; what a file holds, without torch.

    Attributes:
        spec: type and shape.
        data: bytes, `Spec.size` of them.
    """

    spec: Spec
    data: bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an intact artifact says.

    Attributes:
        manifest: its text, canonical JSON.
        specs: of each tensor, in the order of the payload.
        payload_sha256: hash that the payload must have.
        sha256: the seal: identifies the file.
        size: of length and header, in bytes.
    """

    manifest: str
    specs: Mapping[str, Spec]
    payload_sha256: str
    sha256: str
    size: int

    @property
    def payload_size(self) -> int:
        """Bytes of the payload."""
        return sum(spec.size for spec in self.specs.values())


def build(manifest: str, specs: Mapping[str, Spec], payload_sha256: str) -> tuple[bytes, Header]:
    """Length and header of a file, sealed.

    Args:
        manifest: canonical JSON.
        specs: of each tensor, in any order.
        payload_sha256: of the tensors' bytes in the order of the header returned.

    Raises:
        ArtifactError: the header would be too large, or a name or type cannot be stored.
    """
    ordered = ordered_specs(specs)
    metadata = {_MANIFEST: manifest, _PAYLOAD: payload_sha256, _SEAL: _ZEROS}
    unsealed = _framed(metadata, ordered)
    if len(unsealed) - 8 > MAX_HEADER:
        raise ArtifactError(
            f"manifest and tensor table take {len(unsealed):,} bytes; expected at most "
            f"{MAX_HEADER:,}. Store large things as tensors."
        )
    seal = hashlib.sha256(unsealed).hexdigest()
    sealed = _framed({**metadata, _SEAL: seal}, ordered)
    return sealed, Header(manifest, ordered, payload_sha256, seal, len(sealed))


def ordered_specs(specs: Mapping[str, Spec]) -> dict[str, Spec]:
    """The tensors in the order of the payload, so that each begins at a multiple of its width."""
    if len(specs) > _MAX_TENSORS:
        raise ArtifactError(f"there are {len(specs):,} tensors; expected at most {_MAX_TENSORS:,}.")
    for name, spec in specs.items():
        _spec(name, spec.dtype, list(spec.shape))
    return dict(sorted(specs.items(), key=lambda item: (-ITEM_SIZES[item[1].dtype], item[0])))


def unseal(raw: bytes) -> tuple[dict[str, Any], Any]:
    """The header's JSON and the manifest's, of which nothing is known but that the seal holds.

    Args:
        raw: length and header.

    Returns:
        (header, manifest), to be given to `understand` once the format version is known to be ours.

    Raises:
        ArtifactError: no artifact, or a damaged one.
    """
    try:
        text = raw[8:].decode("ascii")
    except UnicodeDecodeError:
        raise ArtifactError("the header is no ASCII text; the file is damaged.") from None
    header = parse(text.rstrip(" "), "the header", canonical=False)
    metadata = header.get(_METADATA) if type(header) is dict else None
    if type(metadata) is not dict or type(metadata.get(_MANIFEST)) is not str:
        raise ArtifactError(
            "this is a safetensors file, but no saved detector: its metadata has no 'gradood'; "
            "expected a file written by Monitor.save."
        )
    seal = metadata.get(_SEAL)
    if type(seal) is not str or not _HEX.fullmatch(seal):
        raise ArtifactError("the header has no SHA-256 seal; the file is damaged.")
    found = hashlib.sha256(raw[:8] + text.replace(seal, _ZEROS).encode("ascii")).hexdigest()
    if found != seal:
        raise ArtifactError(
            f"the header does not match its SHA-256 (says {seal[:12]}…, is {found[:12]}…); "
            "the file is damaged or was changed."
        )
    return header, parse(metadata[_MANIFEST], "the manifest")


def understand(raw: bytes, header: Mapping[str, Any]) -> Header:
    """The header of our own format version.

    Args:
        raw: length and header.
        header: from `unseal`.

    Raises:
        ArtifactError: a key, type, shape or offset is not exactly what `build` would write.
    """
    metadata = header[_METADATA]
    if sorted(metadata) != sorted((_MANIFEST, _PAYLOAD, _SEAL)):
        raise ArtifactError(
            f"the metadata has keys {str(sorted(metadata))[:200]}; the file is refused."
        )
    payload = metadata[_PAYLOAD]
    if type(payload) is not str or not _HEX.fullmatch(payload):
        raise ArtifactError("the header has no SHA-256 of the payload; the file is refused.")
    tensors = {name: _entry(name, header[name]) for name in header if name != _METADATA}
    specs = ordered_specs(tensors)
    if _framed(metadata, specs) != raw:
        raise ArtifactError(
            "the header is not spelled and laid out as gradood does it (tensors with gaps, "
            "overlaps or in another order, other spaces); the file was changed and is refused."
        )
    return Header(metadata[_MANIFEST], specs, payload, metadata[_SEAL], len(raw))


def _framed(metadata: Mapping[str, str], ordered: Mapping[str, Spec]) -> bytes:
    """Length and header; the header padded to a multiple of eight bytes."""
    document: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, spec in ordered.items():
        begin, end = end, end + spec.size
        document[name] = {
            "data_offsets": [begin, end],
            "dtype": spec.dtype,
            "shape": list(spec.shape),
        }
    text = encode(document).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _entry(name: str, entry: Any) -> Spec:
    if type(entry) is not dict or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        raise ArtifactError(
            f"tensor {name[:80]!r} is not described by data_offsets, dtype and shape; "
            "the file is refused."
        )
    return _spec(name, entry["dtype"], entry["shape"])


def _spec(name: str, dtype: Any, shape: Any) -> Spec:
    if name == _METADATA or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ArtifactError(
            f"tensor name {name[:80]!r} cannot be stored; expected 1 to {_MAX_NAME} printable "
            "characters."
        )
    if type(dtype) is not str or dtype not in ITEM_SIZES:
        raise ArtifactError(
            f"tensor {name!r} has type {str(dtype)[:80]!r}; expected one of "
            f"{', '.join(sorted(ITEM_SIZES))}."
        )
    sizes = type(shape) is list and all(type(side) is int and side >= 0 for side in shape)
    if not sizes or len(shape) > _MAX_DIMENSIONS:
        raise ArtifactError(
            f"tensor {name!r} has shape {str(shape)[:80]}; expected at most {_MAX_DIMENSIONS} "
            "sizes, each an integer of at least 0."
        )
    # No bytes bound the sizes of an empty tensor, and its strides would overflow.
    if 0 in shape and ITEM_SIZES[dtype] * math.prod(filter(None, shape)) >= 2**63:
        raise ArtifactError(
            f"tensor {name!r} has shape {str(shape)[:80]}, too large for any memory; the file is "
            "refused."
        )
    return Spec(dtype, tuple(shape))

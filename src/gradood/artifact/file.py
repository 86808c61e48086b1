"""Reading and writing artifacts, with the standard library alone."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gradood._io.atomic import replace
from gradood.artifact.container import (
    MAX_HEADER,
    Header,
    Spec,
    Stored,
    build,
    ordered_specs,
    understand,
    unseal,
)
from gradood.artifact.manifest import Manifest, check_version
from gradood.artifact.partials import PartialsManifest
from gradood.errors import ArtifactError, DataError

__all__ = ["Artifact", "Verified", "check", "read", "read_partials", "write", "write_partials"]

_CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Verified:
    """What an intact artifact says, and its hashes.

    Attributes:
        manifest: what the saved monitor is.
        specs: type and shape of each tensor.
        sha256: the seal, which identifies the file.
        manifest_sha256: of the manifest's text.
        payload_sha256: of the tensors' bytes.
        size: of the file, in bytes.
    """

    manifest: Manifest
    specs: Mapping[str, Spec]
    sha256: str
    manifest_sha256: str
    payload_sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """An intact artifact, read.

    Attributes:
        verified: manifest and hashes.
        arrays: tensors as bytes; `gradood.artifact.tensors.to_torch` makes tensors of them.
    """

    verified: Verified
    arrays: Mapping[str, Stored]


def read(path: str | Path) -> Artifact:
    """An artifact, every bit of it verified.

    Nothing in the file is executed, imported or looked up by name, and nothing is allocated for
    its tensors before their sizes add up to the file's.

    Args:
        path: the file.

    Raises:
        DataError: there is no file.
        ArtifactError: it is damaged, changed, too new, or no artifact; says which.

    Cost: the file is read once; its size in memory.
    """
    return _read(path, Manifest)


def read_partials(path: str | Path) -> tuple[PartialsManifest, Mapping[str, Stored]]:
    """The partials of a fit: what they are, and their tensors; verified as `read` does.

    Raises:
        DataError: there is no file.
        ArtifactError: it is damaged, changed, too new, or holds no partials; says which.
    """
    artifact = _read(path, PartialsManifest)
    manifest: Any = artifact.verified.manifest
    return manifest, artifact.arrays


def check(path: str | Path) -> Verified:
    """Verify an artifact without keeping its tensors.

    Raises:
        DataError: there is no file.
        ArtifactError: it is damaged, changed, too new, or no artifact; says which.

    Cost: the file is read once; a few megabytes of memory.
    """
    with _opened(path) as file:
        return _check(file, Manifest)


def write(
    path: str | Path,
    manifest: Manifest,
    arrays: Mapping[str, Stored],
    loadable: Callable[[Manifest], None] = lambda manifest: None,
) -> Verified:
    """Save an artifact atomically: verified before it takes the place of what was there.

    Args:
        path: the file; a temporary one is written beside it.
        manifest: refers to every tensor by name.
        arrays: exactly those tensors.
        loadable: given the manifest as it was read back; raises to give up.

    Raises:
        ArtifactError: manifest and tensors do not fit together, or cannot be stored.
        OSError: it cannot be written; what was there before is unchanged.

    Cost: the tensors are hashed once, written once and read back once.
    """
    return _write(path, manifest, arrays, loadable)


def write_partials(
    path: str | Path, manifest: PartialsManifest, arrays: Mapping[str, Stored]
) -> int:
    """Save the partials of a fit atomically, as `write` does; returns the bytes of the file.

    Raises:
        ArtifactError: manifest and tensors do not fit together, or cannot be stored.
        OSError: it cannot be written; what was there before is unchanged.
    """
    return _write(path, manifest, arrays, lambda manifest: None).size


def _read(path: str | Path, kind: Any) -> Artifact:
    with _opened(path) as file:
        header, manifest, size = _read_header(file, kind)
        payload = bytearray(header.payload_size)
        view = memoryview(payload)
        digest = hashlib.sha256()
        for begin in range(0, len(payload), _CHUNK):
            part = view[begin : begin + _CHUNK]
            if _fill(file, part) < len(part):
                raise ArtifactError("the file shrank while it was read; try again.")
            digest.update(part)
        verified = _verified(header, manifest, size, digest.hexdigest())
    arrays: dict[str, Stored] = {}
    end = 0
    for name, spec in header.specs.items():
        begin, end = end, end + spec.size
        arrays[name] = Stored(spec, view[begin:end])
    return Artifact(verified, arrays)


def _write(
    path: str | Path, manifest: Any, arrays: Mapping[str, Stored], loadable: Callable[[Any], None]
) -> Verified:
    _match(manifest, arrays)
    ordered = ordered_specs({name: stored.spec for name, stored in arrays.items()})
    for name, stored in arrays.items():
        if memoryview(stored.data).nbytes != stored.spec.size:
            raise ArtifactError(f"tensor {name!r} has not the bytes of {stored.spec}.")
    payload = [memoryview(arrays[name].data).cast("B") for name in ordered if ordered[name].size]
    digest = hashlib.sha256()
    for part in payload:
        digest.update(part)
    raw, header = build(manifest.to_json(), ordered, digest.hexdigest())
    found: list[Verified] = []

    def verify(file: BinaryIO) -> None:
        verified = _check(file, type(manifest))
        if verified.sha256 != header.sha256:
            raise ArtifactError("what was read back is not what was written; is the disk failing?")
        loadable(verified.manifest)
        found.append(verified)

    replace(path, [raw, *payload], verify)
    return found[0]


def _check(file: BinaryIO, kind: Any) -> Verified:
    header, manifest, size = _read_header(file, kind)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, header.payload_size)))
    left = header.payload_size
    while left:
        count = _fill(file, buffer[: min(len(buffer), left)])
        if not count:
            raise ArtifactError("the file shrank while it was read; try again.")
        digest.update(buffer[:count])
        left -= count
    return _verified(header, manifest, size, digest.hexdigest())


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    given = str(path)
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no saved detector at {given!r}: it is absent; expected a file written by "
            "Monitor.save."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DataError(
                f"no saved detector at {given!r}: it is a folder or a device; expected a file "
                "written by Monitor.save."
            )
        with open(handle, "rb", closefd=False) as file:
            yield file
    except ArtifactError as error:
        raise ArtifactError(f"{given!r} is refused: {error}") from error.__cause__
    finally:
        os.close(handle)


def _read_header(file: BinaryIO, kind: Any) -> tuple[Header, Any, int]:
    """Header and manifest, once all sizes add up; the file then stands at its payload."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > MAX_HEADER:
        raise ArtifactError(_no_artifact(prefix + file.read(8), size))
    if 8 + length > size:
        raise ArtifactError(
            f"it has {size:,} bytes, fewer than its header needs ({8 + length:,}); it is truncated "
            "or no saved detector."
        )
    raw = prefix + file.read(length)
    document, content = unseal(raw)
    check_version(content)
    header = understand(raw, document)
    if ("kind" in content) != (kind is PartialsManifest):
        raise ArtifactError(
            "it is a saved detector without the partials of its fit; those are in the file of "
            "gradood fit --keep-partials."
            if kind is PartialsManifest
            else "it holds the partials of a fit, and no detector: gradood fit --merge takes it."
        )
    manifest = kind.from_dict(content)
    _match(manifest, header.specs)
    expected = len(raw) + header.payload_size
    if size != expected:
        what = "truncated" if size < expected else "followed by something else"
        raise ArtifactError(f"it has {size:,} bytes; expected {expected:,}. It is {what}.")
    return header, manifest, size


def _verified(header: Header, manifest: Any, size: int, found: str) -> Verified:
    if found != header.payload_sha256:
        raise ArtifactError(
            f"the tensors do not match their SHA-256 (says {header.payload_sha256[:12]}…, is "
            f"{found[:12]}…); it is damaged. Copy or save it again."
        )
    text = hashlib.sha256(header.manifest.encode("ascii")).hexdigest()
    return Verified(manifest, header.specs, header.sha256, text, found, size)


def _match(manifest: Any, names: Iterable[str]) -> None:
    missing = sorted(manifest.tensors.difference(names))
    stray = sorted(set(names) - manifest.tensors)
    if missing or stray:
        what = f"lacks {missing[:5]}" if missing else f"has {stray[:5]}, which nothing refers to"
        raise ArtifactError(f"the manifest does not fit the tensors: the file {what}.")


def _fill(file: BinaryIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; returns the bytes read."""
    count = 0
    while count < len(buffer):
        step = file.readinto(buffer[count:])  # type: ignore[attr-defined]
        if not step:
            break
        count += step
    return count


def _no_artifact(start: bytes, size: int) -> str:
    """What the file seems to be, by its first bytes."""
    if not size:
        return "it is empty."
    if start[:4] == b"PK\x03\x04" or start[:2] in (
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
        b"\x80\x05",
    ):
        return (
            "it looks like a pickle or a file of torch.save, which could run code and is never "
            "read; expected a file written by Monitor.save."
        )
    if size < 8:
        return f"it has {size} bytes; it is truncated or no saved detector."
    return (
        f"its header would be larger than {MAX_HEADER:,} bytes; it is damaged or no saved detector."
    )

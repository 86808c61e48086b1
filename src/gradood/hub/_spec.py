"""What a package says of itself: ``spec.json``, read strictly, without torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradood import __version__
from gradood._io.canonical import parse
from gradood._io.records import OMIT, Rules, Words, decode, to_plain
from gradood.artifact import Verified
from gradood.errors import ArtifactError, ConfigError

__all__ = [
    "CARD",
    "DETECTOR",
    "FORMAT",
    "FileRecord",
    "GRAPH",
    "PackageSpec",
    "SPEC",
    "WEIGHTS",
    "check_model_name",
    "file_record",
    "is_factory",
    "read_spec",
    "record_of",
]

FORMAT = 1
SPEC, CARD = "spec.json", "README.md"
DETECTOR, WEIGHTS, GRAPH = "detector.safetensors", "model.safetensors", "net.onnx"

_LARGEST = 4 * 2**20
"""Bytes of ``spec.json``."""
_WORDS = Words(text="a string", whole="an integer", table="an object", options="an object")
_RULES = Rules(error=ArtifactError, words=_WORDS, defaults=False)
_BARE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LIBRARY = re.compile(r"(timm|torchvision|hf):[A-Za-z0-9][\w.+-]*", re.ASCII)
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file, by its content.

    Attributes:
        sha256: of the content.
        bytes: its size.
    """

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256) or self.bytes < 0:
            raise ArtifactError(f"{SPEC} has a file record that is no SHA-256 and size.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """A detector, the model that it is bound to, and what a user of both needs to know.

    Attributes:
        format: of this file.
        gradood: version that wrote it.
        torch: version that the detector was fitted with.
        model: a reference network such as ``resnet20``, ``timm:NAME``, ``torchvision:NAME``,
            ``hf:NAME`` for a folder that the package does not hold, or ``package.module:factory``.
        num_classes: passed to what makes the model, or None.
        classes: their names, in the order of the model's outputs, or None if nobody said.
        preprocess: how images become inputs, in plain values, or None if nobody said.
        files: of the package, by name.
        elsewhere: of the model of ``hf:NAME``, which are not in the package; else None, and then
            not written.
    """

    format: int = FORMAT
    gradood: str = __version__
    torch: str
    model: str
    num_classes: int | None
    classes: tuple[str, ...] | None
    preprocess: Mapping[str, Any] | None
    files: Mapping[str, FileRecord]
    elsewhere: Mapping[str, FileRecord] | None = field(default=None, metadata={OMIT: True})

    def __post_init__(self) -> None:
        check_model_name(self.model)
        strangers = sorted(self.files.keys() - {DETECTOR, WEIGHTS, GRAPH})
        if strangers or DETECTOR not in self.files:
            told = f"names {strangers[0]!r}" if strangers else f"lacks {DETECTOR}"
            raise ArtifactError(
                f"{SPEC} {told}; expected {DETECTOR} and at most {WEIGHTS} and {GRAPH}."
            )
        odd = [name for name in self.elsewhere or () if name != Path(name).name or "\\" in name]
        if odd:
            raise ArtifactError(f"{SPEC} names the file {odd[0][:80]!r}; expected no folder in it.")
        if (self.elsewhere is None) == self.model.startswith("hf:"):
            raise ArtifactError(f"{SPEC}: elsewhere is of a model hf:NAME, and of no other.")

    def to_json(self) -> str:
        """The content of ``spec.json``."""
        plain = json.dumps(to_plain(self), indent=2, sort_keys=True, allow_nan=False)
        return plain + "\n"

    def check_against(self, verified: Verified) -> None:
        """Raise where this and the detector's file say different things.

        Raises:
            ArtifactError: they do.
        """
        manifest = verified.manifest
        own = to_plain({"preprocess": self.preprocess, "torch": self.torch})
        theirs = to_plain({"preprocess": manifest.preprocess, "torch": manifest.torch})
        differing = [name for name in own if own[name] != theirs[name]]
        if differing:
            raise ArtifactError(
                f"{SPEC} and {DETECTOR} differ in {', '.join(differing)}; pack again."
            )
        if self.classes is not None and len(self.classes) != manifest.model.classes:
            raise ArtifactError(
                f"{SPEC} names {len(self.classes)} classes, and the model has "
                f"{manifest.model.classes}."
            )


def check_model_name(name: str) -> None:
    """Raise for what names no model that a package may have.

    Raises:
        ArtifactError: it is a path, or nothing of the kind.
    """
    if not any(form.fullmatch(name) for form in (_BARE, _LIBRARY, _FACTORY)):
        raise ArtifactError(
            f"the model of a package is {name[:80]!r}; expected a reference network, timm:NAME, "
            "torchvision:NAME, hf:NAME or package.module:factory, and no path."
        )


def is_factory(name: str) -> bool:
    """Whether a model's name makes Python import a module that is named in it."""
    return ":" in name and not _LIBRARY.fullmatch(name)


def file_record(file: Path) -> FileRecord:
    """Hash and size of a file.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileRecord(sha256=digest, bytes=stream.tell())


def record_of(content: bytes) -> FileRecord:
    """Hash and size of a content."""
    return FileRecord(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def read_spec(folder: Path) -> PackageSpec:
    """``spec.json`` of a folder: every key known, none missing, of this format.

    Raises:
        ConfigError: there is none.
        ArtifactError: it is refused; says why.
    """
    file = folder / SPEC
    if not file.is_file():
        raise ConfigError(
            f"{str(folder)!r} is no package, as it has no {SPEC}; expected a folder that gradood "
            "pack wrote."
        )
    with file.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ArtifactError(f"{SPEC} has more than {_LARGEST:,} bytes; it is refused.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{SPEC} is no text ({error}); it is damaged.") from None
    document = parse(text, SPEC, canonical=False)
    found = document.get("format") if isinstance(document, dict) else None
    if type(found) is int and found > FORMAT:
        raise ArtifactError(
            f"{SPEC} has format {found}, and gradood {__version__} reads up to {FORMAT}; install "
            "the version that wrote it, or a later one: pip install --upgrade gradood."
        )
    spec = decode(PackageSpec, document, SPEC, _RULES)
    if spec.format != FORMAT:
        raise ArtifactError(f"{SPEC} has format {spec.format}; expected {FORMAT}.")
    return spec

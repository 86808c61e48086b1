"""The manifest of the partials of a fit: what was accumulated, by which detectors, of which model.

The file is laid out, hashed and sealed as that of a detector; its manifest says ``kind``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gradood import __version__
from gradood._io.canonical import check_plain, encode
from gradood._io.records import decode, to_plain
from gradood.artifact.manifest import FORMAT, Format, check_version, manifest_rules
from gradood.errors import ArtifactError

__all__ = ["PartialsManifest", "PartialsRecord"]

_MOST_DETECTORS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialsRecord:
    """What one detector accumulated.

    Attributes:
        name: of the detector, in the monitor.
        method: in the registry.
        options_sha256: of the options of its constructor, tensors among them.
        reads: what its fit reads of the model, as plain JSON.
        tensors: name in the partial → name of the tensor in the file.
    """

    name: str
    method: str
    options_sha256: str
    reads: tuple[Any, ...]
    tensors: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialsManifest:
    """What the partials of a fit are.

    Attributes:
        kind: tells the file from that of a detector.
        format: of the file, counted as that of a detector.
        library: version of gradood that wrote it.
        torch: version of torch that they were computed with.
        detectors: what each accumulated.
        refused: why a detector that may be left out could not learn from the data, by name.
        models: digests of the models that they were read off, sorted.
        samples: how many were seen.
        summary: name in the summary of the data → name of the tensor in the file; None if the data
            was not summarized.
    """

    kind: Literal["partials"] = "partials"
    format: Format = FORMAT
    library: str = __version__
    torch: str
    detectors: tuple[PartialsRecord, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    samples: int
    summary: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        names = [record.name for record in self.detectors]
        if len(names) > _MOST_DETECTORS or len(set(names)) < len(names) or self.samples < 0:
            raise ArtifactError("manifest: detectors or samples are none that gradood writes.")

    @property
    def tensors(self) -> frozenset[str]:
        """Names of all tensors that the manifest refers to."""
        names = {name for one in self.detectors for name in one.tensors.values()}
        return frozenset(names | set((self.summary or {}).values()))

    def to_json(self) -> str:
        """Canonical JSON, which `from_dict` will read again.

        Raises:
            ArtifactError: options or the like are not plain, and where.
        """
        document = to_plain(self)
        check_plain(document, "manifest")
        PartialsManifest.from_dict(document)
        return encode(document)

    @classmethod
    def from_dict(cls, document: Any) -> "PartialsManifest":
        """The manifest out of plain JSON.

        Raises:
            ArtifactError: a key is unknown or missing, or a value is of the wrong type; names it.
        """
        check_version(document)
        version = document["format"]
        return decode(cls, document, "manifest", manifest_rules(version["major"], version["minor"]))

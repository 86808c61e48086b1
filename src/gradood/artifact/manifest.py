"""The manifest: all that an artifact says in words and numbers; read strictly, without torch."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gradood import __version__
from gradood._io.canonical import check_plain, encode
from gradood._io.records import OMIT, SINCE, Rules, Words, decode, to_plain
from gradood.artifact._model_records import CanaryRecord, ModelRecord
from gradood.artifact.numerics import NumericsRecord
from gradood.artifact.rejection import GuardRecord
from gradood.errors import ArtifactError

__all__ = [
    "CanaryRecord",
    "DetectorRecord",
    "FORMAT",
    "FitSummary",
    "Format",
    "Manifest",
    "ModelRecord",
    "Override",
    "check_version",
    "manifest_rules",
]

_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}[\w.+-]{0,40}", re.ASCII)
_WORDS = Words(
    text="a string",
    whole="an integer",
    table="an object",
    options="an object",
    missing="{where} lacks the key {key!r}; the file is incomplete.",
)
_MOST_DETECTORS, _MOST_READS = 1_000, 50_000
_LINKS = ("softmax", "sigmoid", "none")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Format:
    """Version of the format: a reader takes its own and older ones, and refuses newer ones.

    Attributes:
        major: grows when files can no longer be read as before.
        minor: grows when fields are added; files without them get defaults.
    """

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


FORMAT = Format(major=1, minor=1)
"""What this gradood writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRecord:
    """A detector of the monitor.

    Attributes:
        name: in the monitor.
        method: in the registry; nothing else names code, and nothing is imported by name.
        options: of its constructor; tensors and the like as `gradood.artifact.tensors.pack` gives.
        reads: what it reads of the model, as plain JSON.
        state: name in its state → name of the tensor in the file.
        title: one line on what it measures.
        paper: the paper, in full, or empty.
        fails_when: where the score means little.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    reads: tuple[Any, ...]
    state: Mapping[str, str]
    title: str
    paper: str
    fails_when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSummary:
    """The data that was learned from.

    Attributes:
        samples: how many.
        class_counts: of each class, or None where there were no labels.
        predicted_counts: of each predicted class, or None if unknown, as in files before 1.1.
    """

    samples: int
    class_counts: tuple[int, ...] | None
    predicted_counts: tuple[int, ...] | None = field(default=None, metadata={SINCE: (1, 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A refusal that a user overrode, and answers for.

    Attributes:
        what: such as ``model mismatch``.
        reason: in the user's words.
        details: what was refused.
    """

    what: str
    reason: str
    details: tuple[str, ...]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a saved monitor is.

    Attributes:
        format: of the file.
        library: version of gradood that wrote it.
        torch: version of torch it was fitted with.
        created: UTC, as ``2026-11-21T13:00:00Z``.
        bare: whether the monitor was given one bare detector and gives plain tensors.
        detectors: in the order of the monitor.
        combine: how several become one decision, or None.
        model: that they are bound to.
        preprocess: how images become inputs, or None if unknown.
        calibration: the promise, and what it rests on, or None. The card reads ``fpr``, ``mode``,
            ``confidence`` and ``samples`` from it.
        fit: the data that was learned from, or None if nothing was.
        seeds: by what they were for.
        overrides: refusals that a user overrode.
        notes: for people.
        canary: inputs with known outputs, or None.
        arrays: names of further tensors, that `calibration` or options refer to.
        numerics: how the model was run for all this, or None if unknown, as in files before 1.1.
        guard: how the guard was made, or None for a monitor, and then it is not written.
    """

    format: Format = FORMAT
    library: str = __version__
    torch: str
    created: str = field(default_factory=_now)
    bare: bool
    detectors: tuple[DetectorRecord, ...]
    combine: str | None = None
    model: ModelRecord
    preprocess: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    fit: FitSummary | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    notes: tuple[str, ...] = ()
    canary: CanaryRecord | None = None
    arrays: tuple[str, ...] = ()
    numerics: NumericsRecord | None = field(default=None, metadata={SINCE: (1, 1)})
    guard: GuardRecord | None = field(default=None, metadata={OMIT: True})

    def __post_init__(self) -> None:
        _expect(bool(self.detectors), "detectors is empty; expected at least one.")
        names = [detector.name for detector in self.detectors]
        reads = sum(len(detector.reads) for detector in self.detectors)
        _expect(
            len(names) <= _MOST_DETECTORS and reads <= _MOST_READS,
            f"there are {len(names):,} detectors with {reads:,} reads; expected at most "
            f"{_MOST_DETECTORS:,} and {_MOST_READS:,}.",
        )
        _expect(len(set(names)) == len(names), f"two detectors are called alike in {names}.")
        _expect(bool(_VERSION.fullmatch(self.library)), f"library is {self.library[:80]!r}.")
        _expect(
            bool(_CREATED.fullmatch(self.created)),
            f"created is {self.created[:80]!r}; expected UTC, as 2026-11-21T13:00:00Z.",
        )
        _expect(self.model.link in (None, *_LINKS), f"link is {str(self.model.link)[:80]!r}.")
        counts = [self.model.classes, *self.model.input_shape]
        if self.fit is not None:
            counts += [self.fit.samples, *(self.fit.class_counts or ())]
            counts += self.fit.predicted_counts or ()
        _expect(min(counts) >= 0, "a count or size is negative; expected at least 0.")
        if self.canary is not None:
            strangers = sorted(set(self.canary.scores) - set(names))
            _expect(not strangers, f"canary scores are of {strangers}, which is no detector here.")

    @property
    def tensors(self) -> frozenset[str]:
        """Names of all tensors that the manifest refers to: the file holds these and no others."""
        names: set[str] = set(self.arrays)
        for detector in self.detectors:
            names.update(detector.state.values())
        if self.canary is not None:
            names.update((self.canary.inputs, self.canary.logits, *self.canary.scores.values()))
            names.update(_tensor_names(self.canary.arguments))
        return frozenset(names)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return to_plain(self)

    def to_json(self) -> str:
        """Canonical JSON, which `from_dict` will read again.

        Raises:
            ArtifactError: options, records or the like are not plain, and where.
        """
        document = self.to_dict()
        check_plain(document, "manifest")
        Manifest.from_dict(document)
        return encode(document)

    @classmethod
    def from_dict(cls, document: Any) -> "Manifest":
        """The manifest out of plain JSON.

        Raises:
            ArtifactError: a key is unknown or missing, or a value is of the wrong type; names it.
        """
        check_version(document)
        version = document["format"]
        return decode(cls, document, "manifest", manifest_rules(version["major"], version["minor"]))


def _tensor_names(packed: Any) -> Iterator[str]:
    """Names of the tensors in what `gradood.artifact.tensors.pack` gave."""
    if isinstance(packed, Mapping):
        if isinstance(packed.get("$tensor"), str):
            yield packed["$tensor"]
        for value in packed.values():
            yield from _tensor_names(value)
    elif isinstance(packed, list | tuple):
        for value in packed:
            yield from _tensor_names(value)


def manifest_rules(major: int, minor: int) -> Rules:
    """How a manifest of a format is read: every key known, and none missing that it has."""
    return Rules(error=ArtifactError, words=_WORDS, defaults=False, version=(major, minor))


def check_version(document: Any) -> None:
    """Whether a manifest is of a format that this gradood reads; looks at nothing else in it.

    Raises:
        ArtifactError: it is newer; names the version to install.
    """
    found = document.get("format") if type(document) is dict else None
    numbers = [found.get(key) for key in ("major", "minor")] if type(found) is dict else []
    if not numbers or any(type(number) is not int or number < 0 for number in numbers):
        raise ArtifactError("manifest.format has no major and minor version; the file is refused.")
    if (numbers[0], numbers[1]) <= (FORMAT.major, FORMAT.minor):
        return
    library = document.get("library")
    known = type(library) is str and _VERSION.fullmatch(library)
    wanted = f"'gradood>={library}'" if known else "--upgrade gradood"
    raise ArtifactError(
        f"this file has format {numbers[0]}.{numbers[1]}; gradood {__version__} reads up to "
        f"{FORMAT}. Install the version that wrote it, or a later one: pip install {wanted}."
    )


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ArtifactError(f"manifest: {message}")

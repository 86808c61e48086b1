"""Inputs of a benchmark record: suite, data sets, settings, network and methods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from gradood._io.records import KEY, OMIT, Expect
from gradood.bench._record_figures import Finite, Part

__all__ = [
    "HyperParameters",
    "MethodRecord",
    "ModelRecord",
    "OutlierSetRecord",
    "SetRecord",
    "SettingsRecord",
    "ShiftedSetRecord",
    "SuiteRecord",
    "TestSetRecord",
    "WarningRecord",
]

Group = Annotated[Literal["near", "far"], Expect(lambda group: True, "'near' or 'far'")]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRecord(Part):
    """A data set.

    Attributes:
        path: of its images, relative to the root where it is rooted.
        rooted: whether the path is relative to the root of the suite.
        n: number of images that were read.
        sha256: of the file, or None if it is a folder.
        images: folder of the images, where the path is a list of them.
        unusable: how many rows of each status were left out, if any were.
    """

    path: str
    rooted: bool = True
    n: int
    sha256: str | None = None
    images: str | None = field(default=None, metadata={OMIT: True})
    unusable: Mapping[str, int] | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, kw_only=True, slots=True)
class TestSetRecord(SetRecord):
    """The in-distribution test set.

    Attributes:
        fit: training sets, in order.
        val: held-out images, which the network was not trained on; None for none.
        classes: how many there are, or None if the suite leaves that to the model.
    """

    __test__ = False  # Not a test of pytest.

    fit: tuple[SetRecord, ...] = ()
    val: SetRecord | None = field(default=None, metadata={OMIT: True})
    classes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierSetRecord(Part):
    """A set of outliers.

    Attributes:
        name: unique among the sets.
        group: near or far.
        path: of its images, relative to the root where it is rooted.
        rooted: whether the path is relative to the root of the suite.
        n: number of images that were read.
        sha256: of the file, or None if it is a folder.
        images: folder of the images, where the path is a list of them.
        unusable: how many rows of each status were left out, if any were.
    """

    name: str
    group: Group
    path: str
    rooted: bool = True
    n: int
    sha256: str | None = None
    images: str | None = field(default=None, metadata={OMIT: True})
    unusable: Mapping[str, int] | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftedSetRecord(SetRecord):
    """A set of in-distribution images under covariate shift.

    Attributes:
        name: unique among the sets.
    """

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteRecord(Part):
    """The suite that was run.

    Attributes:
        name: of the suite.
        version: of the suite.
        title: one line.
        id: the in-distribution test set, with the training sets.
        ood: the sets of outliers.
        preprocess: options for models that say nothing themselves.
        checked: whether the files were held against the suite's hashes.
        shifted: the sets of known images under covariate shift; None if there are none.
    """

    name: str
    version: int
    title: str | None = None
    id: TestSetRecord
    ood: Annotated[tuple[OutlierSetRecord, ...], Expect(bool, "a list that is not empty")]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    checked: bool | None = None
    shifted: tuple[ShiftedSetRecord, ...] | None = field(default=None, metadata={OMIT: True})

    def members(self) -> dict[str, tuple[str, ...]]:
        """Group → names of its sets: all first, then near and far where they have any."""
        groups = {"all": tuple(own.name for own in self.ood)}
        for group in ("near", "far"):
            if names := tuple(own.name for own in self.ood if own.group == group):
                groups[group] = names
        return groups

    def sizes(self) -> dict[str, int]:
        """Set, ``id`` for the in-distribution test set → number of images."""
        return {"id": self.id.n} | {own.name: own.n for own in self.ood}


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningRecord(Part):
    """A warning of a run.

    Attributes:
        stage: when it was given: ``data``, ``fit``, ``id``, ``shifted NAME`` or ``ood NAME``.
        text: of the warning.
        void: whether figures that rest on that stage say nothing about the whole data, so that
            nothing is recommended by them.
    """

    stage: str
    text: str
    void: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsRecord(Part):
    """Settings of a run; see `gradood.bench.Settings`."""

    batch_size: int | None = None
    workers: int | None = None
    device: str | None = None
    limit: int | None = None
    fit_limit: int | None = None
    first_rows: bool | None = field(default=None, metadata={OMIT: True})
    max_bad_fraction: float | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, kw_only=True, slots=True)
class HyperParameters(Part):
    """Origin of the hyper-parameters.

    Attributes:
        kind: ``fixed`` or ``id-only``.
        how: in words.
    """

    kind: str
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord(Part):
    """The network of a run.

    Attributes:
        model: as it was named.
        kind: name of its class.
        parameters: how many.
        weights: files, or None where the source brings its own.
        weights_sha256: of these files.
        published_accuracy: share measured before with these weights, or None if unknown.
        preprocess: options of `gradood.data.Preprocess`, or None.
    """

    model: str | None = None
    kind: str | None = field(default=None, metadata={KEY: "class"})
    parameters: int | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    published_accuracy: Finite | None = None
    preprocess: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRecord(Part):
    """A method of a run.

    Attributes:
        method: name in the registry.
        title: one line.
        paper: citation key.
        options: of its constructor.
        notes: on how it reads this model.
        caveats: where its score means little.
        pass_kind: ``shared`` or ``own``.
        fits: whether it learns.
        chosen_by: ``fixed`` or ``id-only``.
        tried: values of the chosen option, with their mean AUROC; None if it was fixed.
    """

    method: str
    title: str | None = None
    paper: str | None = None
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    caveats: tuple[str, ...]
    pass_kind: str | None = field(default=None, metadata={KEY: "pass"})
    fits: bool = False
    chosen_by: str | None = None
    tried: Mapping[str, Any] | None = field(default=None, metadata={OMIT: True})

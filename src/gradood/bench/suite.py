"""A suite: what is in-distribution, what is not, and the files that this is held to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gradood._engine.roster import USABLE, usable_name
from gradood._io.records import to_plain
from gradood.data import Preprocess
from gradood.detectors.base import require
from gradood.errors import ConfigError, suggest

__all__ = [
    "Group",
    "InDistribution",
    "OutOfDistribution",
    "ShiftedInDistribution",
    "Suite",
    "suite_of_paths",
]

Group = Literal["near", "far"]
"""How far outliers are: near ones share the scenes and the style of the known images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InDistribution:
    """The known images.

    Attributes:
        test: path of the test images, relative to the root.
        fit: of the training images, in this order; for the methods that learn.
        val: of held-out images, for methods that are fitted on such and to choose hyper-parameters
            on, or None.
        classes: how many there are, or None to leave that to the model.
        images: folder of the images, where the paths are lists of them.
    """

    test: str
    fit: tuple[str, ...] = ()
    val: str | None = None
    classes: int | None = None
    images: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfDistribution:
    """A set of unknown images.

    Attributes:
        name: in the table.
        group: near or far.
        path: of the images, relative to the root.
        images: folder of the images, where the path is a list of them.
        rooted: whether the path is relative to the root; else it is the user's own.
    """

    name: str
    group: Group
    path: str
    images: str | None = None
    rooted: bool = True

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftedInDistribution:
    """A set of known images under covariate shift: other style, light or device, same classes.

    Attributes:
        name: in the table.
        path: of the images, relative to the root; with labels, the accuracy is measured.
        images: folder of the images, where the path is a list of them.
        rooted: whether the path is relative to the root; else it is the user's own.
        sized: whether the images are of the model's input size already, and so neither resized nor
            cropped, as OpenOOD reads ImageNet-C.
    """

    name: str
    path: str
    images: str | None = None
    rooted: bool = True
    sized: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A benchmark's data, as a versioned file says it.

    Attributes:
        name: kebab case.
        version: raised with every change that changes a score.
        title: one line.
        id: the known images.
        ood: the unknown ones.
        preprocess: options of `gradood.data.Preprocess` for models that say nothing themselves.
        layout: where the root is looked for: see `gradood.bench.inventory.find_root`.
        hashes: path → SHA-256 of that file.
        rows: path → images in it.
        shifted: known images under covariate shift, which count as known.
    """

    name: str
    version: int
    title: str
    id: InDistribution
    ood: tuple[OutOfDistribution, ...]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    layout: Literal["files", "openood", "shared"] = "files"
    hashes: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    shifted: tuple[ShiftedInDistribution, ...] = ()

    def __post_init__(self) -> None:
        require(self.version >= 1, "version", self.version, "a whole number ≥ 1")
        require(len(self.ood) > 0, "ood", [], "at least one set of outliers")
        names = [one.name for one in self.beside]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, "ood and shifted", twice, "each set once")
        Preprocess.from_dict(self.preprocess)
        _check_images(self)
        for kind, paths in (("hashes", self.hashes), ("rows", self.rows)):
            for path in paths:
                if path not in self.paths:
                    raise ConfigError(
                        f"{kind} has {path!r}, which no set reads; {suggest(path, self.paths)}"
                    )

    @property
    def beside(self) -> tuple[ShiftedInDistribution | OutOfDistribution, ...]:
        """Every set beside the known images: the shifted ones, then the outliers."""
        return (*self.shifted, *self.ood)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that it reads below the root, each once."""
        own = (self.id.test, *self.id.fit, *([] if self.id.val is None else [self.id.val]))
        return tuple(dict.fromkeys([*own, *(one.path for one in self.beside if one.rooted)]))

    def images(self, path: str) -> str | None:
        """The folder of images that the list at a path is relative to."""
        return next((one.images for one in self.beside if one.path == path), self.id.images)

    @property
    def image_folders(self) -> dict[str, str]:
        """Path of a list of images → the folder that its images are in."""
        return {path: folder for path in self.paths if (folder := self.images(path))}

    def without_fit(self) -> "Suite":
        """The same without its training and validation images, which then need not be there."""
        bare = replace(self.id, fit=(), val=None)
        kept = {self.id.test, *(one.path for one in self.beside)}
        hashes = {path: digest for path, digest in self.hashes.items() if path in kept}
        rows = {path: count for path, count in self.rows.items() if path in kept}
        return replace(self, id=bare, hashes=hashes, rows=rows)

    def with_ood(self, given: Mapping[str, tuple[Group, str]]) -> "Suite":
        """The same with more sets of outliers.

        Args:
            given: name → group and path, which is not relative to the root.

        Raises:
            ConfigError: there is a set of that name.
        """
        self._check_new("--ood", given)
        return replace(self, ood=(*self.ood, *_outliers(given, rooted=False)))

    def with_shifted(self, given: Mapping[str, str]) -> "Suite":
        """The same with more sets of known images under covariate shift.

        Args:
            given: name → path, which is not relative to the root.

        Raises:
            ConfigError: there is a set of that name.
        """
        self._check_new("--id-shifted", given)
        return replace(self, shifted=(*self.shifted, *_shifted(given, rooted=False)))

    def _check_new(self, option: str, names: Iterable[str]) -> None:
        known = [one.name for one in self.beside]
        for name in names:
            if name in known:
                raise ConfigError(
                    f"{option} {name!r}: the suite {self.name} has a set of that name; choose "
                    "another."
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return to_plain(self)


def _check_name(name: str) -> None:
    usable = usable_name(name) and name != "id"
    require(usable, "name", name, f"{USABLE}, other than 'id'")


def _outliers(
    given: Mapping[str, tuple[Group, str]], *, rooted: bool
) -> Iterator[OutOfDistribution]:
    for name, (group, path) in given.items():
        yield OutOfDistribution(name=name, group=group, path=path, rooted=rooted)


def _shifted(given: Mapping[str, str], *, rooted: bool) -> Iterator[ShiftedInDistribution]:
    for name, path in given.items():
        yield ShiftedInDistribution(name=name, path=path, rooted=rooted)


def _check_images(suite: Suite) -> None:
    """A list is read with one folder of images: with two, one set would silently be the other."""
    folders: dict[str, str | None] = {}
    own = (suite.id.test, *suite.id.fit, *([] if suite.id.val is None else [suite.id.val]))
    given = [(path, suite.id.images) for path in own]
    given += [(one.path, one.images) for one in suite.beside if one.rooted]
    for path, folder in given:
        if folders.setdefault(path, folder) != folder:
            raise ConfigError(
                f"{path!r} is read with images in {folders[path]!r} and in {folder!r}; expected "
                "one folder for each list: copy the list under another name."
            )


def suite_of_paths(
    test: str,
    fit: Sequence[str],
    ood: Mapping[str, tuple[Group, str]],
    held_out: str | None = None,
    shifted: Mapping[str, str] | None = None,
) -> Suite:
    """A suite of one's own paths, which nothing holds to any hash.

    Args:
        test: of the known images.
        fit: of the training images; several are joined.
        ood: name → group and path of the outliers.
        held_out: of in-distribution images that the network was not trained on, or None.
        shifted: name → path of known images under covariate shift.

    Raises:
        ConfigError: a name is not usable, or of two sets.
    """
    return Suite(
        name="own",
        version=1,
        title="data of one's own",
        id=InDistribution(test=test, fit=tuple(fit), val=held_out),
        ood=tuple(_outliers(ood, rooted=True)),
        shifted=tuple(_shifted(shifted or {}, rooted=True)),
    )

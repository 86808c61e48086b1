"""A suite: what is in-distribution, what is not, and the files that this is held to."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from gradood._engine.roster import USABLE, usable_name
from gradood._io.records import decode, to_plain
from gradood.data import Preprocess
from gradood.detectors.base import require
from gradood.errors import ConfigError, UnknownNameError, suggest

__all__ = [
    "Group",
    "InDistribution",
    "OutOfDistribution",
    "Suite",
    "load_suite",
    "suite_of_paths",
    "suites",
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
        usable = usable_name(self.name) and self.name != "id"
        require(usable, "name", self.name, f"{USABLE}, other than 'id'")


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

    def __post_init__(self) -> None:
        require(self.version >= 1, "version", self.version, "a whole number ≥ 1")
        names = [one.name for one in self.ood]
        require(len(names) > 0, "ood", [], "at least one set of outliers")
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, "ood", twice, "each set once")
        _check_preprocess(self.preprocess)
        _check_images(self)
        for kind, paths in (("hashes", self.hashes), ("rows", self.rows)):
            for path in paths:
                if path not in self.paths:
                    raise ConfigError(
                        f"{kind} has {path!r}, which no set reads; {suggest(path, self.paths)}"
                    )

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that it reads below the root, each once."""
        own = (self.id.test, *self.id.fit, *([] if self.id.val is None else [self.id.val]))
        return tuple(dict.fromkeys([*own, *(one.path for one in self.ood if one.rooted)]))

    def images(self, path: str) -> str | None:
        """The folder of images that the list at a path is relative to."""
        return next((one.images for one in self.ood if one.path == path), self.id.images)

    @property
    def image_folders(self) -> dict[str, str]:
        """Path of a list of images → the folder that its images are in."""
        return {path: folder for path in self.paths if (folder := self.images(path))}

    def without_fit(self) -> "Suite":
        """The same without its training and validation images, which then need not be there."""
        bare = replace(self.id, fit=(), val=None)
        kept = {self.id.test, *(one.path for one in self.ood)}
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
        known = [one.name for one in self.ood]
        for name in given:
            if name in known:
                raise ConfigError(
                    f"--ood {name!r}: the suite {self.name} has a set of that name; choose another."
                )
        more = (
            OutOfDistribution(name=name, group=group, path=path, rooted=False)
            for name, (group, path) in given.items()
        )
        return replace(self, ood=(*self.ood, *more))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return to_plain(self)


def _check_images(suite: Suite) -> None:
    """A list is read with one folder of images: with two, one set would silently be the other."""
    folders: dict[str, str | None] = {}
    own = (suite.id.test, *suite.id.fit, *([] if suite.id.val is None else [suite.id.val]))
    given = [(path, suite.id.images) for path in own]
    given += [(one.path, one.images) for one in suite.ood if one.rooted]
    for path, folder in given:
        if folders.setdefault(path, folder) != folder:
            raise ConfigError(
                f"{path!r} is read with images in {folders[path]!r} and in {folder!r}; expected "
                "one folder for each list: copy the list under another name."
            )


def _check_preprocess(options: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(Preprocess)]
    for option in options:
        if option not in known:
            raise ConfigError(f"preprocess has no option {option!r}; {suggest(option, known)}")
    Preprocess(**options)


def suites() -> tuple[str, ...]:
    """Names of the suites that come with the library, sorted."""
    folder = resources.files("gradood.bench") / "suites"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_suite(source: str | Path) -> Suite:
    """A suite by name, or from a TOML file.

    Args:
        source: the name of a suite, or the path of a ``.toml`` file.

    Raises:
        UnknownNameError: no such suite; suggests the closest.
        ConfigError: the file cannot be read, or holds an option that is unknown or wrong.

    >>> [one.name for one in load_suite("cifar10-local").ood if one.group == "near"]
    ['cifar100', 'tinyimagenet']
    """
    name = str(source)
    if name.endswith(".toml"):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(
                f"the suite {name!r} cannot be read: {why}; expected TOML."
            ) from error
    elif name in suites():
        folder = resources.files("gradood.bench") / "suites"
        text = (folder / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise UnknownNameError(
            f"no suite {name!r}; {suggest(name, suites())} A file of one's own ends in .toml."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the suite {name!r} is no TOML: {error}.") from error
    return decode(Suite, table, f"suite {name!r}")


def suite_of_paths(
    test: str,
    fit: Sequence[str],
    ood: Mapping[str, tuple[Group, str]],
    held_out: str | None = None,
) -> Suite:
    """A suite of one's own paths, which nothing holds to any hash.

    Args:
        test: of the known images.
        fit: of the training images; several are joined.
        ood: name → group and path of the outliers.
        held_out: of in-distribution images that the network was not trained on, or None.

    Raises:
        ConfigError: a name is not usable.
    """
    outliers = (
        OutOfDistribution(name=name, group=group, path=path) for name, (group, path) in ood.items()
    )
    return Suite(
        name="own",
        version=1,
        title="data of one's own",
        id=InDistribution(test=test, fit=tuple(fit), val=held_out),
        ood=tuple(outliers),
    )

"""Networks and data of a benchmark, as options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from gradood.cli._groups import flag, option
from gradood.cli._model_output import LinkName, OutputItem, link_named, output_item
from gradood.cli._options import MODEL, Device, ModelSpec, NumClasses, Pretrained
from gradood.cli._output import say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import ModelEntry, Suite

__all__ = ["DataOptions", "NetworkOptions"]

DATA = "Data (PATH: folder, Parquet or .txt list, with a slice such as [:2000])"


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The networks to compare methods on."""

    PANEL: ClassVar[str] = MODEL

    model: Annotated[str | None, ModelSpec] = None
    weights: Annotated[
        list[Path],
        option("FILE", "Safetensors or state-dict file; several are seeds of the same network."),
    ] = field(default_factory=list)
    runs: Annotated[
        list[str],
        option(
            "LABEL=SPEC@FILE,FILE",
            "One more network with its weights; may be given several times.",
            "--run",
        ),
    ] = field(default_factory=list)
    output: OutputItem = None
    link: LinkName = None
    num_classes: NumClasses = None
    pretrained: Pretrained = False
    device: Device = "cpu"

    def entries(self) -> tuple["ModelEntry", ...]:
        """The networks; several weights of one are its seeds.

        Raises:
            ConfigError: none, or one that cannot be told from the text.
        """
        from gradood.bench import ModelEntry

        networks: list[tuple[str, str, Sequence[Path]]] = []
        if self.model is not None:
            networks.append((self.model, self.model, self.weights))
        elif self.weights:
            raise ConfigError("--weights was given without --model; name the network they are of.")
        networks += map(_network, self.runs)
        if not networks:
            raise ConfigError("no network was given; name one with --model, or several with --run.")
        return tuple(
            ModelEntry(
                label=label,
                model=spec,
                weights=file,
                seed=seed if len(files) > 1 else None,
                output=output_item(self.output),
                link=link_named(self.link),
            )
            for label, spec, files in networks
            for seed, file in enumerate(files or [None])
        )


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The known images and the outliers."""

    PANEL: ClassVar[str] = DATA

    suite: Annotated[
        str | None,
        option("NAME|FILE", "A built-in suite such as cifar10-local, or a .toml file of your own."),
    ] = None
    root: Annotated[
        Path | None,
        option("DIR", "Where the suite's data is."),
    ] = None
    check_data: Annotated[
        bool,
        flag("Only hold the suite's files against their hashes and sizes."),
    ] = False
    id_data: Annotated[
        str | None,
        option(
            "PATH", "In-distribution test images; with labels, the accuracy is checked.", "--id"
        ),
    ] = None
    fit: Annotated[
        list[str],
        option(
            "PATH",
            "In-distribution training images, for the methods that learn; several are joined.",
        ),
    ] = field(default_factory=list)
    held_out: Annotated[
        str | None,
        option(
            "PATH",
            "In-distribution images that the network was not trained on, for the methods whose "
            "papers fit on such: temperature-scaling, kl-matching.",
        ),
    ] = None
    ood: Annotated[
        list[str],
        option(
            "NAME=PATH",
            "Out-of-distribution images, far unless near:NAME=PATH; may be given several "
            "times, also beside a suite.",
        ),
    ] = field(default_factory=list)
    id_shifted: Annotated[
        list[str],
        option(
            "NAME=PATH",
            "In-distribution images under covariate shift, which count as known; may be given "
            "several times, also beside a suite.",
        ),
    ] = field(default_factory=list)
    limit: Annotated[
        int | None,
        option("N", "Only so many images of each set, drawn evenly over its classes.", least=1),
    ] = None
    fit_limit: Annotated[
        int | None,
        option(
            "N",
            "Only so many images to fit on, drawn evenly over the classes; with 0 none are needed.",
            least=0,
        ),
    ] = None
    first_rows: Annotated[
        bool,
        flag(
            "Limits take the first images of each set and not an even draw, which repeats "
            "records made before there was one."
        ),
    ] = False

    def open(self) -> tuple["Suite", Path]:
        """The suite to run, a built-in one or one made of paths, and the root of its paths.

        Raises:
            ConfigError: no data, or two answers to what it is.
        """
        from gradood.bench import find_root, load_suite
        from gradood.bench.suite import suite_of_paths

        sets, shifted = _outliers(self.ood), _shifted(self.id_shifted)
        if self.suite is not None:
            if self.id_data is not None or self.fit or self.held_out is not None:
                raise ConfigError(
                    "--suite says what is in-distribution; leave out --id, --fit and --held-out."
                )
            suite = load_suite(self.suite)
            more = suite.with_ood(sets).with_shifted(shifted)
            return more, find_root(suite, self.root, source=self.suite)
        if self.root is not None:
            raise ConfigError("--root is of a suite's data; name the suite with --suite.")
        if self.id_data is None or not sets:
            raise ConfigError("no data was given; give --suite, or --id with at least one --ood.")
        return suite_of_paths(self.id_data, self.fit, sets, self.held_out, shifted), Path()

    def check(self, image_column: str) -> None:
        """Every file of the suite, and whether it is as it should be."""
        if self.suite is None:
            raise ConfigError(
                "--check-data holds a suite's files against it; name one with --suite."
            )
        from gradood.bench import find_root, load_suite, take_inventory

        suite = load_suite(self.suite)
        root = find_root(suite, self.root, source=self.suite)
        inventory = take_inventory(suite, root, image_column=image_column)
        inventory.require(suite)
        total = sum(inventory.rows.values())
        say(
            f"{suite.name}, version {suite.version}: {len(inventory.rows)} files with {total:,} "
            f"images in {str(inventory.root)!r} are as they should be"
        )


def _network(text: str) -> tuple[str, str, Sequence[Path]]:
    """Label, model and weights of ``LABEL=SPEC@FILE,FILE``."""
    label, equals, rest = text.partition("=")
    spec, at, files = rest.rpartition("@")
    spec, files = (spec, files) if at else (rest, "")
    if not (equals and label and spec) or (at and not all(files.split(","))):
        raise ConfigError(
            f"--run {text!r}; expected LABEL=SPEC@FILE, such as "
            "net=resnet20@seed0.safetensors,seed1.safetensors."
        )
    return label, spec, [Path(file) for file in files.split(",") if file]


def _outliers(texts: Sequence[str]) -> Mapping[str, tuple[Literal["near", "far"], str]]:
    """Name → group and path, of ``NAME=PATH`` and ``near:NAME=PATH``."""
    sets: dict[str, tuple[Literal["near", "far"], str]] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        group: Literal["near", "far"] = "near" if name.startswith("near:") else "far"
        name = name.removeprefix(f"{group}:")
        if not (equals and name and path):
            raise ConfigError(
                f"--ood {text!r}; expected NAME=PATH, such as svhn=svhn.parquet, or near:NAME=PATH."
            )
        if name in sets:
            raise ConfigError(f"--ood {name!r} was given twice; give each set its own name.")
        sets[name] = group, path
    return sets


def _shifted(texts: Sequence[str]) -> Mapping[str, str]:
    """Name → path, of ``NAME=PATH``."""
    sets: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and name and path):
            raise ConfigError(
                f"--id-shifted {text!r}; expected NAME=PATH, such as fog=fog.parquet."
            )
        if name in sets:
            raise ConfigError(f"--id-shifted {name!r} was given twice; give each set its own name.")
        sets[name] = path
    return sets

"""The command that compares methods on models and data of one's own: ``gradood bench``."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gradood.cli._cluster import ClusterLoadingOptions
from gradood.cli._entries import DataOptions, NetworkOptions
from gradood.cli._groups import flag, option
from gradood.cli._options import (
    METHODS,
    RUN,
    MethodOptions,
    PreprocessOptions,
    device_name,
    one_of,
)
from gradood.cli._output import in_bytes, say
from gradood.cli._results import ResultOptions
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Outcome, Settings
    from gradood.scale._pools import Place

__all__ = ["bench"]


@dataclass(frozen=True, kw_only=True)
class TunedMethodOptions(MethodOptions):
    """The detectors, and where their hyper-parameters come from."""

    hyper_parameters: Annotated[
        str,
        option(
            "fixed|id-only",
            "As published, or chosen on in-distribution data and outliers made of it.",
            panel=METHODS,
        ),
    ] = "fixed"

    def choice(self) -> Literal["fixed", "id-only"]:
        """One of the two.

        Raises:
            ConfigError: it is neither.
        """
        return one_of("--hyper-parameters", self.hyper_parameters, ("fixed", "id-only"))


@dataclass(frozen=True, kw_only=True)
class RunOptions(ClusterLoadingOptions):
    """How the methods are run."""

    cache: Annotated[
        Path | None,
        option(
            "DIR",
            "Keep here what was read of the models; a run that was killed goes on from there. "
            "[default: ~/.cache/gradood/arena]",
            panel=RUN,
        ),
    ] = None
    no_cache: Annotated[bool, flag("Keep nothing.", panel=RUN)] = False
    costs: Annotated[
        bool, flag("Measure time and memory of each method.", "--costs/--no-costs", panel=RUN)
    ] = True

    def __post_init__(self) -> None:
        if self.no_cache and self.cache is not None:
            raise ConfigError("--cache and --no-cache were both given; give one.")

    def folder(self) -> Path | None:
        """Where readings are kept, or None."""
        from gradood.bench import default_folder

        return None if self.no_cache else (self.cache or default_folder())


def bench(
    networks: NetworkOptions,
    images: DataOptions,
    methods: TunedMethodOptions,
    preprocessing: PreprocessOptions,
    running: RunOptions,
    results: ResultOptions,
) -> None:
    """Compare methods on models of your own: every method in one pass over each data set."""
    if images.check_data:
        images.check(running.image_column)
        return
    entries = networks.entries()
    suite, root = images.open()
    place = running.spread(networks.device)
    from gradood.bench import Settings

    expected = results.expected(suite)
    settings = Settings(
        contenders=entries,
        suite=suite,
        root=root,
        check=images.suite is not None,
        methods=methods.methods or "all",
        options=tuple(methods.assignments),
        hyper_parameters=methods.choice(),
        num_classes=networks.num_classes,
        pretrained=networks.pretrained,
        preprocess=preprocessing.values(),
        columns=running.choice(),
        image_column=running.image_column,
        label_column=running.label_column,
        limit=images.limit,
        fit_limit=images.fit_limit,
        first_rows=images.first_rows,
        batch_size=running.batch_size,
        workers=running.workers,
        max_bad_fraction=running.max_bad_fraction,
        device=device_name(networks.device),
        cache=running.folder(),
        costs=running.costs,
    )
    outcome = _outcome(settings, shlex.join(["gradood", *results.context.obj]), place)
    results.write(outcome, settings)
    _say_cache_size(settings.cache)
    results.gate(outcome, expected)


def _outcome(settings: "Settings", command: str, place: "Place | None") -> "Outcome":
    """The run, in this process or elsewhere."""
    if place is None:
        from gradood.bench import run

        return run(settings, command=command, told=say)
    from gradood.scale import bench as spread

    return spread(settings, command=command, told=say, cluster=place)


def _say_cache_size(folder: Path | None) -> None:
    """It grows with every model and data set, which nothing else would say."""
    from gradood.bench import Cache

    size = 0 if folder is None else Cache(folder).size()
    if size:
        say(
            f"the cache {str(folder)!r} holds {in_bytes(size)}, of all runs; it may be deleted at "
            "any time, and with --no-cache none is kept"
        )

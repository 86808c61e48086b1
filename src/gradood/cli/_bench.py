"""Commands that compare methods: ``gradood bench``, and on handwritten digits ``gradood demo``."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from gradood.cli._entries import DataOptions, NetworkOptions
from gradood.cli._groups import flag, option
from gradood.cli._options import (
    METHODS,
    RUN,
    Json,
    LoadingOptions,
    MethodOptions,
    PreprocessOptions,
    device_name,
    one_of,
)
from gradood.cli._output import aligned, data, document, in_bytes, say
from gradood.cli._results import ResultOptions
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Comparison
    from gradood.bench._demo import Digits
    from gradood.models import DigitsNet

__all__ = ["bench", "demo"]


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
class RunOptions(LoadingOptions):
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
    from gradood.bench import Settings, run

    expected = results.expected(suite)
    settings = Settings(
        contenders=entries,
        suite=suite,
        root=root,
        check=images.suite is not None,
        methods=methods.methods,
        options=tuple(methods.assignments),
        hyper_parameters=methods.choice(),
        num_classes=networks.num_classes,
        pretrained=networks.pretrained,
        preprocess=preprocessing.values(),
        image_column=running.image_column,
        label_column=running.label_column,
        limit=images.limit,
        fit_limit=images.fit_limit,
        first_rows=images.first_rows,
        batch_size=running.batch_size,
        workers=running.workers,
        device=device_name(networks.device),
        cache=running.folder(),
        costs=running.costs,
    )
    outcome = run(settings, command=shlex.join(["gradood", *results.context.obj]), told=say)
    results.write(outcome, settings)
    _say_cache_size(settings.cache)
    results.gate(outcome, expected)


def _say_cache_size(folder: Path | None) -> None:
    """It grows with every model and data set, which nothing else would say."""
    from gradood.bench import Cache

    size = 0 if folder is None else Cache(folder).size()
    if size:
        say(
            f"the cache {str(folder)!r} holds {in_bytes(size)}, of all runs; it may be deleted at "
            "any time, and with --no-cache none is kept"
        )


def demo(
    json: Json = False,
    seed: Annotated[int, option("N", "Of the split and the training.")] = 0,
    epochs: Annotated[int, option("N", "Passes over the training digits.", least=1)] = 12,
) -> None:
    """Train on handwritten digits, fit every method in one pass, compare them.

    Known are the digits 0 to 7 of scikit-learn's bundled set;
    near are its 8 and 9; far are patches of its two photographs.
    Nothing is downloaded. It takes well under two minutes.
    """
    from gradood.bench._demo import accuracy, load_digits, one_thread, train
    from gradood.bench.folder import provenance
    from gradood.bench.record import CAPTION, left_out_lines

    digits = load_digits(seed=seed)
    samples = {
        "fit": len(digits.train_x),
        "id": len(digits.test_x),
        "ood": {name: len(x) for name, x in digits.ood.items()},
    }
    say(f"training a small network on {samples['fit']:,} images of the digits 0 to 7 …")
    with one_thread():
        model = train(digits, epochs=epochs, seed=seed)
        train_accuracy = accuracy(model, digits.train_x, digits.train_y)
        comparison = _compared(digits, model, level=0.95 if json else None)
    test_accuracy = comparison.id_accuracy or 0.0
    say(
        f"accuracy: {train_accuracy:.2%} of the training digits, "
        f"{test_accuracy:.2%} of {samples['id']} others"
    )
    if json:
        settings = {
            "seed": seed,
            "epochs": epochs,
            "train_accuracy": train_accuracy,
            "samples": samples,
        }
        document({**provenance(), **settings, **comparison.to_dict()})
        return
    lines = [
        CAPTION,
        "",
        aligned(comparison.table.markdown()),
        "",
        *left_out_lines(comparison.left_out),
    ]
    data("\n".join(lines).rstrip())


def _compared(digits: "Digits", model: "DigitsNet", *, level: float | None) -> "Comparison":
    from gradood.bench import Sets, compare, select

    # The published clipping value of LINe is absolute, and for other networks.
    detectors = select("all", ["line.clip=auto"]).detectors
    say(
        f"near: {len(digits.ood['near'])} images of 8 and 9; far: {len(digits.ood['far'])} patches "
        f"of photographs; fitting {len(detectors)} methods in one pass, scoring each set in one …"
    )
    sets = Sets(
        fit=list(zip(digits.train_x.split(128), digits.train_y.split(128), strict=True)),
        fit_labels=digits.train_y,
        id=digits.test_x.split(128),
        id_labels=digits.test_y,
        ood={name: x.split(128) for name, x in digits.ood.items()},
    )
    return compare(model, detectors, sets, digits.train_x[:32], level=level)

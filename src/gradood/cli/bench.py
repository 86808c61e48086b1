"""``gradood bench``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli.entries import contenders, named_sets
from gradood.cli.options import (
    BatchSize,
    Crop,
    Device,
    ImageColumn,
    Interpolation,
    Json,
    LabelColumn,
    Mean,
    MethodOption,
    Methods,
    Mode,
    NumClasses,
    Pretrained,
    Resize,
    Std,
    Workers,
    check_device,
    overrides,
)
from gradood.cli.output import in_bytes, say
from gradood.cli.results import Results
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Suite

__all__ = ["bench"]

_MODEL, _RUN = "Model", "Run"
_DATA = "Data (PATH: folder, Parquet or .txt list, with a slice such as [:2000])"


def bench(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER, or a reference "
            "network such as resnet20.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Safetensors or state-dict file; several are seeds of the same network.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="LABEL=SPEC@FILE,FILE",
            help="One more network with its weights; may be given several times.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    num_classes: NumClasses = None,
    pretrained: Pretrained = False,
    device: Device = "cpu",
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A built-in suite such as cifar10-local, or a .toml file of your own.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the suite's data is.", rich_help_panel=_DATA),
    ] = None,
    check_data: Annotated[
        bool,
        typer.Option(
            "--check-data",
            help="Only hold the suite's files against their hashes and sizes.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    id_data: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="PATH",
            help="In-distribution test images; with labels, the accuracy is checked.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="In-distribution training images, for the methods that learn; several are joined.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Out-of-distribution images, far unless near:NAME=PATH; may be given several "
            "times, also beside a suite.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Only the first images of each set.", rich_help_panel=_DATA
        ),
    ] = None,
    fit_limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Only the first images to fit on; with 0 none are needed.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    methods: Methods = "all",
    option: MethodOption = None,
    hyper_parameters: Annotated[
        str,
        typer.Option(
            metavar="fixed|id-only",
            help="As published, or chosen on in-distribution data and outliers made of it.",
            rich_help_panel="Methods",
        ),
    ] = "fixed",
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = None,
    std: Std = None,
    mode: Mode = None,
    interpolation: Interpolation = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    batch_size: BatchSize = 128,
    workers: Workers = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep here what was read of the models; a run that was killed goes on from there. "
            "[default: ~/.cache/gradood/arena]",
            rich_help_panel=_RUN,
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep nothing.", rich_help_panel=_RUN)
    ] = False,
    costs: Annotated[
        bool,
        typer.Option(help="Measure time and memory of each method.", rich_help_panel=_RUN),
    ] = True,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Write the record to FILE.json or FILE.md, or with all scores to a folder; may "
            "be given several times.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write one self-contained page of the whole: which method to use, and why.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the figures as what later runs must reproduce.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="End with exit code 1 if a figure leaves the interval that this file gives it.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare methods on models of your own: every method in one pass over each data set."""
    results = Results(tuple(out or ()), report, expect, check, json)
    if check_data:
        _check_data(suite, root, image_column)
        return
    networks = contenders(model, weights or [], runs or [])
    data, place = _data(suite, root, id_data, fit or [], ood or [])
    changed = overrides(
        resize=resize, crop=crop, mean=mean, std=std, mode=mode, interpolation=interpolation
    )
    if no_cache and cache is not None:
        raise ConfigError("--cache and --no-cache were both given; give one.")
    from gradood.bench import Settings, default_folder, run
    from gradood.bench.gate import read_expected

    expected = None if check is None else read_expected(check)
    if expected is not None:  # Rather now than after hours of work.
        expected.check_suite(data.name, data.version)
    settings = Settings(
        contenders=networks,
        suite=data,
        root=place,
        check=suite is not None,
        methods=methods,
        options=tuple(option or ()),
        hyper_parameters=_one_of("--hyper-parameters", hyper_parameters, ("fixed", "id-only")),
        num_classes=num_classes,
        pretrained=pretrained,
        preprocess=changed,
        image_column=image_column,
        label_column=label_column,
        limit=limit,
        fit_limit=fit_limit,
        batch_size=batch_size,
        workers=workers,
        device=check_device(device),
        cache=None if no_cache else (cache or default_folder()),
        costs=costs,
    )
    outcome = run(settings, command=shlex.join(["gradood", *context.obj]), told=say)
    results.tell(outcome, settings)
    _tell_cache(settings.cache)
    results.gate(outcome, expected)


def _tell_cache(folder: Path | None) -> None:
    """It grows with every model and data set, and nobody else would say so."""
    from gradood.bench import Cache

    size = 0 if folder is None else Cache(folder).size()
    if size:
        say(
            f"the cache {str(folder)!r} holds {in_bytes(size)}, of all runs; it may be deleted at "
            "any time, and with --no-cache none is kept"
        )


def _check_data(suite: str | None, root: Path | None, image_column: str) -> None:
    """Every file of a suite, and whether it is as it should be."""
    if suite is None:
        raise ConfigError("--check-data holds a suite's files against it; name one with --suite.")
    from gradood.bench import find_root, load_suite, take_inventory

    found = load_suite(suite)
    place = find_root(found, root, source=suite)
    inventory = take_inventory(found, place, image_column=image_column)
    inventory.require(found)
    total = sum(inventory.rows.values())
    say(
        f"{found.name}, version {found.version}: {len(inventory.rows)} files with {total:,} images "
        f"in {str(inventory.root)!r} are as they should be"
    )


def _data(
    suite: str | None, root: Path | None, id_data: str | None, fit: list[str], ood: list[str]
) -> tuple["Suite", Path]:
    """The suite to run, a built-in one or one made of paths, and the root of its paths."""
    from gradood.bench import Suite, find_root, load_suite
    from gradood.bench.suite import InDistribution, OutOfDistribution

    sets = named_sets(ood)
    if suite is None:
        if root is not None:
            raise ConfigError("--root is of a suite's data; name the suite with --suite.")
        if id_data is None or not sets:
            raise ConfigError("no data was given; give --suite, or --id with at least one --ood.")
        outliers = (
            OutOfDistribution(name=name, group=group, path=path)
            for name, (group, path) in sets.items()
        )
        own = InDistribution(test=id_data, fit=tuple(fit))
        title = "data of one's own"
        return Suite(name="own", version=1, title=title, id=own, ood=tuple(outliers)), Path()
    if id_data is not None or fit:
        raise ConfigError("--suite says what is in-distribution; leave out --id and --fit.")
    found = load_suite(suite)
    return found.with_ood(sets), find_root(found, root, source=suite)


def _one_of(option: str, given: str, choices: tuple[str, ...]) -> Any:
    if given not in choices:
        raise ConfigError(f"{option} {given!r}; expected {' or '.join(choices)}.")
    return given

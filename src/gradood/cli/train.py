"""``gradood train``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli.exits import Exit
from gradood.cli.options import (
    Crop,
    Device,
    ImageColumn,
    Json,
    LabelColumn,
    Mean,
    Mode,
    Model,
    NumClasses,
    Resize,
    Std,
    check_device,
    overrides,
)
from gradood.cli.output import aligned, data, document, say
from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from gradood.data import Preprocess
    from gradood.models.load import Subject
    from gradood.training import Recipe, Trained, TrainingData
    from gradood.training.validation import Scores

__all__ = ["train"]

_DATA, _RECIPE, _RUN = (
    "Data (PATH: folder or Parquet, with a slice such as [:2000])",
    "Recipe",
    "Run",
)


def train(
    model: Model,
    id_data: Annotated[
        list[str],
        typer.Option(
            "--id",
            metavar="PATH",
            help="In-distribution training images with labels; several are put together.",
            rich_help_panel=_DATA,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="For checkpoint, logs and result.", rich_help_panel=_RUN
        ),
    ],
    aux: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Auxiliary outliers; never a test set.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    id_classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the known classes, one a line, where the data has none.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    aux_classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the outliers' classes, one a line, to warn of known ones among them.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="plain, oe, energy, greg, greg+, oe+gradient, logit-norm, vos or mixoe.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A recipe such as cifar10-greg, a TOML file, or an earlier recipe.json.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the recipe, as optimizer.lr=0.001; may be given several times.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Weights to start from: safetensors or state dict.",
            rich_help_panel="Model",
        ),
    ] = None,
    num_classes: NumClasses = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained",
            help="Let timm or torchvision fetch the weights to start from.",
            rich_help_panel="Model",
        ),
    ] = False,
    device: Device = "cpu",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the folder.", rich_help_panel=_RUN),
    ] = False,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="End with exit code 1 if accuracy on held-out images falls by more.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Processes that decode.", rich_help_panel=_RUN),
    ] = 0,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard's files too.", rich_help_panel=_RUN),
    ] = False,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = None,
    std: Std = None,
    mode: Mode = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    json: Json = False,
) -> None:
    """Train a classifier so that it knows its edge; with torchrun, on several processes.

    Parts of both sets are held out, and watched on the way.
    The folder gets model.safetensors, which --weights of the other commands takes.
    """
    chosen = _recipe(method, recipe, change or [])
    changed = overrides(resize=resize, crop=crop, mean=mean, std=std, mode=mode)
    from gradood.training import Options, Trainer
    from gradood.training.distributed import World, joined

    options = Options(workers=workers, tensorboard=tensorboard, max_accuracy_drop=max_accuracy_drop)
    with joined(check_device(device)) as place:
        subject = _subject(
            model,
            weights,
            chosen,
            num_classes=num_classes,
            pretrained=pretrained,
            preprocess=changed,
            device=place,
        )
        columns = {"image_column": image_column, "label_column": label_column}
        names = {"id_classes": id_classes, "aux_classes": aux_classes}
        given = _data(subject.preprocess, id_data, aux or [], names, columns)
        trained = Trainer(subject.model, chosen, given, out=out, options=options).fit(resume=resume)
        leads = World.current().leads
    if leads:
        _report(trained, out, json=json)
    if trained.failure is not None:
        raise typer.Exit(Exit.GATE_FAILED)


def _recipe(method: str | None, recipe: str | None, changes: Sequence[str]) -> "Recipe":
    from gradood.training import METHODS, load_recipe

    if method is None and recipe is None:
        raise ConfigError(f"no --method and no --recipe; expected one, of {', '.join(METHODS)}.")
    if method is not None and recipe is None and method not in METHODS:
        from gradood.errors import UnknownNameError, suggest

        raise UnknownNameError(f"no method {method!r}; {suggest(method, METHODS)}")
    found = load_recipe(recipe or method or "", changes)
    if method is not None and found.method != method:
        raise ConfigError(
            f"--method {method} with --recipe {recipe}, which is for {found.method}; give one of "
            "the two."
        )
    return found


def _subject(model: str, weights: Path | None, recipe: "Recipe", **options: Any) -> "Subject":
    from gradood.models.load import load_subject

    # Whether it needs to be trained already is for the recipe to say.
    subject = load_subject(model, weights, untrained=True, **options)
    opened = subject.opened
    trained = weights is not None or options["pretrained"] or opened.trained is not False
    if recipe.start == "trained" and not trained:
        raise ConfigError(
            f"recipe {recipe.name!r} fine-tunes a trained network, and {model!r} is untrained; "
            "give its weights (--from)."
        )
    return subject


def _data(
    preprocess: "Preprocess",
    known: Sequence[str],
    outliers: Sequence[str],
    names: dict[str, Path | None],
    columns: dict[str, str],
) -> "TrainingData":
    from gradood.training import TrainingData

    return TrainingData(
        id=_images("ID", known, preprocess, labeled=True, **columns),
        aux=_images("auxiliary", outliers, preprocess, **columns) if outliers else None,
        black=_black(preprocess),
        **{option: _lines(file, option) for option, file in names.items() if file is not None},
    )


def _images(what: str, paths: Sequence[str], preprocess: "Preprocess", **options: Any) -> Any:
    from torch.utils.data import ConcatDataset

    from gradood.data import open_images

    try:
        sets = [open_images(path, preprocess, **options) for path in paths]
    except DataError as error:
        raise DataError(f"the {what} data: {error}") from error
    return sets[0] if len(sets) == 1 else ConcatDataset(sets)


def _black(preprocess: "Preprocess") -> "Tensor":
    """What a black pixel becomes, per channel."""
    import torch

    channels = 1 if preprocess.mode == "L" else 3
    mean = torch.tensor(preprocess.mean or (0.0,) * channels)
    return -mean / torch.tensor(preprocess.std or (1.0,) * channels)


def _lines(path: Path, option: str) -> list[str]:
    """Names of classes: lines, of which only what follows a tab is taken if there is one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        name = option.replace("_", "-")
        raise DataError(f"--{name} {str(path)!r} cannot be read: {error}.") from error
    return [line.rpartition("\t")[2].strip() for line in lines if line.strip()]


def _report(trained: "Trained", out: Path, *, json: bool) -> None:
    say(f"wrote {out / 'model.safetensors'} and {out / 'recipe.json'}")
    if trained.failure is not None:
        say(f"failed: {trained.failure}")
    if json:
        document(trained.to_dict())
        return
    rows = [
        "| held-out data | accuracy | FPR95 | AUROC | mean energy ID | mean energy aux |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        _row("before", trained.before),
        _row("after", trained.after),
    ]
    data(aligned("\n".join(rows)))


def _row(name: str, scores: "Scores") -> str:
    cells = [_percent(scores.accuracy), _percent(scores.fpr95), _percent(scores.auroc)]
    energies = [scores.energy_id, scores.energy_aux]
    cells += ["—" if value is None else f"{value:.2f}" for value in energies]
    return f"| {name} | {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.2f}"

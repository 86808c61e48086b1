"""``gradood train``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from gradood.cli._bad_rows import MaxBadFraction
from gradood.cli._exits import Exit
from gradood.cli._groups import flag, option
from gradood.cli._model_output import LinkName, link_named
from gradood.cli._options import (
    MODEL,
    RUN,
    ColumnOptions,
    Device,
    Json,
    ModelSpec,
    NumClasses,
    PreprocessOptions,
    Workers,
    device_name,
)
from gradood.cli._output import aligned, data, document, say
from gradood.cli._training_data import TrainingDataOptions
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.models._columns import ColumnChoice
    from gradood.models._load import LoadedModel
    from gradood.training import Recipe, Trained
    from gradood.training._validation import Scores

__all__ = ["train"]

RECIPE = "Recipe"


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The network to train."""

    PANEL: ClassVar[str] = MODEL

    model: Annotated[str, ModelSpec]
    weights: Annotated[
        Path | None,
        option("FILE", "Weights to start from: safetensors or state dict.", "--from"),
    ] = None
    num_classes: NumClasses = None
    link: LinkName = None
    pretrained: Annotated[
        bool,
        flag("Let timm or torchvision fetch the weights to start from."),
    ] = False
    device: Device = "cpu"

    def load(
        self,
        recipe: "Recipe",
        *,
        preprocess: dict[str, Any],
        columns: "ColumnChoice",
        device: str,
    ) -> "LoadedModel":
        """The network as the recipe wants it to start.

        Raises:
            ConfigError: it is untrained, and the recipe fine-tunes.
        """
        from gradood.models._load import load_model

        # Whether it needs to be trained already is for the recipe to say.
        loaded = load_model(
            self.model,
            self.weights,
            num_classes=self.num_classes,
            preprocess=preprocess,
            columns=columns,
            device=device,
            pretrained=self.pretrained,
            untrained=True,
        )
        given = self.weights is not None or self.pretrained
        if recipe.start == "trained" and not given and loaded.opened.trained is False:
            raise ConfigError(
                f"recipe {recipe.name!r} fine-tunes a trained network, and {self.model!r} is "
                "untrained; give its weights (--from)."
            )
        return loaded


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What is trained, and how."""

    PANEL: ClassVar[str] = RECIPE

    method: Annotated[
        str | None,
        option(
            "NAME",
            "plain, oe, energy, greg, greg+, oe+gradient, logit-norm, ish, pixmix, vos or mixoe.",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        option(
            "NAME|FILE", "A recipe such as cifar10-greg, a TOML file, or an earlier recipe.json."
        ),
    ] = None
    change: Annotated[
        list[str],
        option(
            "KEY=VALUE",
            "Change the recipe, as optimizer.lr=0.001; may be given several times.",
            "--set",
        ),
    ] = field(default_factory=list)

    def load(self) -> "Recipe":
        """The recipe, changed.

        Raises:
            ConfigError: none was named, or two that differ; or a change does not fit it.
            UnknownNameError: there is none of that name.
        """
        from gradood.errors import UnknownNameError, suggest
        from gradood.training import METHODS, load_recipe

        method, recipe = self.method, self.recipe
        if method is None and recipe is None:
            raise ConfigError(
                f"no --method and no --recipe; expected one, of {', '.join(METHODS)}."
            )
        if method is not None and recipe is None and method not in METHODS:
            raise UnknownNameError(f"no method {method!r}; {suggest(method, METHODS)}")
        loaded = load_recipe(recipe or method or "", self.change)
        if method is not None and loaded.method != method:
            raise ConfigError(
                f"--method {method} with --recipe {recipe}, which is for {loaded.method}; give "
                "one of the two."
            )
        return loaded


@dataclass(frozen=True, kw_only=True)
class TrainingRunOptions(ColumnOptions):
    """How the training runs."""

    out: Annotated[
        Path,
        option("FOLDER", "For checkpoint, logs and result.", panel=RUN),
    ]
    resume: Annotated[
        bool,
        flag("Go on with the run in the folder.", panel=RUN),
    ] = False
    max_accuracy_drop: Annotated[
        float | None,
        option(
            "SHARE",
            "End with exit code 1 if accuracy on held-out images falls by more.",
            least=0,
            most=1,
            panel=RUN,
        ),
    ] = None
    max_bad_fraction: MaxBadFraction = None
    workers: Workers = 0
    tensorboard: Annotated[
        bool,
        flag("Write TensorBoard's files too.", panel=RUN),
    ] = False


def train(
    network: StartOptions,
    images: TrainingDataOptions,
    recipe: RecipeOptions,
    preprocessing: PreprocessOptions,
    running: TrainingRunOptions,
    json: Json = False,
) -> None:
    """Train a classifier so that its scores tell unknown inputs, mostly with auxiliary outliers.

    Under torchrun it runs on several processes.
    Parts of both sets are held out, and watched on the way.
    The folder gets model.safetensors, which --weights of the other commands takes.
    """
    chosen = recipe.load()
    changes = preprocessing.values()
    from gradood.training import Options, Trainer
    from gradood.training._distributed import Processes, joined

    options = Options(
        workers=running.workers,
        tensorboard=running.tensorboard,
        max_accuracy_drop=running.max_accuracy_drop,
        max_bad_fraction=running.max_bad_fraction,
    )
    with joined(device_name(network.device)) as device:
        loaded = network.load(chosen, preprocess=changes, columns=running.choice(), device=device)
        training_data = images.open(loaded.preprocess, running, link_named(network.link))
        trainer = Trainer(loaded.model, chosen, training_data, out=running.out, options=options)
        trained = trainer.fit(resume=running.resume)
        leads = Processes.current().leads
    if leads:
        _print(trained, running.out, json=json)
    if trained.failure is not None:
        raise typer.Exit(Exit.GATE_FAILED)


def _print(trained: "Trained", out: Path, *, json: bool) -> None:
    from gradood._io.markdown import table

    say(f"wrote {out / 'model.safetensors'} and {out / 'recipe.json'}")
    if trained.failure is not None:
        say(f"failed: {trained.failure}")
    if json:
        document(trained.to_dict())
        return
    rows = [_row("before", trained.before), _row("after", trained.after)]
    data(aligned(table(_HEADER, rows)))


_HEADER = ("held-out data", "accuracy", "FPR95", "AUROC", "mean energy ID", "mean energy aux")


def _row(name: str, scores: "Scores") -> list[str]:
    shares = [scores.accuracy, scores.fpr95, scores.auroc]
    energies = [scores.energy_id, scores.energy_aux]
    return [
        name,
        *("—" if share is None else f"{100 * share:.2f}" for share in shares),
        *("—" if energy is None else f"{energy:.2f}" for energy in energies),
    ]

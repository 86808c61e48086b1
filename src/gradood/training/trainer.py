"""The trainer: a model, a recipe and data in; a network that knows its edge out."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from gradood.errors import ConfigError
from gradood.taps import unwrap
from gradood.training.catalog import load_recipe
from gradood.training.checkpoint import Saved, load, save
from gradood.training.data import Material, TrainingData
from gradood.training.distributed import World
from gradood.training.engine import Engine
from gradood.training.logs import Logs, Progress
from gradood.training.recipe import Recipe
from gradood.training.result import Trained
from gradood.training.resumption import continued, restore, write
from gradood.training.seeds import seed_for
from gradood.training.setup import prepared
from gradood.training.state import State
from gradood.training.validation import Scores, score

__all__ = ["Options", "Trainer"]

_CHECKPOINT, _BEST = "checkpoint.safetensors", "best.safetensors"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a run is carried out; nothing here changes its result.

    Attributes:
        workers: processes that decode images, per training process.
        progress: show a bar; None for on a terminal only.
        tensorboard: write TensorBoard's files beside the CSV files.
        log_every: steps between rows of ``steps.csv``, whose last is that of the last step.
        max_accuracy_drop: how much accuracy on held-out known samples may fall, from 0 to 1,
            before the run counts as failed; None for no limit.
        after_step: called with the number of steps done, such as to watch from outside.
    """

    workers: int = 0
    progress: bool | None = None
    tensorboard: bool = False
    log_every: int = 50
    max_accuracy_drop: float | None = None
    after_step: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        drop = self.max_accuracy_drop
        if self.workers < 0 or self.log_every < 1 or (drop is not None and not 0 <= drop <= 1):
            raise ConfigError(
                f"workers={self.workers}, log_every={self.log_every}, max_accuracy_drop={drop}; "
                "expected workers ≥ 0, log_every ≥ 1, and a share in [0, 1] or None."
            )


class Trainer:
    """Trains a classifier, in place, by a recipe.

    Args:
        model: any classifier that returns logits; it is trained where it is.
        recipe: a `Recipe`, or what `load_recipe` takes, such as ``"greg"``.
        data: what to train on; parts of it are held out for validation.
        out: folder for checkpoint, logs and result; made if need be.
        options: see `Options`.

    Raises:
        ConfigError, UnknownNameError: the recipe is wrong, or the model cannot be trained by it.
        DataError: the data is too small, or of the wrong kind.

    Cost: see ``docs/results/training-cost.md``; a GReg step takes about 3 times an energy step.

    The files in `out`: ``checkpoint.safetensors`` (all that a resumed run needs), ``steps.csv``,
    ``epochs.csv``, and at the end ``model.safetensors`` and ``recipe.json``.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe | str | Path,
        data: TrainingData,
        *,
        out: str | Path,
        options: Options | None = None,
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        self.model = model
        self.data = data
        self.out = Path(out)
        self.options = Options() if options is None else options
        self._world = World.current()

    def fit(self, *, resume: bool = False) -> Trained:
        """Train, or go on with a run that was interrupted, and save the result.

        Args:
            resume: go on from the checkpoint in the folder; bit for bit as if nothing had happened,
                on the same number of processes and the same kind of machine.

        Raises:
            ConfigError: the folder holds a run and `resume` is False, or it is another run's, or
                it is no folder.
            ArtifactError: the checkpoint is absent or damaged.
            DataError: the run diverged, or an image is broken.
        """
        saved = self._found(resume)
        flags = [(module, module.training) for module in self.model.modules()]
        try:
            return self._fit(saved)
        except BaseException:
            for module, flag in flags:
                module.training = flag
            raise

    def _found(self, resume: bool) -> Saved | None:
        path = self.out / _CHECKPOINT
        if resume:
            return load(path)
        if path.exists():
            raise ConfigError(
                f"{str(self.out)!r} holds a run already; go on with it (--resume, "
                "fit(resume=True)), or name another folder."
            )
        self._world.wait()  # Nobody may write before all have looked.
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(
                f"{str(self.out)!r} is, or lies in, a file; expected a folder to write to."
            ) from error
        return None

    def _fit(self, saved: Saved | None) -> Trained:
        # For dropout and the like; everything else draws from seeds of its own.
        torch.manual_seed(seed_for(self.recipe.seed, "forward", self._world.rank))
        material = Material(self.data, self.recipe)
        recipe = self.recipe
        if saved is not None:
            recipe = continued(saved, recipe, material, self._world)
        run = prepared(self.model, recipe, material, self.data, self._world)
        engine = Engine(unwrap(self.model), run)
        if saved is None:
            state = State(before=score(engine.model, material.held, self._world))
        else:
            state = restore(saved, engine)
        self._train(engine, material, state)
        return self._finish(engine, material, state)

    def _train(self, engine: Engine, material: Material, state: State) -> None:
        plan, options = engine.run.plan, self.options
        voice = _Voice(self.out, state, plan.total, options if self._world.leads else None)
        numbers = range(state.step, state.step if state.stopped else plan.total)
        try:
            for fed in engine.run.feed.steps(numbers, workers=options.workers):
                told = engine.step(fed)
                state.step += 1
                state.meter.add(told)
                voice.step(state, told["loss"], options.log_every)
                ends = plan.ends_epoch(fed.plan.step)
                if ends and self._validates(fed.plan.epoch, state.step == plan.total):
                    self._validate(engine, material, state)
                    voice.validation(state, fed.plan.epoch + 1)
                every = self.recipe.checkpoint.every
                if ends or (every is not None and state.step % every == 0):
                    write(self.out / _CHECKPOINT, engine, state, self.recipe, material)
                if options.after_step is not None:
                    options.after_step(state.step)
                if state.stopped:
                    break
        finally:
            voice.close()

    def _validates(self, epoch: int, last: bool) -> bool:
        return last or (epoch + 1) % self.recipe.validation.every == 0

    def _validate(self, engine: Engine, material: Material, state: State) -> None:
        scores = score(engine.trained, material.held, self._world)
        better = state.judge(scores, patience=self.recipe.validation.patience)
        if better and self.recipe.validation.keep == "best" and self._world.leads:
            save(self.out / _BEST, engine.trained.state_dict(), {"step": state.step})
        self._world.wait()

    def _finish(self, engine: Engine, material: Material, state: State) -> Trained:
        if self.recipe.validation.keep == "best":
            engine.model.load_state_dict(load(self.out / _BEST).tensors)
        elif engine.ema is not None:
            engine.model.load_state_dict(engine.ema.module.state_dict())
        self.model.eval()
        after = score(engine.model, material.held, self._world)
        trained = Trained(
            model=self.model,
            weights=engine.model,
            recipe=engine.run.recipe,
            before=state.before,
            after=after,
            steps=state.step,
            stopped=state.stopped,
            data=material.counts,
            failure=self._failure(state.before, after),
        )
        if self._world.leads:
            trained.save(self.out)
        self._world.wait()
        return trained

    def _failure(self, before: Scores, after: Scores) -> str | None:
        limit, drop = self.options.max_accuracy_drop, before.accuracy - after.accuracy
        if limit is None or drop <= limit:
            return None
        failure = (
            f"accuracy on held-out known samples fell by {drop:.2%}, from {before.accuracy:.2%} to "
            f"{after.accuracy:.2%}; at most {limit:.2%} was allowed. Lower the learning rate or "
            "the weights of the terms, or train longer."
        )
        _log.error(failure)
        return failure


class _Voice:
    """Logs and bar of the process that leads; the others are silent, without options."""

    def __init__(self, out: Path, state: State, total: int, options: Options | None) -> None:
        self._logs = None
        self._total = total
        self._bar = Progress(
            total, done=state.step, show=False if options is None else options.progress
        )
        if options is not None:
            self._logs = Logs(out, step=state.step, tensorboard=options.tensorboard)
        self._began = time.monotonic()
        if state.step == 0:
            self.validation(state, 0)

    def step(self, state: State, loss: float, every: int) -> None:
        self._bar.step(loss=loss)
        if state.step % every == 0 or state.step == self._total:
            means = state.meter.means(clear=True)
            if self._logs is not None:
                self._logs.add("steps", {"step": state.step, **means})

    def validation(self, state: State, epoch: int) -> None:
        scores = state.last
        self._bar.tell(fpr95=scores.fpr95, auroc=scores.auroc, accuracy=scores.accuracy)
        if self._logs is not None:
            seconds = time.monotonic() - self._began
            row = {"step": state.step, "epoch": epoch, **asdict(scores), "seconds": seconds}
            self._logs.add("epochs", row)

    def close(self) -> None:
        self._bar.close()
        if self._logs is not None:
            self._logs.close()

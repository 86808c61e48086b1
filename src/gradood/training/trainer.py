"""Trainer of classifiers with auxiliary outliers, by a recipe."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gradood._io.lock import exclusive
from gradood.errors import ConfigError
from gradood.taps import device_of, unwrap
from gradood.training._checkpoint import (
    Saved,
    State,
    digest,
    load,
    restore,
    resumed,
    save,
    write,
)
from gradood.training._distributed import Processes
from gradood.training._engine import Engine
from gradood.training._logs import Logs, Reporter
from gradood.training._randomness import preserved_random_state, seed_for
from gradood.training._setup import prepared
from gradood.training._validation import Scores, score
from gradood.training.catalog import load_recipe
from gradood.training.data import DataSplit, TrainingData
from gradood.training.recipe import Recipe
from gradood.training.result import Trained

__all__ = ["Options", "Trainer"]

_CHECKPOINT, _BEST = "checkpoint.safetensors", "best.safetensors"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Execution of a run; nothing here changes its result.

    Attributes:
        workers: processes that decode images, per training process.
        progress: show a bar; None for on a terminal only.
        tensorboard: write TensorBoard's files beside the CSV files.
        log_every: steps between rows of ``steps.csv``, whose last is that of the last step.
        max_accuracy_drop: how much accuracy on held-out known samples may fall, from 0 to 1,
            before the run counts as failed; None for no limit.
        after_step: called with the number of steps done.
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
    """Training of a classifier, in place, by a recipe.

    Args:
        model: any classifier that returns logits; it is trained on its device.
        recipe: a `Recipe`, or what `load_recipe` takes, such as ``"greg"``.
        data: what to train on; parts of it are held out for validation.
        out: folder for checkpoint, logs and result; made if need be.
        options: see `Options`.

    Raises:
        ConfigError, UnknownNameError: the recipe is wrong, or the model cannot be trained by it.
        DataError: the data is too small, or of the wrong kind.

    Cost: see ``docs/results/training-cost.md``; a GReg step takes 2.0 to 2.3 times an energy step.

    The files in `out`: ``checkpoint.safetensors`` (all that a resumed run needs), ``steps.csv``,
    ``epochs.csv``, and at the end ``model.safetensors`` and ``recipe.json``. During a run
    ``.lock`` is held against other runs.
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
        self._processes = Processes.current()

    def fit(self, *, resume: bool = False) -> Trained:
        """Train, or resume an interrupted run, and save the result.

        The global generators of torch, NumPy and Python are seeded for the run, and are afterwards
        as they were before.

        Args:
            resume: go on from the checkpoint in the folder; bit for bit as without the
                interruption, on the same number of processes and the same kind of machine.

        Raises:
            ConfigError: the folder holds a run and `resume` is False, or a run of another recipe or
                model; or another run is writing to it, or it is no folder.
            ArtifactError: the checkpoint is absent or damaged.
            DataError: the run diverged, an image is broken, or the run was begun on other data.
        """
        device = device_of(unwrap(self.model))
        flags = [(module, module.training) for module in self.model.modules()]
        try:
            with preserved_random_state(device), self._opened(device, resume=resume) as saved:
                return self._fit(saved)
        except BaseException:
            for module, flag in flags:
                module.training = flag
            raise

    @contextmanager
    def _opened(self, device: torch.device, *, resume: bool) -> Iterator[Saved | None]:
        """The checkpoint in the folder, if it is resumed; the folder is locked inside."""
        path, processes = self.out / _CHECKPOINT, self._processes
        with ExitStack() as stack:
            error = None
            if processes.leads:
                try:
                    stack.enter_context(self._locked(resume=resume))
                except Exception as refusal:  # Raised below, once the others know of it.
                    error = refusal
            opened = torch.tensor([error is None], dtype=torch.int32, device=device)
            if not bool(processes.broadcast(opened)):
                raise error or ConfigError(
                    f"the first process cannot write to {str(self.out)!r}; it says why."
                )
            if not resume and path.exists():
                raise ConfigError(
                    f"{str(self.out)!r} holds a run already; go on with it (--resume, "
                    "fit(resume=True)), or name another folder."
                )
            saved = load(path) if resume else None
            processes.barrier()  # The folder is not written to before every process has read it.
            yield saved

    @contextmanager
    def _locked(self, *, resume: bool) -> Iterator[None]:
        """The folder, made if the run is new, held against other runs."""
        if resume and not self.out.is_dir():
            load(self.out / _CHECKPOINT)  # Raises, and leaves no folder.
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(
                f"{str(self.out)!r} is, or lies in, a file; expected a folder to write to."
            ) from error
        with exclusive(self.out):
            yield

    def _fit(self, saved: Saved | None) -> Trained:
        split = DataSplit(self.data, self.recipe)
        weights = digest(unwrap(self.model).state_dict())
        origin = {"data": split.fingerprint(), "weights": weights}
        # For dropout and the like; everything else draws from seeds of its own.
        torch.manual_seed(seed_for(self.recipe.seed, "forward", self._processes.rank))
        recipe = self.recipe
        if saved is not None:
            recipe = resumed(saved, recipe, split, self._processes, origin)
        run = prepared(self.model, recipe, split, self.data, self._processes)
        engine = Engine(unwrap(self.model), run)
        if saved is None:
            state = State(score(engine.model, split.held, self._processes), origin)
        else:
            state = restore(saved, engine)
        self._train(engine, split, state)
        return self._finish(engine, split, state)

    def _train(self, engine: Engine, split: DataSplit, state: State) -> None:
        steps, options = engine.run.steps, self.options
        reporter = self._reporter(state, steps.total)
        numbers = range(state.step, state.step if state.stopped else steps.total)
        try:
            for batch in engine.run.batches.batches(numbers, workers=options.workers):
                values = engine.step(batch)
                state.step += 1
                state.meter.add(values)
                reporter.step(state.step, values["loss"], state.meter, every=options.log_every)
                epoch, ends = batch.step.epoch, steps.ends_epoch(batch.step.number)
                if ends and self._validates(epoch, last=state.step == steps.total):
                    self._validate(engine, split, state)
                    reporter.validation(state.step, epoch + 1, state.last)
                every = self.recipe.checkpoint.every
                if ends or (every is not None and state.step % every == 0):
                    write(self.out / _CHECKPOINT, engine, state, self.recipe, split)
                if options.after_step is not None:
                    options.after_step(state.step)
                if state.stopped:
                    break
        finally:
            reporter.close()

    def _reporter(self, state: State, total: int) -> Reporter:
        options, logs = self.options, None
        if self._processes.leads:
            logs = Logs(self.out, step=state.step, tensorboard=options.tensorboard)
        reporter = Reporter(logs, total=total, done=state.step, progress=options.progress)
        if state.step == 0:
            reporter.validation(0, 0, state.before)
        return reporter

    def _validates(self, epoch: int, *, last: bool) -> bool:
        return last or (epoch + 1) % self.recipe.validation.every == 0

    def _validate(self, engine: Engine, split: DataSplit, state: State) -> None:
        scores = score(engine.trained, split.held, self._processes)
        better = state.record(scores, patience=self.recipe.validation.patience)
        if better and self.recipe.validation.keep == "best" and self._processes.leads:
            save(self.out / _BEST, engine.trained.state_dict(), {"step": state.step})
        self._processes.barrier()

    def _finish(self, engine: Engine, split: DataSplit, state: State) -> Trained:
        if self.recipe.validation.keep == "best":
            engine.model.load_state_dict(load(self.out / _BEST).tensors)
        elif engine.ema is not None:
            engine.model.load_state_dict(engine.ema.module.state_dict())
        self.model.eval()
        after = score(engine.model, split.held, self._processes)
        trained = Trained(
            model=self.model,
            weights=engine.model,
            recipe=engine.run.recipe,
            before=state.before,
            after=after,
            steps=state.step,
            stopped=state.stopped,
            data=split.counts,
            failure=self._failure(state.before, after),
        )
        if self._processes.leads:
            trained.save(self.out)
        self._processes.barrier()
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

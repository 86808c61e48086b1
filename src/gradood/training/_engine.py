"""Optimizer steps: forward passes of their parts, outlier selection, gradients and averages."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gradood.errors import DataError
from gradood.taps import Inputs, Network, device_of
from gradood.training._distributed import Processes, averaged_gradients
from gradood.training._forward import Objective, PartBatch, TrainingForward, set_training
from gradood.training._inputs import concatenated, on_device, single
from gradood.training._outputs import Outputs
from gradood.training._randomness import generator_for, seed_for
from gradood.training._steps import StepBatch, StepBatches, Steps, learning_rate
from gradood.training.losses import VirtualOutliers, mix
from gradood.training.recipe import Optimizer, Recipe
from gradood.training.sampler import Candidates, ClusterEnergySampler, candidates

__all__ = ["Engine", "Run", "optimizer_state"]


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """Fixed inputs of an engine.

    Attributes:
        recipe: margins resolved to numbers.
        steps: all of the run.
        batches: of each step.
        processes: that train together.
        classes: number of logits.
        network: the model as observed, where features are needed; else None.
        outputs: what the logits are of.
    """

    recipe: Recipe
    steps: Steps
    batches: StepBatches
    processes: Processes
    classes: int
    network: Network | None
    outputs: Outputs = field(default_factory=Outputs)


class Engine:
    """A model in training, with all state that changes from step to step.

    Args:
        model: unwrapped, on its device; trained in place.
        run: its fixed inputs.
    """

    def __init__(self, model: nn.Module, run: Run) -> None:
        self.model = model
        self.run = run
        self.device = device_of(model)
        recipe, network = run.recipe, run.network
        head = virtual = None
        if recipe.loss.shaping is not None and network is not None:
            head = network.head
        if recipe.loss.virtual is not None and network is not None:
            head = network.head
            virtual = VirtualOutliers(
                classes=network.classes,
                width=head.weight.shape[1],
                queue=recipe.loss.virtual.queue,
                drawn=recipe.loss.virtual.drawn,
            ).to(self.device)
        self._virtual = virtual
        self.objective = Objective(recipe.loss, head=head, virtual=virtual, outputs=run.outputs)
        self._forward = TrainingForward(model, self.objective, recipe, head=head)
        self._call: nn.Module = self._forward
        if run.processes.size > 1:
            self._call = averaged_gradients(self._forward)
        self.optimizer = _optimizer(self._forward, recipe.optimizer)
        self._scheduler = LambdaLR(self.optimizer, self.learning_rate)
        self.ema = None
        if recipe.ema is not None:
            average = get_ema_multi_avg_fn(recipe.ema.decay)
            self.ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self._sampler = ClusterEnergySampler(
            candidates_per_id=recipe.sampling.candidates_per_id, two_way=recipe.sampling.two_way
        )

    @property
    def trained(self) -> nn.Module:
        """The moving average, if there is one, else the model."""
        return self.model if self.ema is None else self.ema.module

    def step(self, batch: StepBatch) -> dict[str, float]:
        """Train on one step; the loss, its terms and the learning rate, over all processes.

        Raises:
            DataError: the loss, or its gradient, is not finite; the weights are as they were.
        """
        recipe, processes, number = self.run.recipe, self.run.processes, batch.step.number
        lr = float(self._scheduler.get_last_lr()[0])
        set_training(self.model, recipe.batch.statistics)
        part_batches = self._part_batches(batch)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        features = []
        for i, (part, inputs) in enumerate(zip(batch.parts, part_batches, strict=True)):
            last = i == len(part_batches) - 1
            with nullcontext() if last or self._call is self._forward else self._call.no_sync():  # type: ignore[operator]
                loss, terms = self._call(inputs)
                # Distributed training takes the mean over processes, and a step is their sum.
                (loss * (part.share * processes.size)).backward()
            for name, term in {"loss": loss.detach(), **terms}.items():
                value = term.double() * part.share if part.share else term.new_zeros(()).double()
                sums[name] = sums.get(name, 0.0) + value
            if self._forward.features is not None and part.share:
                features.append((self._forward.features, inputs.labels))
        values = self._totals(sums, number)
        self._clip(values, number)
        self.optimizer.step()
        self._scheduler.step()
        self._enqueue(features)
        if recipe.batch.statistics == "coupled":
            processes.average_buffers(self.model)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return values | {"lr": lr}

    def learning_rate(self, number: int) -> float:
        """Of a step."""
        steps, schedule, lr = self.run.steps, self.run.recipe.schedule, self.run.recipe.optimizer.lr
        size = {"total": steps.total, "steps_per_epoch": steps.per_epoch}
        return learning_rate(schedule, lr, step=number, **size)

    def tensors(self) -> dict[str, Tensor]:
        """State of model, objective, average and optimizer, by name, for a checkpoint."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"objective.{n}": t for n, t in self.objective.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema.{n}": t for n, t in self.ema.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{key}": value
                for key, value in state.items()
                if isinstance(value, Tensor)
            }
        return tensors

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]], *, step: int) -> None:
        """Set the state to tensors of `tensors`.

        Args:
            parts: grouped by the first part of their names; of the same model and parameters.
            step: steps done, at least 1.
        """
        self.model.load_state_dict(dict(parts["model"]))
        self.objective.load_state_dict(dict(parts["objective"]))
        if self.ema is not None:
            self.ema.load_state_dict(dict(parts["ema"]))
        groups = self.optimizer.state_dict()["param_groups"]
        state = optimizer_state(parts["optimizer"])
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._scheduler = LambdaLR(self.optimizer, self.learning_rate, last_epoch=step - 1)

    def _part_batches(self, batch: StepBatch) -> list[PartBatch]:
        """The inputs of each part, on the device."""
        outliers = batch.outliers
        if batch.pool is not None:
            outliers = self._selected(batch, batch.pool)
        per_id = self.run.recipe.batch.aux_per_id if outliers else 0
        total_id = batch.step.id_count
        virtual = self._virtual_outliers(batch.step.number)
        part_batches = []
        for i, (images, labels) in enumerate(batch.known):
            self.run.outputs.check_labels(labels, self.run.classes)
            known = on_device(images, self.device)
            others: list[Inputs] = []
            share = None
            if outliers:
                other = on_device(outliers[i], self.device)
                if self.run.recipe.loss.mixing is not None:
                    other, share = self._mixed(known, other, batch.step.number)
                others = [other]
            part_batches.append(
                PartBatch(
                    x=concatenated([known, *others], self.run.batches.fills),
                    labels=labels.to(self.device, non_blocking=True),
                    total=total_id * (1 + per_id),
                    total_id=total_id,
                    share=share,
                    virtual=virtual,
                )
            )
        return part_batches

    def _mixed(self, known: Inputs, outliers: Inputs, number: int) -> tuple[Tensor, float]:
        mixing = self.run.recipe.loss.mixing
        assert mixing is not None
        # The same in every part of a step: the share is one number for all.
        rng = np.random.default_rng(seed_for(self.run.recipe.seed, "mix", number))
        mixture = mix(
            *map(single, (known, outliers)), kind=mixing.kind, alpha=mixing.alpha, rng=rng
        )
        return mixture.x, mixture.share

    def _selected(self, batch: StepBatch, pool: Inputs) -> list[Inputs]:
        """The outliers of each part, selected among the candidates of all processes."""
        processes, network = self.run.processes, self.run.network
        assert network is not None
        own = on_device(pool, self.device)
        scored = candidates(self.model, network, own, half=self.run.recipe.precision == "bf16")
        gathered = map(processes.concatenated, (scored.features, scored.energy))
        generator = generator_for(self.run.recipe.seed, "cluster", batch.step.number)
        choice = self._sampler.choose(
            Candidates(*gathered), batch.step.id_count, generator=generator
        )
        choice = processes.broadcast(choice)
        outliers: list[Inputs] = []
        for part in batch.parts:
            rows = choice[2 * part.start : 2 * part.stop]
            if processes.size == 1:
                outliers.append(own[rows])
            else:
                positions = [batch.pool_start + int(row) for row in rows.tolist()]
                outliers.append(self.run.batches.outliers_at(positions))
        return outliers

    def _virtual_outliers(self, number: int) -> Tensor | None:
        recipe, virtual = self.run.recipe, self._virtual
        if virtual is None or recipe.loss.virtual is None or not virtual.ready:
            return None
        if number < recipe.loss.virtual.start * self.run.steps.total:
            return None
        return virtual.imagine(generator_for(recipe.seed, "virtual", number))

    def _enqueue(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Put features and their labels, of all processes, into the queues of VOS."""
        if self._virtual is None:
            return
        processes = self.run.processes
        width = self._virtual.features.shape[2]
        features = [f.float() for f, _ in pairs] or [torch.zeros(0, width, device=self.device)]
        labels = [y for _, y in pairs] or [torch.zeros(0, dtype=torch.int64, device=self.device)]
        self._virtual.remember(
            processes.concatenated(torch.cat(features)), processes.concatenated(torch.cat(labels))
        )

    def _totals(self, sums: Mapping[str, Tensor], number: int) -> dict[str, float]:
        totals = torch.stack(list(sums.values()))
        if self.run.processes.size > 1:
            totals = self.run.processes.stacked(totals).sum(0)
        values = dict(zip(sums, totals.tolist(), strict=True))
        _check_finite(values["loss"], "loss", values, number)
        return values

    def _clip(self, values: Mapping[str, float], number: int) -> None:
        """Clip the gradient; one that is not finite would get into weights and checkpoints."""
        clip = self.run.recipe.optimizer.clip
        parameters = self._forward.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
        _check_finite(float(norm), "gradient", values, number)


def optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """State of each parameter by its index, from the optimizer's tensors in a checkpoint."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    return state


def _check_finite(value: float, what: str, values: Mapping[str, float], number: int) -> None:
    if not math.isfinite(value):
        terms = ", ".join(f"{name} {term:.4g}" for name, term in values.items())
        raise DataError(
            f"the {what} of step {number + 1} is not finite ({terms}): training diverged; expected "
            "numbers. Lower optimizer.lr, or set optimizer.clip (1, say). A checkpoint made "
            "before is as it was."
        )


def _optimizer(module: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """The optimizer, at a rate of 1, so that `LambdaLR` sets the schedule's rate to the bit."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise DataError("no parameter of the model requires grad; set requires_grad on some.")
    if options.kind == "adam":
        return torch.optim.Adam(parameters, lr=1.0, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=1.0,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
    )

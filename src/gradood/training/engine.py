"""One optimizer step after another: parts, outliers, gradients, averages."""

import math
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gradood.errors import DataError
from gradood.taps import Network, device_of
from gradood.training.batches import Fed, Feed, Pool
from gradood.training.distributed import World
from gradood.training.forward import PartBatch, TrainingForward, set_training
from gradood.training.losses import VirtualOutliers, mix
from gradood.training.objective import Objective
from gradood.training.recipe import Optimizer, Recipe
from gradood.training.sampler import Candidates, ClusterEnergySampler
from gradood.training.schedule import learning_rate
from gradood.training.scoring import candidates
from gradood.training.seeds import generator_for, seed_for
from gradood.training.steps import Plan

__all__ = ["Engine", "Run"]


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """What an engine works on.

    Attributes:
        recipe: margins resolved to numbers.
        plan: all steps.
        feed: the batches.
        world: the processes.
        classes: number of logits.
        network: the model as observed, where features are needed; else None.
    """

    recipe: Recipe
    plan: Plan
    feed: Feed
    world: World
    classes: int
    network: Network | None


class Engine:
    """A model in training, with all that changes on the way.

    Args:
        model: unwrapped, on its device; trained in place.
        run: what it works on.
    """

    def __init__(self, model: nn.Module, run: Run) -> None:
        self.model = model
        self.run = run
        self.device = device_of(model)
        recipe, network = run.recipe, run.network
        head = network.head if network is not None and recipe.loss.virtual is not None else None
        virtual = None
        if head is not None and network is not None and recipe.loss.virtual is not None:
            virtual = VirtualOutliers(
                classes=network.classes,
                width=head.weight.shape[1],
                queue=recipe.loss.virtual.queue,
                drawn=recipe.loss.virtual.drawn,
            ).to(self.device)
        self._virtual = virtual
        self.objective = Objective(recipe.loss, head=head, virtual=virtual)
        self._forward = TrainingForward(model, self.objective, recipe, head=head)
        self._call: nn.Module = self._forward
        if run.world.size > 1:
            self._call = _distributed(self._forward)
        self.optimizer = _optimizer(self._forward, recipe.optimizer)
        self.ema = None
        if recipe.ema is not None:
            average = get_ema_multi_avg_fn(recipe.ema.decay)
            self.ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self._sampler = ClusterEnergySampler(
            candidates_per_id=recipe.sampling.candidates_per_id, two_way=recipe.sampling.two_way
        )

    @property
    def trained(self) -> nn.Module:
        """The network that counts: the average, if one is kept."""
        return self.model if self.ema is None else self.ema.module

    def step(self, fed: Fed) -> dict[str, float]:
        """Train on one step, and say what its terms were, over all processes.

        Raises:
            DataError: the loss, or its gradient, is not finite; the weights are as they were.
        """
        recipe, number = self.run.recipe, fed.plan.step
        lr = self.learning_rate(number)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        set_training(self.model, recipe.batch.statistics)
        batches = self._batches(fed)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        kept = []
        for i, (part, batch) in enumerate(zip(fed.parts, batches, strict=True)):
            last = i == len(batches) - 1
            with nullcontext() if last or self._call is self._forward else self._call.no_sync():  # type: ignore[operator]
                loss, terms = self._call(batch)
                # Distributed training takes the mean over processes, and a step is their sum.
                (loss * (part.share * self.run.world.size)).backward()
            for name, term in {"loss": loss.detach(), **terms}.items():
                value = term.double() * part.share if part.share else term.new_zeros(()).double()
                sums[name] = sums.get(name, 0.0) + value
            if self._forward.features is not None and part.share:
                kept.append((self._forward.features, batch.labels))
        told = self._told(sums, number)
        self._limit(told, number)
        self.optimizer.step()
        self._remember(kept)
        if recipe.batch.statistics == "coupled":
            self.run.world.agree(self.model)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return told | {"lr": lr}

    def learning_rate(self, number: int) -> float:
        """Of a step."""
        recipe, plan = self.run.recipe, self.run.plan
        return learning_rate(
            recipe.schedule,
            recipe.optimizer.lr,
            step=number,
            total=plan.total,
            steps_per_epoch=plan.steps_per_epoch,
        )

    # -- what changes, by name --------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All that a resumed run needs of this engine."""
        found = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        found |= {f"objective.{n}": t for n, t in self.objective.state_dict().items()}
        if self.ema is not None:
            found |= {f"ema.{n}": t for n, t in self.ema.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {
                f"optimizer.{index}.{key}": value
                for key, value in state.items()
                if isinstance(value, Tensor)
            }
        return found

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from tensors of `tensors`, grouped by the first part of their names."""
        self.model.load_state_dict(dict(parts["model"]))
        self.objective.load_state_dict(dict(parts["objective"]))
        if self.ema is not None:
            self.ema.load_state_dict(dict(parts["ema"]))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    # -- inside a step ----------------------------------------------------------------------

    def _batches(self, fed: Fed) -> list[PartBatch]:
        outliers = fed.outliers
        if fed.pool is not None:
            outliers = self._chosen(fed, fed.pool)
        per_id = self.run.recipe.batch.aux_per_id if outliers else 0
        total_id = fed.plan.id_count
        virtual = self._imagined(fed.plan.step)
        found = []
        for i, (images, labels) in enumerate(fed.known):
            self._check_labels(labels)
            known = images.to(self.device, non_blocking=True)
            rest, share = [], None
            if outliers:
                other = outliers[i].to(self.device, non_blocking=True)
                if self.run.recipe.loss.mixing is not None:
                    other, share = self._mixed(known, other, fed.plan.step)
                rest = [other]
            batch = PartBatch(
                x=torch.cat([known, *rest]),
                labels=labels.to(self.device, non_blocking=True),
                total=total_id * (1 + per_id),
                total_id=total_id,
                share=share,
                virtual=virtual,
            )
            found.append(batch)
        return found

    def _check_labels(self, labels: Tensor) -> None:
        highest, classes = int(labels.max()), self.run.classes
        if highest >= classes:
            raise DataError(
                f"a label is {highest}, and the model has {classes} classes; expected 0 to "
                f"{classes - 1}. Check the data, or the model's num_classes."
            )

    def _mixed(self, known: Tensor, outliers: Tensor, number: int) -> tuple[Tensor, float]:
        mixing = self.run.recipe.loss.mixing
        assert mixing is not None
        # The same in every part of a step: the share is one number for all.
        rng = np.random.default_rng(seed_for(self.run.recipe.seed, "mix", number))
        mixture = mix(known, outliers, kind=mixing.kind, alpha=mixing.alpha, rng=rng)
        return mixture.x, mixture.share

    def _chosen(self, fed: Fed, pool: Pool) -> list[Tensor]:
        """The outliers of each part, chosen among the candidates of all processes."""
        world, network = self.run.world, self.run.network
        assert network is not None
        mine = pool.x.to(self.device, non_blocking=True)
        seen = candidates(self.model, network, mine, half=self.run.recipe.precision == "bf16")
        every = Candidates(world.gather(seen.features), world.gather(seen.energy))
        generator = generator_for(self.run.recipe.seed, "cluster", fed.plan.step)
        chosen = world.lead(self._sampler.choose(every, fed.plan.id_count, generator=generator))
        found = []
        for part in fed.parts:
            rows = chosen[2 * part.start : 2 * part.stop]
            if world.size == 1:
                found.append(mine[rows])
            else:
                found.append(self.run.feed.at([pool.start + int(row) for row in rows.tolist()]))
        return found

    def _imagined(self, number: int) -> Tensor | None:
        recipe = self.run.recipe
        if self._virtual is None or recipe.loss.virtual is None:
            return None
        if number < recipe.loss.virtual.start * self.run.plan.total or not self._virtual.ready:
            return None
        return self._virtual.imagine(generator_for(recipe.seed, "virtual", number))

    def _remember(self, kept: list[tuple[Tensor, Tensor]]) -> None:
        if self._virtual is None:
            return
        world = self.run.world
        width = self._virtual.features.shape[2]
        features = [f.float() for f, _ in kept] or [torch.zeros(0, width, device=self.device)]
        labels = [y for _, y in kept] or [torch.zeros(0, dtype=torch.int64, device=self.device)]
        self._virtual.remember(world.gather(torch.cat(features)), world.gather(torch.cat(labels)))

    def _told(self, sums: Mapping[str, Tensor], number: int) -> dict[str, float]:
        values = torch.stack(list(sums.values()))
        if self.run.world.size > 1:
            values = self.run.world.all(values).sum(0)
        told = dict(zip(sums, values.tolist(), strict=True))
        _check_finite(told["loss"], "loss", told, number)
        return told

    def _limit(self, told: Mapping[str, float], number: int) -> None:
        """Clip the gradient; one that is not finite would be in the weights, and in checkpoints."""
        clip = self.run.recipe.optimizer.clip
        parameters = self._forward.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
        _check_finite(float(norm), "gradient", told, number)


def _check_finite(value: float, what: str, told: Mapping[str, float], number: int) -> None:
    if not math.isfinite(value):
        terms = ", ".join(f"{name} {term:.4g}" for name, term in told.items())
        raise DataError(
            f"the {what} of step {number + 1} is not finite ({terms}): training diverged; expected "
            "numbers. Lower optimizer.lr, or set optimizer.clip (1, say). A checkpoint made "
            "before is as it was."
        )


def _distributed(module: nn.Module) -> nn.Module:
    """Gradients averaged over processes."""
    with warnings.catch_warnings():
        # The option that is to replace it is not in every torch that this library runs on.
        warnings.filterwarnings("ignore", ".*broadcast_buffers.*is deprecated")
        # Buffers are averaged after each step instead, and the device is chosen already.
        return DistributedDataParallel(module, broadcast_buffers=False)


def _optimizer(module: nn.Module, given: Optimizer) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise DataError("no parameter of the model requires grad; set requires_grad on some.")
    if given.kind == "adam":
        return torch.optim.Adam(parameters, lr=given.lr, weight_decay=given.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=given.lr,
        momentum=given.momentum,
        nesterov=given.nesterov,
        weight_decay=given.weight_decay,
    )

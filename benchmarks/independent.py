"""Scores against an independent implementation: pytorch-ood 0.4.0, on real images.

    python benchmarks/independent.py [--fit 5000] [--limit 500] [--out docs/results/independent.md]

Needs pytorch-ood and the torchvision it imports, so an environment of its own (not the CPU build of
torch), with gradood and scipy in it. ResNet-20 on CIFAR-10 images and three sets of outliers:
gradood reads the model, pytorch-ood is given the features and logits of the same forward pass, or
the model where it wants that. What counts is the order of the scores: Spearman's rank correlation.
Exits with 1 if fewer than fifteen methods agree to 0.9999, or one differs without an explanation.
"""

import argparse
import copy
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import gradood
from gradood import data, models
from gradood.bench.folder import provenance

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
SETS = ("cifar10_test", "svhn_test", "textures10_test", "cifar100_test")
EQUAL = 0.9999


@dataclass(frozen=True)
class Given:
    """What both sides see: a model, and of the fit and the test images all that it computes."""

    model: nn.Module
    head: nn.Linear
    fit: tuple[Tensor, Tensor, Tensor, Tensor]
    test: tuple[Tensor, Tensor, Tensor]

    @staticmethod
    def of(fit: int, limit: int) -> "Given":
        model = models.build("resnet20")
        models.load_weights(model, SHARED / "weights" / "resnet20_cifar10.safetensors")
        model.eval().requires_grad_(False)
        how = data.Preprocess(**models.REFERENCES["resnet20"].preprocess)

        def images(name: str, rows: int) -> data.ImageDataset:
            source = f"{SHARED / 'data' / name}.parquet[:{rows}]"
            return data.open_images(source, how, labeled=None)

        train = images("cifar10_train_a", fit)
        assert train.labels is not None
        x = torch.cat([_tensor(b) for b in data.loader(train, batch_size=250)])
        tests = [images(name, limit) for name in SETS]
        seen = torch.cat([_tensor(b) for t in tests for b in data.loader(t, batch_size=250)])
        head = _head(model)
        return Given(
            model,
            head,
            (x, *_read(model, head, x), train.labels),
            (seen, *_read(model, head, seen)),
        )


def _tensor(batch: Any) -> Tensor:
    return batch if isinstance(batch, Tensor) else batch[0]


def _head(model: nn.Module) -> nn.Linear:
    return next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))


def _read(model: nn.Module, head: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach()))
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(250)])
    handle.remove()
    return torch.cat(kept), logits


@dataclass(frozen=True)
class Case:
    """One method on both sides; `other` gives the scores of the test images.

    Attributes:
        ours: gradood's detector, with the other's settings.
        other: from what is given to pytorch-ood's scores.
        note: how the two differ, if they do.
        theirs: what the other is said to compute, transcribed, which proves the note.
    """

    ours: Any
    other: Callable[[Given], Tensor]
    note: str = ""
    theirs: Callable[[Given], Tensor] | None = None


def _by_logits(make: Callable[[], Any]) -> Callable[[Given], Tensor]:
    def scores(given: Given) -> Tensor:
        detector = make()
        if getattr(detector, "requires_fit", False):
            detector.fit_logits(given.fit[2].double(), given.fit[3])
        return detector.predict_logits(given.test[2].double()).detach()

    return scores


def _by_features(make: Callable[[Given], Any]) -> Callable[[Given], Tensor]:
    def scores(given: Given) -> Tensor:
        detector = make(given)
        if getattr(detector, "requires_fit", False):
            detector.fit_features(given.fit[1], given.fit[3])
        return detector.predict_features(given.test[1]).detach()

    return scores


def _by_maps(make: Callable[[Callable[[Tensor], Tensor]], Any]) -> Callable[[Given], Tensor]:
    """Pooled features as maps of one position."""

    def scores(given: Given) -> Tensor:
        detector = make(lambda maps: given.head(maps.flatten(1)))
        if getattr(detector, "requires_fit", False):
            detector.fit_feature_maps(given.fit[1][..., None, None], given.fit[3])
        return detector.predict_feature_maps(given.test[1][..., None, None]).detach()

    return scores


def _by_model(make: Callable[[Given], Any], *, wide: bool = False) -> Callable[[Given], Tensor]:
    """The other runs the model itself, in float64 where its float32 would underflow."""

    def scores(given: Given) -> Tensor:
        detector = make(given)
        x = given.test[0].double() if wide else given.test[0]
        return torch.cat([detector.predict(part).detach() for part in x.split(100)])

    return scores


def _double(module: Any) -> Any:
    """A copy in float64."""
    return copy.deepcopy(module).double()


def _clamped_gen(given: Given) -> Tensor:
    p = given.test[2].double().softmax(1).clamp(1e-7, 1 - 1e-7)
    return (p**0.1 * (1 - p) ** 0.1).sum(1)


def _early_temperature(given: Given) -> Tensor:
    """Of the other's temperature, which has the larger loss on the fit data."""
    from pytorch_ood.detector import TemperatureScaling

    other = TemperatureScaling(None)
    logits, labels = given.fit[2].double(), given.fit[3]
    other.fit_logits(logits, labels)
    monitor = gradood.Monitor(given.model, "temperature-scaling", progress=False)
    monitor.fit(_fit_batches(given))
    ours = monitor.states["temperature-scaling"]["temperature"]

    def loss(temperature: Tensor) -> float:
        return float(nn.functional.cross_entropy(logits / temperature, labels))

    theirs = other.t.detach().double()
    assert loss(ours) < loss(theirs), "the other found a better temperature"
    return -(given.test[2].double() / theirs).softmax(1).amax(1)


def _bounded_loss(given: Given) -> Tensor:
    """With torch's backward of the binary cross-entropy, whose denominator is at least 1e-12."""
    p, h = given.test[2].double().softmax(1), given.test[1].double()
    slope = (p - 1) / (p * (1 - p)).clamp_min(1e-12)
    gradient = p * (slope - (p * slope).sum(1, keepdim=True))
    return -gradient.square().sum(1) * (h.square().sum(1) + 1)


def _clipped(given: Given) -> Tensor:
    """Energy of features clipped to both quantiles, where VRA sets what is below to zero."""
    bounds = torch.tensor([0.6, 0.9], dtype=torch.float64)
    low, high = given.fit[1].double().quantile(bounds, dim=0)
    head = _double(given.head)
    return -head(given.test[1].double().clip(low, high)).logsumexp(1)


def _distances(given: Given, *, background: bool) -> Tensor:
    """Without shrinkage."""
    rows, labels, x = given.fit[1].double(), given.fit[3], given.test[1].double()
    means = torch.stack([rows[labels == c].mean(0) for c in labels.unique()])
    inner = (rows - means[labels]).T.cov(correction=0).inverse()
    scores = torch.stack([((x - m) @ inner * (x - m)).sum(1) for m in means]).amin(0)
    if background:
        outer = rows.T.cov(correction=0).inverse()
        scores = scores - ((x - rows.mean(0)) @ outer * (x - rows.mean(0))).sum(1)
    return scores


def _fit_batches(given: Given) -> list[tuple[Tensor, Tensor]]:
    return list(zip(given.fit[0].split(250), given.fit[3].split(250), strict=True))


def cases() -> dict[str, Case]:
    """Every method that pytorch-ood has too."""
    from pytorch_ood import detector as other

    def of(given: Given) -> dict[str, Any]:
        return {"w": given.head.weight, "b": given.head.bias}

    def last(name: str) -> bool:
        return name in ("fc.weight", "linear.weight", "head.weight", "classifier.weight")

    def head_only(name: str) -> bool:
        return last(name.replace("bias", "weight"))

    return {
        "msp": Case(gradood.MSP(), _by_logits(lambda: other.MaxSoftmax(None))),
        "max-logit": Case(gradood.MaxLogit(), _by_logits(lambda: other.MaxLogit(None))),
        "energy": Case(gradood.Energy(), _by_logits(lambda: other.EnergyBased(None))),
        "entropy": Case(gradood.Entropy(), _by_logits(lambda: other.Entropy(None))),
        "gen": Case(
            gradood.GEN(),
            _by_logits(lambda: other.GEN(None)),
            "pytorch-ood clamps probabilities to 1e-7, which the power 0.1 makes 0.2",
            _clamped_gen,
        ),
        "kl-matching": Case(gradood.KLMatching(), _by_logits(lambda: other.KLMatching(None))),
        "temperature-scaling": Case(
            gradood.TemperatureScaling(),
            _by_logits(lambda: other.TemperatureScaling(None)),
            "pytorch-ood stops at a temperature of larger loss; ours is the minimum",
            _early_temperature,
        ),
        "open-max": Case(
            gradood.OpenMax(tailsize=25, distance="euclidean", samples="all"),
            _by_logits(lambda: other.OpenMax(None, tailsize=25)),
        ),
        "react": Case(
            gradood.ReAct(percentile=90),
            _by_maps(lambda head: other.ReAct(None, head, percentile=0.9)),
        ),
        "ash-p": Case(
            gradood.ASHP(percentile=65), _by_maps(lambda head: other.ASH(None, head, "ash-p", 0.65))
        ),
        "ash-b": Case(
            gradood.ASHB(percentile=65), _by_maps(lambda head: other.ASH(None, head, "ash-b", 0.65))
        ),
        "ash-s": Case(
            gradood.ASHS(percentile=90), _by_maps(lambda head: other.ASH(None, head, "ash-s", 0.9))
        ),
        "scale": Case(
            gradood.SCALE(percentile=85), _by_maps(lambda head: other.SCALE(None, head, 0.85))
        ),
        "dice": Case(
            gradood.DICE(percentile=90),
            _by_features(lambda given: other.DICE(None, **of(given), p=0.9)),
        ),
        "vra": Case(
            gradood.VRA(eta_alpha=0.6, eta_beta=0.9),
            _by_maps(lambda head: other.VRA(None, head, 0.6, 0.9)),
            "pytorch-ood clips from below, where the paper sets to zero",
            _clipped,
        ),
        "lts": Case(
            gradood.LTS(percentile=95),
            _by_features(lambda given: other.LTS(None, given.head, p=0.05)),
        ),
        "knn": Case(gradood.KNN(k=50), _by_features(lambda given: other.KNN(None, k=50))),
        "mahalanobis": Case(
            gradood.Mahalanobis(),
            _by_features(lambda given: other.Mahalanobis(None)),
            "ours shrinks the covariance by the OAS weight",
            partial(_distances, background=False),
        ),
        "rmds": Case(
            gradood.RMDS(),
            _by_features(lambda given: other.RMD(None)),
            "ours shrinks both covariances by the OAS weight",
            partial(_distances, background=True),
        ),
        "vim": Case(
            gradood.ViM(dimension=32), _by_features(lambda given: other.ViM(None, 32, **of(given)))
        ),
        "she": Case(gradood.SHE(), _by_features(lambda given: other.SHE(None, given.head))),
        "nnguide": Case(
            gradood.NNGuide(k=10, alpha=1.0),
            _by_features(lambda given: other.NNGuide(None, given.head, k=10)),
        ),
        "fdbd": Case(gradood.FDBD(), _by_features(lambda given: other.fDBD(None, given.head))),
        "nci": Case(
            gradood.NCI(alpha=0.001),
            _by_features(lambda given: other.NCI(None, given.head, alpha=0.001)),
        ),
        "gradnorm": Case(
            gradood.GradNorm(), _by_model(lambda given: other.GradNorm(given.model, last))
        ),
        "grad-uncertainty": Case(
            gradood.GradUncertainty(),
            _by_model(
                lambda given: other.GradUncertainty(_double(given.model), head_only), wide=True
            ),
            "its loss, by torch, has no gradient where a probability is below 1e-12",
            _bounded_loss,
        ),
        "odin": Case(gradood.ODIN(), _by_model(lambda given: other.ODIN(given.model))),
    }


def _correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's."""
    return float(
        spearmanr(a.double().reshape(-1).numpy(), b.double().reshape(-1).numpy()).statistic
    )


def main() -> int:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=5000)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    given = Given.of(asked.fit, asked.limit)
    chosen = {n: c for n, c in cases().items() if not asked.only or n in asked.only.split(",")}
    monitor = gradood.Monitor(given.model, {n: c.ours for n, c in chosen.items()}, progress=False)
    monitor.fit(_fit_batches(given))
    ours = monitor.score(given.test[0].split(250))
    rows, agree, unexplained = [], 0, []
    for name, case in chosen.items():
        theirs = case.other(given)
        rho = _correlation(ours[name], theirs)
        agree += rho >= EQUAL
        proof = 1.0 if case.theirs is None else _correlation(case.theirs(given), theirs)
        if not rho >= EQUAL and (not case.note or not proof >= EQUAL):
            unexplained.append(name)
        shown = "" if case.theirs is None else f"{proof:.6f}"
        rows.append(f"| `{name}` | `{case.ours!r}` | {rho:.6f} | {case.note} | {shown} |")
        print(rows[-1], flush=True)
    made = provenance()
    command = " ".join(["python", "benchmarks/independent.py", *sys.argv[1:]])
    text = "\n".join(
        [
            "# Against an independent implementation",
            "",
            f"Rank correlation of the scores of {len(given.test[0]):,} images (CIFAR-10, SVHN, "
            f"textures, CIFAR-100; ResNet-20; {asked.fit:,} to fit) with pytorch-ood "
            f"{version('pytorch-ood')}, with the same settings. {agree} of {len(rows)} methods "
            f"agree to {EQUAL}.",
            "",
            "Where they differ, the other's definition, transcribed naively in float64, is "
            "compared with it too (last column): the difference is that and nothing else.",
            "",
            "| method | settings | rank correlation | difference | its transcription |",
            "| --- | --- | ---: | --- | ---: |",
            *rows,
            "",
            f"    {command}",
            "",
            f"{made['date']}, commit {made['commit']}, torch {made['versions']['torch']}.",
            "",
        ]
    )
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    print(
        f"{agree} of {len(rows)} agree to {EQUAL}; unexplained: {', '.join(unexplained) or 'none'}"
    )
    return 0 if agree >= 15 and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())

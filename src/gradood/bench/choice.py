"""Choice of a detector for one model by in-distribution data alone."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from gradood._engine.batches import Data
from gradood._engine.forms import ModelInput, check_model_input
from gradood._engine.roster import Detectors, roster
from gradood._io.arguments import whole
from gradood.bench._ranking import HOW, DetectorRanking, RankedDetector
from gradood.bench._resamples import Areas
from gradood.bench._trial import HELD, Candidates, Trial
from gradood.calibration._curve import Curve
from gradood.calibration.fusion import Fusion
from gradood.errors import DataError
from gradood.monitor import Monitor
from gradood.taps import Link, check_link

__all__ = ["CANDIDATES", "COMBINATIONS", "DetectorRanking", "RankedDetector", "choose", "fusions"]

CANDIDATES = (
    *("energy", "msp", "max-logit", "entropy", "gen", "kl-matching", "react", "vra", "scale"),
    *("knn", "nci", "fdbd", "nnguide", "she", "vim", "residual", "neco"),
    *("mahalanobis", "mahalanobis++", "rmds", "rmds++", "gradpca"),
)
"""Detectors that are tried by default: they read features and logits and share one forward pass."""
_OF_LABELS = ("joint-energy", "probability-sum")
"""Those that are tried too where several labels may hold."""
COMBINATIONS = (
    ("energy", "knn"),
    ("energy", "mahalanobis++"),
    ("knn", "mahalanobis++"),
    ("nci", "mahalanobis++"),
    ("vra", "mahalanobis++"),
    ("energy", "knn", "mahalanobis++"),
    ("energy", "nci", "knn", "mahalanobis++"),
)
"""Combinations that are tried, of the detectors at hand."""
_BEYOND_CHANCE = 0.95
"""Share of the resamples in which a single detector must beat a combination to be put before it."""


def choose(
    model: nn.Module | Monitor,
    fit: Data,
    *,
    held: Data | None = None,
    detectors: Detectors | None = None,
    limit: int = HELD,
    model_input: ModelInput | None = None,
    link: Link | None = None,
) -> DetectorRanking:
    """Rank detectors and combinations for this model by in-distribution data alone.

    Every candidate is fitted, and has to tell held-out in-distribution samples from outliers that
    are made of them: of images, two blended or pasted together, patches shuffled, noise with their
    spectrum or white, without detail, enlarged, inverted, turned; of other samples, features
    permuted, two mixed, and beyond one seen from another. Nothing else is looked at, and so nothing
    is claimed of outliers that are met: a ranking by synthetic outliers follows that by real ones
    only in part, and `DetectorRanking.sure` says how it depends on the samples and kinds, not
    whether it is right. On four networks that the rule was not made on, the choice is not shown to
    be ahead of always mahalanobis++ (AUROC +0.75; 95 %: -0.44 to +1.77), nor of one fixed
    combination, energy + mahalanobis++ (+0.09; -0.40 to +0.74): see docs/results/choose.md. It is
    of use to see how the candidates differ on a model; `gradood.guard` does not use it.

    Args:
        model: any classifier, or a monitor: then its model, detectors and options, such as `head`.
        fit: in-distribution training data, with labels for the detectors that need them; a loader
            or an iterable of batches, of which one pass is made.
        held: in-distribution data that neither the network nor the fit has seen, which is better:
            of its own training data a network is surer. None holds out a fifth of `fit`.
        detectors: to rank, by name or as instances, and the combinations of `COMBINATIONS` among
            them; None for the monitor's, or those of `CANDIDATES`. Those that cannot run on the
            model are left out with the reason.
        limit: held-out samples at most, drawn evenly.
        model_input: makes the model's inputs of a batch, as for `gradood.Monitor`.
        link: what makes probabilities of the outputs, as for `gradood.Monitor`.

    Raises:
        DataError: too few samples, or samples of several shapes.
        TapError: the model cannot be read.
        ConfigError: no candidate can run, or `limit` is too small.

    Cost:
        One pass over the fit data, one forward pass of the held-out samples and one for each of at
        most nine kinds; a second or two for the resamples.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))
        >>> x = torch.randn(400, 6)
        >>> ranking = choose(net, [(x, net(x).argmax(1))], detectors=["energy", "knn"])
        >>> sorted(row.name for row in ranking.rows)
        ['energy', 'energy + knn', 'knn']
        >>> monitor = Monitor(net, ranking.detectors, combine=ranking.combine)
    """
    limit = whole(limit, "limit", least=20)
    check_model_input(model_input)
    candidates = _candidates(model, detectors, model_input, link)
    return ranked(Trial.of(candidates, fit, held, limit=limit))


def _candidates(
    model: nn.Module | Monitor,
    detectors: Detectors | None,
    model_input: ModelInput | None,
    link: Link | None,
) -> Candidates:
    """The detectors to rank, and the model; a monitor's as it has them."""
    check_link(link)
    if not isinstance(model, Monitor):
        known = (*CANDIDATES, *_OF_LABELS) if link == "sigmoid" else CANDIDATES
        named, _ = roster(list(known) if detectors is None else detectors)
        return Candidates(model, named, model_input=model_input, link=link)
    own = model._session.unbound
    given = own.detectors if detectors is None else detectors
    return Candidates(
        own.model,
        roster(given)[0],
        own.head,
        own.output,
        own.preprocess,
        own.model_input if model_input is None else model_input,
        own.link if link is None else link,
    )


def ranked(trial: Trial) -> DetectorRanking:
    """The ranking that a trial gives.

    Args:
        trial: see `Trial.of`.

    Raises:
        DataError: a detector gave no finite score at all.
    """
    names = list(trial.detectors.detectors)
    members = {name: (name,) for name in names}
    combined = fusions({name: trial.known.scores[name] for name in names})
    members |= {name: fusion.names for name, fusion in combined.items()}

    def scores(batch: Mapping[str, Tensor]) -> np.ndarray:
        rows = [batch[name] for name in names]
        rows += [fusion.statistic(batch) for fusion in combined.values()]
        return np.stack([row.numpy() for row in rows])

    areas = Areas.of(
        scores(trial.known.scores),
        {kind: scores(batch.scores) for kind, batch in trial.unknown.items()},
    )
    order = _order(areas, np.array([len(own) > 1 for own in members.values()]))
    low, high = np.percentile(areas.drawn, [2.5, 97.5], axis=0)
    first = np.bincount(areas.drawn.argmax(1), minlength=len(members)) / len(areas.drawn)
    behind = (areas.drawn < areas.drawn[:, order[:1]]).mean(0)
    agreement = areas.agreement(order[0])
    labels = list(members)
    rows = [
        RankedDetector(
            name=labels[k],
            members=tuple(members[labels[k]]),
            score=float(areas.scores[k]),
            interval=(float(low[k]), float(high[k])),
            first=float(first[k]),
            behind=float(behind[k]),
            auroc={kind: float(areas.values[k, i]) for i, kind in enumerate(areas.kinds)},
            agreement=float(agreement[k]),
        )
        for k in order
    ]
    return DetectorRanking(
        rows=tuple(rows),
        candidates=dict(trial.detectors.detectors),
        held=len(trial.known),
        fitted=trial.fitted,
        given=trial.given,
        left_out=dict(trial.detectors.left_out),
        stable=areas.stable(order[0]),
    )


def _order(areas: Areas, combined: np.ndarray) -> list[int]:
    """Methods by score, the first as `DetectorRanking.rows` says.

    Args:
        areas: of the methods.
        combined: (methods,) whether a method is a combination.
    """
    order = np.argsort(-areas.scores, kind="stable").tolist()
    best = next((k for k in order if combined[k]), None)
    if best is None or combined[order[0]]:
        return order
    ahead = (areas.drawn[:, order[0]] > areas.drawn[:, best]).mean()
    if ahead >= _BEYOND_CHANCE:
        return order
    return [best, *(k for k in order if k != best)]


def fusions(
    known: Mapping[str, Tensor], combinations: Sequence[tuple[str, ...]] = COMBINATIONS
) -> dict[str, Fusion]:
    """Name → combination of detectors, whose ranks are those among held-out samples.

    Args:
        known: detector → (n,) scores of held-out samples.
        combinations: names of the detectors of each; those not at hand are passed over.

    Raises:
        DataError: fewer than two scores of a detector are finite.
    """
    found: dict[str, Fusion] = {}
    for names in combinations:
        if not set(names) <= known.keys():
            continue
        curves: list[Curve] = []
        for name in sorted(names):
            finite = known[name][known[name].isfinite()]
            if len(finite) < 2:
                raise DataError(
                    f"{name} gave {len(finite)} finite scores of held-out samples; rank without it."
                )
            curves.append(Curve.of(finite.double(), HOW))
        size = len(known[names[0]])
        found[" + ".join(names)] = Fusion(HOW, tuple(sorted(names)), tuple(curves), size)
    return found

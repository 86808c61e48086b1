"""Automatic settings of the shaping methods: the choice, who must be fitted, and what is kept."""

import itertools

import pytest
import torch
from torch import nn

import gradood
from gradood.detectors._shared.automatic import CLIPS, SHARES
from gradood.errors import ConfigError, NotFittedError
from gradood.evidence import content_keys
from gradood.functional.surrogates import surrogates

SHARING = [gradood.ASHB, gradood.ASHP, gradood.ASHS, gradood.LTS, gradood.SCALE]
CHOOSING = [*SHARING, gradood.ReAct, gradood.VRA, gradood.LINe, gradood.AdaScaleA]
IDS = [kind.name for kind in CHOOSING]
GENERATOR = torch.Generator().manual_seed(4)
CENTERS = 2 * torch.rand(4, 24, generator=GENERATOR, dtype=torch.float64).square()
Y = torch.arange(120) % 4
X = (CENTERS[Y] + 0.5 * torch.randn(120, 24, generator=GENERATOR, dtype=torch.float64)).relu()


def head(classes: int = 4, width: int = 24) -> nn.Module:
    """A head alone, whose inputs are the features."""
    linear = nn.Linear(width, classes, dtype=torch.float64)
    weight = CENTERS if (classes, width) == (4, 24) else torch.randn(classes, width)
    linear.load_state_dict({"weight": weight.double(), "bias": torch.zeros(classes)})
    return nn.Sequential(nn.Identity(), linear).eval()


def fitted(detector, x=X, y=Y, model=None) -> gradood.Monitor:
    return gradood.Monitor(model or head(), detector).fit([(x, y)])


def auroc(known: torch.Tensor, outliers: torch.Tensor) -> float:
    above = (outliers[:, None] > known).double() + 0.5 * (outliers[:, None] == known)
    return float(above.mean())


@pytest.mark.parametrize("kind", [gradood.ASHB, gradood.LTS, gradood.ReAct])
def test_the_percentile_is_the_one_that_best_tells_surrogates(kind):
    state = fitted(kind()).states[kind.name]
    rows = X[content_keys(X).argsort()]
    outliers = surrogates(rows)
    found = {}
    for percentile in CLIPS if kind is gradood.ReAct else SHARES:
        monitor = fitted(kind(percentile=percentile))
        found[percentile] = auroc(monitor.score(rows), monitor.score(outliers))
    assert found[float(state["percentile"])] == pytest.approx(max(found.values()), abs=1e-9)
    assert max(found.values()) > min(found.values()) + 0.01


@pytest.mark.parametrize("kind", CHOOSING, ids=IDS)
def test_no_order_and_no_sharding_changes_a_bit(kind):
    monitor = fitted(kind())
    once = monitor.states[kind.name]
    parts = [monitor.accumulate([(x, y)]) for x, y in zip(X.split(31), Y.split(31), strict=True)]
    for order in list(itertools.permutations(range(4)))[5::11]:
        total = parts[order[0]]
        for place in order[1:]:
            total = monitor.merge(total, parts[place])
        monitor.finish(total)
        again = monitor.states[kind.name]
        for name in set(once) & {"percentile", "clip", "eta_alpha", "eta_beta", "p_min", "p_max"}:
            assert torch.equal(again[name], once[name]), name


@pytest.mark.parametrize("kind", SHARING, ids=lambda kind: kind.name)
def test_a_number_needs_no_fit_and_auto_needs_one(kind):
    assert kind().must_fit and not kind(percentile=80).must_fit
    given = gradood.Monitor(head(), kind(percentile=80))
    assert given.score(X).shape == (120,) and not given.states.get(kind.name)
    with pytest.raises(NotFittedError, match=f"{kind.name} must be fitted first"):
        gradood.Monitor(head(), kind()).score(X)
    chosen = fitted(kind())
    percentile = float(chosen.states[kind.name]["percentile"])
    same = gradood.Monitor(head(), kind(percentile=percentile)).score(X)
    assert torch.equal(chosen.score(X), same)


@pytest.mark.parametrize("kind", SHARING, ids=lambda kind: kind.name)
def test_inside_another_method_a_name_has_a_number(kind):
    shaped = gradood.DICE(score=kind.name)
    number = {"ash-b": 65, "ash-p": 65, "ash-s": 90, "lts": 95, "scale": 85}[kind.name]
    instance = gradood.DICE(score=kind(percentile=number))
    assert torch.equal(fitted(shaped).score(X), fitted(instance).score(X))
    with pytest.raises(ConfigError, match=r"score=.* must be fitted; expected"):
        gradood.DICE(score=kind())


@pytest.mark.parametrize("kind", [*CHOOSING, gradood.DICE], ids=[*IDS, "dice"])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
def test_a_few_rows_do(kind, count):
    scores = fitted(kind(), X[:count], Y[:count]).score(X)
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("kind", [*CHOOSING[:-1], gradood.DICE], ids=[*IDS[:-1], "dice"])
@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
def test_signed_features_and_a_thousand_classes(kind):
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = head(1000, 16)
    with torch.no_grad():
        y = model(x).argmax(1)
    assert not bool(fitted(kind(), x, y, model).score(x).isnan().any())


def test_dice_keeps_the_weights_that_speak_for_their_class():
    mask = fitted(gradood.DICE()).states["dice"]["mask"]
    assert torch.equal(mask, CENTERS * X.mean(0) > 0)


@pytest.mark.parametrize("kind", [gradood.AdaScaleA, gradood.AdaScaleL])
def test_adascale_takes_p_max_from_the_fit_and_keeps_p_min(kind):
    state = fitted(kind()).states[kind.name]
    assert float(state["p_max"]) in SHARES
    assert float(state["p_min"]) == min(60.0, float(state["p_max"]))
    given = fitted(kind(p_min=85)).states[kind.name]
    assert "p_min" not in given and float(given["p_max"]) >= 85
    numbers = fitted(kind(**kind.published)).states[kind.name]
    assert set(numbers) == {"shift"}


def test_vra_chooses_what_was_not_given():
    state = fitted(gradood.VRA(eta_alpha=0.3)).states["vra"]
    assert float(state["eta_alpha"]) == 0.3 and float(state["eta_beta"]) in (0.9, 0.95, 0.99)
    with pytest.raises(ConfigError, match=r"^eta_alpha=0.995; expected less than eta_beta=auto"):
        gradood.VRA(eta_alpha=0.995)

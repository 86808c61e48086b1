"""Shaping around any logit score: which ones it takes, what it tells, and that it can be saved."""

import math

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ArtifactError, ConfigError, MeaninglessScoreWarning
from gradood.functional.gradnorm import linear_logits
from gradood.functional.shaping import pruned, scaled
from gradood.testing import networks

SHAPING = [
    *(gradood.ASHB, gradood.ASHP, gradood.ASHS, gradood.DICE),
    *(gradood.LTS, gradood.ReAct, gradood.SCALE, gradood.VRA),
]
NAMES = [kind.name for kind in SHAPING]
NETWORK = networks()["mlp"]


def fitted(detector, model: nn.Module | None = None) -> gradood.Monitor:
    x, y = NETWORK.inputs(64, 2), NETWORK.labels(64)
    monitor = gradood.Monitor(model or NETWORK.model(), detector)
    monitor.bind(x)
    return monitor.fit([(x, y)])


@pytest.mark.parametrize("kind", SHAPING, ids=NAMES)
def test_a_score_that_learns_or_is_none_is_refused(kind):
    with pytest.raises(ConfigError, match=r"score='dice' must be fitted; expected a detector that"):
        kind(score="dice")
    with pytest.raises(ConfigError, match=r"score=KNN\(\) must be fitted; expected"):
        kind(score=gradood.KNN())
    with pytest.raises(ConfigError, match=r"score='enrgy'; expected .* did you mean 'energy'"):
        kind(score="enrgy")
    for wrong in (None, 3, gradood.Energy):
        with pytest.raises(ConfigError, match=r"score=.*; expected the name of one of"):
            kind(score=wrong)


@pytest.mark.parametrize("kind", SHAPING, ids=NAMES)
def test_a_score_that_reads_something_else_is_refused(kind):
    for score in ("gaia-z", gradood.GradNorm(parameters=["head.weight"])):
        monitor = gradood.Monitor(NETWORK.model(), kind(score=score))
        with pytest.raises(ConfigError, match=rf"^{kind.name}: score=.* reads other things"):
            monitor.bind(NETWORK.inputs(4))


@pytest.mark.parametrize("kind", SHAPING, ids=NAMES)
@pytest.mark.parametrize("score", ["msp", "gen"])
def test_saved_with_the_name_of_a_score(kind, score, tmp_path):
    model, x = NETWORK.model(), NETWORK.inputs(9, seed=1)
    monitor = fitted(kind(score=score), model)
    expected = monitor.score(x)
    monitor.save(tmp_path / "one.safetensors")
    again = gradood.load(tmp_path / "one.safetensors", model)
    assert repr(again.detectors[kind.name]) == repr(kind(score=score))
    assert torch.equal(again.score(x), expected)


def test_an_instance_scores_but_is_not_saved(tmp_path):
    by_name = fitted(gradood.ASHP(score="energy"))
    instance = fitted(gradood.ASHP(score=gradood.Energy()))
    x = NETWORK.inputs(9, seed=1)
    assert torch.equal(instance.score(x), by_name.score(x))
    with pytest.raises(ArtifactError, match=r"options/score is a Energy, which cannot be saved"):
        instance.save(tmp_path / "one.safetensors")


def test_shaping_of_what_was_shaped():
    model, x = NETWORK.model(), NETWORK.inputs(9, seed=1)
    twice = gradood.ASHP(percentile=50, score=gradood.SCALE(percentile=80, score="max-logit"))
    seen: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    found = gradood.Monitor(model, twice).score(x)
    h = scaled(pruned(seen[-1], 50.0), 80.0)
    expected = -linear_logits(h, model.head.weight.detach(), model.head.bias.detach()).amax(1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", SHAPING, ids=NAMES)
def test_signed_features_are_told(kind):
    network = networks()["transformer"]
    with pytest.warns(MeaninglessScoreWarning, match=rf"{kind.name} .*signed"):
        gradood.Monitor(network.model(), kind()).bind(network.inputs(8))


def test_what_the_inner_score_warns_of_is_told_too():
    network = networks()["transformer"]
    with pytest.warns(MeaninglessScoreWarning, match=r"gradnorm was measured below chance"):
        gradood.Monitor(network.model(), gradood.RAS(score="gradnorm")).bind(network.inputs(8))


WRONG = [
    *((kind, {"percentile": value}) for kind in SHAPING[:5] for value in (100, -1, math.nan)),
    (gradood.SCALE, {"percentile": 100}),
    (gradood.ReAct, {"percentile": 101}),
    (gradood.ReAct, {"percentile": -0.5}),
    (gradood.VRA, {"eta_alpha": -0.1}),
    (gradood.VRA, {"eta_alpha": 0.995}),
    (gradood.VRA, {"eta_beta": 1.1}),
    (gradood.VRA, {"gamma": -1.0}),
    (gradood.VRA, {"gamma": math.inf}),
    (gradood.VRA, {"samples": 0}),
    (gradood.GEN, {"gamma": 0}),
    (gradood.GEN, {"gamma": math.inf}),
    (gradood.GEN, {"M": 0}),
    (gradood.GEN, {"M": 2.0}),
    (gradood.OpenMax, {"tailsize": 1}),
    (gradood.OpenMax, {"alpha": 0}),
    (gradood.OpenMax, {"distance": "manhattan"}),
    (gradood.OpenMax, {"samples": "right"}),
]


@pytest.mark.parametrize(("kind", "options"), WRONG, ids=lambda part: getattr(part, "name", None))
def test_a_wrong_value_names_the_option_and_what_was_expected(kind, options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^{name}=.*; expected "):
        kind(**options)


def test_the_published_settings_are_beside_automatic_defaults():
    percentiles = {kind.name: kind.published.get("percentile") for kind in SHAPING}
    assert percentiles == {
        "ash-b": 65,
        "ash-p": 65,
        "ash-s": 95,
        "dice": 90,
        "lts": 95,
        "react": 90,
        "scale": 85,
        "vra": None,
    }
    assert gradood.VRA.published == {"eta_alpha": 0.6, "eta_beta": 0.9}
    for kind in SHAPING:
        assert {kind().options()[name] for name in kind.published} == {"auto"}
    assert all(kind().score == "energy" for kind in SHAPING)
    assert gradood.VRA().gamma == 0.0
    assert gradood.GEN().options() == {"gamma": 0.1, "M": 100}
    assert gradood.OpenMax().options() == {
        "tailsize": "auto",
        "alpha": 10,
        "distance": "eucos",
        "samples": "correct",
        "translation": 10_000.0,
        "tail_samples": None,
    }

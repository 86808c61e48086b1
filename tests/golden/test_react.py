"""ReAct against its formula."""

import pytest
import torch
from naive import logits, shaping
from package import NAMES, same, setting

import gradood
from gradood.errors import DataError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [50, 90, 100])
def test_react_is_its_formula(name, percentile):
    given = setting(name)
    monitor = gradood.Monitor(given.network, gradood.ReAct(percentile=percentile))
    monitor.fit(given.fit_data)
    clip = float(monitor.states["react"]["clip"])
    exact = float(given.features(given.fit_x).flatten().quantile(percentile / 100))
    assert clip == pytest.approx(exact, rel=1e-3)
    expected = shaping.shaped_energy(
        given.features(given.x), given.weight, given.bias, lambda row: shaping.react(row, clip)
    )
    same(monitor.score(given.x), expected)


def test_another_score_and_an_instance_of_one():
    given = setting("mlp_bn")
    named = gradood.Monitor(given.network, gradood.ReAct(percentile=90, score="max-logit")).fit(
        given.fit_data
    )
    clip = float(named.states["react"]["clip"])
    z = shaping.head(given.features(given.x).clamp(max=clip), given.weight, given.bias)
    same(named.score(given.x), logits.max_logit(z))
    own = gradood.ReAct(percentile=90, score=gradood.Energy(temperature=3.0))
    found = gradood.Monitor(given.network, own).fit(given.fit_data).score(given.x)
    same(found, logits.energy(z, 3.0))


def test_a_clip_at_zero_is_refused():
    given = setting("mlp_bn")
    with torch.no_grad():
        given.network.norm2.bias.fill_(-100.0)
    for detector, percentile in ((gradood.ReAct(percentile=90), 90), (gradood.ReAct(), 100)):
        monitor = gradood.Monitor(given.network, detector)
        words = rf"react would clip at percentile {percentile} .* higher percentile"
        with pytest.raises(DataError, match=words):
            monitor.fit(given.fit_data)

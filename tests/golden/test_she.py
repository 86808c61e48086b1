"""SHE against sums over correctly classified samples."""

import pytest
import torch
from naive import collapse
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError, DataError
from gradood.functional.she import pattern_agreement


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("similarity", ["inner", "cosine", "euclidean"])
def test_she_is_its_formula(name, similarity):
    given = setting(name)
    predicted = given.logits(given.fit_x).argmax(1)
    right = float((predicted == given.fit_y).double().mean())
    assert 0.2 < right < 0.9
    expected = collapse.she(
        given.features(given.x),
        given.logits(given.x),
        given.features(given.fit_x),
        given.logits(given.fit_x),
        given.fit_y,
        similarity,
    )
    same(given.scores(gradood.SHE(similarity=similarity), fit=True), expected)


def test_a_feature_without_length_has_no_cosine():
    zero = torch.zeros(1, 3)
    patterns = torch.tensor([[1.0, 2.0, 2.0]]).double()
    first = torch.tensor([0])
    assert pattern_agreement(zero, patterns, first, "cosine").tolist() == [0.0]
    assert pattern_agreement(zero, patterns, first, "euclidean").tolist() == [-3.0]


def test_another_similarity_is_refused():
    with pytest.raises(ConfigError, match=r"similarity='dot'; expected 'inner', 'cosine' or"):
        gradood.SHE(similarity="dot")


def test_a_class_that_is_never_right_takes_the_mean_pattern(caplog):
    given = setting("mlp_bn")
    z = given.logits(given.fit_x)
    y = z.argmax(1)
    common = int(given.logits(given.x).argmax(1).mode().values)
    y[y == common] = (common + 1) % 5
    monitor = gradood.Monitor(given.network, "she").fit([(given.fit_x, y)])
    assert "she, among samples classified correctly: no fit sample of" in caplog.text
    expected = collapse.she(
        given.features(given.x), given.logits(given.x), given.features(given.fit_x), z, y
    )
    same(monitor.score(given.x), expected)


def test_a_fit_without_any_correct_sample_is_refused():
    given = setting("mlp_bn")
    wrong = (given.logits(given.fit_x).argmax(1) + 1) % 5
    with pytest.raises(DataError, match=r"she averages .* there is none; give in-distribution"):
        gradood.Monitor(given.network, "she").fit([(given.fit_x, wrong)])


def test_longer_features_of_a_class_score_lower():
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
    x, y = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 1])
    monitor = gradood.Monitor(model, "she").fit([(x, y)])
    at = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    assert monitor.score(at).tolist() == [-3.0, -6.0, -5.0]

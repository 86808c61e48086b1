"""NCI against its formula, in loops."""

import pytest
import torch
from naive import collapse
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 0.3])
def test_nci_is_its_formula(name, alpha):
    given = setting(name)
    expected = collapse.nci(
        given.features(given.x),
        given.logits(given.x),
        given.weight,
        given.features(given.fit_x),
        alpha,
    )
    same(given.scores(gradood.NCI(alpha=alpha), fit=True), expected)


def test_known_numbers():
    """Mean (1, 1); (4, 5) is 5 from it along (0.6, 0.8), and 9 long in the sum of its entries."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    fit = torch.tensor([[0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    monitor = gradood.Monitor(model.eval(), gradood.NCI(alpha=0.1)).fit([fit])
    at = torch.tensor([[4.0, 5.0], [1.0, 1.0]], dtype=torch.float64)
    # The mean itself points nowhere: only its length counts.
    assert monitor.score(at).tolist() == pytest.approx([-(1.6 + 0.9), -0.2], rel=1e-12)


@pytest.mark.parametrize("alpha", [-1e-4, float("nan"), float("inf")])
def test_wrong_weights_are_named(alpha):
    with pytest.raises(ConfigError, match=r"alpha=.*; expected a number ≥ 0"):
        gradood.NCI(alpha=alpha)

import math

import numpy as np
import pytest
import torch
from torch import nn

from gradood.errors import ConfigError, DataError, TapError
from gradood.functional.logits import energy
from gradood.training import (
    CrossEntropy,
    EnergyMarginLoss,
    InputGradientPenalty,
    LogitNorm,
    MixtureExposure,
    OutlierExposure,
    VirtualOutliers,
)
from gradood.training.losses import mix

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 2.0, 1.0]], dtype=torch.float64)


def log_p(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(z) for z in row))
    return [z - total for z in row]


def test_outlier_exposure_is_the_cross_entropy_from_uniform():
    rows = [log_p(row) for row in LOGITS[1:].tolist()]
    expected = -sum(sum(row) / 3 for row in rows) / 2
    assert float(OutlierExposure()(LOGITS, n_id=1)) == pytest.approx(expected, rel=1e-12)
    assert float(OutlierExposure()(LOGITS, n_id=3)) == 0.0


def test_logit_norm_divides_by_length_and_temperature():
    expected = 0.0
    for row, label in zip(LOGITS.tolist(), [0, 1, 2], strict=True):
        length = math.sqrt(sum(z * z for z in row))
        expected -= log_p([z / length / 0.04 for z in row])[label] / 3
    got = float(LogitNorm(temperature=0.04)(LOGITS, torch.tensor([0, 1, 2])))
    assert got == pytest.approx(expected, rel=1e-6)


NO_LABELS = torch.zeros(0, dtype=torch.int64)
EMPTY = {
    "cross-entropy": lambda z: CrossEntropy()(z[:0], NO_LABELS),
    "logit-norm": lambda z: LogitNorm()(z[:0], NO_LABELS),
    "exposure": lambda z: OutlierExposure()(z, n_id=3),
    "mixtures": lambda z: MixtureExposure()(z[:0], NO_LABELS, share=0.5),
    "margins": lambda z: EnergyMarginLoss(m_in=0.0, m_out=1.0)(energy(z[:0]), n_id=0),
    "margins that all rows keep": lambda z: EnergyMarginLoss(m_in=9.0, m_out=10.0)(
        energy(z), n_id=3
    ),
    "penalty of no row": lambda z: InputGradientPenalty(m_in=0.0, m_out=1.0)(
        energy(z[:0]), z, n_id=0
    ),
    "penalty of no active row": lambda z: InputGradientPenalty(m_in=-9.0, m_out=9.0)(
        energy(z), z, n_id=1
    ),
    "virtual outliers, none yet": lambda z: VirtualOutliers(classes=3, width=2).double()(z, None),
    "virtual outliers, no row": lambda z: VirtualOutliers(classes=3, width=2).double()(z, z[:0]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_loss_over_nothing_is_zero_and_can_be_differentiated_alone(name):
    logits = LOGITS.clone().requires_grad_()
    value = EMPTY[name](logits)
    assert value.ndim == 0 and float(value.detach()) == 0.0
    (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
    assert bool(gradient.eq(0).all())
    value.backward()


@pytest.mark.parametrize("name", ["exposure", "penalty of no active row"])
def test_a_loss_over_nothing_is_zero_beside_infinite_logits(name):
    weight = torch.ones(3, requires_grad=True, dtype=torch.float64)
    with torch.no_grad():
        scale = torch.tensor([[1.0], [-math.inf], [1.0]], dtype=torch.float64)
    value = EMPTY[name](LOGITS[:1] * weight * scale)
    assert float(value.detach()) == 0.0
    value.backward()
    assert weight.grad is not None and bool(weight.grad.eq(0).all())


def test_a_loss_over_nothing_needs_no_grad():
    value = InputGradientPenalty(m_in=-9.0, m_out=9.0)(energy(LOGITS), LOGITS, n_id=1)
    assert float(value) == 0.0
    with torch.no_grad():
        assert float(OutlierExposure()(LOGITS.clone().requires_grad_(), n_id=3)) == 0.0


def test_mixtures_have_mixed_labels():
    labels, share = torch.tensor([0, 1, 2]), 0.3
    rows = [log_p(row) for row in LOGITS.tolist()]
    expected = -sum(
        share * row[label] + (1 - share) * sum(row) / 3
        for row, label in zip(rows, [0, 1, 2], strict=True)
    )
    got = MixtureExposure()(LOGITS, labels, share=share)
    assert float(got) == pytest.approx(expected / 3, rel=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cut"])
def test_a_mixture_holds_its_share_of_the_known_sample(kind):
    known, outliers = torch.ones(4, 3, 16, 16), torch.zeros(4, 3, 16, 16)
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixture = mix(known, outliers, kind=kind, alpha=1.0, rng=rng)
        assert float(mixture.x.mean()) == pytest.approx(mixture.share, abs=1e-6)
        shares.append(mixture.share)
    assert min(shares) < 0.3 and max(shares) > 0.7
    assert known.eq(1).all()


def test_mixing_needs_as_many_outliers():
    with pytest.raises(DataError, match=r"Set aux_per_id = 1"):
        mix(
            torch.ones(2, 3),
            torch.ones(4, 3),
            kind="linear",
            alpha=1.0,
            rng=np.random.default_rng(0),
        )


def test_virtual_outliers_lie_at_the_edge_of_their_class():
    torch.manual_seed(0)
    loss = VirtualOutliers(classes=2, width=3, queue=200, drawn=500)
    assert not loss.ready
    centers = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    labels = torch.arange(400) % 2
    features = centers[labels] + torch.randn(400, 3) * torch.tensor([1.0, 3.0, 0.2])
    loss.remember(features, labels)
    assert loss.ready
    found = loss.imagine(torch.Generator().manual_seed(1))
    distance = ((found - centers) / torch.tensor([1.0, 3.0, 0.2])).norm(dim=1)
    assert bool((distance > 2.5).all()) and bool((distance < 6).all())
    again = loss.imagine(torch.Generator().manual_seed(1))
    assert torch.equal(found, again)


def test_queues_keep_the_latest_features():
    loss = VirtualOutliers(classes=2, width=1, queue=3, drawn=1)
    for value in range(5):
        loss.remember(torch.tensor([[float(value)]]), torch.tensor([0]))
    assert sorted(loss.features[0, :, 0].tolist()) == [2.0, 3.0, 4.0]
    assert loss.counts.tolist() == [5, 0]


def test_virtual_loss_of_known_numbers():
    loss = VirtualOutliers(classes=3, width=2, queue=2).double()
    known, virtual = LOGITS[:2], LOGITS[2:]

    def odds(row: list[float]) -> float:
        return math.log(sum(math.exp(z) for z in row))  # Slope −1 times the energy.

    terms = [math.log1p(math.exp(-odds(row))) for row in known.tolist()]
    terms.append(math.log1p(math.exp(odds(virtual.tolist()[0]))))
    got = float(loss(known, virtual).detach())
    assert got == pytest.approx(sum(terms) / 3, rel=1e-9)
    assert float(loss(known, None).detach()) == 0.0


@pytest.mark.parametrize("kind", [EnergyMarginLoss, InputGradientPenalty])
@pytest.mark.parametrize(("m_in", "m_out"), [(-7.0, -25.0), (-7.0, -7.0), (math.nan, 0.0)])
def test_margins_must_be_in_order(kind, m_in, m_out):
    with pytest.raises(ConfigError, match=r"expected finite energies with m_in < m_out"):
        kind(m_in=m_in, m_out=m_out)


def test_a_reduction_must_be_known():
    with pytest.raises(ConfigError, match=r"reduction='mean'; expected 'released' or 'paper'"):
        InputGradientPenalty(m_in=0.0, m_out=1.0, reduction="mean")


def test_shapes_are_checked():
    loss = EnergyMarginLoss(m_in=0.0, m_out=1.0)
    with pytest.raises(DataError, match=r"Give the energy, not the logits"):
        loss(torch.zeros(3, 2), n_id=1)
    with pytest.raises(DataError, match=r"n_id is 4 in a batch of 3; expected 0 to 3"):
        loss(torch.zeros(3), n_id=4)


def test_an_input_that_has_no_gradient_is_told():
    loss = InputGradientPenalty(m_in=0.0, m_out=1.0)
    net = nn.Linear(2, 2)
    x = torch.zeros(3, 2)
    with pytest.raises(TapError, match=r"x\.requires_grad_\(\) before the forward"):
        loss(energy(net(x)), x, n_id=3)
    other = torch.zeros(3, 2, requires_grad=True)
    with pytest.raises(TapError, match=r"the very tensor the model was called with"):
        loss(energy(net(x)), other, n_id=3)


def test_half_precision_energies_give_a_float32_norm():
    x = torch.full((2, 64), 300.0, dtype=torch.float16, requires_grad=True)
    energies = (x * 200).float().sum(1)
    loss = InputGradientPenalty(m_in=1e9, m_out=2e9, reduction="paper")
    value = loss(energies, x, n_id=2)
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(200 * 8, rel=1e-3)

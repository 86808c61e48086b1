"""Training of networks of several labels, of one output, and on inputs that a function makes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradood.errors import ConfigError, DataError
from gradood.training import BinaryCrossEntropy, Options, Trainer, TrainingData, load_recipe


def recipe(method, *changes):
    own = load_recipe(method, changes)
    return replace(
        own,
        batch=replace(own.batch, id=8),
        schedule=replace(own.schedule, steps=30, kind="constant"),
        validation=replace(own.validation, id=16, aux=16),
    )


def net(outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs))


def samples(seed, label):
    x = torch.randn(80, 6, generator=torch.Generator().manual_seed(seed))
    return [(row, label(row)) for row in x]


def trained(model, chosen, data, tmp_path):
    return Trainer(model, chosen, data, out=tmp_path, options=Options(progress=False)).fit()


@pytest.mark.parametrize("method", ["plain", "energy", "greg"])
def test_several_labels_are_trained_by_their_joint_energy(tmp_path, method):
    known = samples(0, lambda row: (row[:3] > 0).long())
    far = samples(1, lambda row: 0)
    outliers = [(row + 9, 0) for row, _ in far]
    margins = ["loss.gradient.m_in=-9.0", "loss.gradient.m_out=-1.0"] if method == "greg" else []
    if method != "plain":
        margins += ["loss.margin.m_in=-9.0", "loss.margin.m_out=-1.0"]
    chosen = recipe(method, "optimizer.lr=0.1", "start=either", *margins)
    data = TrainingData(id=known, aux=outliers, link="sigmoid")
    result = trained(net(3), chosen, data, tmp_path / "run")
    assert result.after.accuracy > result.before.accuracy > 0.2


def test_one_output_is_two_classes(tmp_path):
    known = samples(0, lambda row: int(row[0] > 0))
    chosen = recipe("plain", "optimizer.lr=0.1", "start=either")
    result = trained(net(1), chosen, TrainingData(id=known), tmp_path / "run")
    assert result.after.accuracy > max(0.6, result.before.accuracy)


def test_a_function_makes_the_inputs(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inner = net(2)

        def forward(self, left, right):
            return self.inner(torch.cat([left, right], 1))

    known = [
        ({"a": row[:2], "rest": row[2:], "id": "x", "label": y})
        for row, y in samples(0, lambda row: int(row[0] > 0))
    ]
    data = TrainingData(id=known, model_input=lambda batch: (batch["a"], batch["rest"]))
    chosen = recipe("plain", "optimizer.lr=0.1", "start=either")
    result = trained(Two(), chosen, data, tmp_path / "run")
    assert result.after.accuracy > 0.6
    with pytest.raises(DataError, match="model_input= raised KeyError"):
        wrong = TrainingData(id=known, model_input=lambda batch: batch["b"])
        trained(Two(), chosen, wrong, tmp_path / "other")


def test_what_is_not_defined_is_refused(tmp_path):
    known = samples(0, lambda row: (row[:3] > 0).long())
    with pytest.raises(ConfigError, match=r"link='none'.*expected softmax or sigmoid"):
        TrainingData(id=known, link="none")
    for method in ("oe", "logit-norm", "vos", "ish", "mixoe"):
        data = TrainingData(id=known, aux=known, link="sigmoid")
        with pytest.raises(ConfigError, match="Choose plain, energy or greg"):
            trained(net(3), recipe(method), data, tmp_path / method)
    data = TrainingData(id=known, link="sigmoid")
    with pytest.raises(DataError, match=r"labels are \(16, 3\), and the model has 4 outputs"):
        trained(net(4), recipe("plain", "start=either"), data, tmp_path / "four")
    data = TrainingData(id=samples(0, lambda row: 2), link="sigmoid")
    with pytest.raises(DataError, match="0 or 1 for each class"):
        trained(net(3), recipe("plain", "start=either"), data, tmp_path / "classes")


def test_binary_cross_entropy_by_its_formula():
    logits, labels = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.0, 0.0]])
    p = torch.sigmoid(logits.double())
    for smoothing in (0.0, 0.2):
        t = labels.double() * (1 - smoothing) + smoothing / 2
        expected = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        found = BinaryCrossEntropy(label_smoothing=smoothing)(logits, labels)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)

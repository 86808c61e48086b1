"""Contributions of units to scores, and explanations made of them."""

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import gradood
import gradood.detectors
from gradood.attribution import KnownFeatures, contributions, explained, read_evidence
from gradood.errors import (
    ConfigError,
    DataError,
    ModelChangedWarning,
    NotFittedError,
    TapError,
)
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear
from gradood.functional.path_integrals import path_integral, values_of


def ends(*pairs):
    return (
        torch.tensor([list(point) for point in side], dtype=torch.float64)
        for side in zip(*pairs, strict=True)
    )


def test_a_smooth_integral_is_that_of_the_closed_form():
    start, stop = ends(((0.0, 1.0), (2.0, 3.0)))
    found = path_integral(values_of(lambda x, rows: x[:, 0].pow(3) * x[:, 1]), start, stop)
    # ∫ 3 (2t)² (1 + 2t) dt = 10 and ∫ (2t)³ dt = 2
    assert found.gradient[0].tolist() == pytest.approx([10.0, 2.0], abs=1e-12)
    assert float(found.jump) == 0 and float(found.error) < 1e-9


def test_kinks_are_found_wherever_they_are():
    start, stop = ends(((-1.0, 0.3), (2.0, -0.7)), ((0.1, 5.0), (0.2, 7.0)))
    found = path_integral(values_of(lambda x, rows: x.abs().sum(1)), start, stop)
    moved = (stop - start) * found.gradient
    expected = stop.abs() - start.abs()
    assert torch.allclose(moved, expected, atol=1e-8, rtol=0)


def test_a_jump_is_a_part_of_its_own():
    start, stop = ends(((0.0, 0.0), (1.0, 3.0)))
    score = values_of(lambda x, rows: x[:, 0] + torch.where(x[:, 1] > 1.0, 5.0, 0.0))
    found = path_integral(score, start, stop)
    assert float(found.jump) == pytest.approx(5.0, abs=1e-9)
    assert ((stop - start) * found.gradient)[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-9)


def test_what_is_no_number_ends():
    start, stop = ends(((-1.0,), (1.0,)))
    found = path_integral(values_of(lambda x, rows: x[:, 0].sqrt()), start, stop)
    assert found.start.isnan().all()


def evidence_of(features, weight, bias=None, beyond=0.0):
    logits = features.double() @ weight.double().T + beyond
    logits = logits if bias is None else logits + bias.double()
    values = {FEATURES: features, LOGITS: logits}
    head = Linear(weight, bias)
    return Evidence(len(features), len(weight), head, None, (LOGITS,), values)


def test_energy_sums_by_units_and_by_classes_and_what_is_beyond_the_head_is_apart():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 6, generator=generator)
    weight = torch.randn(3, 6, generator=generator)
    evidence = evidence_of(features, weight, beyond=0.5)
    found = contributions(gradood.Energy(), evidence, torch.zeros(6))
    moved = found.score - found.reference
    assert float(found.parts["beyond head"].max()) == pytest.approx(-0.5)
    assert torch.allclose(found.units.sum(1) + found.parts["beyond head"], moved, rtol=1e-9)
    assert torch.allclose(found.classes.sum(1), moved, rtol=1e-9)
    assert float(found.relative_gap.max()) < 1e-9


def test_the_largest_logit_is_explained_by_its_own_weights():
    weight = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    found = contributions(
        gradood.MaxLogit(), evidence_of(torch.tensor([[3.0, 1.0]]), weight), torch.ones(2)
    )
    assert found.units.tolist() == [[-2.0, 0.0]] and found.reference.tolist() == [-3.0]
    assert found.classes.tolist() == [[-2.0, 0.0]]
    assert found.leading(1).tolist() == [[1]]


def test_rows_without_a_finite_score_are_nan_and_others_are_not():
    features = torch.tensor([[torch.nan, 1.0], [1.0, 2.0]])
    found = contributions(gradood.MSP(), evidence_of(features, torch.eye(2)), torch.zeros(2))
    assert found.units[0].isnan().all() and found.units[1].isfinite().all()


def test_every_detector_of_the_package_says_how_it_is_attributed():
    named = [getattr(gradood, name) for name in gradood.detectors.__all__]
    kinds = [kind for kind in named if isinstance(kind, type)]
    assert len(kinds) > 40 and all(kind.attribution for kind in kinds)


def test_what_cannot_be_explained_says_why(monkeypatch):
    evidence = evidence_of(torch.ones(1, 2), torch.eye(2))
    monkeypatch.setattr(gradood.Energy, "attribution", "none: the score is of something else")
    with pytest.raises(TapError, match="not explained by units: the score is of something else"):
        contributions(gradood.Energy(), evidence, torch.zeros(2))
    with pytest.raises(DataError, match=r"expected one finite feature vector \(2,\)"):
        contributions(gradood.MSP(), evidence, torch.zeros(3))


@pytest.fixture(scope="module")
def known():
    return torch.randn(120, 3, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def guard(model, known):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = [f"image {i}" for i in range(len(known))]
        return gradood.guard(model, known, detectors=["energy", "knn"], ids=ids)


def test_a_guard_explains_in_words_and_in_plain_values(guard, known):
    found = guard.explain(known[5:7], neighbors=2)
    assert [each.place for each in found] == [0, 1]
    assert found[0].neighbors[0].id == "image 5" and len(found[0].neighbors) == 2
    assert found[0].neighbors[0].distance == pytest.approx(0, abs=1e-5)
    plain = json.loads(json.dumps(found[0].to_dict()))
    assert plain["p_values"].keys() == {"energy", "knn", "combined"}
    assert plain["contributions"].keys() == {"energy", "knn"}
    assert 0 <= plain["typicality"]["share"] <= 1
    assert "It was taken for class" in str(found[0]) and "image 5" in str(found[0])


def test_a_head_that_changed_since_is_told(known):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    monitor = gradood.Monitor(model, ["energy"], progress=False)
    monitor.calibrate(known)
    monitor.remember(known)
    result = monitor.predict(known[:2], keep=("logits", "features"))
    result["energy"].why(0)
    with torch.no_grad():
        model[3].weight.mul_(2)
    with pytest.warns(ModelChangedWarning, match="head is not as it was"):
        result["energy"].why(0)


def test_a_result_says_why_if_it_kept_what_that_takes(guard, known):
    results = guard.predict(known[:4], keep=("logits", "features"))
    whole, one = results.why(2), results["knn"].why(2)
    assert whole.contributions.keys() == {"energy", "knn"} and one.contributions.keys() == {"knn"}
    assert float(whole.contributions["knn"].score[0]) == float(results["knn"].score[2])
    assert results[2:].why(0).scores == whole.scores
    with pytest.raises(IndexError):
        results.why(4)
    with pytest.raises(NotFittedError, match="keep="):
        guard.predict(known[:4]).why(0)
    with pytest.raises(NotFittedError, match=r"guard\.explain"):
        pickle.loads(pickle.dumps(results["knn"])).why(0)


def test_without_known_features_it_says_how_to_have_them(model, known):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard = gradood.guard(model, known, detectors="energy")
    with pytest.raises(NotFittedError, match="explain=True"):
        guard.explain(known[:1])
    assert guard.explain(known[:1], reference=torch.zeros(8))[0].typicality is None
    monitor = guard.monitor
    assert monitor.known is None
    monitor.remember(known)
    (found,) = monitor.explain(known[:1])
    assert found.neighbors is None and "no ids=" in str(found)


def test_known_samples_are_compared_within_their_class():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0]])
    known = KnownFeatures.of(features, torch.tensor([0, 0, 1]), 3)
    found = known.typicality(torch.tensor([3.0, 0.0]), 0)
    assert (found.distance, found.share, found.samples) == (2.0, 0.0, 2)
    assert known.typicality(torch.tensor([1.0, 1.0]), 0).share == 1.0
    assert (
        known.typicality(torch.zeros(2), 2) is None and known.nearest(torch.zeros(1, 2), 1) is None
    )
    with pytest.raises(DataError, match="2 entries for 3"):
        KnownFeatures.of(features, torch.tensor([0, 0, 1]), 3, ids=["a", "b"])


def test_a_coded_bank_is_explained_in_the_coordinates_of_the_features(model, known):
    monitor = gradood.Monitor(model, gradood.KNN(k=3, bits=8), progress=False).fit([known])
    (found,) = explained_scores(monitor, 3 * known[:5])
    assert float(found.relative_gap.max()) < 1e-9 and bool((found.units >= 0).all())
    plain = gradood.Monitor(model, gradood.KNN(k=3, bits=32), progress=False).fit([known])
    (exact,) = explained_scores(plain, 3 * known[:5])
    assert torch.allclose(found.units.sum(1), exact.units.sum(1), rtol=0, atol=0.02)


def explained_scores(monitor, inputs):
    bound = monitor._session.state.bound
    evidence = read_evidence(bound, inputs)
    found, refused = explained(bound, evidence, evidence.features.mean(0))
    assert not refused
    return found.values()


def test_inputs_without_an_answer_have_no_reasons(guard, known):
    inputs = known[:3].clone()
    inputs[1, 0, 0, 0] = torch.nan
    first, lost, _ = guard.explain(inputs)
    assert lost.is_ood and lost.label == -1 and lost.neighbors is None and lost.features is None
    assert bool(lost.contributions["knn"].units.isnan().all())
    assert lost.lines()[1:] == ["The model gave no answer: its input or output is not finite."]
    assert json.loads(json.dumps(lost.to_dict(), allow_nan=False))["scores"]["knn"] is None
    assert first.features.shape == (8,) and bool(first.contributions["knn"].units.isfinite().all())
    assert guard.explain(known[:0]) == ()


def test_a_loaded_guard_remembers_when_asked(guard, model, known, tmp_path):
    guard.save(tmp_path / "guard.safetensors")
    loaded = gradood.load(tmp_path / "guard.safetensors", model)
    with pytest.raises(NotFittedError, match=r"no file .* call remember\(known\)"):
        loaded.explain(known[:1])
    paths = [Path("known") / f"{i}.png" for i in range(len(known))]
    (found,) = loaded.remember(known, ids=paths).explain(known[4:5], neighbors=1)
    assert found.neighbors[0].id == str(paths[4])
    assert found.scores == guard.explain(known[4:5])[0].scores


@pytest.mark.parametrize("ids", ["abc", {1, 2, 3}, [None] * 3, [[1]] * 3, iter("abc"), [True] * 3])
def test_what_names_no_samples_is_refused(ids):
    with pytest.raises(DataError, match="ids= "):
        KnownFeatures.of(torch.eye(3), torch.zeros(3, dtype=torch.int64), 1, ids)


def test_the_nearest_are_found_a_part_at_a_time_and_equal_ones_in_their_order(monkeypatch):
    features = torch.tensor([[1.0], [0.0], [1.0], [0.0], [2.0], [0.0]])
    known = KnownFeatures.of(features, torch.zeros(6, dtype=torch.int64), 1, torch.arange(6))
    whole = known.nearest(torch.tensor([[0.0], [2.0]]), 4)
    monkeypatch.setattr("gradood.attribution.known._ROWS", 2)
    assert known.nearest(torch.tensor([[0.0], [2.0]]), 4) == whole
    assert [[n.id for n in one] for one in whole] == [[1, 3, 5, 0], [4, 0, 2, 1]]


def test_layers_and_steps_of_the_input_are_parts():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(6, 3)).eval()
    x = torch.randn(40, 3, 5, 5)
    monitor = gradood.Monitor(model, ["gaia-z", "odin"], combine="fisher", progress=False)
    monitor.calibrate(x).remember(x)
    found = monitor.explain(x[:2], reference=torch.zeros(6).tolist())[0]
    gaia, odin = found.contributions["gaia-z"], found.contributions["odin"]
    assert not gaia.by_units and "0.1" in gaia.parts and float(gaia.units.abs().max()) == 0
    assert "step of the input" in odin.parts and odin.by_units
    assert all(float(c.relative_gap.max()) < 1e-6 for c in found.contributions.values())
    assert "the sum over layers. Most by 0.1 " in str(found)
    assert found.to_dict()["contributions"]["gaia-z"]["units"] == []
    with pytest.raises(ConfigError, match="neighbors=-1"):
        monitor.explain(x[:1], neighbors=-1)


def test_where_no_unit_raises_a_score_those_that_lower_it_are_named(model, known):
    monitor = gradood.Monitor(model, "gradnorm", progress=False).calibrate(known).remember(known)
    found = monitor.explain(known[:1])[0]
    units = found.contributions["gradnorm"].units[0]
    assert f"No unit raises it; it is lowered most by units {int(units.argmin())} (-" in str(found)


def test_outputs_that_are_no_classes_are_not_called_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    x = torch.randn(60, 4)
    monitor = gradood.Monitor(model, "knn", link="none", progress=False).fit([x[:30]])
    monitor.calibrate(x[30:]).remember(x[:30], ids=range(30))
    assert "class" not in str(monitor.explain(x[:1])[0])


def test_entropy_of_the_largest_classes_is_that_of_the_sample_on_all_of_the_path():
    """With a choice that follows the path there is a kink wherever two classes change order."""
    weight = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)).double()
    evidence = evidence_of(torch.tensor([[1.0, -2.0, 0.5, 1.0]]), weight)
    found = contributions(gradood.GEN(M=20), evidence, torch.full((4,), 0.2))
    chosen = (evidence.logits[0].topk(20)).indices
    start = torch.softmax(weight @ torch.full((4,), 0.2, dtype=torch.float64), 0)[chosen]
    value = (start * (1 - start)).pow(0.1).sum()
    assert float(found.reference[0]) == pytest.approx(float(value))
    assert float(found.relative_gap[0]) < 1e-9 and float(found.error[0]) < 1e-6


def test_contributions_may_count_from_the_class_of_each_sample(model, known):
    monitor = gradood.Monitor(model, ["energy", "msp"], combine="fisher", progress=False)
    monitor.calibrate(known, fpr=0.2)
    x = 3 * known[:6]
    with pytest.raises(NotFittedError, match="remember"):
        monitor.explain(x, reference="class")
    monitor.remember(known)
    kept = monitor.predict(x, keep=("logits", "features"))
    found = monitor.explain(x, reference="class")
    assert len({why.label for why in found}) > 1
    for i, why in enumerate(found):
        (alone,) = monitor.explain(x[i : i + 1], reference=monitor.known.class_means[why.label])
        one, other = why.contributions["energy"], alone.contributions["energy"]
        torch.testing.assert_close(one.units, other.units, rtol=1e-3, atol=1e-6)
        assert float(one.relative_gap) < 1e-6 and float(one.reference) != float(one.score)
        again = kept.why(i, reference="class").contributions["energy"]
        torch.testing.assert_close(again.units, one.units, rtol=1e-3, atol=1e-6)
    by_default = monitor.explain(x)[0].contributions["energy"]
    assert torch.equal(by_default.units, found[0].contributions["energy"].units)
    for wrong in ("center", None):
        with pytest.raises(ConfigError, match="expected a feature vector, 'class'"):
            monitor.explain(x, reference=wrong)
    none = monitor.known.references(torch.tensor([-1, 0]))
    assert torch.equal(none[0], monitor.known.mean)


def test_references_of_each_sample_go_with_their_batch(model, known):
    monitor = gradood.Monitor(model, ["energy", "msp"], combine="fisher", progress=False)
    monitor.calibrate(known, fpr=0.2)
    x = 3 * known[:6]
    each = monitor.predict(known[6:12], keep=("features",)).features
    together = monitor.explain(x, reference=each)
    apart = monitor.explain([x[:2], x[2:4], x[4:]], reference=each)
    for one, other in zip(together, apart, strict=True):
        units = one.contributions["energy"].units
        torch.testing.assert_close(units, other.contributions["energy"].units)
    for wrong in (each[:2], torch.cat([each, each])):
        with pytest.raises(DataError, match="reference"):
            monitor.explain([x[:2], x[2:4], x[4:]], reference=wrong)

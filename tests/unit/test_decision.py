"""From held-out data to decisions: calibrate and predict, and what they refuse."""

import pytest
import torch
from torch import nn

from gradood import Energy, Monitor, Result, Results
from gradood.calibration._rule import DecisionRule
from gradood.errors import ArtifactError, CalibrationError, ConfigError, DataError, NotFittedError

GENERATOR = torch.Generator().manual_seed(4)


def normal(n: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 3, 4, 4, generator=GENERATOR) + shift


FIT, CAL, NEW, FAR = normal(90), normal(400), normal(2000), normal(50, 6.0)
LABELS = torch.arange(90) % 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def monitor(detectors=("energy", "knn", "mahalanobis"), **options) -> Monitor:
    torch.manual_seed(0)
    if not isinstance(detectors, str):
        detectors = list(detectors)
    return Monitor(Net(), detectors, **options).fit([(FIT, LABELS)])


# -- forms ----------------------------------------------------------------------------------


def test_a_bare_detector_gives_one_result():
    result = monitor("knn").calibrate(CAL, fpr=0.1).predict(FAR)
    assert isinstance(result, Result) and len(result) == 50
    assert (result.score.dtype, result.p_value.dtype) == (torch.float64, torch.float64)
    assert (result.is_ood.dtype, result.label.dtype) == (torch.bool, torch.int64)
    assert set(result.status) == {"ok"} and result.overrides == ()
    assert bool(result.is_ood.all())


def test_several_give_a_mapping_and_no_decision_of_their_own():
    results = monitor().calibrate(CAL).predict(FAR)
    assert isinstance(results, Results) and list(results) == ["energy", "knn", "mahalanobis"]
    assert repr(results) == "Results(energy, knn, mahalanobis; 50 samples)"
    assert torch.equal(results.label, results["knn"].label)
    for name in ("score", "p_value", "is_ood"):
        assert not hasattr(results, name)
    with pytest.raises(AttributeError, match=r"results\['energy'\].is_ood, or .* combine='fisher'"):
        _ = results.is_ood


@pytest.mark.parametrize("how", ["fisher", "stouffer", "cauchy", "min"])
def test_combined_they_give_one_decision_with_the_promised_rate(how):
    results = monitor(combine=how).calibrate(CAL, fpr=0.1).predict(NEW)
    # Beta-binomial around 0.1 with about 270 decision rows and 2,000 new: sd 0.02.
    assert 0.02 < float(results.is_ood.double().mean()) < 0.2
    assert torch.equal(results.is_ood, results.p_value <= 0.1)
    far = monitor(combine=how).calibrate(CAL, fpr=0.1).predict(FAR)
    assert bool(far.is_ood.all()) and bool(far.score.isfinite().all())


def test_predict_is_score_plus_decision_in_any_batches():
    one = monitor(combine="fisher").calibrate(CAL)
    whole, scores = one.predict(NEW), one.score(NEW)
    parts = one.predict([NEW[:700], NEW[700:700], NEW[700:]])
    for name in scores:
        assert torch.equal(whole[name].score, scores[name])
        torch.testing.assert_close(parts[name].score, scores[name], rtol=1e-5, atol=1e-7)
    assert (parts.is_ood != whole.is_ood).sum() <= 2


def test_nothing_in_nothing_out():
    one = monitor(combine="min").calibrate(CAL)
    for nothing in (NEW[:0], []):
        results = one.predict(nothing)
        assert results.score.shape == results.p_value.shape == (0,)
        assert results.is_ood.dtype == torch.bool and results.label.dtype == torch.int64
        assert results.status == () and results.select(0.1).shape == (0,)


def test_labels_are_what_the_model_predicts():
    one = monitor().calibrate(CAL)
    with torch.no_grad():
        expected = one.model.eval()(NEW).argmax(1)
    assert torch.equal(one.predict(NEW).label, expected)


# -- what is not finite ----------------------------------------------------------------------


def test_nonfinite_input_is_out_of_distribution_and_leaves_others_alone():
    one = monitor(combine="fisher").calibrate(CAL)
    x = NEW[:4].clone()
    x[1, 0, 0, 0], x[2, 0, 0, 0] = torch.nan, torch.inf
    found, clean = one.predict(x), one.predict(NEW[:4])
    assert found.status == ("ok", "nonfinite_input", "nonfinite_input", "ok")
    assert found.label.tolist()[1:3] == [-1, -1]
    for result in (*found.values(), found.combined):
        assert result.is_ood.tolist()[1:3] == [True, True]
        assert result.score.tolist()[1:3] == [torch.inf, torch.inf]
        assert not bool(result.p_value.isnan().any())
        assert bool(result.select(1e-9)[1])
    torch.testing.assert_close(found.score[[0, 3]], clean.score[[0, 3]], rtol=1e-6, atol=1e-9)


def test_a_score_that_is_not_finite_has_its_own_status():
    class Overflowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x) * torch.where(x[:, :1] > 1e6, torch.nan, 1.0)

    one = Monitor(Overflowing(), "energy").calibrate(torch.randn(99, 4, generator=GENERATOR))
    x = torch.randn(3, 4, generator=GENERATOR)
    x[1, 0] = 1e7
    result = one.predict(x)
    assert result.status == ("ok", "nonfinite_score", "ok")
    assert bool(result.is_ood[1]) and int(result.label[1]) == -1
    assert float(result.score[1]) == torch.inf


class Sinking(Net):
    """Its logits are NaN for inputs beyond a hundred, though activations are ordinary."""

    def forward(self, x):
        return super().forward(x) * torch.where(x[:, :1, 0, 0] > 100, torch.nan, 1.0)


@pytest.mark.parametrize("name", ["gaia-z", "knn", "line"])
def test_no_answer_of_the_model_is_no_ordinary_score(name):
    one = Monitor(Sinking(), name).fit([(FIT, LABELS)]).calibrate(CAL)
    x = NEW[:3].clone()
    x[1] = 101.0
    result = one.predict(x)
    assert result.status == ("ok", "nonfinite_score", "ok")
    assert result.score.isinf().tolist() == [False, True, False] and bool(result.is_ood[1])
    with pytest.raises(DataError, match=r"^row 1 of a batch of 3 fit inputs has logits of NaN"):
        Monitor(Sinking(), ["knn"]).fit([(FIT, LABELS), (x, LABELS[:3])])


def test_a_first_batch_of_nothing_finite_binds_nothing():
    one = Monitor(Net(), ["energy", "gaia-z"])
    nothing = torch.full((3, 3, 4, 4), torch.nan)
    assert {float(s) for scores in one.score(nothing).values() for s in scores} == {torch.inf}
    mixed = torch.cat([nothing, NEW[:40]])
    fresh = Monitor(one.model, ["energy", "gaia-z"]).score(NEW[:40])
    for name, scores in one.score(mixed).items():
        assert scores[:3].isinf().all()
        torch.testing.assert_close(scores[3:], fresh[name], rtol=1e-6, atol=1e-9)


def test_a_model_changed_after_it_was_seen_is_told():
    one = monitor("energy").calibrate(CAL)
    one.model.double()
    with pytest.raises(DataError, match=r"the model is now torch\.float64"):
        one.predict(NEW)
    with pytest.raises(DataError, match="make a new monitor"):
        one.predict(NEW.double())


# -- promises ---------------------------------------------------------------------------------


def test_too_few_samples_name_the_number_needed():
    with pytest.raises(CalibrationError, match=r"58 calibration samples .* needs at least 59"):
        monitor().calibrate(CAL[:58], mode="pac", fpr=0.05)
    monitor().calibrate(CAL[:59], mode="pac", fpr=0.05)


def test_pac_is_at_least_as_careful_as_marginal():
    one = monitor()
    marginal = one.calibrate(CAL).predict(NEW)
    pac = one.calibrate(CAL, mode="pac").predict(NEW)
    for name in pac:
        assert not bool((pac[name].is_ood & ~marginal[name].is_ood).any())
        assert int(pac[name].is_ood.sum()) < int(marginal[name].is_ood.sum())


def test_per_class_keeps_a_threshold_for_each_class():
    one = monitor().calibrate(CAL, fpr=0.1, per_class=True)
    results = one.predict(NEW)
    for label in results.label.unique():
        mine = results.label == label
        if int(mine.sum()) > 200:
            assert 0.01 < float(results["knn"].is_ood[mine].double().mean()) < 0.25


def test_unknown_ways_and_single_detectors_are_not_combined():
    with pytest.raises(ConfigError, match=r"combine='fischer'; did you mean 'fisher'"):
        Monitor(Net(), ["energy", "msp"], combine="fischer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="with one detector"):
        Monitor(Net(), "energy", combine="fisher")


def test_the_order_of_calls_is_told():
    one = Monitor(Net(), "knn")
    with pytest.raises(CalibrationError, match=r"call monitor\.calibrate"):
        one.predict(NEW)
    with pytest.raises(NotFittedError, match="knn must be fitted first"):
        one.calibrate(CAL)
    one.fit([(FIT, LABELS)]).calibrate(CAL)
    assert not bool(one.predict(FIT).is_ood.all())
    one.fit([(FIT[:60], LABELS[:60])])
    with pytest.raises(CalibrationError):
        one.predict(NEW)


@pytest.mark.parametrize("nothing", [[], CAL[:0]])
def test_calibrating_on_nothing_is_refused(nothing):
    with pytest.raises(DataError, match="calibrate was given no sample"):
        monitor().calibrate(nothing)


def test_calibration_data_must_be_finite():
    bad = CAL.clone()
    bad[7, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"1 of a batch of 400 calibration inputs .* \(row 7\)"):
        monitor().calibrate(bad)


# -- overlap ----------------------------------------------------------------------------------


def test_fit_data_is_refused_for_calibration_unless_a_reason_is_given():
    one = monitor(combine="fisher")
    mixed = torch.cat([CAL, FIT[:5]])
    with pytest.raises(CalibrationError, match="5 of 405 calibration samples were also fitted on"):
        one.calibrate([mixed[:200], mixed[200:]])
    with pytest.raises(CalibrationError):
        one.calibrate(mixed, allow_overlap="  ")
    one.calibrate(mixed, allow_overlap="a drill")
    assert one.predict(NEW).overrides == ("calibration overlaps the fit: a drill",)
    assert one.predict(NEW)["knn"].overrides == one.overrides
    assert one.calibrate(CAL).overrides == ()


def test_samples_of_every_shard_are_remembered():
    """What was fitted on is refused for calibration, whichever shard it was in."""
    one = Monitor(Net(), ["knn", "mahalanobis"])
    parts = [one.accumulate([(FIT[i : i + 30], LABELS[i : i + 30])]) for i in (0, 30, 60)]
    one.finish(one.merge(one.merge(parts[0], parts[1]), parts[2]))
    for part in FIT.split(30):
        with pytest.raises(CalibrationError, match="30 of 430 calibration samples"):
            one.calibrate([CAL, part])


def test_detectors_that_learn_nothing_have_no_overlap():
    one = Monitor(Net(), ["energy", "msp"]).fit([(FIT, LABELS)])
    assert one.calibrate(FIT).overrides == ()


# -- record -----------------------------------------------------------------------------------


def test_a_decider_is_restored_to_the_last_bit_and_refuses_what_is_none():
    one = monitor(combine="stouffer").calibrate(CAL, per_class=True)
    decider = one._session.state.rule
    plain, tensors = decider.to_plain(), decider.tensors()
    again = DecisionRule.from_plain(plain, tensors)
    assert again.to_plain() == plain
    for broken in (
        {},
        {**plain, "more": 1},
        {**plain, "combined": None},
        {**plain, "detectors": {}},
    ):
        with pytest.raises(ArtifactError):
            DecisionRule.from_plain(broken, tensors)


def test_energy_needs_no_fit_and_leaves_the_model_in_training():
    model = Net().train()
    result = Monitor(model, Energy(temperature=2.0)).calibrate([CAL[:200], CAL[200:]]).predict(FAR)
    assert model.training and model.norm.training
    assert result.is_ood.shape == (50,)

"""A guard: two calls, one decision, a file of its own."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import gradood
from gradood.artifact import card, check
from gradood.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    TapError,
    TrainingDataWarning,
    UninformativeScoreWarning,
)
from gradood.monitor import load as load_monitor

CENTERS = 6 * torch.eye(6)[:3]


def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three Gaussian classes, which a linear network nearly tells apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return CENTERS[labels] + 2 * torch.randn(n, 6, generator=generator), labels


class Net(nn.Module):
    """Features max(x, 0), and the head that knows the centers."""

    def __init__(self, relu: bool = True) -> None:
        super().__init__()
        self.body = nn.ReLU() if relu else nn.Identity()
        self.fc = nn.Linear(6, 3)
        with torch.no_grad():
            self.fc.weight.copy_(CENTERS / 6)
            self.fc.bias.zero_()

    def forward(self, x):
        return self.fc(self.body(x))


class Headless(Net):
    def forward(self, x):
        return torch.tanh(self.fc(self.body(x)))


def batches(n: int, seed: int, size: int = 64):
    x, y = draw(n, seed)
    return [(x[i : i + size], y[i : i + size]) for i in range(0, n, size)]


@pytest.fixture(scope="module")
def made() -> gradood.Guard:
    return gradood.guard(Net(), batches(600, 0))


def test_two_calls_give_labels_and_minus_one(made):
    x, _ = draw(2000, 1)
    labels = made(x)
    assert labels.shape == (2000,) and labels.dtype == torch.int64 and labels.device.type == "cpu"
    assert 0.01 < (labels == -1).double().mean() < 0.1
    kept = labels != -1
    assert torch.equal(labels[kept], Net()(x).argmax(1)[kept])
    assert (made(x.flip(1) * 5) == -1).double().mean() > 0.5
    assert (made.fpr, made.promise.mode, made.combine) == (0.05, "marginal", "fisher")
    assert list(made.detectors) == ["mahalanobis++", "nci"]
    assert "samples enough of each class" in made.reason and made.doubts == ()


def test_a_loader_and_a_batch_give_the_same(made):
    x, y = draw(100, 2)
    expected = made(x)
    assert torch.equal(made([(x[:30], y[:30]), (x[30:], y[30:])]), expected)
    assert torch.equal(made(iter([x[:30], x[30:]])), expected)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(one, expected) for one in pool.map(made, [x] * 8))


def test_what_is_not_finite_is_rejected(made):
    x, _ = draw(3, 2)
    x[1, 0] = float("nan")
    assert made(x)[1] == -1
    assert made(x[:0]).shape == (0,)


@pytest.mark.parametrize("fit", [[], [(torch.empty(0, 6), torch.empty(0).long())]])
def test_data_to_fit_on_that_holds_nothing_is_refused(fit):
    with pytest.raises(DataError, match="fit holds no sample"):
        gradood.guard(Net(), batches(600, 0), fit=fit)
    for known, other in ((iter([]), None), (batches(600, 0), iter([]))):
        with pytest.raises(DataError, match="iterator can be read once: give a list"):
            gradood.guard(Net(), known, fit=other)


def test_labels_that_are_no_classes_are_refused_whatever_learns_from_them():
    x, y = draw(600, 0)
    for detectors in (None, "energy"):
        for labels in (y + 1, torch.where(y == 0, -1, y)):
            with pytest.raises(DataError, match="known data has labels from"):
                gradood.guard(Net(), [(x, labels)], detectors=detectors)
            with pytest.raises(DataError, match="fit data has labels from"):
                gradood.guard(Net(), [(x, y)], fit=[(x + 1, labels)], detectors="energy")


def test_a_known_input_that_is_not_finite_is_named_as_it_was_given():
    x, y = draw(600, 0)
    x[333, 2] = float("nan")
    with pytest.raises(DataError, match=r"1 of a batch of 600 known inputs .* \(row 333\)"):
        gradood.guard(Net(), [(x, y)])


def test_predict_gives_results_in_full(made):
    x, _ = draw(50, 3)
    results = made.predict(x)
    assert set(results) == {"mahalanobis++", "nci"}
    assert torch.equal(results.is_ood, made(x) == -1)
    assert results.logits.shape == (50, 3) and results.p_value.shape == (50,)
    single = gradood.guard(Net(), draw(60, 0)[0], detectors=["energy"])
    assert isinstance(single.predict(x), gradood.Result) and single.combine is None
    assert torch.equal(single.predict(x).is_ood, single(x) == -1)


def test_the_order_of_the_samples_does_not_matter_and_copies_stay_together(made):
    x, y = draw(600, 0)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(5))
    again = gradood.guard(Net(), [(x[order], y[order])])
    fresh, _ = draw(200, 6)
    assert torch.equal(made.predict(fresh).p_value, again.predict(fresh).p_value)
    twice = gradood.guard(Net(), [(x, y), (x, y)])
    assert twice(fresh).shape == (200,)  # Copies on both sides would have been refused.


@pytest.mark.parametrize(
    ("model", "n", "expected"),
    [
        (Net(), 25, ["energy"]),
        (Net(), 60, ["energy", "gradnorm"]),
        (Net(relu=False), 60, ["energy"]),
        (Net(relu=False), 300, ["mahalanobis++", "nci"]),
        (Headless(), 300, ["energy"]),
    ],
)
def test_the_default_is_by_what_there_is(model, n, expected):
    for known in (batches(n, 0), draw(n, 0)[0]):
        guard = gradood.guard(model, known)
        assert list(guard.detectors) == expected, guard.reason
        assert guard(draw(10, 1)[0]).shape == (10,)


def test_a_class_without_samples_means_no_class_means():
    x, y = draw(400, 0)
    kept = y != 2
    guard = gradood.guard(Net(), [(x[kept], y[kept])])
    assert list(guard.detectors) == ["projection-share", "energy"]
    assert "too few samples of some class" in guard.reason


def test_everything_can_be_said():
    guard = gradood.guard(
        Net(),
        batches(400, 0),
        detectors=["knn", "energy"],
        combine="cauchy",
        fpr=0.1,
        mode="pac",
        confidence=0.9,
        fit=batches(700, 7),
        progress=False,
    )
    assert (guard.fpr, guard.promise.mode, guard.promise.confidence) == (0.1, "pac", 0.9)
    assert guard.combine == "cauchy" and guard.reason == "knn, energy: named by the user"
    assert guard._record.fitted == 0 and guard._record.known == 400
    assert guard.preprocess is None and guard.overrides == () and guard.model is not None
    assert "Guard(" in repr(guard) and "Monitor" in repr(guard.monitor)
    assert guard._repr_html_().startswith("<")


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (10, {}, "known holds 10 samples; .* at least 19"),
        (30, {"detectors": ["energy", "msp"]}, "needs at least 39: 39 to calibrate by"),
        (39, {"detectors": ["energy", "nci"]}, "at least 40: 39 to calibrate by and some to fit"),
        (50, {"mode": "pac"}, "at least 59"),
        (90, {"fpr": 0.01}, "at least 99"),
    ],
)
def test_too_few_samples_are_refused_with_the_number_needed(n, options, words):
    with pytest.raises(CalibrationError, match=words):
        gradood.guard(Net(), draw(n, 0)[0], **options)


def test_copies_are_no_samples_to_calibrate_by():
    x, _ = draw(30, 0)
    copied = x.repeat(10, *(1 for _ in x.shape[1:]))
    assert list(gradood.guard(Net(), copied).detectors) == ["energy"]
    with pytest.warns(gradood.errors.UninformativeScoreWarning):
        assert gradood.guard(Net(), copied, detectors="knn")(x[:2]).shape == (2,)
    with pytest.raises(CalibrationError, match=r"100 samples, 10 of which differ; .* 19"):
        gradood.guard(Net(), x[:10].repeat(10, *(1 for _ in x.shape[1:])))


def test_advice_is_what_runs_on_the_model():
    x, _ = draw(30, 0)
    for link, name in (("sigmoid", "joint-energy"), ("none", "knn")):
        with pytest.raises(CalibrationError, match=f"by detectors='{name}' alone it needs"):
            gradood.guard(Net(), x, link=link, detectors=["mahalanobis++", "knn"])
    with pytest.raises(CalibrationError, match=r"Give more; or promise less\.$"):
        gradood.guard(Net(), x[:10], fit=x[10:], detectors="energy")


def test_the_smallest_numbers_do():
    for n, options in ((19, {}), (39, {}), (59, {"mode": "pac"}), (99, {"fpr": 0.01})):
        assert gradood.guard(Net(), draw(n, 0)[0], **options)(draw(5, 1)[0]).shape == (5,)


def test_wrong_use_is_told():
    x, _ = draw(60, 0)
    with pytest.raises(ConfigError, match="accuracy=0; expected a number above 0, at most 1"):
        gradood.guard(Net(), x, accuracy=0)
    for options in ({"fpr": 5}, {"accuracy": 93}, {"combine": "fisher", "detectors": "energy"}):
        with pytest.raises(ConfigError):
            gradood.guard(Net(), x, **options)
    with pytest.raises(DataError, match="known holds no sample"):
        gradood.guard(Net(), [])
    with pytest.raises(DataError, match="expected a tensor"):
        gradood.guard(Net(), "folder")
    with pytest.raises(DataError, match="NaN or infinity"):
        gradood.guard(Net(), x.clone().fill_(float("nan")))
    with pytest.raises(TapError):
        gradood.guard(lambda x: x, x)
    with pytest.raises(CalibrationError, match=r"were also fitted on, .* leave fit= out: then"):
        gradood.guard(Net(), x, detectors="nci", fit=x)
    with pytest.raises(TypeError, match=r"guard\(\) got .* 'fprr'; did you mean 'fpr'"):
        gradood.guard(Net(), x, fprr=0.1)
    with pytest.raises(TypeError, match=r"guard\(\) got .* 'options'; choose from accuracy"):
        gradood.guard(Net(), x, options={})
    with pytest.raises(ConfigError, match="not that of a guard"):
        gradood.Guard(gradood.Monitor(Net(), "energy"))


def test_data_that_differs_from_pass_to_pass_is_refused():
    class Augmented:
        def __iter__(self):
            yield torch.randn(300, 6)

    with pytest.raises(DataError, match="random augmentation"):
        gradood.guard(Net(), Augmented())


# -- files ----------------------------------------------------------------------------------------


def test_saved_and_loaded(made, tmp_path):
    file = tmp_path / "guard.safetensors"
    made.save(file)
    loaded = gradood.load(file, made.model)
    assert isinstance(loaded, gradood.Guard)
    x, _ = draw(100, 4)
    assert torch.equal(loaded.predict(x).p_value, made.predict(x).p_value)
    assert (loaded.reason, loaded.doubts, loaded._record) == (made.reason, (), made._record)
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert isinstance(gradood.load(again, made.model), gradood.Guard)
    # The layer below reads it too, and what it saves is the guard's still.
    monitor = load_monitor(file, made.model)
    assert torch.equal(monitor.predict(x).p_value, made.predict(x).p_value)
    monitor.calibrate(draw(200, 8)[0], fpr=0.1)
    monitor.save(again)
    recalibrated = gradood.load(again, made.model)
    assert recalibrated.fpr == 0.1 and recalibrated._record.known == made._record.fitted + 200
    assert recalibrated._record.accuracy is None


def test_the_card_says_what_known_must_be(made, tmp_path):
    file = tmp_path / "guard.safetensors"
    made.save(file)
    text = card(check(file), "guard.safetensors")
    assert "## Guard" in text and "held out from the training of the network" in text
    assert "guard = gradood.load('guard.safetensors', model)" in text
    assert "600 samples with labels; 300 of them fit the detectors and 300 calibrate" in text
    assert "model predicts" not in text
    gradood.guard(Net(), draw(600, 0)[0]).save(file)
    assert "the classes of what is fitted on are those that the model predicts" in card(check(file))


def test_a_monitor_saves_what_it_did(tmp_path):
    monitor = gradood.Monitor(Net(), "energy").calibrate(draw(60, 0)[0])
    monitor.save(tmp_path / "m.safetensors")
    assert "guard" not in check(tmp_path / "m.safetensors").manifest.to_dict()
    assert isinstance(gradood.load(tmp_path / "m.safetensors", monitor.model), gradood.Monitor)


def test_a_guard_can_be_sent_and_copied(made):
    x, _ = draw(20, 4)
    assert torch.equal(pickle.loads(pickle.dumps(made))(x), made(x))


def test_a_doubt_is_kept(tmp_path):
    x, y = draw(600, 0)
    y = Net()(x).argmax(1)
    sharp = Net()
    with torch.no_grad():
        sharp.fc.weight.mul_(1000)
    with pytest.warns(TrainingDataWarning, match="unless the task is that easy"):
        guard = gradood.guard(sharp, [(x, y)], detectors="energy")
    assert len(guard.doubts) == 1
    guard.save(tmp_path / "g.safetensors")
    assert "Doubt: the network gets 100.0%" in card(check(tmp_path / "g.safetensors"))


def test_a_small_fit_and_a_class_without_samples_are_seen():
    """The default looks at what is fitted on, labeled or not."""
    few = gradood.guard(Net(), batches(400, 0), fit=[draw(3, 5)])
    assert list(few.detectors) == ["energy", "gradnorm"] and "few samples" in few.reason
    x, y = draw(900, 7)
    kept = Net()(x).argmax(1) != 2
    for known in (x[kept], [(x[kept & (y != 2)], y[kept & (y != 2)])]):
        guard = gradood.guard(Net(), known)
        assert list(guard.detectors) == ["projection-share", "energy"]
        assert "a class without any sample is flagged more often than promised" in guard.reason


def test_a_head_that_is_none_is_an_error():
    with pytest.raises(TapError, match="zzz"):
        gradood.guard(Net(), batches(200, 0), head="zzz")


def test_features_that_do_not_vary_leave_the_logits():
    dead = Net()
    with torch.no_grad():
        dead.fc.weight.zero_()
    dead.body = nn.Threshold(1e9, 0.0)
    with pytest.warns(UninformativeScoreWarning):
        guard = gradood.guard(dead, batches(300, 0))
    assert list(guard.detectors) == ["energy"] and "the same for all" in guard.reason

"""The choice of a detector by in-distribution data alone: outliers made, ranking, what it says."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood.bench._resamples import Areas
from gradood.bench._synthetic import IMAGE_KINDS, KINDS, made, usable_kinds
from gradood.bench._trial import Candidates, Trial
from gradood.bench.choice import _order, fusions, ranked
from gradood.detectors import KNN, Energy
from gradood.errors import ConfigError, DataError

with torch.random.fork_rng():
    torch.manual_seed(0)
    NET = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    X = torch.randn(500, 6)
    IMAGES = torch.rand(24, 3, 16, 12)
Y = NET(X).argmax(1)
LOADER = [(X[i : i + 100], Y[i : i + 100]) for i in range(0, 500, 100)]


@pytest.fixture(scope="module")
def ranking():
    return gradood.choose(NET, LOADER, detectors=["energy", "knn", "mahalanobis++"])


def test_kinds_are_those_that_apply():
    assert list(usable_kinds(IMAGES)) == list(IMAGE_KINDS)
    assert list(usable_kinds(X)) == list(KINDS)
    assert list(usable_kinds(torch.rand(5, 3, 4, 4))) == list(KINDS)  # Too small to cut.
    assert list(usable_kinds(torch.rand(5, 9, 16, 16))) == list(KINDS)  # No colors.
    assert list(usable_kinds(torch.ones(5, 7, dtype=torch.int64))) == ["permuted"]


@pytest.mark.parametrize("kind", [*IMAGE_KINDS, "extrapolated", "permuted"])
def test_outliers_have_the_form_of_the_samples_and_are_the_same_every_time(kind):
    maker = {**IMAGE_KINDS, **KINDS}[kind]
    before = IMAGES.clone()
    found = made(IMAGES, maker, 3)
    assert found.shape == IMAGES.shape and found.dtype == IMAGES.dtype
    assert found.isfinite().all() and not torch.equal(found, IMAGES)
    assert torch.equal(found, made(IMAGES, maker, 3)) and torch.equal(IMAGES, before)
    assert made(IMAGES.double(), maker, 3).dtype == torch.float64


def test_what_each_kind_keeps():
    shuffled = made(IMAGES, IMAGE_KINDS["shuffled"], 0)
    assert torch.equal(shuffled.flatten(1).sort().values, IMAGES.flatten(1).sort().values)
    noise = made(IMAGES, IMAGE_KINDS["phases"], 0)
    spectra = [torch.fft.rfft2(x)[..., 1:, 1:-1].abs() for x in (noise, IMAGES)]
    # The column of the highest frequency is real, and so is left out.
    torch.testing.assert_close(*spectra, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(noise.mean((-2, -1)), IMAGES.mean((-2, -1)))
    permuted = made(X, KINDS["permuted"], 0)
    assert torch.equal(permuted.sort(0).values, X.sort(0).values)
    assert torch.equal(made(IMAGES, IMAGE_KINDS["blended"], 0), (IMAGES + IMAGES.roll(12, 0)) / 2)
    tokens = torch.arange(20).reshape(10, 2)
    assert set(made(tokens, KINDS["permuted"], 0)[:, 0].tolist()) == set(range(0, 20, 2))


def test_the_ranking_is_by_the_areas_of_the_kinds(ranking):
    assert {row.name for row in ranking.rows} == {
        *("energy", "knn", "mahalanobis++", "energy + knn", "energy + mahalanobis++"),
        *("knn + mahalanobis++", "energy + knn + mahalanobis++"),
    }
    for row in ranking.rows:
        assert list(row.auroc) == list(KINDS)
        wanted = np.mean([1 - np.sqrt(1 - area) for area in row.auroc.values()])
        assert row.score == pytest.approx(wanted, abs=1e-12)
        assert row.interval[0] <= row.score <= row.interval[1]
    scores = [row.score for row in ranking.rows[1:]]
    assert scores == sorted(scores, reverse=True)
    assert ranking.best.behind == 0 and max(row.behind for row in ranking.rows[1:]) <= 1
    assert sum(row.first for row in ranking.rows) == pytest.approx(1)
    assert ranking.best.agreement == pytest.approx(1) and ranking.sure == ranking.best.first
    assert 0 <= ranking.stable <= 1


def test_held_out_samples_are_not_fitted_on(ranking):
    assert 60 < ranking.held < 140 and ranking.held + ranking.fitted == 500
    assert "taken out of the fit data" in ranking.judged_on
    assert "no real outlier was seen" in str(ranking)
    few = gradood.choose(NET, LOADER, detectors="knn", limit=40)
    assert few.held == 40 and few.fitted == ranking.fitted
    given = gradood.choose(NET, LOADER, held=torch.randn(50, 6), detectors="energy")
    assert (given.held, given.fitted, given.given) == (50, 500, True)


def test_the_same_for_a_one_way_stream_and_for_any_use_of_global_randomness(ranking):
    torch.manual_seed(77)
    again = gradood.choose(NET, iter(LOADER), detectors=["energy", "knn", "mahalanobis++"])
    assert again.to_dict() == ranking.to_dict()
    assert json.loads(json.dumps(again.to_dict()))["held"] == ranking.held


def test_a_monitor_of_the_first(ranking):
    monitor = gradood.Monitor(NET, ranking.detectors, combine=ranking.combine)
    monitor.fit(LOADER)
    monitor.calibrate(torch.randn(200, 6), fpr=0.1)
    assert monitor.predict(X[:5]).size == 5
    single = gradood.choose(NET, LOADER, detectors="energy")
    assert single.combine is None and list(single.detectors) == ["energy"]
    of_monitor = gradood.choose(gradood.Monitor(NET, {"a": Energy(), "b": KNN(k=3)}), LOADER)
    assert {row.name for row in of_monitor.rows} == {"a", "b"}
    assert of_monitor.candidates["b"].options()["k"] == 3


def test_candidates_that_cannot_run_are_left_out_with_the_reason():
    found = gradood.choose(NET, [X], detectors=["energy", "mahalanobis++"])
    assert [row.name for row in found.rows] == ["energy"]
    assert set(found.left_out) == {"mahalanobis++"}
    assert "labels" in found.left_out["mahalanobis++"]
    assert f"Left out: mahalanobis++: {found.left_out['mahalanobis++']}" in str(found)


def test_images_are_told_from_every_kind():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(560, 3))
    found = gradood.choose(net.eval(), IMAGES, held=IMAGES, detectors=["energy", "msp"])
    assert list(found.best.auroc) == list(IMAGE_KINDS)
    assert "phases" in found.markdown(1) and len(found.markdown(1).splitlines()) == 5


def test_areas_and_their_resamples():
    rng = np.random.default_rng(0)
    known = np.stack([rng.normal(size=60), rng.normal(size=60).round()])
    unknown = {"a": known + 1, "b": known - 5}
    found = Areas.of(known, unknown)
    for k in range(2):
        for i, kind in enumerate(unknown):
            wanted = gradood.metrics.auroc(known[k], unknown[kind][k])
            assert found.values[k, i] == pytest.approx(wanted, abs=1e-9)
    assert found.drawn.shape == (200, 2) and found.agreement(0)[0] == pytest.approx(1)
    low, high = np.percentile(found.drawn[:, 0], [2.5, 97.5])
    assert low < found.scores[0] < high


def test_a_single_detector_is_first_only_if_it_beats_a_combination_beyond_chance():
    rng = np.random.default_rng(1)
    known, near = (np.tile(rng.normal(size=300), (2, 1)) for _ in range(2))
    combined = np.array([False, True])
    apart = np.array([[1.6], [1.0]])
    close = Areas.of(known, {"a": near + apart, "b": near + np.array([[1.0], [1.4]])})
    assert close.scores[0] > close.scores[1] and _order(close, combined) == [1, 0]
    far = Areas.of(known, {"a": near + apart + 1, "b": near + apart})
    assert _order(far, combined) == [0, 1] == _order(far, ~combined)
    assert far.stable(0) == 1.0 and far.stable(1) == 0.0


def test_a_combination_takes_ranks_among_held_out_samples():
    known = {"energy": torch.randn(50).double(), "knn": torch.randn(50).double()}
    ((name, fusion),) = fusions(known).items()
    assert name == "energy + knn" and fusion.names == ("energy", "knn") and fusion.how == "fisher"
    with pytest.raises(DataError, match="knn gave 0 finite scores"):
        fusions(known | {"knn": torch.full((50,), torch.inf).double()})
    trial = Trial.of(Candidates(NET, {"energy": Energy(), "knn": KNN(k=5)}), LOADER)
    row = next(r for r in ranked(trial).rows if r.name == name)
    own = fusions(trial.known.scores)[name]
    scores = (trial.known.scores, trial.unknown["blended"].scores)
    assert row.auroc["blended"] == pytest.approx(
        gradood.metrics.auroc(*map(own.statistic, scores)), abs=1e-6
    )


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"limit": 5}, ConfigError, "limit=5; expected a whole number, 20"),
        ({"fit": [X[:40]]}, DataError, "samples were held out, and at least 20 are needed"),
        ({"fit": []}, DataError, "fit gave no sample|gave no batch"),
        ({"held": X[:10]}, DataError, r"10 samples were held out, .* give more of them"),
        ({"held": X[:50], "detectors": "knn"}, DataError, "50 of the fit samples are held-out"),
        ({"held": torch.full((40, 6), torch.nan)}, DataError, "held-out inputs hold NaN"),
        ({"detectors": ["enrgy"]}, gradood.errors.UnknownNameError, "did you mean 'energy'"),
    ],
)
def test_what_is_wrong_is_told(given, error, said):
    with pytest.raises(error, match=said):
        gradood.choose(NET, **{"fit": LOADER, "detectors": "energy", **given})


def test_copies_are_held_out_once_and_not_fitted_on_too():
    twice = [X[:200], X[200:], X[:100]]
    detectors = {"knn": KNN(k=1)}
    candidates = Candidates(nn.Sequential(nn.Linear(X.shape[1], 3)).eval(), detectors)
    trial = Trial.of(candidates, twice)
    assert float(trial.known.scores["knn"].min()) > 1e-6  # None is its own neighbor.
    once = Trial.of(candidates, [X[:300]], [X[300:400], X[300:400]])
    assert len(once.known) == 100
    with pytest.raises(DataError, match=r"1 samples were held out, .* copies counted once"):
        Trial.of(candidates, [X[:300]], X[300:301].expand(50, -1))
    with pytest.raises(DataError, match=r"more have copies among those fitted on, .* different"):
        Trial.of(candidates, [X[:100], X[:100]])

"""k-th nearest neighbor against a search by loops."""

import numpy as np
import pytest
import torch
from naive import neighbors
from package import NAMES, setting

import gradood
from gradood.functional import neighbors as search
from gradood.functional.neighbors import Bank, kth_distance, polar

# Formulas are checked on few samples and at any setting.
pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")

# The bank keeps directions in float32.
BANK = 2e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_knn_is_the_distance_to_the_kth_nearest(name, k, normalize):
    given = setting(name)
    bank, h = given.features(given.fit_x), given.features(given.x)
    scores = given.scores(gradood.KNN(k=k, normalize=normalize), fit=True)
    scale = 1.0 if normalize else float(bank.norm(dim=1).max())
    expected = neighbors.knn(h, bank, k, normalize)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=BANK * scale)


def test_knn_does_not_need_labels():
    given = setting("plain_cnn")
    expected = given.scores(gradood.KNN(k=3), fit=True)
    scores = gradood.Monitor(given.network, gradood.KNN(k=3)).fit(given.fit_x).score(given.x)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("k", [1, 3])
def test_knn_of_a_bank_in_many_blocks(rng, k):
    """Vectors of very different lengths, so that whole blocks are skipped."""
    bank = rng.normal(size=(200, 5)) * np.geomspace(0.1, 100, 200)[:, None]
    h = 10 * rng.normal(size=(40, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_BLOCK", 16)
        queries, vectors = polar(torch.tensor(h)), polar(torch.tensor(bank))
        found = kth_distance(queries, Bank.of(vectors), k)
    expected = neighbors.knn(h, bank, k, normalize=False)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

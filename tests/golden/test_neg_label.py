"""NegLabel against its formula, and NegMining."""

import numpy as np
import pytest
import torch
from naive.zero_shot import cosine, neg_label
from package import same
from zero_shot_pair import pair

import gradood
from gradood.functional.zero_shot import in_groups, mined_negatives


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_neg_label_is_its_formula(temperature):
    given = pair()
    detector = gradood.NegLabel(temperature=temperature)
    expected = neg_label(given.images, given.texts, [given.negatives], temperature)
    same(gradood.Monitor(given.model, detector).score(given.x), expected)


def test_groups_are_of_one_size_and_each_label_is_in_one_at_most():
    groups = in_groups(23, 5)
    assert groups.shape == (5, 4) and set(groups.flatten().tolist()) == set(range(20))
    assert torch.equal(groups, in_groups(23, 5))
    assert torch.equal(in_groups(6, 1)[0], torch.arange(6))


@pytest.mark.parametrize(("negatives", "groups", "made"), [(9, 4, 4), (230, "auto", 2)])
def test_in_groups_it_is_the_mean_of_theirs(negatives, groups, made):
    given = pair(negatives)
    chosen = [given.negatives[group] for group in in_groups(negatives, made)]
    detector = gradood.NegLabel(groups=groups)
    expected = neg_label(given.images, given.texts, chosen)
    same(gradood.Monitor(given.model, detector).score(given.x), expected)


def test_mined_negatives_are_the_farthest_by_a_quantile():
    given = pair(40)
    near = [
        np.quantile([cosine(word, text) for text in given.texts.numpy()], 0.95)
        for word in given.negatives.numpy()
    ]
    assert mined_negatives(given.negatives, given.texts).tolist() == list(np.argsort(near)[:6])
    assert len(mined_negatives(given.negatives, given.texts, share=0.5, quantile=0.5)) == 20

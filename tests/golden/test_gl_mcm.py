"""GL-MCM against its formula."""

import torch
from naive.zero_shot import gl_mcm
from package import same
from zero_shot_pair import pair

import gradood
from gradood.functional import zero_shot


def test_gl_mcm_is_its_formula():
    given = pair()
    for temperature, weight in ((1.0, 1.0), (0.05, 0.3), (2.0, 0.0)):
        detector = gradood.GLMCM(temperature=temperature, weight=weight)
        expected = gl_mcm(given.images, given.local, given.texts, temperature, weight)
        same(gradood.Monitor(given.model, detector).score(given.x), expected)


def test_local_matching_in_chunks_is_that_of_all_at_once(monkeypatch):
    given = pair()
    once = zero_shot.local_matching(given.local, given.texts, 0.5)
    monkeypatch.setattr(zero_shot, "_CHUNK", 40)
    assert torch.equal(zero_shot.local_matching(given.local, given.texts, 0.5), once)

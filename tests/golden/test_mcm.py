"""MCM against its formula."""

from naive.zero_shot import mcm
from package import same
from zero_shot_pair import pair

import gradood


def test_mcm_is_its_formula():
    given = pair()
    for temperature in (1.0, 0.01, 5.0):
        scores = gradood.Monitor(given.model, gradood.MCM(temperature=temperature)).score(given.x)
        same(scores, mcm(given.images, given.texts, temperature))

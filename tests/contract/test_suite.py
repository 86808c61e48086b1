"""The suite itself: what it says, and that it catches detectors that break the contract."""

import subprocess
import sys
from typing import ClassVar, final

import pytest
import torch

import gradood
from gradood.detectors.base import Detector, Learner, Plan
from gradood.errors import TapError, UnknownNameError
from gradood.evidence import FEATURES, LOGITS
from gradood.testing import Subject, applicable, check_detector, checks, networks

REQUIRED = {
    *("plain-cnn", "resnet", "densenet", "groupnorm", "transformer", "mlp", "conv-head"),
    *("frozen", "dict-output"),
}


class Plain(Detector):
    """Maximum logit, negated; what the broken detectors below are made of."""

    name: ClassVar[str] = "plain"
    title: ClassVar[str] = "Negative maximum logit."
    paper: ClassVar[str] = "nobody2026plain"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "one forward"
    fails_when: ClassVar[str] = "Never."
    attribution: ClassVar[str] = "logit path: the score is of the logits"

    def plan(self, network, probe):
        return Plan((LOGITS,))

    def measure(self, evidence, state):
        return -evidence.logits.amax(1)


def fails(detector: Detector, check: str, network: str = "mlp") -> str:
    with pytest.raises(AssertionError) as caught:
        check_detector(detector, networks=[network], checks=[check])
    return str(caught.value)


def test_there_are_enough_checks_and_networks():
    assert len(checks()) >= 25
    assert set(networks()) >= REQUIRED
    for name, check in checks().items():
        assert name == check.name
        assert check.summary.endswith((".", ";")), name


def test_a_good_detector_passes_everything_on_one_network():
    outcomes = check_detector(gradood.MaxLogit(), networks=["mlp"])
    assert [outcome.check for outcome in outcomes] == list(applicable(gradood.MaxLogit()))
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_all_failures_are_reported_together():
    class Upside(Plain):
        def measure(self, evidence, state):
            return evidence.logits.amax(1).float()

    message = fails(Upside(), "higher-means-out")
    assert message.startswith("1 of 1 contract checks failed:")
    with pytest.raises(AssertionError) as caught:
        check_detector(Upside(), networks=["mlp"], checks=["higher-means-out", "measure-is-pure"])
    assert "1 of 2" in str(caught.value)
    with pytest.raises(AssertionError, match=r"class-is-final: .*Upside\(\) on mlp: .*@final"):
        check_detector(Upside(), networks=["mlp"], checks=["class-is-final"])


def test_a_detector_below_one_that_can_be_used_is_told():
    below = final(type("Below", (gradood.Energy,), {"__doc__": gradood.Energy.__doc__}))
    with pytest.raises(AssertionError, match="Below derives from Energy, which can be used"):
        check_detector(below(), networks=["mlp"], checks=["class-is-final"])


def test_unknown_names_are_suggested():
    with pytest.raises(UnknownNameError, match="did you mean 'any-order'"):
        check_detector(gradood.MSP(), networks=["mlp"], checks=["any-ordre"])
    with pytest.raises(UnknownNameError, match="did you mean 'resnet'"):
        check_detector(gradood.MSP(), networks=["resnett"])


def test_a_network_of_ones_own_can_be_given():
    wide = networks()["mlp"].with_classes(9)
    outcomes = check_detector(gradood.Energy(), networks=[wide], checks=["any-order"])
    assert outcomes[0].network == "mlp"
    assert Subject(gradood.Energy(), wide).model(wide.inputs(2)).shape == (2, 9)


def test_a_refusal_is_an_outcome_with_its_words():
    outcomes = check_detector(gradood.GAIAZ(), networks=["gelu-mlp"], checks=["any-order"])
    assert outcomes[0].status == "refused"
    assert "gaia-z" in outcomes[0].detail


def test_a_refusal_that_names_nothing_is_a_failure():
    class Mute(Plain):
        def plan(self, network, probe):
            raise TapError("no.")

    assert "TapError: no." in fails(Mute(), "any-order")


def test_a_score_that_depends_on_the_batch_is_caught():
    class Centered(Plain):
        def measure(self, evidence, state):
            scores = super().measure(evidence, state)
            return scores - scores.mean()

    for check in ("any-subset", "alone-as-in-a-batch", "neighbors-do-not-matter", "one-sample"):
        assert "relative difference" in fails(Centered(), check)


def test_a_score_that_depends_on_random_numbers_is_caught():
    class Noisy(Plain):
        def measure(self, evidence, state):
            return super().measure(evidence, state) + torch.rand(evidence.size)

    assert "other scores" in fails(Noisy(), "same-twice")
    assert "model-left-as-found: Noisy()" in fails(Noisy(), "model-left-as-found")


def test_a_score_that_overwrites_the_evidence_is_caught():
    class Greedy(Plain):
        def measure(self, evidence, state):
            return -evidence.logits.relu_().amax(1)  # the same again, so only the tensors tell

    assert "were overwritten" in fails(Greedy(), "measure-is-pure")


def test_a_detector_that_reads_more_than_it_planned_is_caught():
    class Curious(Plain):
        def measure(self, evidence, state):
            return -evidence.features.norm(dim=1).double()

    assert "KeyError" in fails(Curious(), "score-has-its-form")


def test_a_detector_that_remembers_is_caught():
    class Remembering(Plain):
        def measure(self, evidence, state):
            self.seen = evidence.size
            return super().measure(evidence, state)

    assert "attributes now: ['seen']" in fails(Remembering(), "detector-is-not-changed")


def test_constructors_that_do_more_than_store_are_caught():
    class Busy(Plain):
        def __init__(self, *, scale: float = 1.0, shift: float = 0.0) -> None:
            self.scale, self.shift = 2 * scale, shift

    class Positional(Plain):
        def __init__(self, scale: float = 1.0) -> None:
            self.scale = scale

    assert "does not keep scale" in fails(Busy(), "constructor-only-stores")
    assert "not keyword-only" in fails(Positional(), "constructor-is-keyword-only")


class Means(Learner):
    """Distance to the mean feature; what the broken learners below are made of."""

    name: ClassVar[str] = "means"
    labels: ClassVar[bool] = False

    def plan(self, network, probe):
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence):
        return Total(evidence.features.double().sum(0), evidence.size)

    def finish(self, partial, network, plan):
        return {"mean": partial.value / partial.count}

    def measure(self, evidence, state):
        return (evidence.features.double() - state["mean"]).norm(dim=1)


class Total:
    def __init__(self, value, count):
        self.value, self.count = value, count

    def merge(self, other):
        return Total(self.value + other.value, self.count + other.count)

    def tensors(self):
        return {"value": self.value}


def test_a_small_learner_of_ones_own_passes():
    @final
    class Good(Means):
        pass

    names = [n for n in applicable(Good()) if not checks()[n].once]
    assert check_detector(Good(), networks=["mlp"], checks=names)


def test_a_learner_that_averages_batch_means_is_caught():
    class Averaging(Means):
        def accumulate(self, evidence):
            return Total(evidence.features.double().mean(0), 1)

    assert "differs by" in fails(Averaging(), "fit-batches-do-not-matter")


def test_a_learner_that_merges_in_place_is_caught():
    class InPlace(Total):
        def merge(self, other):
            self.value += other.value
            self.count += other.count
            return self

    class Merging(Means):
        def accumulate(self, evidence):
            return InPlace(evidence.features.double().sum(0), evidence.size)

    assert "differs by" in fails(Merging(), "merge-changes-nothing")


def test_a_learner_whose_state_is_no_tensors_is_caught():
    class Listing(Means):
        def finish(self, partial, network, plan):
            return {"mean": super().finish(partial, network, plan)["mean"], "sizes": [1]}

    assert "has a list as 'sizes' in its state" in fails(Listing(), "state-is-named-tensors")


@pytest.mark.slow
def test_the_suite_needs_neither_pytest_nor_hypothesis():
    program = (
        "import sys, gradood.testing; "
        "print(*sorted(sys.modules.keys() & {'pytest', '_pytest', 'hypothesis'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []

"""Planted faults: small changes of the source, each of which some named check must catch.

`planting` plants each in a copy of the source and runs its checks there; `test_mutations` expects
one of them to fail. A fault whose text is no longer in the source is an error: change it along.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MUTATIONS", "Check", "Mutation"]

RESIDUAL = "post_activation_resnet"
PERCENTILES = {"weights": 90.0, "activations": 10.0}


@dataclass(frozen=True)
class Check:
    """A check by name, run where a faulty copy is what `import gradood` finds."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Mutation:
    """One fault: in `file`, every text on the left becomes the text on the right."""

    name: str
    file: str
    changes: dict[str, str]
    checks: tuple[Check, ...]


def contract(variant: str, network: str, check: str) -> Check:
    """A check of the public contract suite."""

    def run() -> None:
        from variants import VARIANTS

        from gradood.testing import Subject, networks, run_check

        run_check(check, Subject(VARIANTS[variant].make(), networks()[network]))

    return Check(f"{check} of {variant} on {network}", run)


def golden(test: str, **arguments: object) -> Check:
    """A golden test as ``module.function``, both without ``test_``, called with these arguments."""

    def run() -> None:
        import numpy as np

        module, name = test.split(".")
        function = getattr(importlib.import_module(f"test_{module}"), f"test_{name}")
        fixtures = {"rng": np.random.default_rng(11)}
        wanted = inspect.signature(function).parameters
        function(**arguments, **{key: fixtures[key] for key in fixtures if key in wanted})

    return Check(test, run)


MUTATIONS = (
    Mutation(
        "GradNorm with the paper's sign",
        "detectors/gradnorm.py",
        {"return -last_layer_gradient_norm(": "return last_layer_gradient_norm("},
        (contract("gradnorm", "mlp", "higher-means-out"),),
    ),
    Mutation(
        "GradNorm's softmax in float32",
        "functional/gradnorm.py",
        {"p = torch.softmax(logits / temperature, 1)": "p = torch.softmax(logits.float(), 1)"},
        (golden("gradnorm.gradnorm_of_random_heads", temperature=1.0, order=1.0, bias=False),),
    ),
    Mutation(
        "GradNorm forgets to divide by the temperature",
        "functional/gradnorm.py",
        {"order, dim=1) / temperature": "order, dim=1)"},
        (golden("gradnorm.gradnorm_of_random_heads", temperature=100.0, order=1.0, bias=False),),
    ),
    Mutation(
        "GAIA-Z averages shares instead of their squares",
        "functional/gaia.py",
        {"sum(share.double().square().sum(1) for": "sum(share.double().sum(1) for"},
        (golden("gaia_z.gaia_z_is_the_share_of_nonzero_gradients", name="plain_cnn", path="auto"),),
    ),
    Mutation(
        "GAIA-Z counts zeros as active",
        "evidence/summaries.py",
        {"_share(tensor, channels, torch.gt)": "_share(tensor, channels, torch.ge)"},
        (golden("gaia_z.gaia_z_forward_is_the_share_of_nonzero_gradients", name=RESIDUAL),),
    ),
    Mutation(
        "GAIA-A reads the gradient after the in-place ReLU",
        "taps/tap.py",
        {
            "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))": (
                "self._late = [*getattr(self, '_late', ()), (site, tensor)]"
            ),
            "        self._handles.append(hook)\n": "",
            "        output = self._model(x)\n": (
                "        output = self._model(x)\n"
                "        for place, late in getattr(self, '_late', ()):\n"
                "            late.register_hook(lambda g, place=place: self._receive(place, g))\n"
                "            self._marks[place].edge = get_gradient_edge(late)\n"
            ),
        },
        (golden("gaia_a.gaia_a_with_layers_named", name="pre_activation_densenet"),),
    ),
    Mutation(
        "gradients need a model that is not frozen",
        "taps/tap.py",
        {"        if not upstream:\n": "        if not upstream and tensor.requires_grad:\n"},
        (contract("gaia-a", "frozen", "score-has-its-form"),),
    ),
    Mutation(
        "GAIA-A forgets the positions that the pool averages",
        "detectors/gaia_a.py",
        {"outer = outer / evidence.readings[2][:, None]": "outer = outer"},
        (golden("gaia_a.gaia_a_with_layers_named", name="plain_cnn"),),
    ),
    Mutation(
        "GAIA-A takes the absolute value of the mean",
        "functional/gaia.py",
        {"outer.double().abs().mean(1)": "outer.double().mean(1).abs()"},
        (golden("gaia_a.gaia_a_with_layers_named", name="mlp_bn"),),
    ),
    Mutation(
        "LINe keeps the weights at the threshold",
        "functional/line.py",
        {
            "(part > threshold[units])": "(part >= threshold[units])",
            "weight, weight > threshold,": "weight, weight >= threshold,",
        },
        (golden("line.line_is_its_formula", name="mlp_bn", **PERCENTILES, contribution="signed"),),
    ),
    Mutation(
        "LINe predicts from the unclipped features",
        "detectors/line.py",
        {
            "predicted = linear_logits(features, head": (
                "predicted = linear_logits(evidence.features, head"
            )
        },
        (golden("line.line_predicts_from_the_clipped_features"),),
    ),
    Mutation(
        "Mahalanobis divides by one sample less",
        "detectors/mahalanobis.py",
        {"moments.scatter / samples,": "moments.scatter / (samples - 1),"},
        (golden("mahalanobis.mahalanobis_is_its_formula", name="mlp_bn", size=40),),
    ),
    Mutation(
        "Mahalanobis takes the mean over classes",
        "detectors/mahalanobis.py",
        {'state["centers"]).amin(1)': 'state["centers"]).mean(1)'},
        (golden("mahalanobis.mahalanobis_is_its_formula", name="mlp_bn", size=40),),
    ),
    Mutation(
        "merging forgets that the means shift",
        "functional/moments.py",
        {"self.mean + shift * share[:, None]": "self.mean"},
        (contract("mahalanobis", "mlp", "shards-merge-in-any-order"),),
    ),
    Mutation(
        "merging forgets the scatter between the means",
        "functional/moments.py",
        {"self.scatter + other.scatter + weighted.T @ shift": "self.scatter + other.scatter"},
        (contract("mahalanobis", "mlp", "fit-batches-do-not-matter"),),
    ),
    Mutation(
        "merging in float32",
        "functional/moments.py",
        {"share = other.count.double() /": "share = other.count.float() /"},
        (contract("mahalanobis", "mlp", "shards-merge-in-any-order"),),
    ),
    Mutation(
        "a fit keeps its last batch only",
        "monitor.py",
        {"learner.merge(total[name], new) if name in total else new": "new"},
        (contract("knn:euclidean", "gelu-mlp", "fit-batches-do-not-matter"),),
    ),
    Mutation(
        "kept samples depend on the order of the fit",
        "functional/samples.py",
        {
            'torch.argsort(columns["key"], stable=True)[:size]': (
                'torch.arange(len(columns["key"]))[:size]'
            )
        },
        (golden("grood.grood_synthetic_prototype", name="mlp_bn", mix=0.3, n=9),),
    ),
    Mutation(
        "GROOD's bank holds misclassified samples",
        "detectors/grood.py",
        {'chosen = right if self.bank == "correct" else': "chosen = right if False else"},
        (golden("grood.grood_with_the_class_mean", name="mlp_bn", bank="correct", k=1),),
    ),
    Mutation(
        "GROOD's distances in float32",
        "functional/grood.py",
        {"away = features.double() - ood.double()": "away = features.float() - ood.float()"},
        (golden("grood.grood_norm_is_the_length_of_the_gradient", name="mlp_bn"),),
    ),
    Mutation(
        "the search skips blocks that hold the nearest",
        "functional/neighbors.py",
        {"        if bool((bound > ": "        if bool((bound * 9 > "},
        (golden("knn.knn_of_a_bank_in_many_blocks", k=3),),
    ),
    Mutation(
        "KNN compares lengths too",
        "detectors/knn.py",
        {"torch.where(zero, vectors.log_length, 0.0)": "vectors.log_length"},
        (golden("knn.knn_is_the_distance_to_the_kth_nearest", name="mlp_bn", k=4, normalize=True),),
    ),
    Mutation(
        "MSP over the batch",
        "functional/logits.py",
        {"-torch.softmax(logits, 1)": "-torch.softmax(logits, 0)"},
        (contract("msp", "mlp", "any-subset"),),
    ),
    Mutation(
        "energy forgets its temperature outside",
        "functional/logits.py",
        {"return -temperature * torch": "return -1.0 * torch"},
        (golden("energy.energy_of_random_logits", scale=1.0, temperature=1000.0),),
    ),
    Mutation(
        "rows with NaN score as zeros do",
        "monitor.py",
        {"scores.masked_fill(bad, torch.inf)": "scores"},
        (contract("energy", "mlp", "nonfinite-rows"),),
    ),
    Mutation(
        "labels are not checked",
        "detectors/classes.py",
        {"(labels < 0) | (labels >= evidence.classes)": "labels < -1000"},
        (contract("mahalanobis", "mlp", "labels-out-of-range"),),
    ),
    Mutation(
        "hooks stay on the model",
        "taps/tap.py",
        {
            "            handle.remove()\n": "            pass\n",
            "(self._handles, self._marks,": "(self._marks,",
        },
        (contract("gradnorm", "mlp", "model-left-as-found"),),
    ),
    Mutation(
        "hooks of the observation stay on the model",
        "taps/observation.py",
        {"            handle.remove()\n": "            pass\n"},
        (contract("energy", "mlp", "exception-in-the-forward"),),
    ),
    Mutation(
        "training flags are not restored",
        "taps/wrap.py",
        {"module.training = flag": "pass"},
        (contract("energy", "mlp", "model-left-as-found"),),
    ),
    Mutation(
        "the model is read in the mode it is in",
        "taps/wrap.py",
        {"module.training = False": "pass"},
        (contract("energy", "no-bias-dropout", "model-left-as-found"),),
    ),
    Mutation(
        "the random state is not restored",
        "taps/wrap.py",
        {"stack.enter_context(torch.random.fork_rng(devices=devices))": "_ = devices"},
        (contract("energy", "mlp", "model-left-as-found"),),
    ),
    Mutation(
        "inference mode stays on",
        "taps/wrap.py",
        {"if torch.is_inference_mode_enabled():": "if False:"},
        (contract("gaia-a", "mlp", "grad-modes"),),
    ),
    Mutation(
        "every detector looks for itself",
        "monitor.py",
        {
            "            own = evidence.only(binding.plans[name].reads)\n": (
                "            own = self._gather(x, binding.reads, None)\n"
                "            own = own.only(binding.plans[name].reads)\n"
            )
        },
        (contract("energy", "mlp", "one-look"),),
    ),
)

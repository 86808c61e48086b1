"""Which detectors are held to the contract: every registered one, by default and with options."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf

import torch
from rosters import ZERO_SHOT

import gradood
from gradood.detectors.base import Detector
from gradood.testing import Case, networks

ALL = tuple(networks())


@dataclass(frozen=True)
class Variant:
    """A detector with some options, and the contract networks it is checked on."""

    name: str
    make: Callable[[], Detector]
    networks: tuple[str, ...]


def _of(name: str, networks: str, make: Callable[[], Detector]) -> Variant:
    return Variant(name, make, tuple(networks.split()))


DEFAULTS = tuple(
    Variant(method.name, getattr(gradood, method.detector), ALL) for method in gradood.methods()
)
OPTIONS = (
    _of("energy:hot", "plain-cnn", lambda: gradood.Energy(temperature=10.0)),
    _of(
        "gradnorm:l2",
        "resnet conv-head",
        lambda: gradood.GradNorm(order=2, bias=True, temperature=2.0),
    ),
    _of("gradnorm:max", "no-bias-dropout", lambda: gradood.GradNorm(order=inf)),
    _of(
        "gradnorm:parameters",
        "mlp frozen",
        lambda: gradood.GradNorm(parameters=["head.weight", "head.bias"]),
    ),
    _of("gaia-z:backward", "resnet mlp", lambda: gradood.GAIAZ(path="backward")),
    _of("gaia-z:forward", "frozen transformer", lambda: gradood.GAIAZ(path="forward")),
    _of("gaia-z:layers", "plain-cnn", lambda: gradood.GAIAZ(layers=["norm1"])),
    _of("gaia-a:pooled", "resnet", lambda: gradood.GAIAA(last="pooled")),
    _of("gaia-a:layers", "dict-output", lambda: gradood.GAIAA(layers=["body.norm1"])),
    _of("gaia-a:last", "plain-cnn", lambda: gradood.GAIAA(layers=["norm1"], last="norm2")),
    _of(
        "line:absolute",
        "transformer no-bias-dropout",
        lambda: gradood.LINe(
            weight_percentile=10, activation_percentile=30, clip="auto", contribution="absolute"
        ),
    ),
    _of(
        "grood:class-mean",
        "resnet",
        lambda: gradood.GROOD(ood_prototype="class-mean", bank="all", k=3),
    ),
    _of(
        "grood:noise",
        "plain-cnn mlp",
        lambda: gradood.GROOD(ood_prototype="noise", n_synthetic=6, score="norm"),
    ),
    _of("grood:tensor", "gelu-mlp", lambda: gradood.GROOD(ood_prototype=torch.full((2, 14), 0.3))),
    _of(
        "grood:early-layer",
        "densenet",
        lambda: gradood.GROOD(early_layer="transition", mix=0.25),
    ),
    _of("nci:alpha", "gelu-mlp conv-head", lambda: gradood.NCI(alpha=0.05)),
    _of(
        "neco:max-logit",
        "mlp no-bias-dropout",
        lambda: gradood.NECO(dimension=4, standardize=False, max_logit=True),
    ),
    _of("residual:mean", "resnet", lambda: gradood.Residual(dimension=3, origin="mean")),
    _of("vim:selected", "mlp groupnorm", lambda: gradood.ViM(dimension=4, alpha_samples=300)),
    _of(
        "odin:std",
        "plain-cnn frozen",
        lambda: gradood.ODIN(temperature=10.0, noise=0.01, std=(0.2, 0.3, 0.25)),
    ),
    _of(
        "adascale-a:most",
        "resnet mlp",
        lambda: gradood.AdaScaleA(p_min=60, p_max=95, k1=20, k2=80, share=0.5, pixels="most"),
    ),
    _of(
        "adascale-l:all",
        "plain-cnn",
        lambda: gradood.AdaScaleL(k1=50, k2=100, balance=2.5, share=1.0, epsilon=0.1),
    ),
    _of("nac:features", "resnet", lambda: gradood.NAC(layers=(), alpha=1.0)),
    _of(
        "nac:layers",
        "plain-cnn no-bias-dropout",
        lambda: gradood.NAC(
            layers=["norm1", "norm2"],
            alpha=(1.0, 10.0, 50.0),
            r=(10, 20, 5),
            bins=(20, 100, 50),
            samples=40,
        ),
    ),
    _of("gradpca:max", "mlp resnet", lambda: gradood.GradPCA(output="max", epsilon=0.95)),
    _of("exgrad:l2", "no-bias-dropout", lambda: gradood.ExGrad(order=2, bias=False)),
    _of("exgrad:max", "resnet", lambda: gradood.ExGrad(order=inf)),
    _of("fdbd:norm", "plain-cnn", lambda: gradood.FDBD(distance_as_normalizer=False)),
    _of(
        "grad-uncertainty:parameters",
        "mlp",
        lambda: gradood.GradUncertainty(parameters=["linear1.weight", "head.weight", "head.bias"]),
    ),
    _of(
        "i-odin:std",
        "plain-cnn",
        lambda: gradood.IODIN(temperature=10.0, noise=0.1, std=(0.2, 0.3, 0.25)),
    ),
    _of("mahalanobis:none", "mlp", lambda: gradood.Mahalanobis(shrinkage="none")),
    _of("mahalanobis++:none", "plain-cnn", lambda: gradood.MahalanobisPlusPlus(shrinkage="none")),
    _of("rmds:none", "gelu-mlp", lambda: gradood.RMDS(shrinkage="none")),
    _of("rmds++:none", "mlp", lambda: gradood.RMDSPlusPlus(shrinkage="none")),
    _of("she:cosine", "transformer", lambda: gradood.SHE(similarity="cosine")),
    _of("projection-share:most", "mlp", lambda: gradood.ProjectionShare(threshold=0.99)),
    _of("gradorth:low", "resnet", lambda: gradood.GradOrth(threshold=0.6)),
    _of("gram:layers", "frozen", lambda: gradood.Gram(layers=["norm1"], powers=(4, 2, 3))),
    _of("low-dim-grad:few", "mlp", lambda: gradood.LowDimGrad(k=2, samples=80)),
    _of("nnguide:all", "transformer", lambda: gradood.NNGuide(k=3, alpha=1.0)),
    _of("nnguide:codes", "mlp", lambda: gradood.NNGuide(k=3, alpha=1.0, bits=4)),
    _of(
        "grood:codes",
        "plain-cnn",
        lambda: gradood.GROOD(ood_prototype="class-mean", bank="all", bits=8),
    ),
    _of("knn:codes", "plain-cnn transformer", lambda: gradood.KNN(bits=4)),
    _of("knn:sample", "mlp", lambda: gradood.KNN(k=4, bits=8, normalize=False, samples=4000)),
    _of("knn:euclidean", "gelu-mlp frozen", lambda: gradood.KNN(k=3, normalize=False)),
    _of("gen:sharp", "mlp transformer", lambda: gradood.GEN(gamma=0.5, M=2)),
    _of(
        "open-max:eucos",
        "mlp no-bias-dropout",
        lambda: gradood.OpenMax(tailsize=5, alpha=2, distance="eucos", samples="all"),
    ),
    _of("react:gen", "mlp transformer", lambda: gradood.ReAct(percentile=80, score="gen")),
    _of("ash-p:msp", "resnet gelu-mlp", lambda: gradood.ASHP(percentile=40, score="msp")),
    _of("ash-b:max-logit", "mlp", lambda: gradood.ASHB(percentile=80, score="max-logit")),
    _of("ash-s:entropy", "frozen", lambda: gradood.ASHS(percentile=40, score="entropy")),
    _of("scale:gradnorm", "conv-head", lambda: gradood.SCALE(percentile=40, score="gradnorm")),
    _of("dice:scale", "gelu-mlp resnet", lambda: gradood.DICE(percentile=40, score="scale")),
    _of(
        "vra:plus",
        "plain-cnn transformer",
        lambda: gradood.VRA(eta_alpha=0.2, eta_beta=0.95, gamma=0.3, samples=64, score="max-logit"),
    ),
    _of("vra++:published", "mlp resnet", lambda: gradood.VRAPlusPlus(a=0.01, m=4.0)),
    _of(
        "relation:published",
        "plain-cnn mlp",
        lambda: gradood.Relation(temperature=2, cut=0.0, balanced=False),
    ),
    _of("itp:few", "resnet no-bias-dropout", lambda: gradood.ITP(percentile=60, deviations=1.2)),
    _of("radial-mahalanobis:half", "gelu-mlp", lambda: gradood.RadialMahalanobis(beta=0.5)),
    _of(
        "weiper-kld:published",
        "mlp conv-head",
        lambda: gradood.WeiPerKLD(
            delta=2.4, repeats=5, bins=60, smoothing=(4, 15), weights=(2.5, 0.1), samples=64
        ),
    ),
    _of(
        "davis:max",
        "densenet conv-head",
        lambda: gradood.DAVIS(statistic="max", score="max-logit"),
    ),
    _of("actsub:given", "mlp", lambda: gradood.ActSub(dimension=4, percentile=40, lam=2, k=3)),
    _of("cadref:gen", "resnet transformer", lambda: gradood.CADRef(score="gen")),
    _of("logit-gap:two", "gelu-mlp", lambda: gradood.LogitGap(N=2)),
    _of("optfs:energy", "conv-head", lambda: gradood.OptFS(score="energy", bins=10, samples=64)),
    _of("ras:msp", "mlp", lambda: gradood.RAS(score="msp")),
    _of("mcm:sharp", "zero-shot", lambda: gradood.MCM(temperature=0.1)),
    _of("gl-mcm:half", "zero-shot", lambda: gradood.GLMCM(temperature=0.2, weight=0.5)),
    _of("neg-label:groups", "zero-shot", lambda: gradood.NegLabel(temperature=0.2, groups=3)),
    _of("blood:mean", "transformer plain-cnn", lambda: gradood.BLOOD(pairs="mean", samples=3)),
    _of(
        "blood:exact",
        "gelu-mlp",
        lambda: gradood.BLOOD(samples="exact", layers=["linear1", "linear2"]),
    ),
    _of(
        "blood:published",
        "transformer",
        lambda: gradood.BLOOD(samples=4, projections="two-sided"),
    ),
    _of("lts:most", "no-bias-dropout", lambda: gradood.LTS(percentile=40, score="max-logit")),
)
VARIANTS = {variant.name: variant for variant in (*DEFAULTS, *OPTIONS)}

LINKS = {name: network.link or "softmax" for name, network in networks().items()}
REFUSED_BY_LINK = {
    (variant.name, network)
    for variant in VARIANTS.values()
    for network in variant.networks
    if LINKS[network] not in variant.make().runs_on
}
"""Those whose score is not defined for the outputs of the network."""
REFUSED = REFUSED_BY_LINK | {
    *((name, network) for name in ZERO_SHOT for network in ALL if network != "zero-shot"),
    ("blood", "gelu-mlp"),
    ("gaia-a", "gelu-mlp"),
    ("gaia-z", "gelu-mlp"),
    ("gaia-z:forward", "transformer"),
    ("low-dim-grad", "one-logit"),
}
"""Every (variant, network) that is refused, with an error that names the detector or a layer."""

FAILS = {
    # Inputs in float64 have other bytes, and with them another seeded few are kept.
    ("nac:layers", "plain-cnn", "double-model"): "in float64",
    ("nac:layers", "no-bias-dropout", "double-model"): "in float64",
    # Tiny gradients underflow in half precision, so that they differ from active ReLUs.
    ("gaia-z:forward", "frozen", "float16-model"): "does not give this model's gradients",
    # That network's classes fill its feature space, so that all of it is principal or none is; and
    # blank inputs have the shortest features, inside and outside.
    ("residual", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("residual:mean", "resnet", "higher-means-out"): "inputs of no class score",
    ("vim", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("vim:selected", "mlp", "higher-means-out"): "inputs of no class score",
    ("projection-share", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("projection-share:most", "mlp", "higher-means-out"): "inputs of no class score",
    # The tail is a fourth of each class there, and known inputs in it have the larger logits to
    # give to the unknown class.
    ("open-max", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("open-max:eucos", "mlp", "higher-means-out"): "inputs of no class score",
    # All that is left of the features is their sum, which there is about the same in and out.
    ("ash-b", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("ash-b:max-logit", "mlp", "higher-means-out"): "inputs of no class score",
    # Logits of a softmax are known up to a constant: blank inputs, of no class, have a half for
    # each label, and known ones a one for theirs alone.
    ("probability-sum", "plain-cnn", "higher-means-out"): "inputs of no class score",
    # Every input has the same activations there after the shift, which takes away that blank inputs
    # are weakly on.
    ("ras", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("ras:msp", "mlp", "higher-means-out"): "inputs of no class score",
    # Of few units, those whose contribution is below the percentile are what known inputs have.
    ("itp", "plain-cnn", "higher-means-out"): "inputs of no class score",
    ("itp:few", "resnet", "higher-means-out"): "inputs of no class score",
    # Blank inputs leave all units on alike there, which scaling takes for a strong answer: r is the
    # larger, the more even the activations are.
    ("dice:scale", "gelu-mlp", "higher-means-out"): "inputs of no class score",
    ("adascale-a:most", "resnet", "higher-means-out"): "inputs of no class score",
}
"""Every (variant, network, check) that is known to fail, with words of why."""


@cache
def case(variant: str, network: str) -> Case:
    """One case for all checks, so that a detector is fitted once per network."""
    return Case(VARIANTS[variant].make(), networks()[network])

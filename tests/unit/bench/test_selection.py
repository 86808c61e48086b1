import math

import pytest

from gradood.bench import select
from gradood.bench.method_args import parse_option
from gradood.errors import ConfigError, UnknownNameError
from gradood.registry import methods


def test_all_takes_every_method_and_requires_none():
    chosen = select("all")
    assert list(chosen.detectors) == [method.name for method in methods()]
    assert chosen.required == frozenset()


def test_methods_named_are_required_and_may_have_labels_of_their_own():
    chosen = select(" msp , line-1 = line", ["line-1.clip=1.0"])
    assert repr(dict(chosen.detectors)) == "{'msp': MSP(), 'line-1': LINe(clip=1.0)}"
    assert chosen.required == {"msp", "line-1"}


def test_a_label_may_hold_a_dot():
    assert repr(select("a.b=line", ["a.b.clip=2"]).detectors["a.b"]) == "LINe(clip=2.0)"


@pytest.mark.parametrize(
    ("method", "option", "text", "value"),
    [
        ("line", "clip", "auto", "auto"),
        ("line", "clip", "0.8", 0.8),
        ("grood", "ood_prototype", "class-mean", "class-mean"),
        ("grood", "early_layer", "none", None),
        ("grood", "early_layer", "layer1.0", "layer1.0"),
        ("grood", "n_synthetic", "7", 7),
        ("gaia-z", "layers", "a, b", ["a", "b"]),
        ("gaia-z", "layers", "None", None),
        ("gaia-z", "path", "backward", "backward"),
        ("gaia-a", "last", "pooled", "pooled"),
        ("gradnorm", "order", "inf", math.inf),
        ("gradnorm", "bias", "true", True),
        ("gradnorm", "parameters", "fc.weight", ["fc.weight"]),
        ("knn", "normalize", "No", False),
        ("odin", "std", "0.2, 0.3,0.25", [0.2, 0.3, 0.25]),
        ("odin", "std", "auto", "auto"),
        ("odin", "std", "none", None),
        ("nac", "alpha", "0.1,2", [0.1, 2.0]),
    ],
)
def test_a_text_becomes_what_the_option_takes(method, option, text, value):
    found = parse_option(method, option, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("names", "options", "error", "words"),
    [
        ("enrgy", [], UnknownNameError, "did you mean 'energy'"),
        ("", [], ConfigError, "names none; choose from"),
        ("msp,msp", [], ConfigError, "'msp' stands for two rows"),
        ("all,energy=msp", [], ConfigError, "'energy' stands for two rows"),
        ("line", ["line.clipp=1"], UnknownNameError, "line has no option 'clipp'; did you mean"),
        ("msp", ["msp.x=1"], UnknownNameError, "there are none"),
        ("msp", ["mps.x=1"], UnknownNameError, "not among the methods; did you mean 'msp'"),
        ("msp", ["clip"], ConfigError, "expected NAME.key=value"),
        ("line", ["clip=1"], ConfigError, "expected NAME.key=value"),
        ("line", ["line.clip=1", "line.clip=2"], ConfigError, "line.clip was given twice"),
        ("line", ["line.clip=atuo"], ConfigError, "a number or 'auto'; did you mean 'auto'"),
        ("line", ["line.clip=-3"], ConfigError, r"^line: clip=-3.0; expected a number > 0"),
        ("knn", ["knn.k=2.5"], ConfigError, "knn.k='2.5'; expected a whole number."),
        ("knn", ["knn.normalize=x"], ConfigError, "expected true or false"),
        ("gaia-z", ["gaia-z.layers=,"], ConfigError, "names separated by commas"),
        ("grood", ["grood.bank=corect"], ConfigError, "did you mean 'correct'"),
    ],
)
def test_what_does_not_fit_is_told_with_a_way_out(names, options, error, words):
    with pytest.raises(error, match=words):
        select(names, options)

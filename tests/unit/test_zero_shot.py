"""Zero-shot classifiers: what they take, what is refused, and what a monitor makes of them."""

import copy
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from rosters import ON_ANY, ZERO_SHOT
from torch import Tensor, nn

import gradood
from gradood.errors import ConfigError, TapError
from gradood.testing import networks

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
TEXT = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
OTHER = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))


class Encoder(nn.Module):
    """An embedding and local features, in a form of one's own."""

    def __init__(self, form=lambda whole, local: whole) -> None:
        super().__init__()
        self.form = form
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.whole, self.local = nn.Linear(5, 8), nn.Linear(5, 4 * 8)

    def forward(self, x: Tensor):
        return self.form(self.whole(x), self.local(x).reshape(-1, 4, 8))


def pair(form=lambda whole, local: (whole, local), **options):
    return gradood.zero_shot(Encoder(form), TEXT, OTHER, **options).eval()


@dataclass
class Output:
    image_embeds: Tensor
    local_features: Tensor | None = None


Named = namedtuple("Named", "last_hidden_state image_embeds patch_embeds")

FORMS = {
    "tuple": lambda whole, local: (whole, local),
    "list": lambda whole, local: [whole, local],
    "grid": lambda whole, local: (whole, local.reshape(-1, 2, 2, 8)),
    "map": lambda whole, local: (whole, local.reshape(-1, 2, 2, 8).movedim(3, 1)),
    "mapping": lambda whole, local: {"image_features": whole, "local_features": local},
    "dataclass": Output,
    "named tuple": lambda whole, local: Named(local, whole, local),
}
WITHOUT = {
    "tensor": lambda whole, local: whole,
    "one": lambda whole, local: (whole,),
    "another space": lambda whole, local: (whole, local[..., :5]),
    "hidden states": lambda whole, local: {"last_hidden_state": local, "pooler_output": whole},
    "no tensor": lambda whole, local: (whole, None),
    "an empty field": lambda whole, local: Output(whole),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_encoder_may_return_its_features_in_any_usual_form(form):
    expected = gradood.Monitor(pair(), "gl-mcm").score(X)
    assert torch.equal(gradood.Monitor(pair(FORMS[form]), "gl-mcm").score(X), expected)


@pytest.mark.parametrize("form", WITHOUT)
def test_without_local_features_gl_mcm_is_refused_and_mcm_is_not(form):
    model = pair(WITHOUT[form])
    assert torch.equal(model(X), pair()(X))
    with pytest.raises(TapError, match=r"gl-mcm reads local features, and the image encoder"):
        gradood.Monitor(model, "gl-mcm").score(X)
    assert gradood.Monitor(model, "mcm").score(X).shape == (60,)


def test_logits_are_scaled_cosines():
    model = pair(scale=7.0)
    whole = model.image_encoder.whole(X)
    expected = 7 * torch.cosine_similarity(whole[:, None], TEXT[None], dim=2)
    torch.testing.assert_close(model(X), expected)
    assert "classes=3, width=8, negatives=6, scale=7" in repr(model)
    head = gradood.inspect(model, X)
    assert head.head_layer == "head" and head.classes == 3
    assert not any(p.requires_grad for p in (model.head.weight, model.negative_head.weight))


def test_scale_is_the_exponential_that_clip_keeps_the_logarithm_of():
    scale = nn.Parameter(torch.tensor(100.0).log()).exp()
    assert pair(scale=scale).scale == pytest.approx(100.0)
    assert torch.equal(pair(scale=100)(X), pair()(X))


def test_length_type_and_library_of_the_text_embeddings_do_not_matter():
    expected = pair()(X)
    graph = TEXT.double().requires_grad_()
    for text in (1e30 * TEXT, TEXT.double(), TEXT.numpy(), TEXT.tolist(), graph):
        made = gradood.zero_shot(Encoder(), text).eval()
        torch.testing.assert_close(made(X), expected, rtol=1e-5, atol=1e-4)
    half = gradood.zero_shot(Encoder(), TEXT.half())
    assert half.head.weight.dtype == torch.float32
    assert gradood.zero_shot(Encoder().double(), TEXT.double())(X.double()).dtype == torch.float64
    assert gradood.zero_shot(Encoder().half(), TEXT).half()(X.half()).dtype == torch.float16


def test_making_one_draws_no_random_number_and_keeps_what_was_given():
    encoder, text = Encoder().eval(), TEXT.clone()
    state = torch.get_rng_state()
    made = gradood.zero_shot(encoder, text, class_names=["cat", "dog", "owl"])
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(text, TEXT)
    assert made.image_encoder is encoder and not made.training
    assert made.class_names == ("cat", "dog", "owl") and made.negative_head is None


NAN, ZERO = TEXT.clone(), TEXT.clone()
NAN[1, 2], ZERO[2] = float("nan"), 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_embeddings": NAN}, "text_embeddings holds NaN or infinity"),
        ({"text_embeddings": TEXT[0]}, r"text_embeddings is \(8,\) float32; expected floats"),
        ({"text_embeddings": TEXT[None]}, "the mean over prompts"),
        ({"text_embeddings": TEXT.long()}, r"\(3, 8\) int64"),
        ({"text_embeddings": TEXT[:0]}, r"\(0, 8\)"),
        ({"text_embeddings": ZERO}, "row 2 of text_embeddings is zero"),
        ({"text_embeddings": ["cat", "dog"]}, "text_embeddings is a list; expected a matrix"),
        ({"negatives": NAN}, "negatives holds NaN"),
        ({"negatives": OTHER[:, :5]}, "negatives have width 5, and text_embeddings 8"),
        ({"scale": 0.0}, "scale=0.0; expected a number > 0"),
        ({"scale": float("inf")}, "scale=inf"),
        ({"scale": torch.ones(2)}, "clip.logit_scale.exp"),
        ({"scale": True}, "scale=True"),
        ({"class_names": ["a", "b"]}, r"class_names=\['a', 'b'\]; expected 3 names"),
        ({"class_names": "abc"}, "expected 3 names"),
        ({"class_names": iter("abc")}, "expected 3 names"),
        ({"text_embeddings": torch.eye(3).to_sparse()}, "text_embeddings is sparse"),
        ({"negatives": torch.empty(3, 3, device="meta")}, "negatives is sparse, or holds no data"),
        ({"image_encoder": lambda x: x}, "image_encoder is a function; expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_one_is_refused_in_words(options, said):
    with pytest.raises(ConfigError, match=said):
        gradood.zero_shot(**({"image_encoder": Encoder(), "text_embeddings": TEXT} | options))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda whole, local: whole[:, :5], r"returned \(60, 5\), and the text .* width 8"),
        (lambda whole, local: {"pooled": whole}, r"a mapping with keys \['pooled'\]"),
        (lambda whole, local: (), "returned a tuple"),
        (lambda whole, local: (local, whole), r"returned \(60, 4, 8\)"),
    ],
)
def test_an_encoder_without_an_embedding_of_that_width_is_told_in_words(form, said):
    with pytest.raises(ConfigError, match=said):
        pair(form)(X)
    with pytest.raises(ConfigError, match="the image encoder returned"):
        gradood.Monitor(pair(form), "msp").score(X)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_on_other_classifiers_they_are_refused_by_name(name):
    network = networks()["plain-cnn"]
    for model in (network.model(), nn.Sequential(network.model(), nn.Softmax(1))):
        with pytest.raises(TapError, match=rf"^{name} compares images with texts.*zero_shot\("):
            gradood.Monitor(model, name).score(network.inputs(8))


def test_without_negative_labels_neg_label_is_refused():
    model = gradood.zero_shot(Encoder(), TEXT).eval()
    with pytest.raises(TapError, match="neg-label compares the classes with negative labels"):
        gradood.Monitor(model, "neg-label").score(X)
    with pytest.raises(TapError, match="neg-label divides the negative labels into 7 groups"):
        gradood.Monitor(pair(), gradood.NegLabel(groups=7)).score(X)


def test_inside_another_module_they_find_it():
    inner = pair()
    outer = nn.Sequential(nn.Sequential(nn.Identity(), inner)).eval()
    for name in ZERO_SHOT:
        expected = gradood.Monitor(copy.deepcopy(inner), name).score(X)
        assert torch.equal(gradood.Monitor(outer, name).score(X), expected)
    # Whose logits are other ones.
    calibrated = nn.Sequential(inner, nn.Linear(3, 4)).eval()
    with pytest.raises(TapError, match="mcm compares images with texts"):
        gradood.Monitor(calibrated, "mcm").score(X)


def test_local_features_and_negatives_are_no_part_of_the_logits():
    whole = gradood.zero_shot(Encoder(), TEXT).eval()
    assert torch.equal(whole(X), pair()(X))
    names = ["energy", "gradnorm", "knn"]
    found = gradood.Monitor(pair(), names).fit(X).score(X)
    for name, scores in gradood.Monitor(whole, names).fit(X).score(X).items():
        assert torch.equal(found[name], scores)


def test_images_without_labels_calibrate_them_and_what_is_saved_decides_the_same(tmp_path):
    known = torch.randn(400, 5, generator=torch.Generator().manual_seed(5))
    detectors = [gradood.MCM(), gradood.GLMCM(), gradood.NegLabel(temperature=0.5)]
    monitor = gradood.Monitor(pair(), detectors).calibrate(known, fpr=0.05)
    before = monitor.predict(X)
    for name in ZERO_SHOT:
        assert before[name].is_ood.double().mean() < 0.2
    monitor.save(tmp_path / "zs.safetensors")
    after = gradood.load(tmp_path / "zs.safetensors", pair()).predict(X)
    assert all(torch.equal(before[name].score, after[name].score) for name in ZERO_SHOT)
    with pytest.raises(gradood.errors.ModelMismatchError):
        gradood.load(tmp_path / "zs.safetensors", gradood.zero_shot(Encoder(), TEXT, -OTHER).eval())


def test_the_guard_takes_one_with_images_alone():
    known = torch.randn(400, 5, generator=torch.Generator().manual_seed(6))
    guard = gradood.guard(pair(), known, detectors="mcm", fpr=0.1)
    assert bool(guard.predict(X).score.isfinite().all())


def test_all_methods_are_those_that_run():
    model = networks()["plain-cnn"]
    monitor = gradood.Monitor(model.model(), "all")
    monitor.bind(model.inputs(8))
    assert list(monitor.detectors) == ON_ANY and set(monitor.left_out) == set(ZERO_SHOT)
    assert "texts" in monitor.left_out["mcm"]

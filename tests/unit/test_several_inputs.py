"""Models of several tensors: forms of batches, keys, files, guards, choice, and padding."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood._engine.batches import batches
from gradood._engine.forms import InputForm
from gradood._engine.rows import jittered, row, stacked
from gradood.errors import ArtifactError, ConfigError, DataError, MeaninglessScoreWarning
from gradood.evidence import content_keys
from gradood.taps import Arguments, attended, padded, shifted
from gradood.taps.attended import left_padded
from gradood.testing._sequences import INPUT_NETWORKS, CausalDecoder, MaskedEncoder

TABLE, TEXT = INPUT_NETWORKS["table"], INPUT_NETWORKS["masked-first"]
N, C = TABLE.batch(12).values()
Y = torch.arange(12) % 5


class Encoding(dict):
    """As BatchEncoding and BatchFeature, mappings with methods of their own."""


def read(item, labels=True, model=None, **options):
    form = InputForm(TABLE.model() if model is None else model, **options)
    (batch,) = batches([item], labels=labels, form=form)
    return batch


FORMS = {
    "positional and labels": ((N, C), Y),
    "a list of them, as loaders make": [[N, C], Y],
    "positional alone": ((N, C),),
    "mapping": {"numbers": N, "categories": C, "labels": Y},
    "encoding": Encoding(numbers=N, categories=C, label=Y),
    "arrays": {"numbers": N.numpy(), "categories": C.numpy(), "y": Y.numpy()},
    "mapping and labels": ({"numbers": N, "categories": C}, Y),
    "with what the model does not take": {"numbers": N, "categories": C, "y": Y, "id": ["a"] * 12},
}


@pytest.mark.parametrize("form", FORMS)
def test_arguments_and_labels_are_found(form):
    batch = read(FORMS[form])
    assert isinstance(batch.inputs, Arguments)
    assert list(batch.inputs.leaves) == ["numbers", "categories"]
    assert torch.equal(batch.inputs.leaves["numbers"], N)
    assert torch.equal(batch.inputs.leaves["categories"], C)
    assert batch.labels is None if form == "positional alone" else torch.equal(batch.labels, Y)
    assert read(FORMS[form], labels=False).labels is None


def test_a_mapping_is_a_batch_by_itself():
    (batch,) = batches({"numbers": N, "categories": C}, form=InputForm(TABLE.model()))
    assert len(batch.inputs) == 12


def test_one_tensor_takes_the_path_it_took():
    net = nn.Sequential(nn.Linear(6, 3))
    for item in (N, (N, Y), [N, Y], {"x": N, "labels": Y, "path": ["a"] * 12}, ((N,), Y)):
        assert read(item, model=net).inputs is N


class Masked(nn.Module):
    def forward(self, image, mask=None, *, mode="a"):
        return image


def test_the_signature_says_which_entries_are_arguments():
    image, mask = torch.randn(3, 4), torch.ones(3, 4)
    both = read({"image": image, "mask": mask, "mode": "b", "labels": [0, 1, 2]}, model=Masked())
    assert both.inputs.named["mode"] == "b" and list(both.inputs.leaves) == ["image", "mask"]
    assert read({"image": image, "name": "a"}, model=Masked()).inputs is image
    mixed = read({"x": image, "mask": mask}, model=Masked()).inputs
    assert mixed.positional == (image,) and list(mixed.named) == ["mask"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"numbers": N, "categories": C[:5]}, r"(numbers|categories) \(.*has not the batch of"),
        ({"numbers": N, "categories": torch.tensor(1)}, r"categories \(\) of a batch has not"),
        ({"numbers": "text", "categories": [1]}, "a batch holds no tensor, only numbers, categ"),
        ({"numbers": [[1, 2], [3]], "categories": [1, 2]}, "return_tensors=.pt."),
    ],
)
def test_a_tensor_without_the_batch_first_is_named(item, words):
    with pytest.raises(DataError, match=words):
        read(item)


def test_a_pair_of_arguments_and_labels_given_as_data_says_how_to_write_it():
    with pytest.raises(DataError, match=r"\[\(\(a, b\), y\)\]"):
        list(batches(((N, C), Y), labels=True, form=InputForm(TABLE.model())))


def test_model_input_makes_what_no_rule_can_guess():
    def made(rows):
        return {"numbers": rows[:, :6], "categories": rows[:, 6:].long()}

    joined = torch.cat([N, C.float()], 1)
    batch = read((joined, Y), model_input=made)
    assert torch.equal(batch.inputs.leaves["categories"], C) and torch.equal(batch.labels, Y)
    texts = read((["ab", "c"], [0, 1]), model_input=lambda t: torch.tensor([[len(s)] for s in t]))
    assert texts.inputs.tolist() == [[2], [1]]
    monitor = gradood.Monitor(TABLE.model(), "energy", model_input=made)
    plain = gradood.Monitor(TABLE.model(), "energy").score({"numbers": N, "categories": C})
    assert torch.equal(monitor.score(joined), plain)
    with pytest.raises(DataError, match="model_input= raised KeyError"):
        read(joined, model_input=lambda rows: {}["a"])
    with pytest.raises(DataError, match="model_input= gave a int"):
        read(joined, model_input=lambda rows: 3)
    with pytest.raises(ConfigError, match="model_input=3"):
        gradood.Monitor(TABLE.model(), "energy", model_input=3)


# -- rows ------------------------------------------------------------------------------------


def texts(n=8, seed=0):
    return Arguments(named=TEXT.batch(n, seed))


def test_padding_on_either_side_is_no_content():
    x = texts()
    more = padded(x, 5, {"input_ids": 7})
    left = x.each(lambda leaf: torch.cat([leaf.new_zeros(len(leaf), 3), leaf], 1))
    for other in (more, left, x[torch.arange(8)]):
        assert torch.equal(content_keys(other), content_keys(x))
    assert len(content_keys(x).unique()) == 8
    assert content_keys(shifted(x, 1)).ne(content_keys(x)).any()
    swapped = Arguments(named={"a": N, "b": N + 1}), Arguments(named={"a": N + 1, "b": N})
    assert (content_keys(swapped[0]) != content_keys(swapped[1])).all()


def test_one_row_comes_without_its_padding_and_rows_are_padded_together():
    x = texts()
    rows = [row(x, place) for place in range(8)]
    lengths = [int(count) for count in x.leaves["attention_mask"].sum(1)]
    assert [len(one.leaves["input_ids"][0]) for one in rows] == lengths
    assert stacked(rows) is None
    together = stacked([x[:4], x[4:]], pad=True)
    assert torch.equal(content_keys(together), content_keys(x))
    longest = stacked(rows, pad=True)
    assert torch.equal(content_keys(longest), content_keys(x))
    assert jittered(x) is None and jittered(Arguments((N, C))) is not None


def test_rows_padded_at_the_start_are_padded_there_together():
    x = texts().each(lambda leaf: leaf.flip(1))
    whole = x[torch.arange(8)[x.leaves["attention_mask"].bool().all(1)]]
    assert len(whole) and left_padded(x) and not left_padded(whole)
    short = row(x, int(x.leaves["attention_mask"].sum(1).argmin()))
    together = stacked([short, x], pad=True)
    assert left_padded(together) and torch.equal(
        together.leaves["input_ids"][1:], x.leaves["input_ids"]
    )


def test_lengths_and_torchs_masks_tell_padding_too():
    x = torch.randn(2, 3, 4)
    told = attended(Arguments(named={"x": x, "lengths": torch.tensor([1, 3])}))
    assert told.tolist() == [[True, False, False], [True] * 3]
    ignored = torch.tensor([[False, True, True], [False] * 3])
    assert torch.equal(attended(Arguments(named={"x": x, "key_padding_mask": ignored})), ~ignored)
    # A table with a mask of missing values has no padding.
    assert attended(Arguments(named={"x": torch.randn(2, 3), "mask": torch.ones(2, 3)})) is None
    assert attended(x) is None


def test_a_row_that_is_not_finite_is_told_and_changes_no_other():
    monitor = gradood.Monitor(TABLE.model(), "energy")
    plain = monitor.score([((N, C),)])
    broken = N.clone()
    broken[3, 1] = torch.nan
    scores = monitor.score([((broken, C),)])
    assert scores[3] == torch.inf
    assert torch.equal(scores[[0, 1, 2, 4]], plain[[0, 1, 2, 4]])


def test_other_arguments_than_before_are_refused():
    monitor = gradood.Monitor(TABLE.model(), "energy")
    monitor.score({"numbers": N, "categories": C})
    with pytest.raises(DataError, match=r"numbers \(batch, 6\) float64.*expected numbers"):
        monitor.score({"numbers": N.double(), "categories": C})
    with pytest.raises(DataError, match="expected numbers"):
        monitor.score(N)


# -- work ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["table", "masked-mean", "lstm"])
def network(request):
    return INPUT_NETWORKS[request.param]


def labeled(network, n, seed):
    batch = network.batch(n, seed)
    return {**batch, "labels": network.model()(**batch).argmax(1)}


def test_a_saved_monitor_gives_its_scores_again(network, tmp_path):
    monitor = gradood.Monitor(network.model(), ["energy", "knn"])
    monitor.fit([labeled(network, 60, 0)]).calibrate(network.batch(60, 1), fpr=0.1)
    monitor.save(tmp_path / "m")
    again = gradood.load(tmp_path / "m", network.model())
    x = network.batch(10, 2)
    for name, scores in monitor.score(x).items():
        assert torch.equal(scores, again.score(x)[name])
    again.save(tmp_path / "again")
    assert gradood.load(tmp_path / "again", network.model()).predict(x)["knn"].is_ood.shape == (10,)
    manifest = (tmp_path / "m").read_bytes()
    assert all(f"canary/inputs/named/{name}".encode() in manifest for name in x)


def test_a_file_says_that_it_needs_its_model_input(tmp_path):
    def made(rows):
        return rows[:, :6], rows[:, 6:].long()

    x = torch.cat([N, C.float()], 1)
    monitor = gradood.Monitor(TABLE.model(), "energy", model_input=made)
    monitor.bind(x)
    monitor.save(tmp_path / "m")
    with pytest.raises(ArtifactError, match=r"model_input=function"):
        gradood.load(tmp_path / "m", TABLE.model())
    again = gradood.load(tmp_path / "m", TABLE.model(), model_input=made)
    assert torch.equal(again.score(x), monitor.score(x))


def test_a_guard_of_several_inputs(network):
    known = labeled(network, 200, 3)
    guard = gradood.guard(network.model(), known, progress=False)
    x = network.batch(20, 4)
    labels = guard(x)
    assert labels.shape == (20,) and bool((labels >= -1).all())
    loader = [{name: leaf[i : i + 50] for name, leaf in known.items()} for i in range(0, 200, 50)]
    other = gradood.guard(network.model(), loader, progress=False)
    assert torch.equal(other(x), labels)


def test_choice_among_detectors_of_several_inputs(network):
    parts = [labeled(network, 40, seed) for seed in range(4)]
    ranking = gradood.choose(network.model(), parts, detectors=["energy", "knn"])
    assert {"energy", "knn"} <= {ranked.name for ranked in ranking.rows}
    assert set(ranking.best.auroc) == {"permuted"}


# -- padding ---------------------------------------------------------------------------------


class Leaky(MaskedEncoder):
    """Takes the mean of all positions, padded ones among them."""

    def forward(self, input_ids, attention_mask):
        x = self.word(input_ids)
        return self.head(self.encoder(x).mean(1))


def test_a_model_that_depends_on_padding_is_told_with_the_difference():
    x = TEXT.batch(16)
    torch.manual_seed(0)
    with pytest.warns(MeaninglessScoreWarning, match=r"move the logits of an input by \d") as told:
        gradood.Monitor(Leaky(5).eval(), "energy").score(x)
    assert float(re.search(r"by ([\d.e+-]+) of", str(told[0].message))[1]) > 1e-3


class Configured(CausalDecoder):
    """Knows its padding token, and takes ids without a mask as if all counted."""

    config = type("Config", (), {"pad_token_id": 0})()

    def forward(self, input_ids, attention_mask=None):
        kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return super().forward(input_ids, kept)


@pytest.mark.parametrize("form", [lambda ids: ids, lambda ids: {"input_ids": ids}])
@pytest.mark.parametrize("side", [lambda ids: ids, lambda ids: ids.flip(1)], ids=["end", "start"])
def test_padded_ids_without_a_mask_are_told(form, side):
    torch.manual_seed(0)
    model, ids = Configured(5).eval(), side(TEXT.batch(16)["input_ids"])
    with pytest.warns(MeaninglessScoreWarning, match="of which no mask tells the model"):
        gradood.Monitor(model, "energy").score(form(ids))


class Absolute(MaskedEncoder):
    """Has a number for each place, whether the ones before it count or not."""

    def forward(self, input_ids, attention_mask):
        places = torch.arange(input_ids.shape[1], dtype=torch.float32, device=input_ids.device)
        held = attention_mask.float()[..., None]
        x = (self.word(input_ids) * (1 + places[:, None])) * held
        return self.head(x.sum(1) / held.sum(1))


def test_padding_is_tried_at_the_side_where_the_rows_have_it():
    torch.manual_seed(0)
    model, x = Absolute(5).eval(), TEXT.batch(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MeaninglessScoreWarning)
        gradood.Monitor(model, "energy").score(x)
    with pytest.warns(MeaninglessScoreWarning, match="3 positions more, before the first, which"):
        gradood.Monitor(model, "energy").score({name: leaf.flip(1) for name, leaf in x.items()})


def test_arrays_and_constants_go_along():
    inputs = read({"image": np.ones((2, 3)), "mode": "b"}, model=Masked()).inputs
    assert inputs.constants == {"mode": "b"} and inputs[:1].constants == {"mode": "b"}


@pytest.mark.parametrize("made", [list, lambda values: np.array(values, dtype=object)])
def test_a_list_with_an_entry_for_each_row_is_refused_where_rows_are_taken_apart(made):
    model = Masked().eval()
    for entries in (["a", "b", "c"], [1, 2, 3]):
        inputs = read({"image": np.ones((3, 3)), "mode": made(entries)}, model=model).inputs
        assert inputs[:].constants.keys() == {"mode"}
        with pytest.raises(DataError, match=r"mode is a .* of 3 entries in a batch of 3 rows"):
            _ = inputs[:1]
        with pytest.raises(DataError, match="would not go with its row"):
            gradood.Monitor(model, "energy").score(
                {"image": torch.ones(3, 3), "mode": made(entries)}
            )
    for same in ((1, 2, 3), [7, 7, 7], [1, 2]):
        inputs = read({"image": np.ones((3, 3)), "mode": same}, model=model).inputs
        assert inputs[1:].constants == {"mode": same}


def letters(texts):
    """Rows of ids of texts, as a tokenizer makes them."""
    return {
        "input_ids": torch.tensor([[ord(letter) % 7 + 1 for letter in text] for text in texts]),
        "attention_mask": torch.ones(len(texts), len(texts[0])).long(),
    }


def test_a_list_of_texts_is_a_batch_without_labels():
    torch.manual_seed(0)
    model = MaskedEncoder(5).eval()
    texts = [f"{place // 49}{place // 7 % 7}{place % 7}" for place in range(60)]
    for size in (2, 20):
        loader = [texts[start : start + size] for start in range(0, 60, size)]
        guard = gradood.guard(model, loader, model_input=letters, detectors=["energy", "knn"])
        assert torch.equal(guard(loader), guard([(texts,)]))
        labeled = [(part, torch.zeros(len(part)).long()) for part in loader]
        assert torch.equal(guard(labeled), guard(loader))


class Strided(nn.Module):
    """Waves through a convolution with a stride, and a mean that takes only whole frames."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 8, 4, stride=4), nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, input_values, attention_mask):
        x = self.norm(torch.relu(self.conv(input_values[:, None])).mT)
        kept = (attention_mask[:, ::4].to(x.dtype))[:, : x.shape[1], None]
        return self.head((x * kept).sum(1) / kept.sum(1))


def test_layers_that_a_mask_says_nothing_of_are_told_by_the_detector():
    torch.manual_seed(0)
    mask = (torch.arange(64) < 4 * torch.randint(4, 17, (16, 1))).long()
    x = {"input_values": torch.randn(16, 64) * mask, "attention_mask": mask}
    with pytest.warns(MeaninglessScoreWarning, match=r"gaia-z reads 'norm', whose positions"):
        network = gradood.Monitor(Strided().eval(), ["energy", "gaia-z"]).bind(x).network
    assert network.layers["norm"].channels == 2 and network.layers["conv"].channels == 1

"""Whatever a loader yields becomes batches, or an error that says what was expected."""

from collections import UserDict

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from gradood._engine.batches import batches
from gradood.errors import DataError

X, Y = torch.randn(6, 3, 4, 4), torch.arange(6) % 3


class Encoding(UserDict):
    """As the batches of Hugging Face tokenizers and image processors."""


FORMS = {
    "pair": (X, Y),
    "list": [X, Y],
    "triple": (X, Y, torch.zeros(6)),
    "pixel_values, labels": {"pixel_values": X, "labels": Y},
    "image, label": {"image": X, "label": Y},
    "x, label": {"x": X, "label": Y, "path": ["a"] * 6},
    "mapping": Encoding(pixel_values=X, labels=Y),
    "numpy": (X.numpy(), Y.numpy()),
    "labels in a list": (X, Y.tolist()),
    "int32 labels": (X, Y.int()),
    "uint8 labels": {"x": X, "label": Y.to(torch.uint8)},
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_and_labels_are_found(form):
    (batch,) = batches([FORMS[form]], labels=True)
    assert torch.equal(batch.inputs, X)
    assert batch.labels.dtype == torch.int64 and torch.equal(batch.labels, Y)
    (batch,) = batches([FORMS[form]])
    assert batch.labels is None


@pytest.mark.parametrize("item", [X, (X,), {"x": X}, X.numpy()], ids=["x", "(x,)", "dict", "numpy"])
def test_labels_may_be_absent(item):
    (batch,) = batches([item], labels=True)
    assert torch.equal(batch.inputs, X) and batch.labels is None


@pytest.mark.parametrize("data", [X, X.numpy()], ids=["tensor", "array"])
def test_a_tensor_or_array_is_one_batch(data):
    (batch,) = batches(data)
    assert torch.equal(batch.inputs, X)


def test_loaders_and_generators_are_streamed():
    loader = DataLoader(TensorDataset(X, Y), batch_size=4)
    assert [len(b.inputs) for b in batches(loader, labels=True)] == [4, 2]
    assert [b.labels.tolist() for b in batches(loader, labels=True)] == [[0, 1, 2, 0], [1, 2]]
    taken = []

    def stream():
        for i in range(5):
            taken.append(i)
            yield X

    generator = batches(stream())
    next(generator)
    assert taken == [0]
    assert list(batches([])) == []


def read_only():
    array = X.numpy().copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [read_only(), X.flip(0).numpy()[::-1], X.flip(3).numpy()[..., ::-1], X.numpy().astype(">f4")],
    ids=["read-only", "reversed", "mirrored", "big-endian"],
)
def test_arrays_of_any_layout_are_read(array):
    (batch,) = batches(array)
    assert torch.equal(batch.inputs, X)


def test_labels_in_a_list_stay_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        (batch,) = batches([(X, Y.tolist())], labels=True)
    assert torch.equal(batch.labels, Y)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("folder", "data is a str; expected a tensor"),
        (b"bytes", "data is a bytes"),
        ({"x": X}, r"data is a dict; .* A mapping is one batch: give \[batch\]"),
        (3, "data is a int"),
        (None, "data is a NoneType"),
        ([None], "a batch is a NoneType"),
        (["a.png"], "a batch is a str"),
        ([[]], "a batch is a list"),
        ([{"pixels": X}], r"a batch has keys \['pixels'\].*'pixel_values', 'image', 'x'"),
        ([torch.tensor(1.0)], "a batch is a Tensor"),
        ([np.array(["a"])], "a batch is a ndarray"),
        ([(["a.png"], Y)], "a batch is a list"),
        (np.zeros((2, 3), dtype=np.longdouble), "a batch is a ndarray"),
    ],
)
def test_the_rest_is_refused_in_words(data, message):
    with pytest.raises(DataError, match=message):
        list(batches(data))


def test_what_stands_for_data_or_a_batch_says_what_to_type():
    image, frame = Image.new("RGB", (4, 4)), pd.DataFrame({"a": [1.0, 2.0]})
    for data, said in [
        (image, r"data is a Image; .*Preprocess\(…\)\(image\)\[None\]"),
        ([image, image], r"a batch is a Image; .*several by torch\.stack"),
        ([[image, image]], r"a batch is a Image with more beside it; .*torch\.stack"),
        (frame, r"data is a DataFrame; .*torch\.tensor\(frame\.to_numpy\(\)"),
        ([frame], r"a batch is a DataFrame; .*torch\.tensor\(frame\.to_numpy\(\)"),
        ("images/", r"Images in a folder: gradood\.data\.loader\("),
        ([["a.png"]], r"Images in a folder: gradood\.data\.loader\("),
        (torch.nn.Flatten(), r"The model comes first: Monitor\(model, detectors\)"),
        (torch.nn.Flatten, "Make one of it first"),
    ]:
        with pytest.raises(DataError, match=said):
            list(batches(data))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.nn.functional.one_hot(Y), r"become classes by y\.argmax\(1\)\.$"),
        (torch.rand(6, 3), r"become classes by y\.argmax\(1\)\.$"),
        (
            Y + 0.5,
            r"Targets of a regression are no classes: say link='none'; classes are 0, 1, 2, …$",
        ),
        (Y[:, None] * 1e30, r"Targets of a regression are no classes"),
        (["cat"] * 6, r"number them in the order of the model's classes, the first is 0\.$"),
        (np.array(["cat"] * 6), r"number them in the order of the model's classes"),
        (pd.Series(Y.numpy()), r"Give torch\.tensor\(column\.to_numpy\(\)\)\.$"),
        (Y[:5], r"Give one for each input, 6 in all\.$"),
        (Y[0], r"Single images with their labels are no batches"),
    ],
)
def test_labels_of_another_form_say_what_to_type(labels, said):
    with pytest.raises(DataError, match=said):
        list(batches([(X, labels)], labels=True))


@pytest.mark.parametrize(
    "labels",
    [
        Y[:, None],
        Y.float(),
        Y[:, None].half(),
        Y.to(torch.uint8),
        Y.numpy().astype(np.uint16),
        Y.float().tolist(),
        Y.double().numpy(),
    ],
    ids=["column", "float", "half column", "uint8", "uint16", "list", "array"],
)
def test_whole_numbers_are_labels_as_floats_and_in_a_column(labels):
    read = next(batches([(X, labels)], labels=True)).labels
    assert torch.equal(read, Y) and read.dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        (Y[:4], r"\(4,\) torch.int64"),
        (Y + 0.5, r"\(6,\) torch.float32"),
        (Y * float("nan"), r"\(6,\) torch.float32"),
        (Y * 1j, r"\(6,\) torch.complex64"),
        (torch.nn.functional.one_hot(Y), r"\(6, 3\) torch.int64"),
        (["cat"] * 6, "list"),
        ([[0], [1, 2]], "list"),
        ({"y": Y}, "dict"),
        (torch.tensor(1), r"\(\) torch.int64"),
    ],
)
def test_labels_that_do_not_fit_are_refused_only_if_wanted(labels, given):
    message = f"the labels of a batch of 6 are {given}; expected"
    with pytest.raises(DataError, match=message):
        list(batches([(X, labels)], labels=True))
    assert torch.equal(next(batches([(X, labels)])).inputs, X)


def test_a_pair_of_lists_of_batches_says_how_to_write_it():
    with pytest.raises(DataError, match=r"give \[\(x, y\)\]"):
        list(batches(((X[0], X[1]), (Y, Y)), labels=True))


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(
    "pair",
    [
        (X, Y),
        [X, Y],
        (X, Y.float()),
        (X, torch.nn.functional.one_hot(Y)),
        (X, Y.tolist()),
        (X, range(6)),
        (X.numpy(), Y.numpy()),
        (X, Y.numpy()),
        (X.flatten(1), torch.nn.functional.one_hot(Y).float()),
        (torch.zeros(6), Y),
        (X, tuple(Y.numpy())),
        (X, ["cat"] * 6),
        (X, None),
    ],
)
def test_a_pair_given_as_data_says_how_to_write_it(pair, labels):
    with pytest.raises(DataError, match=r"data is a pair of .* give \[\(x, y\)\], or x alone"):
        list(batches(pair, labels=labels))


@pytest.mark.parametrize("two", [(X, X[:2]), [X, X[..., :2]], (X[:0], X), [X.numpy(), X]])
def test_two_batches_are_no_pair(two):
    assert [len(batch.inputs) for batch in batches(two)] == [len(x) for x in two]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(
    "views",
    [[X, X + 1], (X, X[..., :2]), (X.numpy(), X.numpy()), [X.flatten(1), X.flatten(1)], (X, X, Y)],
)
def test_the_second_of_two_views_is_not_dropped(views, labels):
    with pytest.raises(DataError, match=r"two views of the inputs, of which one would be dropped"):
        list(batches([views], labels=labels))


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("more", [(Y, torch.arange(6)), (X, Y), (Y.tolist(), ["a"] * 6)])
def test_labels_and_more_beside_a_batch_are_told_as_well(more, labels):
    with pytest.raises(
        DataError, match=r"data is a tuple of .* read as 3 batches; .* \[\(x, y\)\]"
    ):
        list(batches((X, *more), labels=labels))


@pytest.mark.parametrize("more", [[(X, Y)], [X, {"x": X}], [[X, Y], X]])
def test_batches_of_several_forms_are_no_pair(more):
    assert [len(batch.inputs) for batch in batches([X, *more])] == [6] * (1 + len(more))


def test_single_images_with_their_labels_are_no_batches():
    samples = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
    with pytest.raises(DataError, match=r"Single images with their labels .* DataLoader\(data"):
        list(batches(samples, labels=True))


def test_the_table_of_names_is_that_of_the_docs():
    from pathlib import Path

    from gradood._engine.batches import INPUT_KEYS, LABEL_KEYS

    text = (Path(__file__).resolve().parents[2] / "docs" / "inputs.md").read_text()
    for kind, names in (("inputs", INPUT_KEYS), ("labels", LABEL_KEYS)):
        assert f"| {kind} | {', '.join(f'`{name}`' for name in names)} |" in text


def test_a_data_set_given_as_one_tensor_is_split(monkeypatch):
    import gradood._engine.batches as module

    x = torch.arange(40.0).view(10, 4)
    assert [len(batch.inputs) for batch in batches(x)] == [10]
    monkeypatch.setattr(module, "LARGE", 64)
    pieces = [batch.inputs for batch in batches(x)]
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert torch.equal(torch.cat(pieces), x)
    assert [len(batch.inputs) for batch in batches(x.numpy())] == [4, 4, 2]
    assert [len(batch.inputs) for batch in batches([x])] == [10]


@pytest.mark.parametrize("inputs", ["img", "images", "inputs", "jpg"])
@pytest.mark.parametrize("labels", ["target", "fine_label", "cls"])
def test_keys_that_data_sets_use(inputs, labels):
    x, y = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    (batch,) = batches([{inputs: x, labels: y, "other": "text"}], labels=True)
    assert batch.inputs is x and batch.labels.tolist() == [0, 1, 2]

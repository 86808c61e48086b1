"""What a worker loads: kernels of few sizes of batch before the first request, or a refusal."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ConfigError, DataError
from gradood.serve import _subject
from gradood.serve._subject import LoadedSubject, Subject, load_subject


def test_a_worker_computes_every_size_of_batch_before_it_answers(files, monkeypatch):
    """Kernels of sizes that came later lay between activations, so that the heap grew."""
    rows, tensors = [], LoadedSubject.tensors

    def noted(self, x):
        rows.append(len(x))
        return tensors(self, x)

    monkeypatch.setattr(LoadedSubject, "tensors", noted)
    load_subject(replace(files[0], batch=6))
    assert rows == [6, 4, 3, 2, 1]
    rows.clear()
    monkeypatch.setattr(_subject, "_WARMING", 0.0)  # A large model is not waited for.
    load_subject(replace(files[0], batch=6))
    assert rows == [6, 1]


def test_a_request_of_many_rows_is_computed_in_those_sizes(files, monkeypatch):
    loaded, sizes = load_subject(replace(files[0], batch=8)), []
    predict = loaded._judge.predict

    def noted(x, **options):
        sizes.append(len(x))
        return predict(x, **options)

    monkeypatch.setattr(loaded._judge, "predict", noted)
    x = np.random.default_rng(0).random((23, 1, 8, 8), dtype=np.float32)
    found = loaded.tensors(x)
    assert sizes == [8, 8, 6, 1]
    expected = predict(torch.from_numpy(x)).score.numpy()
    np.testing.assert_allclose(found["score"][1], expected, rtol=1e-5, atol=1e-5)


def test_a_worker_with_a_graph_computes_every_size_too(files, tmp_path, monkeypatch):
    """Pixels are bytes there; an input of any size cannot be made before it comes."""

    class Judge:
        detectors, combine, overrides = ("energy",), None, ()

        def predict(self, x):
            seen.append((x.shape, x.dtype))
            raise DataError("enough was seen")

    for shape, kinds in (([4, 4, 3], [((2, 4, 4, 3), np.uint8)]), ([-1, -1, 3], [])):
        seen = []
        subject = Subject(detector=None, onnx="graph.onnx", batch=2)
        loaded = LoadedSubject(subject, Judge(), "0", None, shape, "uint8")
        if kinds:
            with pytest.raises(DataError, match="enough"):
                loaded.warm()
        else:
            loaded.warm()
        assert seen == kinds


class Ids(nn.Module):
    """The mean of embeddings, under a linear head."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.word, self.head = nn.Embedding(20, 6), nn.Linear(6, num_classes)

    def forward(self, ids, mask=None):
        weights = torch.ones_like(ids) if mask is None else mask
        return self.head((self.word(ids) * weights[..., None]).sum(1) / weights.sum(1)[:, None])


@pytest.mark.parametrize("named", [False, True])
def test_a_model_of_whole_numbers_or_named_inputs_is_refused_at_the_start(
    named, tmp_path, monkeypatch
):
    """The server said that it serves, and refused or failed each request."""
    monkeypatch.setitem(sys.modules, "ids_net", types.SimpleNamespace(ids=Ids))
    torch.manual_seed(0)
    model, ids = Ids().eval(), torch.randint(1, 20, (60, 5))
    batch = {"ids": ids, "mask": torch.ones_like(ids)} if named else ids
    torch.save(model.state_dict(), tmp_path / "w.pt")
    monitor = gradood.Monitor(model, "energy").calibrate([batch], fpr=0.1)
    monitor.save(tmp_path / "d.safetensors")
    subject = Subject(
        detector=str(tmp_path / "d.safetensors"),
        model="ids_net:ids",
        weights=str(tmp_path / "w.pt"),
    )
    with pytest.raises(ConfigError, match="one tensor of floats"):
        load_subject(subject)

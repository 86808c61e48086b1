"""What a stream of batches may be: keys, sizes, numbers, lengths, and no place for messages."""

import sys
import time

import pytest
import torch
from torch import nn

import gradood
from gradood import Monitor
from gradood._engine.batches import INPUT_KEYS, LABEL_KEYS, batches, inputs_in, labels_in
from gradood._engine.partials import DataSummary
from gradood._engine.progress import on_terminal
from gradood.detectors import KNN, Mahalanobis
from gradood.errors import DataError
from gradood.functional.samples import Chunks, Rows
from gradood.training._sample_form import label_of
from gradood.training._samples import image_of

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(60, 3, 4, 4, generator=GENERATOR)
Y = torch.arange(60) % 3


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()


# -- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", INPUT_KEYS)
@pytest.mark.parametrize("labels", LABEL_KEYS)
def test_a_mapping_means_the_same_in_fit_evaluate_and_training(inputs, labels):
    item = {inputs: X, labels: Y}
    assert inputs_in(item) is X and labels_in(item) is Y
    (batch,) = batches([item], labels=True)
    assert torch.equal(batch.inputs, X) and torch.equal(batch.labels, Y)
    expected = Monitor(linear(), "mahalanobis").fit([(X, Y)])
    monitor = Monitor(linear(), "mahalanobis").fit([item])
    assert torch.equal(monitor.score([item]), expected.score(X))
    assert image_of({inputs: X[0], labels: 1}) is not None
    assert label_of({inputs: X[0], labels: 1}) == 1


# -- sizes --------------------------------------------------------------------------------------


def test_chunks_keep_their_order_in_few_blocks():
    total = Chunks.of(0)
    for number in range(1, 1000):
        total += Chunks.of(number)
    assert list(total) == list(range(1000)) and len(total) == 1000
    assert len(total.blocks) <= 10
    parts = [Chunks.of(number) for number in range(9)]
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part + right
    assert list(right) == list(range(9))


class Item:
    """An item that counts how often a block with it is copied."""

    moves = 0


@pytest.mark.parametrize("kind", ["summary", "rows", "chunks"])
def test_bookkeeping_does_not_grow_with_the_square_of_the_batches(kind):
    low, high = torch.zeros(3), torch.ones(3)

    def value(number):
        key = torch.full((2,), number)
        if kind == "rows":
            return Rows.of(key=key, feature=key.double())
        if kind == "summary":
            return DataSummary(Chunks.of(key), None, low, high)
        return Chunks.of(key)

    def moved(count):
        """References copied by merging so many batches, one after the other."""
        total, moves = value(0), 0
        for number in range(1, count):
            before = total
            total = total + value(number) if kind == "chunks" else total.merge(value(number))
            old = {id(block) for block in blocks(before)}
            moves += sum(len(block) for block in blocks(total) if id(block) not in old)
        return moves

    def blocks(total):
        return total.blocks if kind == "chunks" else total.chunks.blocks

    assert moved(4000) / moved(2000) <= 2.5


@pytest.mark.slow
def test_twice_the_batches_take_about_twice_the_time():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    monitor = Monitor(model, KNN(k=1), progress=False)
    batch = torch.randn(1, 4, generator=GENERATOR)
    monitor.bind(batch)
    summary = DataSummary.of(batch, torch.zeros(64, dtype=torch.int64))

    def seconds(count):
        start = time.perf_counter()
        total = summary
        for _ in range(count):
            total = total.merge(summary)
        _ = total.keys
        return time.perf_counter() - start

    seconds(1000)
    once = min(seconds(10_000) for _ in range(3))
    assert min(seconds(20_000) for _ in range(3)) <= 2.5 * once


# -- lengths ------------------------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.fc = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.embed(x).mean(1))


def ids(rows, length, seed=0):
    return torch.randint(2, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_token_ids_of_any_length_are_fitted_calibrated_scored_and_saved(tmp_path):
    data = [(ids(30, 10), Y[:30]), (ids(30, 12, 1), Y[30:])]
    model = Tokens().eval()
    monitor = Monitor(model, ["energy", KNN(k=2), Mahalanobis()]).fit(data)
    monitor.calibrate([ids(100, 7, 2), ids(100, 15, 3)], fpr=0.1)
    results = monitor.predict([ids(5, 12, 4), ids(5, 9, 5)])
    with torch.no_grad():
        logits = torch.cat([model(ids(5, 12, 4)), model(ids(5, 9, 5))])
    torch.testing.assert_close(
        results["energy"].score, -logits.double().logsumexp(1), rtol=1e-6, atol=1e-6
    )
    monitor.save(tmp_path / "t.safetensors")
    again = gradood.load(tmp_path / "t.safetensors", Tokens().eval())
    assert torch.equal(again.predict(ids(5, 9, 5))["knn"].p_value, results["knn"].p_value[5:])


def test_other_lengths_than_a_fit_saw_are_saved_too(tmp_path):
    monitor = Monitor(Tokens().eval(), "energy")
    monitor.bind(ids(4, 9))
    monitor.calibrate([ids(60, 7)]).save(tmp_path / "t.safetensors")
    gradood.load(tmp_path / "t.safetensors", Tokens().eval())


def test_widths_of_features_and_channels_are_still_compared():
    wide = nn.Sequential(nn.Linear(4, 3)).eval()
    monitor = Monitor(wide, "energy")
    monitor.score(torch.randn(3, 4))
    with pytest.raises(DataError, match=r"is \(batch, 5\) float32; expected \(batch, 4\)"):
        monitor.score(torch.randn(3, 5))

    class Bytes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x.float().mean((2, 3))[:, :3])

    monitor = Monitor(Bytes().eval(), "energy")
    monitor.score(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"expected .*3, 4, 4"):
        monitor.score(torch.zeros(2, 4, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("labels", [nn.functional.one_hot(Y[:6]), ids(6, 3) % 2])
def test_one_hot_labels_are_no_batch_of_tokens(labels):
    with pytest.raises(DataError, match=r"give \[\(x, y\)\]"):
        list(batches((ids(6, 9), labels)))
    assert [len(batch.inputs) for batch in batches([ids(6, 9), ids(4, 12)])] == [6, 4]


# -- no place for messages ------------------------------------------------------------------------


class Closed:
    closed = True

    def isatty(self):
        raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("stream", [None, Closed()])
@pytest.mark.parametrize("progress", [None, False, True])
def test_a_service_without_stderr_fits_scores_and_decides(monkeypatch, stream, progress):
    if progress and stream is not None:
        pytest.skip("a bar was asked for where there is a stream")
    monkeypatch.setattr(sys, "stderr", stream)
    assert not on_terminal()
    monitor = Monitor(linear(), [KNN(k=2), "energy"], progress=progress)
    monitor.fit(X.split(20)).calibrate(X.split(20), allow_overlap="a drill")
    assert monitor.predict(X.split(20))["knn"].score.shape == (60,)

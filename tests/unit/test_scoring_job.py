"""A job: one row for every image, whatever it is and whatever becomes of it."""

import io
import json
import logging
import multiprocessing
import os
import signal
import time

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from scoring_fake import IDENTITY, Answer, Fake, content, job, put, rows
from torch.utils.data import DataLoader

from gradood.batch import Settings, list_images, score_images
from gradood.data import Preprocess
from gradood.errors import ConfigError, DataError


@pytest.fixture
def images(tmp_path):
    for i in range(40):
        put(tmp_path / "in", f"{i:02}.png", 6 * i)
    return tmp_path / "in"


def test_every_image_is_a_row_in_order(images, tmp_path):
    monitor = Fake()
    summary = job(images, tmp_path / "out", monitor)
    found = rows(tmp_path / "out")
    assert [row["id"] for row in found] == [f"{i:02}.png" for i in range(40)]
    for i, row in enumerate(found):
        assert row["uri"] == str(images / row["id"])
        assert row["score"] == row["mean.score"] == pytest.approx(6 * i / 255 / 3)
        assert row["p_value"] == row["mean.p_value"] == pytest.approx(1 - row["score"], abs=0.011)
        assert row["is_ood"] is row["mean.is_ood"] is (row["score"] > 0.5)
        assert row["label"] == int(row["score"] * 10)
        assert (row["status"], row["error"], row["overrides"]) == ("ok", None, None)
        assert row["artifact"] == "a" * 64
    assert monitor.seen == [(4, 3, 4, 4), (4, 3, 4, 4), (2, 3, 4, 4)] * 4
    assert (summary.rows, summary.finished, summary.shards, summary.resumed) == (40, 40, 4, 0)
    assert summary.complete and summary.stopped is None and summary.unscored == 0
    assert summary.statuses == {"ok": 40}
    assert json.loads((tmp_path / "out" / "_summary.json").read_text()) == summary.to_dict()


def test_workers_change_nothing(images, tmp_path):
    job(images, tmp_path / "here", workers=0)
    state = torch.get_rng_state()
    job(images, tmp_path / "there", workers=2)
    assert content(tmp_path / "here") == content(tmp_path / "there")
    assert torch.equal(state, torch.get_rng_state())
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("combine", [None, "fisher"])
def test_columns_of_several_detectors(images, tmp_path, combine):
    monitor = Fake({"a": None, "b": None}, combine, ("another model: it is fine",), bare=False)
    summary = job(images, tmp_path / "out", monitor)
    names = pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).names
    heads = [f"{name}.{part}" for name in "ab" for part in ("score", "p_value", "is_ood")]
    fused = ["score", "p_value", "is_ood"] if combine else []
    last = ["label", "status", "error", "overrides", "artifact"]
    assert names == ["id", "uri", *heads, *fused, *last]
    row = rows(tmp_path / "out")[3]
    assert row["b.score"] == pytest.approx(row["a.score"] + 0.1)
    assert row.get("score", row["a.score"] + 0.05) == pytest.approx(row["a.score"] + 0.05)
    assert row["overrides"] == "another model: it is fine"
    assert set(summary.flagged) == {"a", "b", *(["decision"] if combine else [])}


@pytest.mark.parametrize("combine", [None, "fisher"])
def test_a_promise_per_class_says_which_rows_their_class_decided(images, tmp_path, combine):
    monitor = Fake({"a": None, "b": None}, combine, bare=False, per_class=True)
    (images / "05.png").write_bytes(b"broken")
    job(images, tmp_path / "out", monitor)
    heads = ["a.", "b.", *([""] if combine else [])]
    for i, row in enumerate(rows(tmp_path / "out")):
        assert {name for name in row if "class_conditional" in name} == {
            f"{head}class_conditional" for head in heads
        }
        for head in heads:
            expected = i != 5 and int(10 * row[f"{head}score"]) % 2 == 0
            assert row[f"{head}class_conditional"] is expected
    with pytest.raises(ConfigError, match="per_class"):
        job(images, tmp_path / "out", Fake({"a": None, "b": None}, combine, bare=False))


def test_one_detector_in_a_list_decides(images, tmp_path):
    job(images, tmp_path / "out", Fake(bare=False))
    assert all(row["score"] == row["mean.score"] for row in rows(tmp_path / "out"))


def test_images_of_different_sizes(tmp_path):
    for i in range(8):
        put(tmp_path / "in", f"{i}.png", 10 * i, (4, 4) if i % 3 else (6, 5))
    monitor = Fake()
    job(tmp_path / "in", tmp_path / "out", monitor)
    assert monitor.seen == [(2, 3, 5, 6), (2, 3, 4, 4), (3, 3, 4, 4), (1, 3, 5, 6)]
    assert [row["score"] for row in rows(tmp_path / "out")] == pytest.approx(
        [10 * i / 255 / 3 for i in range(8)]
    )


def test_what_is_wrong_with_an_image_is_in_its_row(images, tmp_path):
    (images / "05.png").write_bytes(b"")
    (images / "06.png").write_bytes(b"<html>")
    stream = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(stream, "JPEG")
    (images / "07.png").write_bytes(stream.getvalue())
    odd = os.fsencode(images / "08") + b"\xff.png"
    os.rename(images / "08.png", odd)
    (images / "09.png").write_bytes((images / "09.png").read_bytes()[:50])
    put(images, "10.png", 0, (300, 300))
    summary = job(images, tmp_path / "out", max_pixels=80_000, max_bad_fraction=0.1)
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    status = {name: row["status"] for name, row in found.items() if row["status"] != "ok"}
    lost = {"05.png": "empty", "06.png": "not_an_image", "09.png": "truncated"}
    lost["10.png"] = "too_large"
    scored = {"07.png": "cmyk", "08\\xff.png": "name_not_utf8"}
    assert status == lost | scored
    for name in lost:
        row = found[name]
        assert row["score"] == row["mean.score"] == np.inf
        assert row["p_value"] is row["mean.p_value"] is None
        assert row["is_ood"] is row["mean.is_ood"] is True
        assert row["label"] == -1
        assert row["error"]
    for name in scored:
        assert np.isfinite(found[name]["score"]) and found[name]["p_value"] > 0
        assert found[name]["error"]
    assert summary.unscored == 4
    assert summary.statuses == {"ok": 34, "cmyk": 1, "name_not_utf8": 1} | dict.fromkeys(
        lost.values(), 1
    )
    assert summary.flagged["mean"] == sum(
        row["is_ood"] for row in found.values() if row["id"] not in lost
    )


def test_scores_that_are_not_finite(images, tmp_path):
    class Broken(Fake):
        def predict(self, data, /):
            status = ("nonfinite_input", "nonfinite_score", "ok", "ok")[: len(data)]
            answer = Answer.of(data, status=status)
            answer.score[:3] = torch.tensor([torch.inf, torch.inf, torch.nan])[: len(data)]
            answer.is_ood[:] = False
            return answer

    summary = job(images, tmp_path / "out", Broken(), shard_rows=4, max_bad_fraction=1)
    first = rows(tmp_path / "out")[:4]
    assert [row["status"] for row in first] == ["nonfinite_input", "nonfinite_score", "ok", "ok"]
    assert [row["score"] for row in first[:3]] == [np.inf] * 3
    assert first[2]["is_ood"] is True  # NaN, whatever the answer says.
    assert summary.unscored == 20
    assert "NaN or infinity" in first[0]["error"]


def test_what_the_model_cannot_take(tmp_path):
    class Picky(Fake):
        def predict(self, data, /):
            if data.shape[-1] != 4:
                raise DataError("expected 4 pixels.")
            return super().predict(data)

    for i in range(8):
        put(tmp_path / "in", f"{i}.png", i, (4 + i % 2, 4))
    job(tmp_path / "in", tmp_path / "out", Picky(), max_bad_fraction=1)
    for i, row in enumerate(rows(tmp_path / "out")):
        assert row["status"] == ("not_scored" if i % 2 else "ok")
        assert (row["score"] == np.inf) == bool(i % 2)
    assert row["error"] == "the model cannot take it: expected 4 pixels."


def test_a_preprocessing_that_fails_is_a_row(images, tmp_path):
    def preprocess(image):
        if image.getpixel((0, 0))[0] == 6:
            raise RuntimeError("no\nsuch color")
        if image.getpixel((0, 0))[0] == 12:
            raise MemoryError
        return Preprocess()(image)

    score_images(
        Fake(),
        list_images(str(images)),
        tmp_path / "out",
        preprocess=preprocess,
        identity=IDENTITY,
        settings=Settings(progress=False),
    )
    found = rows(tmp_path / "out")
    assert found[1]["status"] == "not_preprocessed"
    assert found[1]["error"] == "it cannot be preprocessed: RuntimeError: no such color"
    assert found[2]["status"] == "out_of_memory"
    assert [row["status"] for row in found].count("ok") == 38


# -- too many bad -------------------------------------------------------------------------


def test_it_stops_when_too_many_are_certainly_bad(images, tmp_path):
    for i in (0, 11, 12):
        (images / f"{i:02}.png").write_bytes(b"")
    monitor = Fake()
    summary = job(images, tmp_path / "out", monitor)
    assert not summary.complete
    assert summary.stopped == (
        "3 of the first 20 rows could not be scored, more than 0.05 of all 40"
    )
    assert (summary.finished, summary.shards, summary.unscored) == (20, 2, 3)
    assert len(rows(tmp_path / "out")) == 20
    before = len(monitor.seen)
    assert job(images, tmp_path / "out", monitor).stopped == summary.stopped
    assert len(monitor.seen) == before
    more = job(images, tmp_path / "out", monitor, max_bad_fraction=0.1)
    assert more.complete and more.stopped is None and more.resumed == 2


def test_a_share_that_is_allowed_does_not_stop_it(images, tmp_path):
    for i in (0, 1):
        (images / f"{i:02}.png").write_bytes(b"")
    assert job(images, tmp_path / "out").complete  # 2 of 40 are 5 %.


def test_with_nothing_left_there_is_nothing_to_stop(images, tmp_path):
    (images / "39.png").write_bytes(b"")
    summary = job(images, tmp_path / "out", max_bad_fraction=0)
    assert summary.complete and summary.stopped is None and summary.unscored == 1


# -- memory and processes -----------------------------------------------------------------


class Small(Fake):
    """A device on which few images fit at once."""

    def __init__(self, fits, error=None):
        super().__init__()
        self.fits = fits
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    def predict(self, data, /):
        if len(data) > self.fits:
            self.seen.append(None)
            raise self.error
        return super().predict(data)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_halves_the_batch(images, tmp_path, caplog, error):
    job(images, tmp_path / "whole", batch_size=10)
    monitor = Small(3, error)
    with caplog.at_level(logging.WARNING):
        summary = job(images, tmp_path / "out", monitor, batch_size=10)
    assert summary.complete
    assert monitor.seen.count(None) == 2  # 10, 5, and from then on 2.
    assert [shape[0] for shape in monitor.seen[2:]] == [2, 2, 2, 2, 2] * 4
    assert caplog.text.count("out of memory with 10 images at once; going on with 5") == 1
    assert len(caplog.records) == 1
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    # A run that goes on starts with what went well.
    (tmp_path / "out" / "scores-00003-of-00004.parquet").unlink()
    job(images, tmp_path / "out", monitor, batch_size=10)
    assert monitor.seen.count(None) == 2


def test_not_even_one_image_fits(images, tmp_path):
    with pytest.raises(torch.OutOfMemoryError):
        job(images, tmp_path / "out", Small(0))


def test_another_error_of_the_model_is_not_hidden(images, tmp_path):
    monitor = Small(3, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        job(images, tmp_path / "out", monitor)
    assert monitor.seen == [None]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_kills_its_decoder(images, tmp_path, caplog, workers):
    def preprocess(image):
        if image.getpixel((0, 0))[0] == 6 * 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return Preprocess()(image)

    next(iter(DataLoader([0], num_workers=1)))  # torch sets its handler with its first process.
    handler = signal.getsignal(signal.SIGCHLD)
    summary = score_images(
        Fake(),
        list_images(str(images)),
        tmp_path / "out",
        preprocess=preprocess,
        identity=IDENTITY,
        settings=Settings(batch_size=4, shard_rows=20, workers=workers, progress=False),
    )
    assert summary.statuses == {"decoder_crashed": 1, "ok": 39}
    assert rows(tmp_path / "out")[13]["status"] == "decoder_crashed"
    assert "a process that decodes images ended" in caplog.text
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGCHLD) is handler


class Hanging(MemoryFileSystem):
    """A storage that never answers for some files."""

    protocol = "hanging"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("hanging://", "memory://"))

    def _open(self, path, *args, **options):
        if "never" in path:
            time.sleep(600)
        return super()._open(path, *args, **options)


def test_a_read_that_hangs_is_a_row_with_its_reason(images, tmp_path):
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    files = fsspec.filesystem("memory")  # Of the same store.
    for i in range(10):
        files.pipe(f"/h/{i}{'never' if i == 4 else ''}.png", (images / f"{i:02}.png").read_bytes())
    summary = score_images(
        Fake(),
        list_images("hanging://h"),
        tmp_path / "out",
        preprocess=Preprocess(),
        identity=IDENTITY,
        settings=Settings(
            batch_size=3, workers=2, decode_timeout=3.0, progress=False, max_bad_fraction=1
        ),
    )
    files.store.clear()
    assert summary.statuses == {"ok": 9, "timed_out": 1}
    row = pq.read_table(tmp_path / "out").to_pylist()[4]
    assert (row["status"], row["is_ood"], row["score"]) == ("timed_out", True, float("inf"))
    assert row["error"] == "reading and decoding it took longer than 3 seconds"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"decode_timeout": 0}, "decode_timeout is 0; expected seconds above 0, or None"),
        ({"decode_timeout": float("nan")}, "decode_timeout is nan"),
        ({"batch_size": 0}, "batch_size is 0; expected a whole number, at least 1"),
        ({"workers": -1}, "workers is -1"),
        ({"shard_rows": 2.5}, "shard_rows is 2.5"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction is 1.5; expected 0 to 1"),
    ],
)
def test_wrong_settings(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Settings(**wrong)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (None, False), (False, False)])
def test_progress_with_rate_and_remaining_time(images, tmp_path, capsys, progress, shown):
    job(images, tmp_path / "out", progress=progress)  # stderr is no terminal here.
    err = capsys.readouterr().err
    assert ("40/40" in err and "image/s" in err) is shown
    assert (err == "") is not shown


def test_images_on_which_the_model_raises_are_rows_of_their_own(tmp_path):
    """Its ValueError, on some of a batch: these are not scored, and the job goes on."""
    import torch
    from torch import nn

    import gradood

    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(48, 3)

        def forward(self, x):
            if bool((x[:, 0].mean((1, 2)) > 0.9).any()):
                raise ValueError("too red")
            return self.fc(x.flatten(1))

    for i in range(12):
        put(tmp_path / "in", f"{i:02}.png", 250 if i in (3, 4, 9) else 9 * i)
    monitor = gradood.Monitor(Choosy().eval(), "energy")
    monitor.calibrate(0.1 * torch.rand(100, 3, 4, 4))
    summary = job(tmp_path / "in", tmp_path / "out", monitor, max_bad_fraction=1.0)
    assert summary.complete and summary.unscored == 3
    found = {i: row["status"] for i, row in enumerate(rows(tmp_path / "out"))}
    assert [i for i, status in found.items() if status == "not_scored"] == [3, 4, 9]
    (told, *_) = [row["error"] for row in rows(tmp_path / "out") if row["status"] != "ok"]
    assert "the model raised ValueError on the input (batch, 3, 4, 4) float32: too red" in told

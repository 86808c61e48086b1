"""Shards made by workers are those of one process, whatever ends, and go on where it stopped."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from scale_samples import working

import gradood
from gradood.batch import Settings, list_images, load_predictor
from gradood.batch import score_images as score_here
from gradood.data import Preprocess
from gradood.errors import ConfigError, DataError, ModelMismatchError
from gradood.scale import Subject
from gradood.scale._environment import differences, environment
from gradood.scale._scoring import ScoreWork, scored
from gradood.scale._worker import Failure, Worker

SETTINGS = Settings(batch_size=4, shard_rows=10, progress=False)
PREPROCESS = Preprocess()


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A calibrated detector of the sample network."""
    from scale_samples import network

    file = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    monitor = gradood.Monitor(network(), ["energy", "msp"], combine="fisher")
    monitor.calibrate(torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    monitor.save(file)
    return Subject(model="scale_samples:network", detector=str(file))


@pytest.fixture
def images(tmp_path):
    for i in range(47):
        path = tmp_path / "in" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (5 * i, 0, 255 - 5 * i)).save(path)
    (tmp_path / "in" / "13.png").write_bytes(b"no image")
    return tmp_path / "in"


def opened(subject):
    from gradood.artifact import read

    file = Path(subject.detector)
    return load_predictor(read(file), subject.load().model)


def score(subject, images, out, *, settings=SETTINGS, preprocess=PREPROCESS, **pool):
    predictor = opened(subject)
    work = ScoreWork.of(subject, predictor, preprocess, settings)
    identity = predictor.identity(PREPROCESS.to_dict(), "cpu")
    rows = list_images(str(images))
    return scored(work, predictor.monitor, rows, out, identity, partial(working, **pool))


def score_local(subject, images, out, settings=SETTINGS):
    predictor = opened(subject)
    return score_here(
        predictor.monitor,
        list_images(str(images)),
        out,
        preprocess=PREPROCESS,
        identity=predictor.identity(PREPROCESS.to_dict(), "cpu"),
        settings=settings,
    )


def shards(out):
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


@pytest.mark.parametrize("workers", [1, 3])
def test_shards_are_the_bytes_of_one_process(subject, images, tmp_path, workers):
    here = score_local(subject, images, tmp_path / "here")
    there = score(subject, images, tmp_path / "there", workers=workers, order=max)
    assert shards(tmp_path / "there") == shards(tmp_path / "here")
    assert (tmp_path / "there" / "_job.json").read_bytes() == (
        tmp_path / "here" / "_job.json"
    ).read_bytes()
    assert there.statuses == here.statuses == {"not_an_image": 1, "ok": 46}
    assert (there.rows, there.complete, there.flagged) == (47, True, here.flagged)
    line = json.loads((tmp_path / "there" / "_manifest.jsonl").read_text().splitlines()[0])
    assert line["worker"]["threads"] == torch.get_num_threads()


def test_workers_that_end_leave_no_trace_in_the_shards(subject, images, tmp_path):
    score_local(subject, images, tmp_path / "here")
    deaths = {0: 1, 2: 2, 4: 3}

    def dies(task):
        deaths[task.index] = deaths.get(task.index, 0) - 1
        return deaths[task.index] >= 0

    score(subject, images, tmp_path / "there", dies=dies)
    assert shards(tmp_path / "there") == shards(tmp_path / "here")


def test_either_goes_on_with_a_job_of_the_other(subject, images, tmp_path):
    whole = tmp_path / "whole"
    score_local(subject, images, whole)
    for first, second in ((score, score_local), (score_local, score)):
        out = tmp_path / first.__name__
        first(subject, images, out)
        finished = (out / "_manifest.jsonl").read_text().splitlines(keepends=True)
        (out / "_manifest.jsonl").write_text("".join(finished[:2]))
        summary = second(subject, images, out)
        assert (summary.resumed, summary.shards, summary.complete) == (2, 5, True)
        assert shards(out) == shards(whole)


def test_a_finished_job_starts_no_worker(subject, images, tmp_path):
    score_local(subject, images, tmp_path / "out")
    predictor = opened(subject)
    work = ScoreWork.of(subject, predictor, PREPROCESS, SETTINGS)
    identity = predictor.identity(PREPROCESS.to_dict(), "cpu")
    rows = list_images(str(images))
    assert scored(work, predictor.monitor, rows, tmp_path / "out", identity, None).complete


class Deadly(Preprocess):
    """Ends its process at one shade."""

    def __call__(self, image):
        if image.getpixel((0, 0))[0] == 5 * 22:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


def test_a_row_that_ends_its_process_costs_itself(subject, images, tmp_path):
    """Decoded in the worker, it would end the worker: that is what `dies` stands for."""
    summary = score(
        subject,
        images,
        tmp_path / "out",
        preprocess=Deadly(),
        dies=lambda task: 22 in task.rows and not task.careful,
    )
    assert summary.statuses == {"decoder_crashed": 1, "not_an_image": 1, "ok": 45}
    assert summary.complete


def test_too_many_bad_rows_stop_the_job(subject, images, tmp_path):
    for i in range(20):
        (images / f"{i:02}.png").write_bytes(b"")
    summary = score(subject, images, tmp_path / "out", workers=1)
    assert summary.stopped is not None
    assert not summary.complete


def test_another_job_is_refused(subject, images, tmp_path):
    score(subject, images, tmp_path / "out")
    with pytest.raises(ConfigError, match="batch_size was 4 and is 5"):
        score(subject, images, tmp_path / "out", settings=Settings(batch_size=5, shard_rows=10))


# ---------------------------------------------------------------- refusals at the start


def begun(subject, images, **changes):
    from dataclasses import replace

    work = ScoreWork.of(subject, opened(subject), PREPROCESS, SETTINGS)
    rows = list_images(str(images))
    return replace(work, source=rows, readable=(0, len(rows) - 1), **changes)


def test_another_model_is_refused(subject, images):
    failure = Worker().open(begun(subject, images, model="0" * 64), environment(), 1, [])
    assert isinstance(failure.error(), ModelMismatchError)
    assert "model of a worker is another" in failure.text


def test_other_versions_are_refused_before_anything_is_opened(subject, images):
    driver = environment() | {"torch": "1.0"}
    failure = Worker().open(None, driver, 1, [])
    assert isinstance(failure.error(), OSError)
    assert f"torch is 1.0 here and {torch.__version__} there" in failure.text
    assert differences(environment(), environment()) == []


def test_a_machine_without_the_data_is_refused(subject, images):
    work = begun(subject, images)
    images.rename(images.parent / "elsewhere")
    failure = Worker().open(work, environment(), 1, [])
    assert isinstance(failure.error(), OSError)
    assert "which the driver can" in failure.text


def test_one_image_that_is_gone_is_a_row_and_no_refusal(subject, images):
    work = begun(subject, images)
    (images / "00.png").unlink()
    assert Worker().open(work, environment(), 1, []) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("a"), DataError),
        (OSError("b"), OSError),
        (gradood.errors.BadImageError("c", "empty"), DataError),
        (KeyError("d"), RuntimeError),
        (torch.cuda.OutOfMemoryError("e"), MemoryError),
    ],
)
def test_an_exception_crosses_as_words(error, kind):
    failure = Failure.of(error)
    assert type(failure.error()) is kind
    assert str(error).strip("'") in failure.text

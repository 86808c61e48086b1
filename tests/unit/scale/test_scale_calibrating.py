"""Thresholds set by workers are those of one process, to the last bit."""

from functools import partial

import pytest
import torch
from PIL import Image
from scale_samples import CLASSES, network, working

import gradood
from gradood.artifact import read
from gradood.artifact.tensors import to_torch
from gradood.calibration import Promise
from gradood.data import loader, open_images
from gradood.errors import CalibrationError, DataError, ModelMismatchError
from gradood.scale import Loading, Subject
from gradood.scale._calibrating import CalibrationWork, calibrated

pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.CoverageWarning")


def images(folder, count, seed):
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        path = folder / str(i % CLASSES) / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (8, 8, 3), generator=rng, dtype=torch.uint8)
        if seed and i % 7 == 0:  # Copies, which count as one content.
            pixels = torch.full((8, 8, 3), 10 * (i % 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return open_images(folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrating")
    monitor = gradood.Monitor(network(), ["energy", "knn", "mahalanobis"], combine="fisher")
    monitor.fit(loader(images(folder / "fit", 40, 0)))
    monitor.save(folder / "fitted.safetensors")
    subject = Subject(model="scale_samples:network", detector=str(folder / "fitted.safetensors"))
    return subject, images(folder / "held_out", 150, 1), folder


def test_thresholds_are_the_same_bits(fitted, tmp_path):
    subject, data, _ = fitted
    known, deaths = [], iter([True, True])
    for name, pool in (
        ("here", None),
        ("one", {"workers": 1}),
        ("three", {"workers": 3, "order": max}),
        ("killed", {"dies": lambda task: next(deaths, False)}),
    ):
        predictor = subject.opened()[1]
        if pool is None:
            predictor.monitor.calibrate(loader(data, batch_size=4), fpr=0.1)
        else:
            work = CalibrationWork.of(subject, predictor, data, Loading(batch_size=4))
            calibrated(predictor.monitor, work, Promise(0.1), False, None, partial(working, **pool))
        predictor.monitor.save(tmp_path / name)
        known.append(read(tmp_path / name))
    for one in known[1:]:
        assert one.verified.manifest.calibration == known[0].verified.manifest.calibration
        assert one.arrays.keys() == known[0].arrays.keys()
        for key, stored in known[0].arrays.items():
            assert torch.equal(to_torch(one.arrays[key]), to_torch(stored)), key


def test_what_one_process_refuses_is_refused(fitted, tmp_path):
    subject, data, folder = fitted
    predictor = subject.opened()[1]

    def attempted(rows, promise=Promise(0.1), **changes):  # noqa: B008
        from dataclasses import replace

        work = CalibrationWork.of(subject, predictor, rows, Loading(batch_size=8))
        calibrated(predictor.monitor, replace(work, **changes), promise, False, None, working)

    with pytest.raises(CalibrationError, match="40 of 40 calibration samples were also fitted on"):
        attempted(open_images(folder / "fit"))
    with pytest.raises(CalibrationError):
        attempted(data, Promise(0.0001))
    with pytest.raises(ModelMismatchError, match="detector's file of a worker is another"):
        attempted(data, artifact="0" * 64)
    broken = images(tmp_path / "broken", 20, 2)
    (tmp_path / "broken" / "0" / "008.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"008\.png"):
        attempted(broken)
    assert "not calibrated" in repr(predictor.monitor)

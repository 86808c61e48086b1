"""Broken training images left out up to a limit; images that are known and outliers at once."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset

from gradood.data import open_images
from gradood.data._copies import shared_images
from gradood.errors import ConfigError, DataError, GradoodWarning
from gradood.training import Options, Trainer, TrainingData, load_recipe
from gradood.training._sound_images import without_bad_images


def png(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for i in range(40):
        path = tmp_path / "id" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    (tmp_path / "id" / "a" / "00.png").write_bytes(b"")
    (tmp_path / "id" / "b" / "01.png").write_bytes(png(1)[:60])
    return tmp_path / "id"


def recipe(method):
    own = load_recipe(method)
    return replace(
        own,
        batch=replace(own.batch, id=4),
        schedule=replace(own.schedule, steps=3),
        validation=replace(own.validation, id=4),
    )


def test_a_run_goes_on_without_them(folder, tmp_path, caplog):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    data = TrainingData(id=open_images(folder))
    options = Options(progress=False, max_bad_fraction=0.05)
    trained = Trainer(net, recipe("plain"), data, out=tmp_path / "out", options=options).fit()
    assert trained.data == {"id": 34, "id_held_out": 4, "id_left_out": 2}
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["data"]["id_left_out"] == 2
    assert "2 of 40 id images are left out" in caplog.text and "00.png" in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_limit_is_refused(folder, workers):
    data = TrainingData(id=open_images(folder))
    with pytest.raises(DataError, match=r"2 of 40 id images cannot be used, more than 0\.01"):
        without_bad_images(data, 0.01, workers=workers)
    sound, counts = without_bad_images(data, 0.05, workers=workers)
    assert len(sound.id) == 38 and counts == {"id_left_out": 2}
    assert sound.id_classes == ("a", "b")
    with pytest.raises(ConfigError, match="max_bad_fraction is 2"):
        Options(max_bad_fraction=2)


def test_copies_among_the_outliers_are_told(folder, tmp_path):
    (tmp_path / "aux").mkdir()
    for i in range(6):
        (tmp_path / "aux" / f"other{i}.png").write_bytes(png(100 + i))
    (tmp_path / "aux" / "copy.png").write_bytes(png(5))
    known, aux = open_images(folder), open_images(tmp_path / "aux")
    assert shared_images(known, aux) == [("b/05.png", "copy.png")]
    assert shared_images(ConcatDataset([aux[:1], known]), aux[1:]) == []
    pq.write_table(pa.table({"image": [png(7), png(300)]}), tmp_path / "aux.parquet")
    table = open_images(tmp_path / "aux.parquet")
    assert shared_images(known, table) == [("b/07.png", "aux.parquet:0")]
    (folder / "a" / "00.png").write_bytes(png(0))
    (folder / "b" / "01.png").write_bytes(png(1))
    data = TrainingData(id=known, aux=aux, aux_classes=("x",))
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    own = recipe("oe")
    own = replace(own, validation=replace(own.validation, aux=2))
    options = Options(progress=False)
    with pytest.warns(GradoodWarning, match=r"1 auxiliary outliers are images .*'copy\.png' is"):
        Trainer(net, own, data, out=tmp_path / "out", options=options).fit()

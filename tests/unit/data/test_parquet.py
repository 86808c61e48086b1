"""Parquet images: conventions, columns, shards, lazy reading, and damage."""

import io
import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gradood.data import ParquetImages, Preprocess
from gradood.errors import ConfigError, DataError

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(shade):
    stream = io.BytesIO()
    Image.new("L", (4, 4), shade).save(stream, "PNG")
    return stream.getvalue()


def structs(count, first=0):
    rows = range(first, first + count)
    return pa.array([{"bytes": png(i), "path": f"dir/{i}.png"} for i in rows], HF)


def write(path, group=3, metadata=None, **columns):
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
    return path


@pytest.fixture
def ten(tmp_path):
    """Ten images in four row groups; pixel value, label and name tell the row."""
    return write(
        tmp_path / "ten.parquet",
        image=structs(10),
        label=pa.array([i % 3 for i in range(10)]),
        name=pa.array([f"n{i}" for i in range(10)]),
    )


def shade(image):
    return round(float(image.max()) * 255)


def test_hugging_face_convention(ten):
    dataset = ParquetImages(ten)
    assert len(dataset) == 10
    assert dataset.labeled
    assert dataset.labels.tolist() == [i % 3 for i in range(10)]
    assert dataset.num_classes == 3
    assert dataset.classes is None
    for i in (0, 3, 9, 5, -1):
        image, label = dataset[i]
        assert image.shape == (3, 4, 4)
        assert (shade(image), label, dataset.name(i)) == (i % 10, i % 10 % 3, f"n{i % 10}")
        assert type(label) is int


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_without_labels_and_names(tmp_path, kind):
    path = write(tmp_path / "x.parquet", group=2, image=pa.array([png(i) for i in range(5)], kind))
    dataset = ParquetImages(path, Preprocess(mode="L"))
    assert [shade(image) for image in dataset] == [0, 1, 2, 3, 4]
    assert dataset.labels is None
    assert dataset.num_classes is None
    assert dataset.name(4) == "x.parquet:4"


def test_path_is_the_name_where_there_is_no_other(tmp_path):
    rows = [{"bytes": png(0), "path": None}, {"bytes": png(1), "path": "p.png"}]
    dataset = ParquetImages(write(tmp_path / "x.parquet", image=pa.array(rows, HF)))
    assert [dataset.name(0), dataset.name(1)] == ["x.parquet:0", "p.png"]


def test_columns_of_other_names(tmp_path):
    path = write(
        tmp_path / "c100.parquet",
        picture=structs(4),
        breed=pa.array([5, 4, 3, 2], pa.uint8()),
        id=pa.array(["a", "b", "c", "d"]),
    )
    options = {"image_column": "picture", "label_column": "breed", "name_column": "id"}
    dataset = ParquetImages(path, **options)
    assert (dataset[1][1], dataset.name(1), dataset.num_classes) == (4, "b", 6)
    assert not ParquetImages(path, image_column="picture").labeled
    assert not ParquetImages(path, labeled=False, **options).labeled
    with pytest.raises(
        ConfigError, match=r"no column 'image' in .* choose from breed, id, pict.*preprocess="
    ):
        ParquetImages(path)
    with pytest.raises(ConfigError, match=r"no column 'bred' .* mean 'breed'"):
        ParquetImages(path, image_column="picture", label_column="bred")
    with pytest.raises(ConfigError, match="no column 'label'"):
        ParquetImages(path, image_column="picture", labeled=True)
    with pytest.raises(ConfigError, match="no column 'names'"):
        ParquetImages(path, image_column="picture", name_column="names")


def test_names_that_data_sets_use_are_known(tmp_path):
    numbers = pa.array([5, 4], pa.uint8())
    path = write(
        tmp_path / "c100.parquet", img=structs(2), coarse_label=numbers, fine_label=numbers
    )
    dataset = ParquetImages(path)
    assert dataset.labels.tolist() == [5, 4]
    assert ParquetImages(path, label_column="coarse_label").labeled
    with pytest.raises(ConfigError, match=r"no column 'imag' .* 'img'"):
        ParquetImages(path, image_column="imag")


def test_columns_of_wrong_types(tmp_path):
    text = write(tmp_path / "text.parquet", image=pa.array([1.5]))
    with pytest.raises(DataError, match=r"'image' .* is double; expected binary"):
        ParquetImages(text)
    words = write(tmp_path / "words.parquet", image=structs(2), label=pa.array([0.5, 1.5]))
    with pytest.raises(DataError, match=r"'label' .* is double; expected integers"):
        ParquetImages(words)
    assert isinstance(ParquetImages(words, labeled=False)[0], torch.Tensor)


@pytest.mark.parametrize(
    ("features", "classes"),
    [
        ({"label": {"_type": "ClassLabel", "names": ["ant", "bee", "cat", "dog"]}}, 4),
        ({"label": {"_type": "Value"}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_names_of_classes(tmp_path, features, classes):
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    labels = pa.array([1, 0])
    path = write(tmp_path / "x.parquet", metadata=metadata, image=structs(2), label=labels)
    dataset = ParquetImages(path)
    assert (dataset.classes and len(dataset.classes)) == classes
    assert dataset.num_classes == (classes or 2)


def test_missing_values(tmp_path):
    rows = [{"bytes": png(0), "path": "a"}, {"bytes": None, "path": "b"}, None]
    path = write(tmp_path / "x.parquet", image=pa.array(rows, HF), label=pa.array([0, 1, None]))
    dataset = ParquetImages(path)
    assert dataset[0][1] == 0
    for i in (1, 2):
        with pytest.raises(DataError, match=rf"row {i} of '.*x\.parquet' .* holds no bytes"):
            dataset[i]
    with pytest.raises(DataError, match="1 of 3 rows have no label in 'label'"):
        _ = dataset.labels
    label = write(tmp_path / "y.parquet", image=structs(1), label=pa.array([None], pa.int64()))
    with pytest.raises(DataError, match=r"row 0 of '.*y\.parquet' has no label"):
        ParquetImages(label)[0]


def test_broken_image_is_named(tmp_path):
    good, bad = write_pair(tmp_path)
    dataset = ParquetImages(tmp_path)
    assert shade(dataset[0]) == 7
    with pytest.raises(DataError, match=rf"row 1 of '{bad}' cannot be used: its 7 bytes"):
        dataset[2]
    assert good != bad


def write_pair(folder):
    good = write(folder / "a.parquet", image=pa.array([png(7)]))
    return good, write(folder / "b.parquet", image=pa.array([png(8), b"no good"]))


def test_shards_in_order_of_their_names(tmp_path):
    for number in (2, 0, 1):
        write(
            tmp_path / f"train-{number:05d}-of-00003.parquet",
            image=structs(number + 1, first=10 * number),
            label=pa.array([number] * (number + 1)),
        )
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden.parquet").write_text("about")
    dataset = ParquetImages(tmp_path)
    assert [shade(image) for image, _ in dataset] == [0, 10, 11, 20, 21, 22]
    assert dataset.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert [dataset.name(i) for i in (0, 5)] == ["dir/0.png", "dir/22.png"]


def test_shards_that_do_not_belong_together(tmp_path):
    train = write(tmp_path / "train-00000-of-00002.parquet", image=structs(1))
    with pytest.raises(DataError, match=r"1 of 2 shards of 'train' are missing .*\(00001\)"):
        ParquetImages(tmp_path)
    train.rename(tmp_path / "train.parquet")
    write(tmp_path / "test.parquet", image=structs(1))
    with pytest.raises(DataError, match="holds the splits test, train"):
        ParquetImages(tmp_path)
    (tmp_path / "train.parquet").unlink()
    write(tmp_path / "more.parquet", image=pa.array([png(1)]))
    with pytest.raises(DataError, match="expected the same in all files"):
        ParquetImages(tmp_path)


def test_only_the_row_groups_asked_for_are_read_and_few_are_kept(ten, monkeypatch):
    reads = []
    read = pq.ParquetFile.read_row_group

    def counted(self, group, columns=None, **options):
        reads.append((group, tuple(columns)))
        return read(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    dataset = ParquetImages(ten, cache_bytes=0)
    assert reads == []
    for i in range(10):
        dataset[i]
    both = ("image.bytes", "label")
    assert reads == [(0, both), (1, both), (2, both), (3, both)]
    dataset[9], dataset[0], dataset[1]
    assert reads[4:] == [(0, both)]
    assert dataset.labels is not None
    assert reads[5:] == [(group, ("label",)) for group in range(4)]
    reads.clear()
    cached = ParquetImages(ten)
    for i in (0, 9, 1, 8, 0, 5, 4):
        cached[i]
    assert [group for group, _ in reads] == [0, 3, 2, 1]
    cached[2:4][0], cached[5:][2]
    assert len(reads) == 4


def test_slices_share_and_pickles_do_not_carry_what_was_read(ten):
    dataset = ParquetImages(ten)[2:9:3]
    assert [shade(image) for image, _ in dataset] == [2, 5, 8]
    assert dataset.labels.tolist() == [2, 2, 2]
    assert dataset.num_classes == 3
    sent = pickle.dumps(dataset)
    assert png(2) not in sent
    copy = pickle.loads(sent)
    assert [shade(image) for image, _ in copy] == [2, 5, 8]
    assert copy.name(1) == "n5"


def test_empty_file(tmp_path):
    path = write(tmp_path / "x.parquet", image=structs(0), label=pa.array([], pa.int64()))
    dataset = ParquetImages(path)
    assert len(dataset) == 0
    assert dataset.labels.shape == (0,)
    assert dataset.num_classes == 0
    write(tmp_path / "y.parquet", image=structs(2), label=pa.array([1, 2]))
    write(tmp_path / "z.parquet", image=structs(0), label=pa.array([], pa.int64()))
    assert [shade(image) for image, _ in ParquetImages(tmp_path)] == [0, 1]


def test_damaged_files(tmp_path, ten):
    whole = ten.read_bytes()
    path = tmp_path / "cut.parquet"
    for content in (b"", b"PAR1", b"<html>", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.parquet' cannot be read as Parquet"):
            ParquetImages(path)
    # The footer is sound, the first pages are not.
    path.write_bytes(whole[:4] + bytes(400) + whole[404:])
    dataset = ParquetImages(path)
    with pytest.raises(DataError, match=r"cut\.parquet"):
        dataset[0]


def test_absent_and_empty_places(tmp_path):
    with pytest.raises(DataError, match="no Parquet file or folder"):
        ParquetImages(tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"no \.parquet file in"):
        ParquetImages(tmp_path)


def test_size_of_the_cache_is_checked(ten):
    with pytest.raises(ConfigError, match="cache_bytes is -1"):
        ParquetImages(ten, cache_bytes=-1)


@pytest.mark.real
def test_cifar10(shared):
    dataset = ParquetImages(shared / "data" / "cifar10_test.parquet", Preprocess(resize=32))
    assert (len(dataset), dataset.num_classes) == (10_000, 10)
    assert torch.bincount(dataset.labels).tolist() == [1000] * 10
    image, label = dataset[9_999]
    assert image.shape == (3, 32, 32)
    assert label == dataset.labels[-1]
    assert np.unique([dataset.name(i) for i in range(0, 10_000, 100)]).size == 100


def test_a_path_that_is_not_utf8_is_read_as_any_other(ten, tmp_path):
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    odd = folder / os.fsdecode(b"ten\xff.parquet")
    odd.write_bytes(ten.read_bytes())
    for found in (ParquetImages(odd), pickle.loads(pickle.dumps(ParquetImages(folder)))):
        assert [shade(image) for image, _ in found] == list(range(10))
        assert found.content() == ParquetImages(ten).content()
        assert found.labels.tolist() == ParquetImages(ten).labels.tolist()
    odd.write_bytes(ten.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"cannot be read as Parquet"):
        ParquetImages(odd)


def test_rows_are_the_same_by_content_and_place(ten, tmp_path):
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(ten.read_bytes())
    whole = list(ParquetImages(ten).origins())
    assert len(set(whole)) == 10
    assert list(ParquetImages(copy)[3:7].origins()) == whole[3:7]
    other = write(tmp_path / "other.parquet", image=structs(10))
    assert not set(whole) & set(ParquetImages(other).origins())

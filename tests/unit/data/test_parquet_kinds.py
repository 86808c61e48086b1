"""Kinds of Parquet columns that data sets have: views, dictionaries, lists, paths, partitions."""

import io

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gradood.data import ParquetImages, Preprocess, list_images, open_images
from gradood.errors import BadImageError, DataError

GRAY = Preprocess(mode="L")


def png(shade):
    buffer = io.BytesIO()
    Image.new("L", (2, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(i) for i in range(4)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shades(dataset):
    return [round(float((x if isinstance(x, torch.Tensor) else x[0]).max()) * 255) for x in dataset]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


IMAGES = {
    "large": pa.array(PNGS, pa.large_binary()),
    "view": pa.array(PNGS, pa.binary_view()),
    "dictionary": pa.array(PNGS).dictionary_encode(),
    "numbers": pa.array([list(one) for one in PNGS], pa.list_(pa.uint8())),
    "large numbers": pa.array([list(one) for one in PNGS], pa.large_list(pa.uint8())),
    "list": pa.array([[one] for one in PNGS], pa.list_(pa.binary())),
    "list of structs": pa.array([[{"bytes": one, "path": "p"}] for one in PNGS], pa.list_(STRUCT)),
    "struct of large": pa.array(
        [{"bytes": one} for one in PNGS], pa.struct([("bytes", pa.large_binary())])
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(tmp_path, kind):
    path = write(tmp_path / "x.parquet", image=IMAGES[kind], label=[0, 1, 0, 1])
    found = open_images(path, GRAY)
    assert shades(found) == [0, 1, 2, 3]
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert len(list_images(str(path)).id(3)) > 0


def test_several_images_or_none_in_a_row(tmp_path):
    path = write(
        tmp_path / "x.parquet", image=pa.array([PNGS[:2], [], None], pa.list_(pa.binary()))
    )
    source = list_images(str(path))
    with pytest.raises(BadImageError, match="holds 2 images; expected one"):
        source.encoded(0)
    for row in (1, 2):
        with pytest.raises(BadImageError, match="holds no bytes"):
            source.encoded(row)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), None])
def test_paths_are_relative_to_the_file(tmp_path, kind):
    names = [f"images/{i}.png" for i in range(3)] + [str(tmp_path / "elsewhere.png")]
    (tmp_path / "d" / "images").mkdir(parents=True)
    for name, content in zip(names, PNGS, strict=True):
        (tmp_path / "d" / name).write_bytes(content)
    column = pa.array(names).dictionary_encode() if kind is None else pa.array(names, kind)
    path = write(tmp_path / "d" / "x.parquet", image=column)
    found = open_images(path, GRAY)
    assert shades(found) == [0, 1, 2, 3]
    before, stamps = found.content(), list_images(str(path)).stamps()
    (tmp_path / "d" / names[1]).write_bytes(png(9))
    assert found.content() != before
    after = list_images(str(path)).stamps()
    assert [a == b for a, b in zip(stamps, after, strict=True)] == [True, False, True, True]


LABELS = {
    "text": (pa.array(["dog", "cat", "dog", "ant"]), [2, 1, 2, 0], ("ant", "cat", "dog")),
    "view": (pa.array(["b", "a", "b", "a"], pa.string_view()), [1, 0, 1, 0], ("a", "b")),
    "dictionary": (
        pa.array(["b", "a", "b", "a"]).dictionary_encode(),
        [1, 0, 1, 0],
        ("a", "b"),
    ),
    "numbers as text": (pa.array(["10", "2", "0", "2"]), [10, 2, 0, 2], None),
    "dictionary of numbers": (pa.array([7, 3, 7, 3]).dictionary_encode(), [7, 3, 7, 3], None),
    "bool": (pa.array([True, False, True, False]), [1, 0, 1, 0], None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(tmp_path, kind):
    column, labels, classes = LABELS[kind]
    path = write(tmp_path / "x.parquet", img=pa.array(PNGS), target=column)
    found = open_images(path, GRAY)
    assert (found.labels.tolist(), found.classes) == (labels, classes)
    assert [label for _, label in found] == labels
    assert open_images(f"{path}[:2]").labels.tolist() == list_sample(labels)
    assert shades(open_images(path, GRAY, labeled=False)) == [0, 1, 2, 3]


def list_sample(labels):
    from gradood.data._sampling import even_sample

    return [labels[row] for row in even_sample(labels, 2)]


def test_a_row_without_its_text_label(tmp_path):
    path = write(
        tmp_path / "x.parquet", image=pa.array(PNGS), label=pa.array(["a", None, "b", "a"])
    )
    found = open_images(path)
    with pytest.raises(DataError, match=r"row 1 of .* has no label in 'label'"):
        found[1]
    with pytest.raises(DataError, match="1 of 4 rows have no label"):
        _ = found.labels


def test_partitions(tmp_path):
    for place, shards in (("label=cat", PNGS[:2]), ("label=a%20dog", PNGS[2:])):
        write(tmp_path / "h" / place / "part-0.parquet", image=pa.array(shards))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in (tmp_path / "h").rglob("*.parquet"):
        memory.pipe(f"/h/{path.relative_to(tmp_path / 'h').as_posix()}", path.read_bytes())
    for uri in (str(tmp_path / "h"), "memory://h"):
        found = open_images(uri, GRAY)
        assert isinstance(found, ParquetImages)
        assert shades(found) == [2, 3, 0, 1]
        assert (found.classes, found.labels.tolist()) == (("a dog", "cat"), [0, 0, 1, 1])
        source = list_images(f"{uri}[:2]")
        assert [source.id(row).partition("/")[0] for row in range(2)] == [
            "label=a%20dog",
            "label=cat",
        ]
    assert not open_images(tmp_path / "h", labeled=False).labeled
    assert len(open_images(tmp_path / "h" / "label=cat")) == 2
    for split in ("train", "test"):
        write(tmp_path / "s" / f"split={split}" / "x.parquet", image=pa.array(PNGS))
    with pytest.raises(DataError, match="holds the splits split=test, split=train"):
        open_images(tmp_path / "s")
    memory.store.clear()

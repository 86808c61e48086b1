"""Lists of images, and what tells the content of data sets apart."""

import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gradood.data import ImageFolder, ImageList, ParquetImages, Preprocess, open_images
from gradood.data._listing import read_list
from gradood.errors import DataError


@pytest.fixture
def place(tmp_path):
    for i, name in enumerate(["a/0.png", "a/1 b.png", "c/2.png"]):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), 40 * i).save(path)
    (tmp_path / "list.txt").write_text("c/2.png 1\na/1 b.png 0\n\na/0.png 2\n", encoding="utf-8")
    (tmp_path / "ood.txt").write_text("a/0.png -1\n", encoding="utf-8")
    return tmp_path


def test_the_order_the_labels_and_the_names_are_those_of_the_list(place):
    found = ImageList(place / "list.txt", Preprocess(mode="L"), root=place / "images")
    assert [round(float(x.mean()) * 255) for x, _ in found] == [80, 40, 0]
    assert found.labels.tolist() == [1, 0, 2]
    assert [found.name(i) for i in range(3)] == ["c/2.png", "a/1 b.png", "a/0.png"]
    assert found[1:].labels.tolist() == [0, 2]


def test_a_list_is_opened_by_its_name_and_can_be_sliced(place):
    found = open_images(f"{place / 'list.txt'}[:2]", Preprocess(mode="L"), root=place / "images")
    assert isinstance(found, ImageList) and len(found) == 2
    beside = place / "images" / "own.txt"
    beside.write_text("a/0.png 0\n", encoding="utf-8")
    assert open_images(beside)[0][0].shape == (3, 2, 2)


def test_outliers_have_no_labels(place):
    found = ImageList(place / "ood.txt", root=place / "images")
    assert not found.labeled and found.labels is None
    with pytest.raises(DataError, match=r"has no label, or negative ones; expected classes from 0"):
        ImageList(place / "ood.txt", labeled=True)


@pytest.mark.parametrize(
    "line",
    [
        *("a/0.png", "a/0.png x", "/etc/a.png 0", "../a.png 0", "7", "a/../../b.png 3"),
        *("a\0.png 3", f"a/0.png {10**20}", "a/0.png 1_0"),
    ],
)
def test_a_line_that_is_none_is_named(place, line):
    (place / "bad.txt").write_text(f"a/0.png 0\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2 of .*bad.txt.* expected a path inside"):
        read_list(place / "bad.txt", inside=True)


def test_a_list_that_is_no_text_is_refused(place):
    (place / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot be read: it is not UTF-8"):
        read_list(place / "bad.txt")
    with pytest.raises(DataError, match=r"No such file"):
        read_list(place / "absent.txt")


def test_an_absent_image_is_named_when_it_is_read(place):
    found = ImageList(place / "list.txt", root=place)
    with pytest.raises(DataError, match=r"2.png' cannot be used: it cannot be opened"):
        found[0]


def test_content_is_that_of_the_images_in_their_order_whatever_they_are_called(place):
    listed = ImageList(place / "list.txt", root=place / "images")
    folder = ImageFolder(place / "images", labeled=False)
    assert listed.content() != folder.content()
    assert listed.subset([2, 1, 0]).content() == folder.content()
    last = listed[:1].content()
    os.rename(place / "images" / "c" / "2.png", place / "images" / "c" / "9.png")
    assert ImageFolder(place / "images", labeled=False)[2:].content() == last
    before = ImageFolder(place / "images", labeled=False)[2:].content()
    Image.new("L", (2, 2), 9).save(place / "images" / "c" / "9.png")
    assert ImageFolder(place / "images", labeled=False)[2:].content() != before


def test_content_of_parquet_is_its_file_and_the_rows(tmp_path):
    def file(name, label):
        stream = io.BytesIO()
        Image.new("L", (2, 2)).save(stream, "PNG")
        columns = {"image": [stream.getvalue()] * 4, "label": [label] * 4}
        pq.write_table(pa.table(columns), tmp_path / name)
        return ParquetImages(tmp_path / name)

    one, same, other = file("a.parquet", 1), file("b.parquet", 1), file("c.parquet", 2)
    assert one.content() == same.content() != other.content()
    assert one[:2].content() != one[2:].content()
    assert one.subset([0, 1]).content() == one[:2].content() != one.subset([1, 0]).content()
    assert torch.equal(one.labels, torch.ones(4, dtype=torch.int64))


@pytest.mark.parametrize("name", ["a\u2028b.png", "a\x85b.png", "a\x0cb\x1c.png", "\u00a0a.png"])
def test_only_a_line_feed_ends_a_line(tmp_path, name):
    Image.new("L", (2, 2), 80).save(tmp_path / name)
    (tmp_path / "list.txt").write_bytes(f"{name} 3\r\n\r\n{name}\t 1\n".encode())
    lines = read_list(tmp_path / "list.txt")
    assert (lines.paths, lines.labels) == ((name, name), (3, 1))
    assert len(list(ImageList(tmp_path / "list.txt"))) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "list.txt").write_bytes("a.png 0\n".encode("utf-8-sig"))
    lines = read_list(tmp_path / "list.txt")
    assert (lines.paths, lines.labels) == (("a.png",), (0,))


def test_an_image_file_is_the_same_by_whatever_path(place, monkeypatch):
    (place / "link").symlink_to("images")
    (place / "own").mkdir()
    (place / "own" / "x.png").symlink_to("../images/a/0.png")
    monkeypatch.chdir(place)
    whole = list(ImageFolder("images", labeled=False).origins())
    assert whole == [
        str(place.resolve() / "images" / name) for name in ("a/0.png", "a/1 b.png", "c/2.png")
    ]
    assert list(ImageFolder(place / "own" / ".." / "link").origins()) == whole
    assert list(ImageFolder("own").origins()) == whole[:1]
    assert list(ImageList("list.txt", root="images")[1:].origins()) == [whole[1], whole[0]]

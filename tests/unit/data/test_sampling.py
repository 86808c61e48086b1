"""Even samples: the same in Python, shell and suites, of every class its share."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradood.data import ImageFolder, list_images, open_images
from gradood.data._sampling import drawn_rows, even_sample
from gradood.data.dataset import joint_sample
from gradood.errors import ConfigError


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 70), st.integers(0, 3))
def test_every_class_has_its_share(groups, count, seed):
    rows = even_sample(groups, count, seed=seed)
    assert rows == sorted(set(rows)) and len(rows) == min(count, len(groups))
    assert rows == even_sample(groups, count, seed=seed)
    sizes, drawn = Counter(groups), Counter(groups[row] for row in rows)
    if len(sizes) <= count:
        assert drawn.keys() == sizes.keys()
    if len(set(sizes.values())) == 1 and rows:
        assert max(drawn.values()) - min(drawn[group] for group in sizes) <= 1
    for group, size in sizes.items():
        assert drawn[group] <= size
        assert drawn[group] <= count * size / len(groups) + 1 or count >= len(groups)


def test_without_classes_the_whole_listing_is_covered():
    rows = even_sample([None] * 1000, 100)
    assert [row // 10 for row in rows] == list(range(100))
    assert rows != even_sample([None] * 1000, 100, seed=1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 45))
def test_a_slice_and_its_rest_are_the_whole(groups, at):
    first, rest = drawn_rows(groups, slice(None, at)), drawn_rows(groups, slice(at, None))
    assert sorted([*first, *rest]) == list(range(len(groups)))
    assert list(drawn_rows(groups, slice(0, at))) == list(range(len(groups)))[:at]
    assert list(drawn_rows(groups, slice(-at or None, None))) == list(range(len(groups)))[-at:]


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("abcde"):
        for i in range(6):
            path = tmp_path / "in" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2), 6 * number + i).save(path)
    return tmp_path / "in"


def test_the_same_images_by_every_way(folder):
    dataset = open_images(f"{folder}[:10]")
    names = [dataset.name(i) for i in range(10)]
    assert dataset.labels.bincount().tolist() == [2] * 5
    source = list_images(f"{folder}[:10]")
    assert [source.name(row) for row in range(10)] == names
    assert names == [ImageFolder(folder).sample(10).name(i) for i in range(10)]
    bare = open_images(f"{folder}[:10]", labeled=False)
    assert not bare.labeled and [bare.name(i) for i in range(10)] == names
    listed = folder / "list.txt"
    whole = ImageFolder(folder)
    lines = [f"{whole.name(i)} {whole.labels[i]}" for i in range(30)]
    listed.write_text("\n".join(lines))
    assert [open_images(f"{listed}[:10]").name(i) for i in range(10)] == names
    assert open_images(f"{folder}[0:10]").labels.tolist() == [0] * 6 + [1] * 4
    assert whole[:10].labels.tolist() == [0] * 6 + [1] * 4  # A sequence, as any other.
    assert whole.sample(3).sample(2).labels is not None
    with pytest.raises(ConfigError, match="count is -1"):
        whole.sample(-1)


def test_a_limit_over_several_sets_is_one_draw(folder):
    whole = ImageFolder(folder)
    parts = joint_sample([whole[:12], whole[12:]], 10)
    labels = [label for part in parts for label in part.labels.tolist()]
    assert Counter(labels) == dict.fromkeys(range(5), 2)
    assert [len(p) for p in joint_sample([whole[:12], whole[12:]], 5, first=True)] == [5, 0]
    assert [len(p) for p in joint_sample([whole[:12], whole[12:]], None)] == [12, 18]

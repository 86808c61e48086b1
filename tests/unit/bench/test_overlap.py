"""Which images of a run are in two sets that should have none in common."""

import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gradood.bench._leakage import warn_of_overlap
from gradood.bench.entries import LoadedEntry
from gradood.data import open_images


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two folders of ten images, one of them also as Parquet."""
    for name, shade in (("known", 0), ("other", 100)):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (2, 2), shade + number).save(tmp_path / name / f"{number}.png")
    images = [path.read_bytes() for path in sorted((tmp_path / "other").iterdir())]
    pq.write_table(pa.table({"image": images}), tmp_path / "other.parquet")
    (tmp_path / "copy.parquet").write_bytes((tmp_path / "other.parquet").read_bytes())
    (tmp_path / "link").symlink_to("known")
    monkeypatch.chdir(tmp_path)


def told(fit, known, unknown, val=None, *, chosen=False):
    opened = LoadedEntry(
        model=None,
        subject=None,
        fit=tuple(map(open_images, fit)),
        val=None if val is None else open_images(val),
        id=open_images(known),
        ood={"far": open_images(unknown)},
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_overlap(opened, chosen=chosen)
    return [str(one.message).partition(":")[0] for one in found]


@pytest.mark.parametrize(
    ("fit", "known", "unknown", "expected"),
    [
        (["known[:5]"], "known[5:]", "other", []),
        ([], "known", "other", []),
        (["./link"], "known", "other", ["10 of the 10 ID images are among the fit data"]),
        (
            ["known[0:4]", "known[3:6]"],
            "link[2:10]",
            "other",
            ["4 of the 8 ID images are among the fit data"],
        ),
        (
            ["known[:5]"],
            "other.parquet[0:6]",
            "copy.parquet[4:10]",
            ["2 of the 6 images of OOD far are ID images too"],
        ),
        (
            ["copy.parquet[9:10]"],
            "known",
            "other.parquet",
            ["1 of the 10 images of OOD far are among the fit data"],
        ),
    ],
)
def test_the_same_images_by_whatever_name(place, fit, known, unknown, expected):
    assert told(fit, known, unknown) == expected


def test_validation_images_matter_only_where_something_is_chosen_on_them(place):
    assert told([], "known", "other", "link[:3]") == []
    message = "3 of the 10 ID images are among the validation images"
    assert told([], "known", "other", "link[:3]", chosen=True) == [message]

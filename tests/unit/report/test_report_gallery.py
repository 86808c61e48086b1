import base64
import io

import numpy as np
import pytest
from PIL import Image
from report_samples import thumbnails

from gradood.errors import DataError
from gradood.report._gallery import extremes, fitting, wanted


def test_extremes_are_those_of_a_stable_sort(rng):
    scores = rng.integers(0, 30, 200).astype(float)
    found = extremes(scores, 8)
    by_score = sorted(range(200), key=lambda i: (scores[i], i))
    assert [index for index, _ in found["least"]] == by_score[:8]
    by_score = sorted(range(200), key=lambda i: (-scores[i], i))
    assert [index for index, _ in found["most"]] == by_score[:8]
    assert [score for _, score in found["most"]] == [scores[i] for i in by_score[:8]]


def test_extremes_of_few_and_of_infinite_scores():
    found = extremes(np.array([1.0, np.inf, -2.0]), 8)
    assert found["most"] == [[1, "inf"], [0, 1.0], [2, -2.0]]
    assert found["least"] == [[2, -2.0], [0, 1.0], [1, "inf"]]


def gallery(count: int) -> dict:
    ends = {
        "most": [[i, 1.0] for i in range(8)],
        "least": [[i, 0.0] for i in range(count - 8, count)],
    }
    return {"svhn": {"knn": ends}, "id": {"knn": ends, "msp": ends}}


def test_each_image_is_on_its_sheet_once_at_the_place_told():
    def colored(name: str, indices: list[int]) -> list[Image.Image]:
        return [Image.new("RGB", (40, 32), (10 * i, 250 - 10 * i, 128)) for i in indices]

    made = fitting([gallery(20), gallery(20)], colored, 10**6)
    assert made is not None
    assert (made.shown, made.side) == (8, 32)
    sheet = made.sheets["svhn"]
    assert sheet["at"] == [*range(8), *range(12, 20)]
    assert sheet["source"].startswith("data:image/jpeg;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(sheet["source"].split(",")[1])))
    assert picture.size == (32 * sheet["columns"], 32 * sheet["rows"])
    for position, index in enumerate(sheet["at"]):
        row, column = divmod(position, sheet["columns"])
        pixel = picture.getpixel((32 * column + 16, 32 * row + 16))
        assert pixel == pytest.approx((10 * index, 250 - 10 * index, 128), abs=6)


def test_less_room_means_fewer_thumbnails_and_then_none():
    shown = []
    for room in (10**6, 8_000, 6_000, 100, 0):
        made = fitting([gallery(100)], thumbnails, room)
        shown.append(0 if made is None else made.shown)
        if made is not None:
            assert sum(len(sheet["source"]) for sheet in made.sheets.values()) <= room
    assert shown[0] == 8
    assert shown[-2:] == [0, 0]
    assert shown == sorted(shown, reverse=True)
    assert 0 < shown[2] < 8


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (500, 375), (30, 900)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_of_any_size_and_mode_fit(size, mode):
    made = fitting([gallery(20)], lambda name, at: [Image.new(mode, size) for _ in at], 10**6)
    assert made is not None
    assert made.side == (64 if min(size) > 48 else 32)


def test_a_set_without_images_has_no_sheet_and_a_wrong_number_is_refused():
    made = fitting([gallery(20)], lambda n, at: thumbnails(n, at) if n == "id" else [], 10**6)
    assert made is not None
    assert list(made.sheets) == ["id"]
    assert fitting([gallery(20)], lambda n, at: [], 10**6) is None
    with pytest.raises(DataError, match=r"16 images of set 'svhn' were asked for and 1 came"):
        fitting([gallery(20)], lambda n, at: thumbnails(n, at[:1]), 10**6)


def test_what_is_wanted_is_ascending_and_shared_by_methods_and_runs():
    assert wanted([gallery(20), gallery(24)], 2)["id"] == [0, 1, 12, 13, 16, 17]

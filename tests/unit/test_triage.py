"""Triage: the procedure, groups, the random sample, and what marks may be used for."""

import csv
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gradood.data import list_images
from gradood.data._extras import table_of
from gradood.errors import CalibrationError, DataError
from gradood.triage import (
    Details,
    FeedBack,
    Items,
    PageOptions,
    check_known,
    feed_back,
    open_rows,
    read_details,
    read_items,
    read_marks,
    review_sample,
    selection_of,
    steps,
)
from gradood.triage._groups import groups
from gradood.triage._page import content, write_page
from gradood.triage._table_rows import row_texts
from gradood.triage._thumbnails import thumbnail_sheets

NONE = Details({}, {}, {})


def items(p: list[float], ids: list[str] | None = None, labels: list[int] | None = None) -> Items:
    p_value = np.array(p, np.float64)
    ids = [f"{i:03d}.png" for i in range(len(p))] if ids is None else ids
    return Items(
        ids=ids,
        uris=[f"/in/{one}" for one in ids],
        names=("energy", "knn"),
        each=np.stack([p_value, np.minimum(1, 2 * p_value)]),
        p_value=p_value,
        score=-p_value,
        flagged=~(p_value > 0.05),
        label=np.array(labels or [0] * len(p)),
        status=["ok"] * len(p),
        artifact="a" * 64,
        job="f" * 64,
        place="",
    )


def slow(p: np.ndarray, rate: float) -> int:
    ordered = sorted(p)
    return max([k + 1 for k, v in enumerate(ordered) if v <= rate * (k + 1) / len(p)], default=0)


def test_the_procedure_is_that_of_the_definition():
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.choice(np.arange(1, 102) / 101, 60) ** generator.integers(1, 4)
        for step in steps(p):
            assert step.count == slow(p, step.rate)
            assert step.count == int((p <= step.largest).sum())
    assert [s.count for s in steps(np.array([]))] == [0] * len(steps(np.array([])))


def test_any_dependence_costs_the_harmonic_sum():
    p = np.array([0.001, 0.02, 0.03])
    assert steps(p, (0.05,))[0].count == 3
    assert steps(p, (0.05,), any_dependence=True)[0].count == 1


def test_the_false_discovery_rate_holds_on_conformal_p_values():
    generator = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        known, scores = generator.normal(size=300), generator.normal(size=200)
        scores[150:] += 3
        p = (1 + (known[None] >= scores[:, None]).sum(1)) / 301
        (step,) = steps(p, (0.2,))
        called = p <= step.largest
        shares.append(called[:150].sum() / max(1, called.sum()))
    mean, error = float(np.mean(shares)), float(np.std(shares) / 20)
    assert 0.1 < mean <= 0.2 * 0.75 + 3 * error


def test_groups_of_features_are_seeded_and_know_no_order():
    generator = np.random.default_rng(2)
    centers = generator.normal(size=(3, 8)) * 4
    rows = np.repeat(centers, 12, 0) + generator.normal(size=(36, 8)) / 10
    one = items(list(generator.uniform(0, 0.05, 36)))
    details = Details(dict(zip(one.ids, rows.astype(np.float32), strict=True)), {}, {})
    found = groups(one, range(36), details, 0)
    assert sorted(i for group in found for i in group.members) == list(range(36))
    for group in found:  # No group has members of two centers.
        assert len({i // 12 for i in group.members}) == 1
        assert set(group.representatives) <= set(group.members)
        assert list(one.p_value[list(group.members)]) == sorted(one.p_value[list(group.members)])
    again = groups(one, list(range(36))[::-1], details, 0)
    assert [g.members for g in again] == [g.members for g in found]


def test_groups_without_features_are_by_class_and_detectors():
    one = items([0.01, 0.02, 0.04, 0.03, np.nan], labels=[1, 1, 1, 2, 0])
    found = groups(one, range(5), NONE, 0)
    assert [group.members for group in found] == [(0, 1, 2), (3,), (4,)]
    assert "Without a p-value" in found[-1].title and found[-1].members == (4,)


def test_the_sample_depends_on_ids_alone():
    ids = [f"{i}" for i in range(200)]
    one = review_sample(ids, 50, 3, "job")
    assert review_sample(ids[::-1], 50, 3, "job") == one
    assert review_sample(ids, 50, 4, "job").ids != one.ids
    assert review_sample(ids, 999, 3, "job").rule()["size"] == 200
    assert one.ids[:20] == review_sample(ids, 20, 3, "job").ids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for i in range(20):
        Image.new("RGB", (8, 8), (i * 10, 0, 0)).save(place / f"{i:03d}.png")
    return place


def export(file: Path, rows: list[tuple[str, str, str]], job: str = "f" * 64) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["job", "id", "mark", "class"])
        writer.writerows([job, *row] for row in rows)
    return file


def test_marks_become_files_that_say_how_they_were_selected(folder, tmp_path):
    one, images = items([i / 40 for i in range(1, 21)]), list_images(str(folder))
    sample = review_sample(one.ids, 6, 0, one.job)
    others = [i for i in one.ids if i not in sample.ids]
    rows = [(i, "known", "") for i in others[:4]] + [(others[5], "unknown", "")]
    rows[0] = (others[0], "known", "7")
    part = feed_back(
        one, read_marks(export(tmp_path / "m.csv", rows), one.job), sample, images, tmp_path / "to"
    )
    assert isinstance(part, FeedBack) and part.open == 6 and part.guessed == 3
    assert part.counts == {"marks": 5, "known": 4, "unknown": 1}
    known = pq.read_table(part.files["known"])
    assert known.column("label").to_pylist() == [7, 0, 0, 0]
    assert known.column("image").to_pylist()[0]["bytes"] == (folder / others[0]).read_bytes()
    with pytest.raises(CalibrationError, match="would void the promise"):
        selection_of(part.files["known"])
    with pytest.raises(CalibrationError, match="would void the promise"):
        selection_of(str(tmp_path / "to"))
    marks = ["known", "unsure", "unknown", "known", "known", "known"]
    rows += [(i, mark, "") for i, mark in zip(sample.ids, marks, strict=True)]
    whole = feed_back(
        one, read_marks(export(tmp_path / "m.csv", rows), one.job), sample, images, tmp_path / "to"
    )
    assert whole.open == 0 and whole.counts["sample"] == 5 and whole.counts["known"] == 4
    (rule,) = selection_of(f"{whole.files['sample']}[:3]")
    assert rule["reviewed"] == {"known": 4, "unknown": 1, "unsure": 1}
    assert rule["selected"] == "random" and rule["size"] == 6 and rule["among"] == 20
    assert selection_of(str(folder)) == []
    marks = read_marks(export(tmp_path / "m.csv", [(others[0], "known", "")]), one.job)
    last = feed_back(one, marks, sample, images, tmp_path / "to")
    assert sorted(file.stem for file in (tmp_path / "to").iterdir()) == ["known", "marks"]
    assert last.files.keys() == {"known", "marks"} and last.open == 6


def marked(file: Path, rule: dict[str, str]) -> Path:
    schema = pa.schema([("x", pa.int64())], {b"gradood.selection": json.dumps(rule).encode()})
    pq.write_table(pa.table({"x": [1]}, schema), file)
    return file


def test_a_rule_is_found_wherever_rows_are_read_from(tmp_path):
    picked = {"selected": "flagged", "mark": "unknown"}
    file = marked(tmp_path / "known.PARQUET", picked)
    fsspec.filesystem("memory").pipe("memory://triage/known.parquet", file.read_bytes())
    (tmp_path / "pooled/label=cat").mkdir(parents=True)
    marked(tmp_path / "pooled/label=cat/a.parquet", picked)
    places = (file, f"{file}[:1]", file.as_uri(), tmp_path / "pooled", "memory://triage")
    for source in map(str, places):
        with pytest.raises(CalibrationError, match="would void the promise"):
            selection_of(source)
        with pytest.raises(DataError, match="marked unknown"):
            check_known(source)
    check_known(str(marked(file, {"selected": "flagged", "mark": "known"})))
    file.write_bytes(b"no Parquet")
    assert selection_of(str(file)) == selection_of(str(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("rows", "job", "match"),
    [
        ([("000.png", "good", "")], "f" * 64, "the mark 'good'"),
        ([("000.png", "known", "-1")], "f" * 64, "the class '-1'"),
        ([("000.png", "known", ""), ("000.png", "known", "")], "f" * 64, "twice"),
        ([("000.png", "known", "")], "0" * 64, "another job"),
        ([], "f" * 64, "marks nothing"),
    ],
)
def test_marks_that_no_page_exported_are_refused(tmp_path, rows, job, match):
    with pytest.raises(DataError, match=match):
        read_marks(export(tmp_path / "m.csv", rows, job), "f" * 64)


def test_a_formula_is_an_id_again(tmp_path):
    marks = read_marks(export(tmp_path / "m.csv", [("'=1+1", "known", "")]), "f" * 64)
    assert list(marks) == ["=1+1"]
    with pytest.raises(DataError, match="no item here"):
        feed_back(items([0.1]), marks, review_sample([], 0, 0, "j"), None, tmp_path / "to")


def test_the_page_holds_nothing_that_html_takes_for_its_own(tmp_path, folder):
    hostile = "</script><img src=x onerror=alert(1)>&\u2028"
    one = items([0.001, 0.5], [hostile, "001.png"])
    details = Details({}, {hostile: hostile}, {hostile: [hostile]})
    page = tmp_path / "page.html"
    options = PageOptions(title=hostile, classes=(hostile,))
    sample = review_sample(one.ids, 1, 0, one.job)
    assert write_page(page, one, sample, details, list_images(str(folder)), options) > 1000
    text = page.read_text("utf-8")
    assert "<img" not in text and text.count("</script>") == 2
    assert "http" not in text.replace('http-equiv="', "").replace("http://www.w3.org/2000/svg", "")
    made = content(one, sample, details, None, options)
    json.dumps(made, allow_nan=False)
    assert made["items"][0]["id"] == hostile and made["tested"] == 2


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(DataError, match="no finished results"):
        read_items(tmp_path)


def test_noise_fills_a_sheet(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(3):
        pixels = generator.integers(0, 255, (256, 256, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.bmp")
    images = list_images(str(tmp_path))
    sheets, places = thumbnail_sheets(images, ["0.bmp", "1.bmp", "2.bmp", "gone"], 256)
    assert len(sheets) == 1 and places == {
        "0.bmp": [0, 0, 0],
        "1.bmp": [0, 1, 0],
        "2.bmp": [0, 0, 1],
    }


def test_rows_of_a_table_are_read_marked_and_rows_again(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("label,width,note\n1,0.5,</script>\n0,1.5,plain\n1,2.5,\n", "utf-8")
    preprocess = {"kind": "features", "numbers": ["width"]}
    rows = open_rows(f"{file}[:2]", preprocess)
    one = replace(items([0.01, 0.02, 0.9], [rows.id(i) for i in range(3)]), preprocess=preprocess)
    sample = review_sample(one.ids, 1, 0, one.job)
    made = content(one, sample, NONE, rows, PageOptions())
    shown = {item["id"]: item["text"] for item in made["items"]}
    assert shown[one.ids[0]] == "label: 1\nwidth: 0.5\nnote: </script>"
    marks = read_marks(export(tmp_path / "m.csv", [(i, "known", "") for i in one.ids]), one.job)
    fed = feed_back(one, marks, sample, rows, tmp_path / "to")
    table = pq.read_table(fed.files["known"])
    assert table.column_names == ["width", "note", "label", "label_given", "name"]
    assert table["label"].to_pylist() == [0, 0] and fed.counts["sample"] == 1
    texts = {"kind": "text", "column": "note"}
    assert row_texts(rows, one.ids[:1], texts) == {one.ids[0]: "</script>"}
    before = sorted((file.name, file.read_bytes()) for file in (tmp_path / "to").iterdir())
    with pytest.raises(DataError, match="marked inputs are not in"):
        feed_back(one, marks, sample, list_images(str(_image(tmp_path))), tmp_path / "to")
    assert before == sorted((file.name, file.read_bytes()) for file in (tmp_path / "to").iterdir())


def _image(folder: Path) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return folder / "a.png"


def test_items_with_features_are_clusters_and_others_profiles():
    one = items([0.01, 0.02, 0.03, 0.04])
    details = Details({i: np.ones(2, np.float32) for i in one.ids[:2]}, {}, {})
    found = groups(one, range(4), details, 0)
    assert [group.members for group in found] == [(0, 1), (2, 3)]
    assert "feature space" in found[0].title and "Taken for class" in found[1].title


def test_items_that_were_not_scored_are_a_group_of_their_own_and_take_no_mark(tmp_path):
    one = items([0.001, np.nan, 0.9, np.nan, np.nan])
    one = replace(one, status=["ok", "broken", "ok", "too_large", "broken"])
    assert one.unscored == {"broken": 2, "too_large": 1}
    sample = review_sample(["000.png", "002.png"], 2, 0, one.job)
    made = content(one, sample, NONE, None, PageOptions())
    assert made["decided"] == 1 and made["unscored"] == one.unscored
    titles = {group["title"]: len(group["members"]) for group in made["groups"]}
    assert titles["Without a p-value: not scored (broken)"] == 2
    assert titles["Without a p-value: not scored (too large)"] == 1
    for mark in ("known", "unknown"):
        marks = read_marks(export(tmp_path / "m.csv", [("001.png", mark, "")]), one.job)
        with pytest.raises(DataError, match=r"not scored, such as '001.png' \(broken\)"):
            feed_back(one, marks, sample, None, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_details_that_are_no_file_say_where_they_come_from(tmp_path):
    with pytest.raises(DataError, match=r"is not there; expected the Parquet file that gradood"):
        read_details(tmp_path / "why.parquet")
    with pytest.raises(DataError, match=r"is a folder; expected"):
        read_details(tmp_path)
    (tmp_path / "why.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match=r"cannot be read as Parquet .*; expected the Parquet file"):
        read_details(tmp_path / "why.parquet")


def test_results_are_read_by_the_calling_thread_alone(tmp_path, monkeypatch):
    """A thread of Arrow that outlives its table aborts the process where the interpreter ends."""
    asked: list[dict[str, object]] = []
    real = pq.ParquetFile.read

    def read(self, **options):
        asked.append(options)
        return real(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    stream = BytesIO()
    pq.write_table(pa.table({"id": ["a"], "why": [["x"]]}), stream)
    assert table_of(stream, ["id"]).column_names == ["id"]
    assert asked == [{"columns": ["id"], "use_threads": False}]

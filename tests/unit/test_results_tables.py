"""Results as tables and back, each number as it was."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scoring_fake import Fake, job, put

from gradood.batch import (
    read_results,
    results_table,
    sample_fields,
    table_of_fields,
    write_results,
)
from gradood.calibration.results import Result, Results
from gradood.errors import DataError


def result(offset, *, status=("ok", "ok", "ok"), **more):
    score = torch.tensor([0.1 + offset, 5e-324, math.pi], dtype=torch.float64)
    score[[one != "ok" for one in status]] = torch.inf
    return Result(
        score=score,
        p_value=torch.tensor([1 / 3, 1.0, 1e-300], dtype=torch.float64),
        is_ood=torch.tensor([False, True, True]),
        label=torch.tensor([3, -1, 2**40]),
        status=status,
        class_conditional=torch.tensor([True, False, offset == 0]),
        overrides=("because; of this", "and that"),
        **more,
    )


def several(**more):
    each = {"energy": result(0.0, **more), "a.b~__c": result(1 / 7, **more)}
    return Results(each, result(2 / 7, **more))


def same(a, b):
    """Whether two results are the same to the last bit."""
    if isinstance(a, Results):
        assert list(a) == list(b) and (a.combined is None) == (b.combined is None)
        names = list(a) if a.combined is None else [*a, "combined"]
        return all(same(a[name], b[name]) for name in names)
    tensors = ("score", "p_value", "is_ood", "label", "class_conditional")
    for name in (*tensors, "content_key", "logits", "features"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        assert x is None or (x.dtype == y.dtype and torch.equal(x, y)), name
    return a.status == b.status and a.overrides == b.overrides


def forms(results, tmp_path, **options):
    """The same results by every way there and back."""
    ids = ["b", "a", "ö"]
    file = tmp_path / "results.parquet"
    write_results(results, file, ids, **options)
    stored = read_results(file)
    assert stored.ids == tuple(ids) and stored.left_out.num_rows == 0
    yield stored.results
    frame = stored.to_pandas()
    yield read_results(frame).results
    pq.write_table(stored.table, tmp_path / "again.parquet")
    yield read_results(tmp_path / "again.parquet").results
    yield read_results(results_table(results, ids, **options)).results


@pytest.mark.parametrize("results", [result(0.0), several(), Results({"msp": result(0.5)})])
def test_results_come_back_to_the_bit(results, tmp_path):
    assert all(same(results, found) for found in forms(results, tmp_path))


def test_what_else_a_result_holds_comes_back_too(tmp_path):
    more = {
        "content_key": torch.tensor([2**62 + 1, -5, 0]),
        "logits": torch.tensor([[0.1, torch.nan], [1e-320, 2.0], [-torch.inf, 0.0]]).double(),
        "features": torch.rand(3, 4),
    }
    results = several(**more)
    for found in forms(results, tmp_path, vectors=True):
        assert torch.equal(found.logits.isnan(), more["logits"].isnan())
        assert torch.equal(found.logits.nan_to_num(9.0), more["logits"].nan_to_num(9.0))
        assert torch.equal(found.features, more["features"])
        assert torch.equal(found["energy"].content_key, more["content_key"])
    assert next(forms(results, tmp_path)).logits is None


def test_a_status_of_one_detector_alone_stays_its_own(tmp_path):
    odd = result(0.0, status=("ok", "nonfinite_score", "ok"))
    results = Results({"energy": odd, "msp": result(0.5)})
    for found in forms(results, tmp_path):
        assert same(results, found) and found.status[1] == "nonfinite_score"


def test_equal_results_are_equal_bytes(tmp_path):
    for name in "ab":
        write_results(several(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_results(tmp_path / "a").ids == ("0", "1", "2")


def test_the_long_form_of_a_notebook_is_read_as_well():
    results = several()
    found = read_results(results.to_pandas()).results
    for name in (*results, "combined"):
        assert torch.equal(found[name].score, results[name].score)
        assert torch.equal(found[name].p_value, results[name].p_value)
        assert torch.equal(found[name].is_ood, results[name].is_ood)


def test_a_folder_of_scores_is_read_with_its_ids(tmp_path):
    for shade in range(25):
        put(tmp_path / "images", f"{shade:02}.png", shade * 10)
    (tmp_path / "images" / "03.png").write_bytes(b"no image")
    job(tmp_path / "images", tmp_path / "out", Fake({"mean": None}))
    stored = read_results(tmp_path / "out")
    assert len(stored.ids) == 24 and "03.png" not in stored.ids
    assert stored.left_out.column("id").to_pylist() == ["03.png"]
    assert stored.table.column("uri")[0].as_py().endswith("00.png")
    assert stored.results.size == 24 and list(stored.results) == ["mean"]
    frame = stored.to_pandas()
    assert same(read_results(frame).results, stored.results)


class DataSet:
    """As much of ``fiftyone.Dataset`` as a round trip needs: fields of samples, found by one."""

    def __init__(self, paths):
        self.samples = [{"filepath": path} for path in paths]

    def set_values(self, name, values, key_field):
        assert "." not in name and not name.startswith("_") and name != "id"
        plain = (str, int, float, bool, type(None))
        for sample in self.samples:
            if sample[key_field] in values:
                value = values[sample[key_field]]
                assert type(value) in plain
                sample[name] = value

    def get_field_schema(self):
        return list(dict.fromkeys(name for sample in self.samples for name in sample))

    def values(self, names):
        return [[sample.get(name) for sample in self.samples] for name in names]


def test_fields_of_samples_come_back_in_the_order_of_the_data_set():
    """FiftyOne's data sets need MongoDB; this stands in for one."""
    results = several()
    table = results_table(results, ["a", "b", "c"])
    fields = sample_fields(table)
    assert fields["gradood_energy__score"] == results["energy"].score.tolist()
    dataset = DataSet(["c", "other", "a", "b"])
    for name, values in fields.items():
        keyed = dict(zip(fields["gradood_id"], values, strict=True))
        dataset.set_values(name, keyed, key_field="filepath")
    names = dataset.get_field_schema()
    assert "filepath" in names
    found = read_results(table_of_fields(dict(zip(names, dataset.values(names), strict=True))))
    assert found.ids == ("c", "a", "b")
    expected = results[[2, 0, 1]]
    for name in (*results, "combined"):
        for part in ("score", "p_value", "is_ood", "label", "class_conditional"):
            assert torch.equal(getattr(found.results[name], part), getattr(expected[name], part))


def test_what_holds_no_results_is_refused(tmp_path):
    with pytest.raises(DataError, match="absent"):
        read_results(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match="no Parquet file"):
        read_results(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="no results, but the columns a"):
        read_results(pa.table({"a": [1]}))
    with pytest.raises(DataError, match="2 ids for 3 samples"):
        results_table(result(0.0), ["a", "b"])
    with pytest.raises(DataError, match=r"\[1, 2\] values"):
        table_of_fields({"a_label": [1], "a_score": [1.0, 2.0], "b": []}, "a_")
    with pytest.raises(DataError, match="finished"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="no results"):
        read_results(table_of_fields({"filepath": ["a"]}))


def test_no_samples_are_a_table_too(tmp_path):
    none = several()[[]]
    write_results(none, tmp_path / "none.parquet")
    assert read_results(tmp_path / "none.parquet").results.size == 0
    assert np.asarray(results_table(none).column("label")).dtype == np.int64

"""What changed between two records: paired where scores are at hand, else from intervals."""

import copy
import math

import numpy as np
import pytest
from arena_samples import GROUPS, record, scores
from scipy.stats import norm

from gradood.bench import Record
from gradood.bench import _diff as diff
from gradood.errors import ConfigError
from gradood.metrics import Analysis, differences, holm

BEFORE = scores()
# The same images, seen a little worse by one method.
AFTER = {
    name: {**methods, "energy": methods["energy"] - (0.15 if name != "id" else 0.0)}
    for name, methods in BEFORE.items()
}


def changes(before, after, *scores, **options):
    """Of two records in the form of their files."""
    return diff.changes(Record.from_dict(before), Record.from_dict(after), *scores, **options)


def both():
    return record({"net": BEFORE}), record({"net": AFTER})


def at(found, method, metric, **place):
    wanted = {"group": None, "ood": None} | place
    return next(
        c
        for c in found.figures
        if (c.method, c.metric, c.group, c.ood) == (method, metric, wanted["group"], wanted["ood"])
    )


def test_the_same_record_has_not_changed():
    a = record({"net": BEFORE})
    for given in ((None, None), ({"net": BEFORE}, {"net": BEFORE})):
        found = changes(a, copy.deepcopy(a), *given, sets=True)
        assert len(found.figures) == 2 * 2 * (3 + 2)
        assert all(c.p == c.p_holm == 1.0 and c.before == c.after for c in found.figures)
        assert all(c.paired == (given[0] is not None) for c in found.figures)
        assert (found.significant, found.worse) == ((), ())
        assert (found.only_before, found.only_after, found.options) == ({}, {}, {})


def test_pairs_of_scores_see_what_intervals_cannot():
    a, b = both()
    apart = changes(a, b)
    assert apart.significant == () and not any(c.paired for c in apart.figures)
    found = changes(a, b, {"net": BEFORE}, {"net": AFTER})
    change = at(found, "energy", "auroc", group="all")
    assert change.paired and change.significant and change.worse
    assert change.after < change.before and change.interval[1] < 0
    assert {c.method for c in found.significant} == {c.method for c in found.worse} == {"energy"}
    assert at(found, "msp", "auroc", group="all").p == 1.0
    back = changes(b, a, {"net": AFTER}, {"net": BEFORE})
    assert back.worse == () and {c.method for c in back.significant} == {"energy"}


def test_the_paired_test_is_that_of_two_methods():
    a, b = both()
    found = changes(a, b, {"net": BEFORE}, {"net": AFTER}, sets=True)
    known = {"new": AFTER["id"]["energy"], "old": BEFORE["id"]["energy"]}
    unknown = {s: {"new": AFTER[s]["energy"], "old": BEFORE[s]["energy"]} for s in GROUPS}
    analysis = Analysis.of(known, unknown)
    row = differences(analysis, "auroc", ["svhn"], [("new", "old")])[0]
    change = at(found, "energy", "auroc", ood="svhn")
    assert change.p == pytest.approx(row["p"], rel=1e-9)
    assert change.interval == pytest.approx(row["interval"], rel=1e-9)
    assert [c.p_holm for c in found.figures] == pytest.approx(holm([c.p for c in found.figures]))


def test_intervals_are_compared_by_the_halves_that_face_each_other():
    a = record({"net": BEFORE})
    b = record({"net": scores(seed=9, shifts={"energy": 0.6, "msp": 1.2})})
    found = changes(a, b)
    change = at(found, "energy", "auroc", group="all")
    rows = [next(r for r in x["runs"][0]["means"] if r["method"] == "energy") for x in (a, b)]
    (low_a, high_a), (low_b, high_b) = (r["intervals"]["auroc"] for r in rows)
    gain = rows[1]["auroc"] - rows[0]["auroc"]
    up = math.hypot(high_b - rows[1]["auroc"], rows[0]["auroc"] - low_a)
    down = math.hypot(rows[1]["auroc"] - low_b, high_a - rows[0]["auroc"])
    assert change.interval == pytest.approx((gain - down, gain + up))
    assert change.p == pytest.approx(2 * norm.sf(-gain / (up / norm.ppf(0.975))))
    assert change.significant and change.worse
    rates = at(found, "energy", "fpr_ood_at_tpr_id95", group="all")
    assert rates.after > rates.before and rates.worse


def test_without_a_change_next_to_nothing_is_found():
    """Forty pairs of records of other samples, six figures each, unpaired."""
    found = 0
    for seed in range(40):
        a, b = (record({"net": scores(seed=seed + s, n=80, m=80)}) for s in (100, 200))
        found += bool(changes(a, b).significant)
    assert found <= 6  # Two expected.


def test_what_only_one_record_has_is_told():
    a, b = both()
    del b["runs"][0]["methods"]["msp"]
    b["runs"][0]["methods"]["knn"] = {**a["runs"][0]["methods"]["msp"], "method": "knn"}
    for part in ("rows", "means"):
        own = [row for row in b["runs"][0][part] if row["method"] == "msp"]
        b["runs"][0][part] += [{**row, "method": "knn"} for row in own]
    b["runs"] += [{**copy.deepcopy(a["runs"][0]), "run": "other"}]
    b["runs"][0]["methods"]["energy"] = {
        **a["runs"][0]["methods"]["energy"],
        "options": {"temperature": 2.0},
    }
    found = changes(a, b)
    assert found.only_before == {"net": ("msp",)}
    assert found.only_after == {"net": ("knn",), "other": ("energy", "msp")}
    assert {c.method for c in found.figures} == {"energy"}
    old, new = found.options["net"]["energy"]
    assert "temperature" not in old and new["temperature"] == 2.0
    told = found.to_dict()
    assert told["compared"] == len(told["figures"]) == 6
    assert told["figures"][0]["significant"] in (True, False)


def test_two_single_networks_are_compared_whatever_their_names():
    a, b = record({"resnet20": BEFORE}), record({"densenet": AFTER})
    assert changes(a, b).figures[0].run == "resnet20 → densenet"
    b["runs"] += [{**copy.deepcopy(b["runs"][0]), "run": "more"}]
    with pytest.raises(ConfigError, match=r"no network in common: resnet20; densenet, more; exp"):
        changes(a, b)


def test_scores_of_part_of_the_methods_are_used_for_these():
    a, b = both()
    part = {name: {"energy": methods["energy"]} for name, methods in AFTER.items()}
    found = changes(a, b, {"net": BEFORE}, {"net": part})
    assert {c.method for c in found.figures if c.paired} == {"energy"}


SETS = record({"net": BEFORE})["suite"]["ood"]
OTHER_ID = {"path": "id", "n": 300, "sha256": "id"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, r"another name, 'made-up' and 'other'; expected the same"),
        ({"version": 2}, r"another version, 1 and 2"),
        ({"ood": [SETS[0]]}, r"different sets, id, cifar100, svhn and id"),
        (
            {"id": {"path": "id", "n": 7, "sha256": "id"}},
            r"different data in set 'id': n 300 and 7",
        ),
        (
            {"id": {"path": "id", "n": 300, "sha256": "x"}},
            r"different data in set 'id': sha256 id and x",
        ),
    ],
)
def test_other_data_is_refused(change, message):
    a = record({"net": BEFORE})
    with pytest.raises(ConfigError, match=message):
        changes(a, record({"net": BEFORE}, **change))


def test_scores_of_another_run_are_refused():
    a, b = both()
    with pytest.raises(ConfigError, match=r"the scores of energy on all give another auroc than"):
        changes(a, b, {"net": BEFORE}, {"net": BEFORE})
    with pytest.raises(ConfigError, match=r"no metric 'aurocs'; did you mean 'auroc'"):
        changes(a, b, metrics=["aurocs"])
    del b["runs"][0]["means"][0]["intervals"]["auroc"]
    with pytest.raises(ConfigError, match=r"energy has no interval of auroc in one of the records"):
        changes(a, b)


def test_unequal_sizes_of_scores_are_not_taken_for_pairs():
    a, b = both()
    fewer = {name: {m: s[:-1] for m, s in methods.items()} for name, methods in AFTER.items()}
    assert not any(c.paired for c in changes(a, b, {"net": BEFORE}, {"net": fewer}).figures)
    assert np.isfinite([c.p for c in changes(a, b).figures]).all()

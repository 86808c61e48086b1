"""Tables: every method on every set, their order, their forms and their intervals."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood import metrics
from gradood.errors import DataError
from gradood.monitor.evaluation import rows_of

with torch.random.fork_rng():
    torch.manual_seed(0)
    MODEL = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
GENERATOR = torch.Generator().manual_seed(11)
ID = 3 * torch.randn(80, 8, generator=GENERATOR)
OOD = {"near": torch.randn(50, 8, generator=GENERATOR), "far": torch.zeros(30, 8)}


@pytest.fixture(scope="module")
def table():
    monitor = gradood.Monitor(MODEL, ["msp", "energy"])
    return gradood.evaluate(monitor, id=ID.split(33), ood=OOD)


def test_every_method_on_every_set_in_order(table):
    assert table.methods == ("msp", "energy") and table.sets == ("near", "far")
    assert [(row.method, row.ood) for row in table.rows] == [
        ("msp", "near"),
        ("msp", "far"),
        ("energy", "near"),
        ("energy", "far"),
    ]
    scores = gradood.Monitor(MODEL, ["msp", "energy"])
    known, unknown = scores.score(ID), scores.score(OOD["near"])
    for method in table.methods:
        assert table[method, "near"] == metrics.summary(known[method], unknown[method])
    assert {(row.n_id, row.n_ood) for row in table.rows} == {(80, 50), (80, 30)}
    with pytest.raises(KeyError):
        _ = table["msp", "nowhere"]


def test_markdown_gives_percent_and_means(table):
    lines = table.markdown().splitlines()
    assert lines[0] == "| method | near | far | mean |"
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert len(lines) == 4 and str(table) == table.markdown()
    cells = [table["msp", name] for name in table.sets]
    fpr = 100 * np.mean([c.fpr_ood_at_tpr_id95 for c in cells])
    auroc = 100 * np.mean([c.auroc for c in cells])
    assert lines[2].startswith("| msp | ") and lines[2].endswith(f"| {fpr:.2f} / {auroc:.2f} |")


def test_one_set_needs_no_mean():
    table = gradood.evaluate(gradood.Monitor(MODEL, "msp"), id=ID, ood={"near": OOD["near"]})
    found = table["msp", "near"]
    assert table.markdown().splitlines() == [
        "| method | near |",
        "| --- | ---: |",
        f"| msp | {100 * found.fpr_ood_at_tpr_id95:.2f} / {100 * found.auroc:.2f} |",
    ]


def test_a_dictionary_survives_json(table):
    rows = json.loads(json.dumps(table.to_dict()))["rows"]
    assert len(rows) == 4
    assert rows[0]["method"] == "msp" and rows[0]["auroc"] == table["msp", "near"].auroc
    assert set(rows[0]["intervals"]) == set(metrics.Summary.__dataclass_fields__)


def test_intervals_hold_the_value_and_may_be_left_out(table):
    for row in table.rows:
        low, high = row.intervals["auroc"]
        assert low <= row.summary.auroc <= high
    monitor = gradood.Monitor(MODEL, "energy")
    bare = gradood.evaluate(monitor, id=ID, ood=OOD, level=None)
    assert all(row.intervals == {} for row in bare.rows)
    assert bare.methods == ("energy",)
    wide = gradood.evaluate(monitor, id=ID, ood=OOD, level=0.99)
    for row in wide.rows:
        narrow = next(r for r in table.rows if (r.method, r.ood) == ("energy", row.ood))
        assert row.intervals["auroc"][0] <= narrow.intervals["auroc"][0]


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth = 0.7602499389065233  # Φ(1/√2)
    hits = {"auroc": 0, "fpr_ood_at_tpr_id95": 0}
    reference = metrics.summary(rng.normal(0, 1, 200_000), rng.normal(1, 1, 200_000))
    assert reference.auroc == pytest.approx(truth, abs=3e-3)
    for i in range(40):
        a, b = rng.normal(0, 1, 100), rng.normal(1, 1, 100)
        found = metrics.intervals(a, b, level=0.9, draws=60, seed=i)
        for name in hits:
            low, high = found[name]
            hits[name] += low <= getattr(reference, name) <= high
    # 36 expected; four standard deviations, and somewhat less of a small bootstrap.
    assert all(27 <= n <= 40 for n in hits.values()), hits


def test_the_combination_is_a_method_too():
    monitor = gradood.Monitor(MODEL, ["msp", "energy"], combine="fisher")
    assert gradood.evaluate(monitor, id=ID, ood=OOD, level=None).methods == ("msp", "energy")
    monitor.calibrate(3 * torch.randn(100, 8, generator=GENERATOR))
    table = gradood.evaluate(monitor, id=ID, ood=OOD, level=None)
    assert table.methods == ("msp", "energy", "combined")
    known, unknown = monitor.predict(ID), monitor.predict(OOD["near"])
    assert table["combined", "near"] == metrics.summary(known.score, unknown.score)


def test_nothing_to_compare_is_refused():
    monitor = gradood.Monitor(MODEL, "energy")
    with pytest.raises(DataError, match="no out-of-distribution set was given"):
        gradood.evaluate(monitor, id=ID, ood={})
    with pytest.raises(DataError, match="energy on empty: ood_scores is empty"):
        gradood.evaluate(monitor, id=ID, ood={"empty": []})
    with pytest.raises(DataError, match=r"m on s: .*NaN"):
        rows_of("s", {"m": torch.zeros(3)}, {"m": torch.tensor([torch.nan])}, level=None)


def test_shifted_sets_count_as_known_over_the_full_spectrum():
    monitor = gradood.Monitor(MODEL, ["msp", "energy"])
    moved = {"dim": 0.5 * ID[:40], "bright": 2 * ID[40:]}
    table = gradood.evaluate(monitor, id=ID, shifted=moved, ood=OOD)
    assert table.rows == gradood.evaluate(monitor, id=ID, ood=OOD).rows
    known = torch.cat([monitor.score(x)["energy"] for x in (ID, *moved.values())])
    wanted = metrics.summary(known, monitor.score(OOD["far"])["energy"])
    assert table.full_spectrum["energy", "far"] == wanted
    assert [(r.method, r.shifted, r.n, r.calibrated) for r in table.shifted] == [
        *(("msp", "dim", 40, False), ("msp", "bright", 40, False)),
        *(("energy", "dim", 40, False), ("energy", "bright", 40, False)),
    ]
    row = table.shifted[2]
    scores = monitor.score(ID)["energy"], monitor.score(moved["dim"])["energy"]
    assert row.flag_rate == pytest.approx(1 - metrics.fpr_ood_at_tpr_id95(*scores), abs=1e-12)
    assert row.id_flag_rate <= 0.05 and row.auroc == metrics.auroc(*scores)
    low, high = row.intervals["flag_rate"]
    assert low <= row.flag_rate <= high
    plain = json.loads(json.dumps(table.to_dict()))
    assert len(plain["full_spectrum"]) == 4 and plain["shifted"][0]["shifted"] == "dim"
    assert "Full spectrum" in table.markdown() and "Full spectrum" in table._repr_html_()
    assert "| method | ID | dim | bright |" in table.markdown()


def test_a_calibrated_monitor_flags_shifted_sets_by_its_own_decisions():
    monitor = gradood.Monitor(MODEL, ["msp", "energy"], combine="cauchy")
    held = 3 * torch.randn(400, 8, generator=torch.Generator().manual_seed(5))
    monitor.calibrate(held, fpr=0.2)
    moved = {"dim": 0.2 * ID}
    table = gradood.evaluate(monitor, id=ID, shifted=moved, ood=OOD, level=None)
    results, known = monitor.predict(moved["dim"]), monitor.predict(ID)
    assert [row.method for row in table.shifted] == ["msp", "energy", "combined"]
    for row in table.shifted:
        assert row.calibrated and row.intervals == {}
        assert row.flag_rate == float(results[row.method].is_ood.double().mean())
        assert row.id_flag_rate == float(known[row.method].is_ood.double().mean())


def test_a_set_has_one_role():
    monitor = gradood.Monitor(MODEL, "energy")
    with pytest.raises(DataError, match="far is both a shifted set and a set of outliers"):
        gradood.evaluate(monitor, id=ID, shifted={"far": ID}, ood=OOD)
    with pytest.raises(DataError, match="shifted is a Tensor"):
        gradood.evaluate(monitor, id=ID, shifted=ID, ood=OOD)


@pytest.mark.parametrize("role", ["ood", "shifted"])
def test_names_of_sets_are_text(role):
    monitor = gradood.Monitor(MODEL, "energy")
    sets = {"ood": OOD, role: {3: ID}}
    with pytest.raises(DataError, match=f"{role} names a set 3; expected text, such as '3'"):
        gradood.evaluate(monitor, id=ID, **sets)

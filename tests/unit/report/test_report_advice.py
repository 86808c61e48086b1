from copy import deepcopy
from typing import Any

import pytest
from report_samples import METHODS, arena, drawn_scores

from gradood.bench import Record
from gradood.report._advice import advice
from gradood.report._views import RecordView


def view_of(record: dict[str, Any]) -> RecordView:
    return RecordView.of(Record.from_dict(record))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return arena(drawn_scores(methods=("a", "b", "c", "odin")))


def told(record: dict[str, Any], **means: float) -> dict[str, Any]:
    """The advice on a record with other mean AUROCs; differences below 0.01 are not significant."""
    made = deepcopy(record)
    for row in made["runs"][0]["means"]:
        row["auroc"] = means.get(row["method"], row["auroc"])
    for row in made["comparisons"]:
        if row["metric"] == "auroc" and row["a"] in means and row["b"] in means:
            row["difference"] = means[row["a"]] - means[row["b"]]
            row["significant"] = abs(row["difference"]) > 0.01
            row["p_holm"] = 0.001 if row["significant"] else 0.4
    read = view_of(made)
    return advice(read, read.runs[0])


def cost(record: dict[str, Any], **times: float) -> dict[str, Any]:
    made = deepcopy(record)
    for method, time in times.items():
        made["runs"][0]["cost"][method]["time_ratio"] = time
    return made


def test_the_cheapest_of_those_not_significantly_worse_is_advised(record):
    made = cost(record, a=1.5, b=1.2, c=1.0, odin=3)
    best, cheapest = told(made, a=0.9, b=0.895, c=0.7, odin=0.6)["picks"][:2]
    assert best["method"] == "a"
    assert "AUROC 90.0\xa0%" in best["text"]
    assert cheapest["method"] == "b"
    assert "1.20 times" in cheapest["text"]
    assert "1.50 times" in cheapest["text"]
    assert "0.5 points below that of a, which is not significant" in cheapest["text"]


def test_the_best_is_kept_where_all_that_is_cheaper_is_significantly_worse(record):
    made = cost(record, a=1.5, b=1.2, c=1.0, odin=3)
    pick = told(made, a=0.9, b=0.8, c=0.7, odin=0.6)["picks"][1]
    assert pick["method"] == "a"
    assert "significantly worse; the best of those, b, by 10.0 points" in pick["text"]
    made = cost(record, a=1.0, b=1.2, c=1.1, odin=3)
    assert "cheapest already" in told(made, a=0.9, b=0.8, c=0.7, odin=0.6)["picks"][1]["text"]


@pytest.mark.parametrize(
    ("times", "chosen", "said"),
    [
        ({"a": 1.05, "b": 1.0}, "a", "cheapest already, at about 1 times"),
        ({"a": 1.1, "b": 0.28}, "a", "less than a factor of 3.6 are not told apart"),
        ({"a": 1.5, "b": 0.5}, "a", "cheapest already, at about 1 times"),
        ({"a": 2.5, "b": 0.95}, "b", "Costs about 1 times the plain forward pass instead of 2.50"),
    ],
)
def test_costs_within_the_noise_of_the_timing_are_not_ranked(record, times, chosen, said):
    made = cost(record, c=3, odin=3, **times)
    pick = told(made, a=0.9, b=0.895, c=0.7, odin=0.6)["picks"][1]
    assert pick["method"] == chosen
    assert said in pick["text"]


def test_of_costs_that_are_not_told_apart_the_better_method_is_advised(record):
    made = cost(record, a=3, b=1.05, c=1.0, odin=3)
    assert told(made, a=0.9, b=0.899, c=0.895, odin=0.6)["picks"][1]["method"] == "b"


def test_a_better_method_with_a_pass_of_its_own_is_told_apart(record):
    found = told(record, a=0.9, b=0.8, c=0.7, odin=0.95)
    assert found["picks"][0]["method"] == "a"
    notes = [note["text"] for note in found["mind"] if note["method"] == "odin"]
    assert "is 5.0 points better (significant), but needs a pass of its own" in notes[0]


def test_nothing_is_claimed_without_comparisons_or_costs(record):
    silent = {**record, "comparisons": []}
    assert told(silent, a=0.9)["picks"][1]["method"] is None
    uncosted = deepcopy(record)
    uncosted["runs"][0]["cost"] = {}
    pick = told(uncosted, a=0.9)["picks"][1]
    assert (pick["method"], pick["text"]) == (None, "Not told: the cost was not measured.")


@pytest.mark.parametrize("stage", ["fit", "id"])
def test_nothing_is_advised_from_data_that_lacks_classes(record, stage):
    made = deepcopy(record)
    text = "the fit data has none of 2 of 10 classes"
    made["runs"][0]["warnings"] = [{"stage": stage, "text": text, "void": True}]
    for name, method in made["runs"][0]["methods"].items():
        method["fits"] = name != "c"
    found = told(made, a=0.9, b=0.8, c=0.7, odin=0.6)
    assert found["mind"][0]["text"] == f"Warning ({stage}): {text}"
    if stage == "fit":  # What learned nothing of it is as good as it was.
        assert {pick["method"] for pick in found["picks"]} == {"c"}
    else:
        assert [pick["method"] for pick in found["picks"]] == [None]
        assert "None is recommended" in found["picks"][0]["text"]
    made["runs"][0]["warnings"][0]["void"] = False
    assert told(made, a=0.9, b=0.8, c=0.7, odin=0.6)["picks"][0]["method"] == "a"


def test_one_method_alone_and_only_own_passes():
    alone = view_of(arena(drawn_scores(methods=("msp",))))
    assert advice(alone, alone.runs[0])["picks"][0]["method"] == "msp"
    apart = view_of(arena(drawn_scores(methods=("odin",))))
    assert advice(apart, apart.runs[0])["picks"][0]["method"] is None


def test_what_to_mind_names_weak_sets_chance_caveats_and_what_was_left_out():
    read = view_of(arena(drawn_scores(methods=METHODS)))
    mind = advice(read, read.runs[0])["mind"]
    kinds = {note["kind"] for note in mind}
    assert kinds == {"choice", "chance", "scope", "caveat", "left out"}
    chance = next(note["text"] for note in mind if note["kind"] == "chance")
    assert "gaia-z (textures " in chance
    left = next(note for note in mind if note["kind"] == "left out")
    assert left["method"] == "vim"
    assert any("is weakest on cifar100" in note["text"] for note in mind)


def test_accuracy_unchecked_files_and_seeds_are_told():
    scores = drawn_scores(runs=("net#0", "net#1"))
    record = arena(scores)
    record["suite"]["checked"] = False
    record["runs"][0]["id_accuracy"] = 0.1
    read = view_of(record)
    texts = " ".join(note["text"] for note in advice(read, read.runs[0])["mind"])
    assert "10.0\xa0% of the known images right, where 91.7\xa0% was measured" in texts
    assert "not checked against the hashes" in texts
    assert "over 2 runs (standard deviation)" in texts
    labeled = {**record, "seeds": {f"net/{k}": v for k, v in record["seeds"].items()}}
    for run in labeled["runs"]:
        run["label"] = "net"
    read = view_of(labeled)
    texts = " ".join(note["text"] for note in advice(read, read.runs[0])["mind"])
    assert "over 2 runs (standard deviation)" in texts

"""In-distribution images under covariate shift, from suite to record, page and leaderboard rows."""

import csv
import io
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from arena_digits import _table, settings, write

from gradood import metrics
from gradood.bench import (
    Record,
    Sets,
    Settings,
    json_text,
    load_suite,
    openood_csv,
    run,
    suites,
    write_folder,
    write_openood_csv,
)
from gradood.bench._demo import load_digits, one_thread
from gradood.bench._leakage import warn_of_overlap
from gradood.bench.entries import open_entry
from gradood.errors import ConfigError, DataError, GradoodWarning
from gradood.report import Report

FS = ("openmibood-midog", "openmibood-phakir", "openood-imagenet1k-fs", "openood-imagenet200-fs")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write(tmp_path_factory.mktemp("arena"))
    digits = load_digits()
    x, y = digits.test_x[80:130], digits.test_y[80:130]
    _table(root / "dim.parquet", x * 0.6, y)
    _table(root / "noisy.parquet", (x + 0.3 * torch.rand_like(x)).clamp(0, 1), None)
    return root


def with_shifted(root, *seeds, **options) -> Settings:
    found = settings(root, *seeds, methods="energy,knn", **options)
    shifted = {name: str(root / f"{name}.parquet") for name in ("dim", "noisy")}
    return replace(found, suite=found.suite.with_shifted(shifted))


@pytest.fixture(scope="module")
def outcome(root):
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        return run(with_shifted(root, 0, 1))


@pytest.mark.slow
def test_figures_are_those_of_one_sample_of_id_and_shifted(outcome):
    scores = outcome.scores["net#0"]
    own = outcome.record.runs[0]
    found = own.full_spectrum
    assert set(scores) == {"id", "dim", "noisy", "near", "far"}
    for row in found.rows:
        known = torch.cat([scores[name][row.method] for name in ("id", "dim", "noisy")])
        wanted = metrics.summary(known, scores[row.ood][row.method])
        assert (row.n_id, row.auroc) == (180, wanted.auroc)
        assert row.fpr_ood_at_tpr_id95 == wanted.fpr_ood_at_tpr_id95
    for row in own.rows:  # The standard figures know nothing of them.
        wanted = metrics.auroc(scores["id"][row.method], scores[row.ood][row.method])
        assert (row.n_id, row.auroc) == (80, wanted)
    means = {(mean.method, mean.group): mean for mean in found.means}
    both = [row.auroc for row in found.rows if row.method == "knn"]
    assert means["knn", "all"].auroc == pytest.approx(np.mean(both), abs=1e-12)


def test_flag_rates_are_at_the_threshold_that_keeps_95_percent_of_id(outcome):
    scores = outcome.scores["net#0"]
    for row in outcome.record.runs[0].full_spectrum.shifted:
        known, moved = scores["id"][row.method], scores[row.shifted][row.method]
        assert row.flag_rate == pytest.approx(
            1 - metrics.fpr_ood_at_tpr_id95(known, moved), abs=1e-12
        )
        assert row.id_flag_rate <= 0.05 and row.auroc == metrics.auroc(known, moved)
        low, high = row.intervals["flag_rate"]
        assert low <= row.flag_rate <= high


def test_accuracy_is_measured_where_there_are_labels(outcome):
    accuracy = outcome.record.runs[0].full_spectrum.accuracy
    assert 0.3 < accuracy["dim"] <= 1 and accuracy["noisy"] is None


def test_a_record_goes_through_json_and_one_without_shifted_sets_is_as_before(outcome, root):
    plain = json.loads(json_text(outcome.record.to_dict()))
    assert json_text(Record.from_dict(plain).to_dict()) == json_text(outcome.record.to_dict())
    assert plain["version"] == 1 and plain["runs"][0]["full_spectrum"]["shifted"]
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        bare = run(settings(root, methods="energy")).record.to_dict()
    assert "shifted" not in bare["suite"] and "full_spectrum" not in bare["runs"][0]
    del plain["runs"][0]["full_spectrum"]["shifted"][0]
    with pytest.raises(DataError, match=r"full_spectrum.shifted lacks 'energy' on 'dim'"):
        Record.from_dict(plain)


def test_the_page_and_the_tables_show_both(outcome, tmp_path):
    text = outcome.record.markdown()
    assert "Full spectrum: shifted ID counts as known" in text
    assert "| method | ID | dim | noisy |" in text and "shifted ID dim" in text
    assert "accuracy on shifted ID noisy | no labels" in text
    scores = {
        name: {own: {m: s.numpy() for m, s in methods.items()} for own, methods in sets.items()}
        for name, sets in outcome.scores.items()
    }
    report = Report.of(outcome.record, scores)
    assert "net#0, full spectrum" in report.html() and "flagged dim" in report.html()
    (facts,) = [v for k, v in report.to_dict()["facts"] if k == "shifted, dim"]
    assert "dim.parquet" in facts
    write_folder(tmp_path / "out", outcome.record, outcome.scores)
    assert (tmp_path / "out" / "scores.safetensors").is_file()


def test_rows_in_the_form_of_openood(outcome, tmp_path):
    table = list(csv.reader(io.StringIO(openood_csv(outcome.record, "knn"))))
    assert table[0] == ["", "FPR@95", "AUROC", "AUPR_IN", "AUPR_OUT", "ACC"]
    assert [line[0] for line in table[1:]] == ["near", "nearood", "far", "farood"]
    values = [
        row.fpr_id_at_tpr_ood95
        for own in outcome.record.runs
        for row in own.rows
        if (row.method, row.ood) == ("knn", "near")
    ]
    assert table[1][1] == f"{100 * np.mean(values):.2f} ± {100 * np.std(values):.2f}"
    assert table[1][1:] == table[2][1:]  # One set: its mean.
    right = [own.id_accuracy for own in outcome.record.runs]
    assert table[1][5] == f"{100 * np.mean(right):.2f} ± {100 * np.std(right):.2f}"
    full = list(csv.reader(io.StringIO(openood_csv(outcome.record, "knn", full_spectrum=True))))
    assert full[1][2] != table[1][2] and full[1][5] == "-"  # One shifted set has no labels.
    files = write_openood_csv(tmp_path, outcome.record)
    names = [str(file.relative_to(tmp_path)) for file in files]
    assert names == ["ood/energy.csv", "ood/knn.csv", "fsood/energy.csv", "fsood/knn.csv"]
    assert files[1].read_text("utf-8") == openood_csv(outcome.record, "knn")
    for given, said in (
        ({"method": "kn"}, "no method 'kn' in it; did you mean 'knn'"),
        ({"method": "knn", "label": "nut"}, "no network 'nut' in the record; did you mean 'net'"),
    ):
        with pytest.raises(ConfigError, match=said):
            openood_csv(outcome.record, **given)


def test_accuracy_of_the_full_spectrum_weighs_every_image(outcome):
    plain = json.loads(json_text(outcome.record.to_dict()))
    for own, shares in zip(plain["runs"], ((0.9, 0.5, 0.2), (0.9, 0.5, 0.2)), strict=True):
        own["id_accuracy"] = shares[0]
        own["full_spectrum"]["accuracy"] = {"dim": shares[1], "noisy": shares[2]}
    text = openood_csv(Record.from_dict(plain), "knn", full_spectrum=True)
    wanted = (80 * 0.9 + 50 * 0.5 + 50 * 0.2) / 180
    assert text.splitlines()[1].endswith(f",{100 * wanted:.2f} ± 0.00")


def test_leaks_of_shifted_images_are_told(root):
    found = with_shifted(root)
    same = found.suite.with_shifted(
        {"again": str(root / "test.parquet"), "seen": str(root / "fit_a.parquet")}
    ).with_ood({"odd": ("far", str(root / "dim.parquet"))})
    entry = open_entry(found.contenders[0], replace(found, suite=same))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GradoodWarning)
        warn_of_overlap(entry)
    said = "\n".join(str(one.message) for one in caught)
    assert "80 of the 80 images of shifted ID again are ID images too: they count twice" in said
    assert "150 of the 150 images of shifted ID seen are among the fit data" in said
    assert "50 of the 50 images of OOD odd are images of shifted ID dim too" in said


def test_names_are_of_one_set_and_one_role(root):
    suite = with_shifted(root).suite
    with pytest.raises(ConfigError, match=r"--id-shifted 'dim': the suite digits has a set of tha"):
        suite.with_shifted({"dim": "x"})
    with pytest.raises(ConfigError, match=r"--ood 'dim': the suite digits has a set of that name"):
        suite.with_ood({"dim": ("far", "x")})
    with pytest.raises(ConfigError, match="other than 'id'"):
        suite.with_shifted({"id": "x"})
    assert Sets(id=[], ood={}).shifted == {}


def test_images_of_the_size_of_the_input_are_not_resized(root):
    found = settings(root)
    text = (root / "digits.toml").read_text()
    added = '[[shifted]]\nname = "dim"\npath = "dim.parquet"\nsized = true\n\n[rows]'
    (root / "sized.toml").write_text(text.replace("[rows]", added))
    suite = load_suite(root / "sized.toml")
    entry = open_entry(
        found.contenders[0], replace(found, suite=suite, preprocess={"resize": 16, "crop": 16})
    )
    assert entry.id[0][0].shape[-1] == 16 and entry.shifted["dim"][0][0].shape[-1] == 8
    plain = open_entry(found.contenders[0], with_shifted(root))
    (sized,), (other,) = (one.sets(found).shifted["dim"] for one in (entry, plain))
    assert sized.content() != other.content()  # Readings of one are none of the other.


def test_the_suites_with_shifted_sets_are_those_of_their_repositories():
    found = {name: load_suite(name) for name in suites()}
    assert tuple(sorted(name for name, suite in found.items() if suite.shifted)) == FS
    names = [one.name for one in found["openood-imagenet1k-fs"].shifted]
    assert names == ["imagenet_v2", "imagenet_c", "imagenet_r"]
    assert [one.sized for one in found["openood-imagenet1k-fs"].shifted] == [False, True, False]
    for fs in ("openood-imagenet1k", "openood-imagenet200"):
        assert found[f"{fs}-fs"].ood == found[fs].ood and found[f"{fs}-fs"].id == found[fs].id
    midog = found["openmibood-midog"]
    assert [one.path.rpartition("/")[2] for one in midog.shifted] == [
        *("test_midog_1b.txt", "test_midog_1c.txt")
    ]
    assert len(midog.ood) == 9 and midog.rows["benchmark_imglist/midog/test_midog.txt"] == 251

"""Suites, several networks, and pages on the command line."""

import json
import os
import sys
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from arena_digits import write
from PIL import Image

from gradood.bench._demo import one_thread
from gradood.cli import main


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("suite"))


@pytest.fixture
def bench(root, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words, suite="digits.toml", net=("--num-classes", "8", "--no-costs")):
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = main(["bench", "--suite", suite, *net, *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def test_a_suite_with_two_seeds_into_a_folder_and_a_page(bench, tmp_path):
    folder, page = tmp_path / "results", tmp_path / "page.html"
    code, out, err = bench(
        *("--model", "digits_net", "--weights", "net0.safetensors"),
        *("--weights", "net1.safetensors", "--methods", "energy,msp,knn", "--limit", "45"),
        *("--ood", "near:more=near.parquet", "--out", str(folder), "--report", str(page)),
    )
    assert code == 0, err
    assert "digits_net#0\n" in out and "digits_net#1\n" in out
    assert "| method " in out and "near mean" in out
    assert sorted(p.name for p in folder.iterdir()) == [
        *("arena.json", "arena.md", "scores.safetensors")
    ]
    found = json.loads((folder / "arena.json").read_text(encoding="utf-8"))
    assert [one["group"] for one in found["suite"]["ood"]] == ["near", "far", "near"]
    assert found["seeds"]["msp"]["near"]["auroc"]["n"] == 2
    assert found["settings"]["limit"] == 45
    assert page.stat().st_size < 5_000_000 and "<html" in page.read_text(encoding="utf-8")[:500]
    assert "digits_net#1: accuracy on the ID data: " in err


def test_networks_with_labels(bench):
    words = ("--run", "a=digits_net@net0.safetensors", "--run", "b=digits_net@net1.safetensors")
    code, out, err = bench(*words, "--methods", "msp,energy", "--limit", "30", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [one["run"] for one in found["runs"]] == ["a", "b"]
    assert set(found["seeds"]) == {"a/msp", "b/msp", "a/energy", "b/energy"}


def test_figures_that_must_be_reproduced(bench, tmp_path):
    file = tmp_path / "expected.json"
    net = ("--model", "digits_net", "--weights", "net0.safetensors", "--methods", "energy,msp")
    code, _, err = bench(*net, "--expect", str(file))
    assert code == 0 and f"wrote {file}" in err
    code, out, err = bench(*net, "--check", str(file))
    assert code == 0 and f"0 of the figures expected in {file} were missed" in err
    assert "| energy" in out
    found = json.loads(file.read_text(encoding="utf-8"))
    found["figures"][0]["low"] = found["figures"][0]["high"] = 0.123
    file.write_text(json.dumps(found), encoding="utf-8")
    code, out, err = bench(*net, "--check", str(file))
    assert code == 1
    assert "missed: digits_net: " in err and "expected 0.123 to 0.123" in err
    assert "error" not in err
    code, out, err = bench(*net, "--check", str(file), "--limit", "40")
    assert code == 2 and "images of id; expected 80" in err
    code, out, err = bench(*net, "--check", "absent.json")
    assert (code, out) == (2, "") and "'absent.json' cannot be read" in err


def test_each_file_is_replaced_as_a_whole(bench, tmp_path):
    net = ("--model", "digits_net", "--weights", "net0.safetensors", "--methods", "energy,msp")
    files = [tmp_path / name for name in ("expected.json", "r.json", "r.md")]
    for file in files:
        file.write_text("before", encoding="utf-8")
        os.link(
            file, tmp_path / f"{file.name}.old"
        )  # Would change with it, were it written in place.
    outs = [word for file in files[1:] for word in ("--out", str(file))]
    code, _, err = bench(*net, "--limit", "20", "--expect", str(files[0]), *outs)
    assert code == 0, err
    for file in files:
        assert file.read_text(encoding="utf-8") != "before"
        assert (tmp_path / f"{file.name}.old").read_text(encoding="utf-8") == "before"


def test_the_data_can_be_checked_alone(bench, root, tmp_path):
    code, out, err = bench("--check-data")
    assert (code, out) == (0, "")
    assert (
        err == f"digits, version 1: 5 files with 430 images in {str(Path())!r} are as they "
        "should be\n"
    )
    code, out, err = bench("--check-data", "--root", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith("error: the data of digits in ") and "test.parquet is missing" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("suite", "words", "said"),
    [
        ("cifar10-locl", [], "no suite 'cifar10-locl'; did you mean 'cifar10-local'?"),
        ("digits.toml", ["--ood", "near=x"], "the suite digits has a set of that name"),
        ("digits.toml", ["--fit", "x"], "--suite says what is in-distribution"),
        ("digits.toml", ["--root", "absent"], "looked for a folder at 'absent'"),
        ("openood-cifar10", [], "looked for a folder with 'benchmark_imglist' in it at '.' and"),
        ("digits.toml", ["--report", "page.pdf"], "expected a name ending in .html"),
        ("digits.toml", ["--out", "r.json", "--report", "r.html"], "also writes 'r.json'"),
        ("digits.toml", ["--out", "new", "--report", "new/arena.html"], "also writes 'new/arena"),
        ("digits.toml", ["--out", "license"], "'license' is a file; expected a folder"),
        ("digits.toml", ["--out", "folder.json"], "'folder.json'; expected a name ending in"),
        ("digits.toml", ["--ood", "a|b=near.parquet"], "expected a printable name without"),
        ("digits.toml", ["--report", "absent/page.html"], "its folder does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_exits_2(bench, root, suite, words, said):
    net = ("--model", "digits_net", "--weights", "net0.safetensors")
    for name in ("new", "folder.json"):
        (root / name).mkdir(exist_ok=True)
    (root / "license").touch()
    code, out, err = bench(*net, *words, suite=suite)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ") and err.count("\n") == 1


OPENOOD = """
name = "lists"
version = 1
title = "Lists"
layout = "openood"

[preprocess]
mode = "L"

[id]
test = "benchmark_imglist/own/test_own.txt"
fit = ["benchmark_imglist/own/train_own.txt"]
images = "images_classic"

[[ood]]
name = "other"
group = "far"
path = "benchmark_imglist/own/test_other.txt"
images = "images_classic"
"""


def test_lists_and_folders_laid_out_as_openood_does(bench, root, tmp_path):
    lists = tmp_path / "data" / "benchmark_imglist" / "own"
    images = tmp_path / "data" / "images_classic"
    lists.mkdir(parents=True)
    for name, count, label in (
        ("train_own", 60, None),
        ("test_own", 30, None),
        ("test_other", 30, -1),
    ):
        lines = []
        for i in range(count):
            path = images / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), (37 * i) % 256).save(path)
            lines.append(f"{name}/{i}.png {i % 8 if label is None else label}\n")
        (lists / f"{name}.txt").write_text("".join(lines))
    (tmp_path / "lists.toml").write_text(OPENOOD)
    net = ("--model", "digits_net", "--weights", "net0.safetensors", "--root", str(tmp_path))
    words = (*net, "--methods", "energy,mahalanobis", "--json")
    code, out, err = bench(*words, suite=str(tmp_path / "lists.toml"))
    assert code == 0, err
    found = json.loads(out)
    assert found["suite"]["ood"][0]["n"] == 30 and found["suite"]["checked"]
    assert set(found["runs"][0]["methods"]) == {"energy", "mahalanobis"}
    assert found["runs"][0]["id_accuracy"] is not None
    (images / "test_own" / "3.png").unlink()
    code, out, err = bench(*words, suite=str(tmp_path / "lists.toml"))
    assert code == 2
    assert "images_classic/test_own/3.png, which benchmark_imglist/own/test_own.txt lists," in err


def test_images_in_a_column_of_another_name(bench, root, tmp_path):
    for name in ("fit_a", "fit_b", "test", "near", "far"):
        table = pq.read_table(root / f"{name}.parquet")
        renamed = table.rename_columns(["pixels", *table.column_names[1:]])
        pq.write_table(renamed, tmp_path / f"{name}.parquet")
    column = ("--root", str(tmp_path), "--image-column", "pixels")
    net = ("--model", "digits_net", "--weights", "net0.safetensors", "--methods", "msp,energy")
    code, _, err = bench(*net, *column, "--limit", "20")
    assert code == 0, err
    code, _, err = bench("--check-data", *column)
    assert code == 0, err
    code, _, err = bench("--check-data", "--root", str(tmp_path))
    assert code == 2 and "no column 'image'" in err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_not_utf_8(bench, root, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    for i in range(20):
        Image.new("L", (8, 8), 12 * i).save(odd / f"{i}.png")
    net = ("--model", "digits_net", "--weights", "net0.safetensors", "--methods", "msp,energy")
    files = [tmp_path / name for name in ("r.json", "r.md", "folder")]
    words = [word for file in files for word in ("--out", str(file))]
    code, out, err = bench(*net, "--ood", f"more={odd}", "--limit", "20", *words)
    assert code == 0, err
    assert " more |" in out
    found = json.loads(files[0].read_text(encoding="utf-8"))
    assert found["suite"]["ood"][2]["path"] == str(odd)
    code, _, err = bench(*net, "--check-data")
    assert code == 0, err
    assert main(["report", str(files[2]), "--root", str(root)]) == 0

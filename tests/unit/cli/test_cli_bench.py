import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gradood.bench._demo import CLASSES, load_digits, one_thread, train
from gradood.cli import main

ODD = """
import torch

def flat():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))

def broken():
    raise ValueError("no such file")

class Raises(torch.nn.Module):
    def forward(self, x):
        raise KeyError("inside the model")
"""


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """A second thread costs more than it brings, on networks this small."""
    with one_thread():
        yield


def save(x: torch.Tensor, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(x):
        pixels = (image[0] * 255).round().numpy().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


def save_classes(x: torch.Tensor, y: torch.Tensor, folder: Path) -> Path:
    for label in range(CLASSES):
        save(x[y == label], folder / str(label))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A trained network, and the demo's data as folders of images."""
    root = tmp_path_factory.mktemp("bench")
    digits = load_digits()
    with one_thread():
        model = train(digits, epochs=4)
    save_file(model.state_dict(), root / "net.safetensors")
    save_classes(digits.train_x[:240], digits.train_y[:240], root / "fit")
    save_classes(digits.test_x[:120], digits.test_y[:120], root / "id")
    save(digits.train_x[:100], root / "flat")
    for name, x in digits.ood.items():
        save(x[:50], root / name)
    (root / "odd_models.py").write_text(ODD, encoding="utf-8")
    return root


@pytest.fixture
def bench(place, monkeypatch, capsys):
    """Run bench where the data is; options given later win."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))

    def run(*words, model=("--model", "digits_net", "--weights", "net.safetensors")):
        common = ["--num-classes", "8"] if "digits_net" in model else ["--mode", "L"]
        data = ["--id", "id", "--ood", "near=near", "--ood", "far=far"]
        code = main(["bench", *model, *common, *data, "--no-costs", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "\x1b" not in out + err and "\r" not in out + err
        return code, out, err

    return run


def loads(text: str):
    return json.loads(text, parse_constant=pytest.fail)


FEW = "energy,gradnorm,gaia-z,line,knn,mahalanobis,grood"


@pytest.mark.slow
def test_several_methods_in_one_run(bench):
    words = ("--methods", FEW, "--fit", "fit", "--option", "line.clip=auto", "--costs", "--json")
    code, out, err = bench(*words)
    assert code == 0, err
    found = loads(out)
    (run,) = found["runs"]
    assert (found["format"], found["version"]) == ("gradood-arena", 1)
    assert len(run["rows"]) == 2 * len(run["methods"]) == 2 * len(FEW.split(","))
    assert run["run"] == "digits_net" and run["seed"] is None
    assert run["id_accuracy"] > 0.9
    assert found["suite"]["id"]["fit"] == [
        {"path": "fit", "rooted": True, "n": 240, "sha256": None}
    ]
    assert [one["n"] for one in found["suite"]["ood"]] == [50, 50]
    assert [one["group"] for one in found["suite"]["ood"]] == ["far", "far"]
    assert run["methods"]["line"]["options"]["clip"] == "auto"
    assert run["methods"]["line"]["fits"] and run["methods"]["line"]["pass"] == "shared"
    assert run["subject"]["preprocess"]["mode"] == "L"
    assert found["command"].startswith("gradood bench --model digits_net --weights net.safet")
    assert found["command"].endswith("--fit fit --option line.clip=auto --costs --json")
    assert found["settings"]["device"] == "cpu"
    assert run["cost"].keys() == run["methods"].keys()
    assert all(cost["time_ratio"] > 0 for cost in run["cost"].values())
    assert {row["group"] for row in run["means"]} == {"all", "far"}
    assert found["seeds"]["knn"]["all"]["auroc"]["sd"] is None
    assert len(found["ranking"]["mean_rank"]) == len(run["methods"])
    assert f"accuracy on the ID data: {run['id_accuracy']:.2%}" in err
    stages = [line for line in err.splitlines() if line.endswith(" …")]
    assert stages[:2] == ["learning from fit …", "scoring id …"]
    assert "time and memory of each method …" in stages[4:]


def test_the_table_has_the_numbers_of_the_json(bench):
    words = ("--methods", "energy,hot=energy", "--option", "hot.temperature=100")
    rows = loads(bench(*words, "--json")[1])["runs"][0]["rows"]
    code, out, _ = bench(*words)
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in lines] == ["method", "-" * 6, "energy", "hot"]
    first = f"{100 * rows[0]['fpr_ood_at_tpr_id95']:.2f} / {100 * rows[0]['auroc']:.2f}"
    assert first in lines[2]
    assert rows[0]["auroc"] != rows[2]["auroc"]


def test_the_record_is_written_as_json_and_markdown(bench, tmp_path):
    files = tmp_path / "r.json", tmp_path / "r.md"
    code, out, err = bench(
        *("--methods", "msp,line", "--fit", "fit[:230]", "--json"),
        *("--out", str(files[0]), "--out", str(files[1])),
    )
    assert code == 0
    assert loads(out) == loads(files[0].read_text(encoding="utf-8"))
    page = files[1].read_text(encoding="utf-8")
    assert "| method | near | far | far mean | mean |" not in page
    assert "| method | near | far | mean |" in page
    assert "| fit | `fit[:230]`, 230 images |" in page
    assert "| command | `gradood bench --model digits_net" in page
    assert "- `line`: `line(weight_percentile=90" in page
    assert f"wrote {files[1]}" in err


def test_without_labels_the_methods_that_need_them_are_left_out(bench):
    words = ("--option", "knn.k=5", "--limit", "30")
    code, out, err = bench("--fit", "flat", "--id", "flat[50:]", *words)
    assert code == 0
    assert "`mahalanobis` was left out: it learns from class labels" in out
    assert "| knn" in out and "| line" not in out
    assert "accuracy" not in err


def test_a_model_that_some_methods_cannot_read(bench):
    code, out, err = bench(model=("--model", "odd_models:flat", "--num-classes", "8"))
    assert code == 2 and "unexpected keyword argument 'num_classes'" in err
    code, out, err = bench("--json", model=("--model", "odd_models:flat"))
    assert code == 0
    found = loads(out)["runs"][0]
    assert "gaia-a" in found["left_out"] and "gaia-a" not in found["methods"]
    code, out, err = bench("--methods", "gaia-a", model=("--model", "odd_models:flat"))
    assert code == 2 and out == "" and "gaia-a cannot be run" in err


def test_an_accuracy_near_chance_warns_on_stderr(bench, place):
    renamed(place, "shuffled", [(label + 1) % CLASSES for label in range(CLASSES)])
    code, _, err = bench("--methods", "energy", "--id", "shuffled")
    assert code == 0
    assert "warning: the model classifies 0." in err


def renamed(place: Path, name: str, labels: list[int]) -> None:
    """The ID data once more, where class i is what was class labels[i]."""
    target = place / name
    if not target.exists():
        target.mkdir()
        for new, old in enumerate(labels):
            (target / str(new)).symlink_to(place / "id" / str(old))


def test_the_same_data_to_fit_and_to_test_warns(bench):
    code, _, err = bench("--methods", "mahalanobis", "--fit", "./id", "--no-cache")
    assert code == 0
    assert "warning: 120 of the 120 ID images are among the fit data" in err
    assert "the cache" not in err


def test_the_cache_is_named_with_its_size_and_may_be_deleted(bench, place):
    code, out, err = bench("--methods", "energy", "--cache", "kept")
    assert code == 0 and (place / "kept").is_dir()
    assert re.search(r"the cache 'kept' holds \d+\.\d kB, of all runs; it may be deleted", err)
    shutil.rmtree(place / "kept")
    assert bench("--methods", "energy", "--cache", "kept") == (code, out, err)


def test_a_parquet_file_whose_name_is_not_utf8(bench, place, capsys):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [path.read_bytes() for path in sorted((place / "far").iterdir())]
    odd = os.fsdecode(b"far\xff.parquet")
    pq.write_table(pa.table({"image": images}), place / "made.parquet")
    (place / "made.parquet").rename(place / odd)
    results = str(place / "odd")
    code, out, _ = bench("--methods", "energy", "--ood", f"odd={odd}", "--out", results)
    assert code == 0 and "odd" in out
    assert main(["report", results, "--root", str(place)]) == 0
    assert main(["compare", results, results]) == 0
    assert "nothing changed significantly" in capsys.readouterr().out


def test_a_folder_of_results_is_made_and_files_may_go_into_it(bench, tmp_path):
    results = tmp_path / "runs" / "mine"
    table = results.parent / "table.md"
    words = ("--out", str(table), "--out", str(results), "--expect", str(results / "e.json"))
    assert bench("--methods", "msp", *words)[0] == 0
    assert (results / "arena.json").is_file() and (results / "e.json").is_file()
    assert table.is_file()


def test_shifted_images_and_rows_of_the_leaderboard(bench, tmp_path):
    words = ("--methods", "energy", "--id-shifted", "fit part=fit[:60]")
    code, out, err = bench(*words, "--openood-csv", str(tmp_path / "rows"), "--json")
    assert code == 0 and "scoring fit part …" in err
    found = loads(out)
    assert [one["name"] for one in found["suite"]["shifted"]] == ["fit part"]
    (row,) = found["runs"][0]["full_spectrum"]["shifted"]
    assert (row["shifted"], row["n"], row["n_id"]) == ("fit part", 60, 120)
    table = (tmp_path / "rows" / "fsood" / "energy.csv").read_text("utf-8").splitlines()
    assert table[0] == ",FPR@95,AUROC,AUPR_IN,AUPR_OUT,ACC"
    assert (tmp_path / "rows" / "ood" / "energy.csv").read_text("utf-8").startswith(table[0])
    _, shown, _ = bench(*words)
    assert "Full spectrum" in shown and "| method |   ID |" in shown


def last_line(err):
    """The one line after those that say what is being done."""
    *phases, line = err.splitlines()
    assert all(phase.endswith(" …") for phase in phases), err
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "lime"], "no detector 'lime'; did you mean 'line'"),
        (["--option", "line.clipp=1"], "line has no option 'clipp'; did you mean 'clip'"),
        (["--option", "line.clip=atuo"], "did you mean 'auto'"),
        (["--ood", "near"], "expected NAME=PATH"),
        (["--ood", "near=far"], "'near' was given twice"),
        (["--ood", "near:=far"], "expected NAME=PATH"),
        (["--ood", "id=far"], "other than 'id'"),
        (["--id-shifted", "dim"], "--id-shifted 'dim'; expected NAME=PATH"),
        (["--id-shifted", "a=far", "--id-shifted", "a=id"], "--id-shifted 'a' was given twice"),
        (["--id-shifted", "near=far"], "expected each set once"),
        (["--id-shifted", "a=absent"], "the shifted ID a data: 'absent' does not exist"),
        (["--openood-csv", "net.safetensors"], "'net.safetensors' is a file; give a folder"),
        (["--root", "."], "--root is of a suite's data; name the suite"),
        (["--suite", "cifar10-local"], "--suite says what is in-distribution; leave out --id"),
        (["--check-data"], "name one with --suite"),
        (["--run", "a"], "--run 'a'; expected LABEL=SPEC@FILE"),
        (["--run", "a=b@x,,y"], "expected LABEL=SPEC@FILE"),
        (["--run", "digits_net=digits_net"], "expected a label of its own for each network"),
        (["--hyper-parameters", "ood"], "expected fixed or id-only"),
        (["--hyper-parameters", "id-only"], "without training images; give some with --fit"),
        (["--cache", "c", "--no-cache"], "--cache and --no-cache were both given"),
        (["--limit", "0"], "invalid value for '--limit'"),
        (["--methods", "a/b=msp"], "expected a printable name without a slash or a bar"),
        (["--id", "absent"], "the ID data: 'absent' does not exist"),
        (["--fit", "absent"], "the fit data: 'absent' does not exist"),
        (["--ood", "x=absent"], "the OOD x data: 'absent' does not exist"),
        (["--id", "id[5000:]"], "120 images in 'id', and none in 'id[5000:]'"),
        (["--methods", "knn"], "knn cannot be run: it learns"),
        (["--methods", "line", "--fit", "flat"], "line cannot be run: it learns from class labels"),
        (
            ["--methods", "knn", "--option", "knn.k=50", "--fit", "fit[:20]"],
            "knn with k=50 was fitted on 20 samples",
        ),
        (["--weights", "absent"], "no weights at 'absent'"),
        (["--num-classes", "4"], "the weights of 'net.safetensors' are not those of DigitsNet"),
        (["--resize", "big"], "--resize has 'big'; expected pixels or none"),
        (["--crop", "0"], "crop is 0; expected pixels"),
        (["--mean", "a,b"], "--mean has 'a'; expected numbers"),
        (["--std", "0"], "std is (0.0,); expected 1 finite numbers"),
        (["--mode", "CMYK"], "mode is 'CMYK'; expected 'RGB' or 'L'"),
        (["--mode", "RGB"], "the model expects 4 dimensions with 1 channels"),
        (["--device", "abacus"], "--device 'abacus'; expected such as cpu"),
        (["--out", "table.txt"], "expected a name ending in .json or .md"),
        (["--out", "absent/table.md"], "its folder does not exist"),
        (["--out", "net.safetensors/deep/mine"], "'net.safetensors' is a file; expected a folder"),
        (["--batch-size", "0"], "invalid value for '--batch-size'"),
        (["--modle", "x"], "no such option --modle; did you mean '--mode'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_exits_2(bench, words, said):
    code, out, err = bench(*words)
    assert code == 2
    assert out == ""
    assert said in err
    assert last_line(err).startswith("error: ")


def test_labels_the_model_does_not_know_are_told(bench, place):
    renamed(place, "ten", [label % CLASSES for label in range(10)])
    for which, words in (("ID", ["--id", "ten"]), ("fit", ["--fit", "ten"])):
        code, _, err = bench(*words)
        assert code == 2
        assert (
            f"the {which} data has labels from 0 to 9; expected the model's classes, 0 to 7" in err
        )


def test_a_device_that_is_not_there_exits_5(bench):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    code, _, err = bench("--device", "cuda")
    assert code == 5
    assert err.startswith("error: no device 'cuda' here: ") and "--device cpu" in err


def test_a_model_that_raises_is_one_line_too(bench, monkeypatch):
    monkeypatch.delenv("GRADOOD_TRACEBACK", raising=False)
    code, _, err = bench("--methods", "msp", model=("--model", "odd_models:Raises"))
    assert code == 2
    assert "the model raised" in last_line(err) and "inside the model" in last_line(err)
    code, _, err = bench("--methods", "msp", model=("--model", "odd_models:broken"))
    assert code == 2 and "no such file" in err


def test_ctrl_c_exits_130(bench, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradood.bench.comparison.score_shards", interrupted)
    code, out, err = bench("--methods", "msp")
    assert (code, out, last_line(err)) == (130, "", "error: interrupted")


def test_a_result_that_cannot_be_written_is_not_lost(bench, tmp_path):
    target = tmp_path / "r.md"
    target.symlink_to(tmp_path / "absent" / "r.md")
    code, out, err = bench("--methods", "msp", "--out", str(target))
    assert code == 5
    assert loads(out)["runs"][0]["rows"]
    assert "cannot be written" in err

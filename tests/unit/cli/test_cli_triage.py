"""`gradood triage`: the page, and marks that go back to a fit and a calibration."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gradood
from gradood.artifact import read
from gradood.batch import Settings, list_images, load_predictor, score_images
from gradood.cli import main
from gradood.data import Preprocess, loader, open_images
from gradood.models import digits_net
from gradood.triage import read_items, review_sample

GRAY = Preprocess(mode="L")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, its calibrated detector, and 60 scored images."""
    root = tmp_path_factory.mktemp("triage")
    generator = torch.Generator().manual_seed(0)
    for name, count in (("fit", 40), ("known", 60), ("in", 60)):
        (root / name).mkdir()
        for i in range(count):
            pixels = torch.randint(0, 255, (8, 8), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{i:03d}.png")
    torch.manual_seed(0)
    model = digits_net(8).eval()
    save_file(model.state_dict(), root / "net.safetensors")
    preprocess = GRAY.to_dict()
    monitor = gradood.Monitor(model, ["energy", "knn"], progress=False, preprocess=preprocess)
    monitor.fit(loader(open_images(root / "fit", GRAY, labeled=False)))
    monitor.calibrate(loader(open_images(root / "known", GRAY, labeled=False)), fpr=0.2)
    monitor.save(root / "d.safetensors")
    predictor = load_predictor(read(root / "d.safetensors"), model)
    score_images(
        predictor.monitor,
        list_images(str(root / "in")),
        root / "scores",
        preprocess=GRAY,
        identity=predictor.identity(preprocess, "cpu"),
        settings=Settings(workers=0),
    )
    return root


def test_the_page_is_made_and_marks_are_fed_back(place, tmp_path, capsys):
    words = ["triage", str(place / "scores"), "--decision", "knn", "--sample", "30"]
    page = tmp_path / "page.html"
    assert main([*words, "--out", str(page), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scored"] == 60 and made["page"]["bytes"] == page.stat().st_size
    assert main([*words, "--out", str(page)]) == 2 and "--force" in capsys.readouterr().err
    assert main(words) == 2 and "--marks and --to" in capsys.readouterr().err
    items = read_items(place / "scores", "knn")
    sample = review_sample(items.ids, 30, 0, items.job)
    marks = tmp_path / "marks.csv"
    with marks.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["job", "id", "mark", "class"])
        rows.writerows([items.job, name, "known", ""] for name in items.ids)
    to = tmp_path / "to"
    assert main([*words, "--marks", str(marks), "--to", str(to), "--json"]) == 0
    fed = json.loads(capsys.readouterr().out)["marks"]
    assert fed["counts"] == {"marks": 60, "known": 30, "sample": 30} and fed["open"] == 0
    model = ["--model", "digits_net", "--num-classes", "8"]
    model += ["--weights", str(place / "net.safetensors"), "--fpr", "0.2"]
    again = tmp_path / "again.safetensors"
    calibrate = ["calibrate", *model, "--detector", str(place / "d.safetensors"), "--out"]
    assert main([*calibrate, str(again), "--data", str(to / "known.parquet")]) == 2
    assert "would void the promise" in capsys.readouterr().err and not again.exists()
    assert main([*calibrate, str(again), "--data", str(to / "sample.parquet")]) == 0
    assert main(["card", str(again)]) == 0
    out = capsys.readouterr().out
    assert "a random sample of 30 of 60 scored items" in out and sample.rule()["ids_sha256"] in out

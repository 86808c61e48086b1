"""2,000 scored images of five sets: the triage page in a browser, marks, and a second run.

Makes the page of ResNet-20 (CIFAR-10) scores, opens it in Chromium, lists by rate, marks by key and
mouse, exports, feeds back, and scores what was held back before and after:

    python benchmarks/triage.py --out /tmp/triage --chromium /usr/bin/chromium
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
SETS = ("cifar10_test", "svhn_test", "textures10_test", "cifar100_test", "mnist_test")
COUNTS = (1200, 200, 200, 200, 200)
KNOWN = "cifar10_test"
MODEL = ("--model", "resnet20", "--weights", str(SHARED / "weights/resnet20_cifar10.safetensors"))
METHODS = "energy,knn,mahalanobis++,vim,react"


def main() -> None:
    """Fit, calibrate, score, make the page, mark it, feed back, and score again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chromium", required=True)
    out: Path = parser.parse_args().out
    chromium: str = parser.parse_args().chromium
    out.mkdir(parents=True, exist_ok=True)
    first, second, calibration = data(out)
    detector, kept = out / "first.safetensors", out / "kept.safetensors"
    fit = ("--data", f"{SHARED / 'data/cifar10_train_a.parquet'}[:5000]", "--methods", METHODS)
    run("fit", *MODEL, *fit, "--combine", "fisher", "--out", detector, "--keep-partials", kept)
    run("calibrate", *MODEL, "--detector", detector, "--data", calibration, "--out", detector)
    scores(out / "scores-1", first, detector)
    features(out, first)
    made = timed("page", lambda: page(out))
    print(json.dumps({"page": made}))
    print(json.dumps({"browser": browse(out, chromium)}))
    fed = json.loads(run("triage", out / "scores-1", *marks(out), "--json").stdout)
    print(json.dumps({"fed back": fed["marks"]["counts"], "guessed": fed["marks"]["guessed"]}))
    again, more = out / "second.safetensors", out / "to"
    merge = ("--merge", kept, "--detector", detector, "--data", more / "known.parquet")
    run("fit", *MODEL, *merge, "--out", again)
    refused = run(
        *("calibrate", *MODEL, "--detector", again, "--data", more / "known.parquet"),
        *("--out", again),
        code=2,
    )
    print(refused.stderr.strip())
    pooled = out / "pooled"
    pooled.mkdir(exist_ok=True)
    for name, file in (("old", calibration), ("sample", more / "sample.parquet")):
        (pooled / f"{name}.parquet").write_bytes(Path(file).read_bytes())
    run("calibrate", *MODEL, "--detector", again, "--data", pooled, "--out", again)
    for name, file in (("before", detector), ("after", again)):
        scores(out / f"scores-2-{name}", second, file)
        print(json.dumps({name: figures(out / f"scores-2-{name}", second)}))


def data(out: Path) -> tuple[Path, Path, Path]:
    """Two streams of 2,000 items of five sets, and 2,000 known ones to calibrate on."""
    generator = np.random.default_rng(0)
    streams: list[list[dict[str, Any]]] = [[], []]
    schema: Any = None
    files = [out / "stream-1.parquet", out / "stream-2.parquet", out / "calibration.parquet"]
    for name, count in zip(SETS, COUNTS, strict=True):
        table = pq.read_table(SHARED / f"data/{name}.parquet")
        order = generator.permutation(len(table))
        for k in range(2):
            rows = table.take(order[k * count : (k + 1) * count]).to_pylist()
            streams[k] += [row | {"name": f"{name}/{i}"} for i, row in enumerate(rows)]
        if name == KNOWN:
            pq.write_table(table.take(order[2 * count : 2 * count + 2000]), files[2])
            schema = table.schema
    for k in range(2):
        mixed = [streams[k][i] for i in generator.permutation(len(streams[k]))]
        pq.write_table(pa.Table.from_pylist(mixed, schema=schema), files[k])
    return files[0], files[1], files[2]


def scores(folder: Path, source: Path, detector: Path) -> None:
    """Score a folder by the command line."""
    run("score", source, *MODEL, "--detector", detector, "--out", folder, "--workers", "0")


def features(out: Path, source: Path) -> None:
    """The network's features of each item, by id, for clusters."""
    import torch

    import gradood
    from gradood.batch import list_images
    from gradood.data import Preprocess, loader, open_images
    from gradood.models import REFERENCES, build, load_weights

    model = build("resnet20").eval()
    load_weights(model, Path(MODEL[3]))
    monitor = gradood.load(out / "first.safetensors", model)
    images = open_images(str(source), Preprocess(**REFERENCES["resnet20"].preprocess))
    found = monitor.predict(loader(images, batch_size=128), keep=("features",))
    values = next(iter(found.values())).features
    assert isinstance(values, torch.Tensor)
    listed = list_images(str(source))
    ids = [listed.id(i) for i in range(len(listed))]
    columns = {"id": ids, "features": values.float().tolist()}
    pq.write_table(pa.table(columns), out / "details.parquet")


def page(out: Path) -> dict[str, Any]:
    """Make the page; what the command says of it."""
    words = ("--out", out / "page.html", "--details", out / "details.parquet", "--force")
    return json.loads(run("triage", out / "scores-1", *words, "--json").stdout)["page"]


def marks(out: Path) -> tuple[Any, ...]:
    """Words that feed back the marks of the page."""
    return "--marks", out / "marks.csv", "--to", out / "to"


def browse(out: Path, chromium: str) -> dict[str, Any]:
    """What a person does on the page; a mark is the truth, which the name of an item tells."""
    from playwright.sync_api import sync_playwright

    truth = {row["name"]: row for row in pq.read_table(out / "stream-1.parquet").to_pylist()}
    names = list(truth)
    told: dict[str, Any] = {"complaints": []}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        tab.on("console", lambda message: told["complaints"].append(message.text))
        tab.on("pageerror", lambda error: told["complaints"].append(str(error)))
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url[:60]))
        begin = time.perf_counter()
        tab.goto((out / "page.html").as_uri())
        tab.locator(".card.current").wait_for()
        told["seconds to open"] = round(time.perf_counter() - begin, 2)
        told["cards"] = tab.locator(".card").count()
        told["note"] = tab.locator("#note").inner_text()
        tab.screenshot(path=out / "light.png")
        tab.locator("#theme").click()
        tab.screenshot(path=out / "dark.png")
        tab.locator("#theme").click()
        begin = time.perf_counter()
        tab.locator("#rate").fill("17")
        tab.locator(".card").first.wait_for()
        told["seconds to list at 50 %"] = round(time.perf_counter() - begin, 2)
        told["cards at 50 %"] = tab.locator(".card").count()
        tab.locator("#rate").fill("10")
        for view in ("decision", "sample"):
            tab.locator(f'input[name="view"][value="{view}"]').check(force=True)
            begin = time.perf_counter()
            numbers = tab.locator(".card").evaluate_all("all => all.map((e) => e.ariaLabel)")
            tab.locator(".card").first.click()
            for name in numbers:
                known = _set(name, truth, names) == KNOWN
                tab.keyboard.press("1" if known else "2")
            told[f"seconds to mark {len(numbers)} in {view}"] = round(
                time.perf_counter() - begin, 2
            )
            tab.screenshot(path=out / f"{view}.png")
        with tab.expect_download() as download:
            tab.keyboard.press("e")
        download.value.save_as(out / "marks.csv")
        tab.reload()
        tab.locator(".card.current").wait_for()
        told["note after reload"] = tab.locator("#note").inner_text()
        tab.set_viewport_size({"width": 390, "height": 800})
        tab.screenshot(path=out / "narrow.png")
        told["requests beside the page and data"] = [
            url for url in asked if not url.startswith(("data:", "file:", "blob:"))
        ]
        browser.close()
    return told


def _set(identity: str, truth: dict[str, Any], names: list[str]) -> str:
    """The set that an item is of."""
    row = truth.get(identity) or truth[names[int(identity.rpartition("#")[2])]]
    return str(row["name"]).partition("/")[0]


def figures(folder: Path, source: Path) -> dict[str, Any]:
    """False alarms on the known set and detections on the others, of the fused decision."""
    from gradood.metrics import auroc

    tables = [pq.read_table(file) for file in sorted(folder.glob("scores-*.parquet"))]
    table = pa.concat_tables(tables)
    owner = [n.partition("/")[0] for n in pq.read_table(source)["name"].to_pylist()]
    flagged, score = (np.asarray(table[name]) for name in ("is_ood", "score"))
    sets = np.array(owner)
    known = sets == KNOWN
    flags = {name: round(float(flagged[sets == name].mean()), 4) for name in SETS}
    return {"flagged": flags, "AUROC": round(float(auroc(score[known], score[~known])), 4)}


def timed(name: str, call: Any) -> Any:
    """What a call returns; prints how long it took."""
    begin = time.perf_counter()
    result = call()
    print(json.dumps({f"seconds, {name}": round(time.perf_counter() - begin, 1)}))
    return result


def run(*words: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command of gradood, which must end with that code."""
    command = [sys.executable, "-m", "gradood", *map(str, words)]
    if "--out" in words and words[0] != "score":
        command.append("--force") if "--force" not in words else None
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done


if __name__ == "__main__":
    main()

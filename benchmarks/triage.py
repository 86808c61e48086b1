"""2,000 scored images of five sets: the triage page in a browser, marks, and a second run.

Makes the page of ResNet-20 (CIFAR-10) scores with the reasons of `gradood explain`, opens it in
Chromium, lists by rate, marks by key, exports, feeds back, and scores what was held back before and
after. Figures are printed as lines of JSON:

    python benchmarks/triage.py --out FOLDER --chromium "$(command -v chromium)"
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
from PIL import Image

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
    why = ("--known", f"{calibration}[:1000]", "--out", out / "why.parquet")
    reasons = ("explain", *MODEL, "--detector", detector, "--data", first, *why)
    timed("explain", lambda: run(*reasons))
    tell("page", timed("page", lambda: page(out)))
    tell("false discovery", discoveries(out / "scores-1"))
    tell("browser", browse(out, chromium))
    fed = json.loads(run("triage", out / "scores-1", *marks(out), "--json").stdout)["marks"]
    tell("fed back", {**fed["counts"], "classes guessed": fed["guessed"], "open": fed["open"]})
    again, more = out / "second.safetensors", out / "to"
    merge = ("--merge", kept, "--detector", detector, "--data", more / "known.parquet")
    run("fit", *MODEL, *merge, "--out", again)
    tell("bytes", {file.name: file.stat().st_size for file in (detector, kept, again)})
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
    runs = {"before": detector, "after": again}
    calibrated = {"after": pooled, "sample alone": more / "sample.parquet"}
    # What is refused, with the rule taken off by hand: why it is refused.
    pq.write_table(
        pq.read_table(more / "known.parquet").replace_schema_metadata(None),
        out / "stripped.parquet",
    )
    calibrated["the fit before, calibrated on flagged items"] = out / "stripped.parquet"
    for number, (name, source) in enumerate(calibrated.items()):
        fitted = detector if "before" in name else again
        runs[name] = out / f"calibrated-{number}.safetensors"
        words = ("--detector", fitted, "--data", source, "--out", runs[name])
        run("calibrate", *MODEL, *words)
    for number, (name, file) in enumerate(runs.items()):
        folder = out / f"scores-2-{number}"
        scores(folder, second, file)
        tell(name, figures(folder))


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


def page(out: Path) -> dict[str, Any]:
    """Make the page; what the command says of it."""
    words = ("--out", out / "page.html", "--details", out / "why.parquet", "--force")
    return json.loads(run("triage", out / "scores-1", *words, "--json").stdout)["page"]


def marks(out: Path) -> tuple[Any, ...]:
    """Words that feed back the marks of the page."""
    return "--marks", out / "marks.csv", "--to", out / "to"


def browse(out: Path, chromium: str) -> dict[str, Any]:
    """What a person does on the page; a mark is the truth, which the name of an item tells."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url[:60]))
        told = look(tab, out) | mark(tab, out)
        with tab.expect_download() as download:
            tab.keyboard.press("e")
        download.value.save_as(out / "marks.csv")
        tab.reload()
        tab.locator(".card.current").wait_for()
        told["note after reload"] = tab.locator("#note").inner_text()
        tab.set_viewport_size({"width": 390, "height": 800})
        tab.screenshot(path=out / "narrow.png")
        browser.close()
    others = [url for url in asked if not url.startswith(("data:", "file:", "blob:"))]
    return told | {"console": complaints, "requests beside the page": others}


def look(tab: Any, out: Path) -> dict[str, Any]:
    """Open the page, light and dark; list by rate, filter and search."""
    told: dict[str, Any] = {}
    cards = tab.locator(".card")
    begin = time.perf_counter()
    tab.goto((out / "page.html").as_uri())
    tab.locator(".card.current").wait_for()
    told["seconds to open"] = round(time.perf_counter() - begin, 2)
    told["note"] = tab.locator("#note").inner_text()
    tab.screenshot(path=out / "light.png")
    Image.open(out / "light.png").save(out / "triage.webp", quality=85)
    tab.locator("#theme").click()
    tab.screenshot(path=out / "dark.png")
    tab.locator("#theme").click()
    for step, rate in ((17, "50 %"), (0, "0.1 %"), (10, "10 %")):
        begin = time.perf_counter()
        tab.locator("#rate").fill(str(step))
        told[f"cards at {rate}"] = cards.count()
        told[f"seconds to list at {rate}"] = round(time.perf_counter() - begin, 2)
    tab.locator("#search").fill("mnist_test/")
    told["cards found by a search for mnist_test/"] = cards.count()
    tab.locator("#search").fill("")
    return told


def mark(tab: Any, out: Path) -> dict[str, Any]:
    """Mark all that is flagged, and the random sample, by key alone; then filter by mark."""
    told: dict[str, Any] = {}
    cards = tab.locator(".card")
    for view in ("decision", "sample"):
        tab.locator(f'input[name="view"][value="{view}"]').check(force=True)
        begin = time.perf_counter()
        names = cards.evaluate_all("all => all.map((e) => e.ariaLabel)")
        cards.first.focus()
        for name in names:
            tab.keyboard.press("1" if _set(name) == KNOWN else "2")
        seconds = round(time.perf_counter() - begin, 2)
        told[f"marked by key, {view}"] = {"items": len(names), "seconds": seconds}
        tab.screenshot(path=out / f"{view}.png")
    tab.locator('input[name="view"][value="decision"]').check(force=True)
    for name in ("known", "unknown", "unmarked", "all"):
        tab.locator(f'input[name="filter"][value="{name}"]').check(force=True)
        told[f"flagged and {name}"] = cards.count()
    tab.locator("h1").click()
    return told


def _set(identity: str) -> str:
    """The set that an item is of."""
    return identity.rpartition(":")[2].partition("/")[0]


def discoveries(folder: Path) -> dict[str, Any]:
    """Items called unknown at a rate, and the share of known ones among them."""
    from gradood.triage import read_items, steps

    items = read_items(folder)
    known = np.array([_set(one) == KNOWN for one in items.ids])
    found: dict[str, Any] = {"known among all": float(known.mean())}
    for step in steps(items.p_value, (0.01, 0.05, 0.1, 0.2, 0.5)):
        called = items.p_value <= step.largest if step.count else np.zeros(len(known), bool)
        share = round(float(known[called].mean()), 4) if step.count else None
        found[f"{step.rate:.0%}"] = {"called": step.count, "known among these": share}
    return found


def figures(folder: Path) -> dict[str, Any]:
    """False alarms on the known set and detections on the others, of the fused decision."""
    from gradood.metrics import auroc
    from gradood.triage import read_items

    items = read_items(folder)
    flagged, score = items.flagged, items.score
    sets = np.array([_set(one) for one in items.ids])
    known = sets == KNOWN
    flags = {name: round(float(flagged[sets == name].mean()), 4) for name in SETS}
    return {"flagged": flags, "AUROC": round(float(auroc(score[known], score[~known])), 4)}


def timed(name: str, call: Any) -> Any:
    """What a call returns; prints how long it took."""
    begin = time.perf_counter()
    result = call()
    tell(f"seconds, {name}", round(time.perf_counter() - begin, 1))
    return result


def tell(name: str, value: Any) -> None:
    """One line of JSON."""
    print(json.dumps({name: value}), flush=True)


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

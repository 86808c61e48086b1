"""Packages on hubs, in MLflow and over devices: the shows P1-P4, and the bytes of `--devices`.

    python benchmarks/hub.py [--rows 2000] [--page docs/results/hub.md]

ResNet-20 of ../shared with six detectors and Fisher's combination, calibrated on CIFAR-10 test
images. Needs `gradood[hub,mlflow]`; models of timm and Transformers, with random weights, are
packed too where these are installed. The Hub is a server on loopback, of tests/hub_server.py.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import os
import pickletools
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import gradood
import gradood.hub
from gradood.data import Preprocess, loader, open_images
from gradood.errors import GradoodError
from gradood.hub.mlflow import save_model
from gradood.models import REFERENCES, build, load_weights

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
SIX = ["energy", "knn", "vim", "gradnorm", "mahalanobis", "gaia-z"]
# Run in a fresh process: what is imported or unpickled while a package is loaded.
AUDITED = """
import json, sys, sysconfig
import gradood, gradood.hub, torch
before, found, pickled = set(sys.modules), [], []
def hook(event, args):
    if event == "pickle.find_class":
        pickled.append(args)
    if event in ("os.system", "subprocess.Popen", "socket.connect"):
        found.append(event)
sys.addaudithook(hook)
monitor = gradood.hub.load(sys.argv[1], **json.loads(sys.argv[2]))
places, outside = {}, []
own = sys.modules["gradood"].__path__[0]
known = (own, sysconfig.get_path("stdlib"), *[p for p in sys.path if p.endswith("site-packages")])
for name in sorted(set(sys.modules) - before):
    file = getattr(sys.modules[name], "__file__", None)
    top = name.partition(".")[0]
    places[top] = places.get(top, 0) + (top not in sys.stdlib_module_names)
    if file is not None and not file.startswith(known):
        outside.append(name)
places = {top: count for top, count in places.items() if count}
found = {"pickled": len(pickled), "events": found, "imported": places, "outside": outside}
print(json.dumps(found))
"""
PULLED = """
import json, sys, warnings
import numpy as np, torch, gradood.hub
folder, repo, inputs, out = sys.argv[1:]
sha = gradood.hub.push_to_hub(folder, repo)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    monitor = gradood.hub.from_hub(repo, revision=sha)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    gradood.hub.from_hub(repo)
scores = monitor.predict(torch.from_numpy(np.load(inputs))).score
np.save(out, scores.numpy())
package = gradood.hub.package_of(monitor)
warned = [str(one.message) for one in said]
print(json.dumps({"sha": sha, "recorded": package.revision, "warned": warned}))
"""


def images(source: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first images of a Parquet file of ../shared."""
    preprocess = Preprocess(**REFERENCES["resnet20"].preprocess)
    opened = open_images(str(SHARED / "data" / source), preprocess)[:count]
    batches = list(loader(opened, batch_size=250))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def made(folder: Path) -> tuple[gradood.Monitor, Path]:
    """A monitor on ResNet-20, and its package."""
    weights = SHARED / "weights" / "resnet20_cifar10.safetensors"
    model = load_weights(build("resnet20"), weights).eval()
    preprocess = Preprocess(**REFERENCES["resnet20"].preprocess).to_dict()
    monitor: Any = gradood.Monitor(
        model, SIX, combine="fisher", preprocess=preprocess, progress=False
    )
    x, y = images("cifar10_train_a.parquet", 2000)
    monitor.fit([(x[i : i + 250], y[i : i + 250]) for i in range(0, len(x), 250)])
    x, y = images("cifar10_test.parquet", 1000)
    monitor.calibrate([x[i : i + 250] for i in range(0, len(x), 250)], fpr=0.05)
    monitor.save(folder / "detector.safetensors")
    names = gradood.hub.Details(classes=[f"class {n}" for n in range(10)], license="apache-2.0")
    package = gradood.hub.pack(
        folder / "package", folder / "detector.safetensors", "resnet20", weights, details=names
    )
    return monitor, package.folder


def pickles(file: Path) -> bool:
    """Whether a file, or any member of it, is a pickle, or an archive that may hold some."""
    content = file.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(content)):
        return True
    try:
        return any(op.name == "STOP" for op, _, _ in pickletools.genops(content))
    except Exception:
        return content[:1] == b"\x80"


def run(*words: str, **environment: str) -> Any:
    """The last line of a fresh process, as JSON."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=os.environ | environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def audited(folder: Path, options: dict[str, str]) -> dict[str, Any]:
    """P1 of one package."""
    found = run("-c", AUDITED, str(folder), json.dumps(options))
    files = [file for file in folder.iterdir() if file.is_file()]
    return {**found, "files": len(files), "pickles": [f.name for f in files if pickles(f)]}


def library_packages(folder: Path) -> Iterator[tuple[str, Path, dict[str, str]]]:
    """Packages of models of other libraries, with random weights, where they are installed."""
    if importlib.util.find_spec("timm") is not None:
        yield "timm:resnet18", *_packed(folder / "timm", "timm:resnet18", 3)
    if importlib.util.find_spec("transformers") is not None:
        from transformers import ResNetConfig, ResNetForImageClassification

        place = folder / "my-resnet"
        config = ResNetConfig(
            depths=[1, 1],
            hidden_sizes=[16, 32],
            embedding_size=16,
            layer_type="basic",
            num_labels=4,
        )
        ResNetForImageClassification(config).save_pretrained(place)
        name, (package, options) = f"hf:{place}", _packed(folder / "hf", f"hf:{place}", 3)
        yield "hf:my-resnet", package, options | {"model_folder": name.removeprefix("hf:")}


def _packed(folder: Path, spec: str, channels: int) -> tuple[Path, dict[str, str]]:
    from gradood.models._load import load_model

    folder.mkdir()
    torch.manual_seed(0)
    options = {"num_classes": 10} if spec.startswith("timm") else {}
    loaded = load_model(spec, untrained=True, **options)
    monitor = gradood.Monitor(loaded.model, "energy", progress=False)
    monitor.calibrate(torch.rand(64, channels, 64, 64), fpr=0.1)
    monitor.save(folder / "detector.safetensors")
    detector = folder / "detector.safetensors"
    package = gradood.hub.pack(folder / "package", detector, loaded, **options)
    return package.folder, {}


def compared(monitor: gradood.Monitor, package: Path, folder: Path, x: torch.Tensor) -> list[str]:
    """P2, as rows of a table."""
    import mlflow.pyfunc

    save_model(package, folder / "mlflow")
    text = (folder / "mlflow" / "MLmodel").read_text()
    found = mlflow.pyfunc.load_model(str(folder / "mlflow"))
    frame, expected = found.predict(x.numpy()), monitor.predict(x)
    differing = int((frame["is_ood"].to_numpy() != expected.is_ood.numpy()).sum())
    equal = bool((frame["score"].to_numpy() == expected.score.numpy()).all())
    files = [file for file in (folder / "mlflow").rglob("*") if file.is_file()]
    found_pickles = [file.name for file in files if pickles(file)]
    rows = [
        f"| decisions that differ, of {len(x):,} | {differing} |",
        f"| scores equal to the last bit | {equal} |",
        f"| columns | {', '.join(frame.columns)} |",
        f"| a path of this machine in `MLmodel` | {str(folder) in text or str(ROOT) in text} |",
        f"| pickles among its files | {', '.join(found_pickles) or 'none'} |",
    ]
    for told, odd in {
        "31 columns of pixels": x.numpy()[..., :31],
        "a batch of rank 3": x.numpy()[0],
        "double precision": x.numpy().astype("float64"),
    }.items():
        try:
            found.predict(odd)
            rows.append(f"| {told} | **taken** |")
        except Exception as error:
            rows.append(f"| {told} | `{type(error).__name__}` |")
    file = folder / "mlflow" / "data" / "model.safetensors"
    for told, rehashed in (("", False), (", its hash in `spec.json` made anew", True)):
        _one_step(file, package / "model.safetensors", rehashed)
        try:
            mlflow.pyfunc.load_model(str(folder / "mlflow"))
            rows.append(f"| one weight changed by 1 ulp{told} | **taken** |")
        except Exception as error:
            rows.append(f"| one weight changed by 1 ulp{told} | `{type(error).__name__}` |")
    return rows


def _one_step(file: Path, original: Path, rehashed: bool) -> None:
    state = load_file(original)
    name = (
        "head.weight" if "head.weight" in state else next(n for n in state if n[-7:] == ".weight")
    )
    flat = state[name].view(-1)
    flat[0] = torch.nextafter(flat[0], torch.tensor(torch.inf))
    save_file(state, file)
    if rehashed:
        spec = json.loads((file.parent / "spec.json").read_text())
        content = file.read_bytes()
        record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        spec["files"]["model.safetensors"] = record
        (file.parent / "spec.json").write_text(json.dumps(spec))


def pushed(
    monitor: gradood.Monitor, package: Path, folder: Path, x: torch.Tensor
) -> tuple[list[str], list[str]]:
    """P3, as rows of a table, and the requests that were made."""
    spec = importlib.util.spec_from_file_location("hub_server", ROOT / "tests" / "hub_server.py")
    assert spec is not None and spec.loader is not None
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    np.save(folder / "x.npy", x.numpy())
    words = ("-c", PULLED, str(package), "me/detector", str(folder / "x.npy"))
    with server.running() as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "t"}
        environment |= {"HF_HOME": str(folder / "hf-home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        first = run(*words, str(folder / "scores.npy"), **environment)
        repository = hub.repositories["me/detector"]
        files = dict(repository.at(first["sha"]))
        files.pop(".gitattributes")
        equal = files == {file.name: file.read_bytes() for file in package.iterdir()}
        repository.commit({**repository.at("main"), "README.md": b"# Mine\n"})
        second = run(*words, str(folder / "again.npy"), **environment)
        kept = repository.at(second["sha"])["README.md"] == b"# Mine\n"
        made = (f"{method} {path}" for method, path in hub.requests)
        requests = list(dict.fromkeys(re.sub("[0-9a-f]{40}", "SHA", one) for one in made))
    scores = np.load(folder / "scores.npy")
    expected = monitor.predict(x).score.numpy()
    rows = [
        f"| files in the repository are those packed, byte by byte | {equal} ({len(files)}) |",
        f"| the repository is private | {repository.private} |",
        f"| scores of what was pulled, equal to the last bit, of {len(x):,} | "
        f"{bool((scores == expected).all())} |",
        f"| revision recorded is the commit's | {first['recorded'] == first['sha']} |",
        f"| without a revision | {len(first['warned'])} warning, which names the commit: "
        f"{first['sha'] in first['warned'][0]} |",
        f"| a README.md that somebody wrote in between is kept | {kept} |",
    ]
    return rows, requests


def refused(package: Path, folder: Path) -> list[str]:
    """P4, as rows of a table."""
    import shutil

    spec = json.loads((package / "spec.json").read_text())
    cases: dict[str, dict[str, Any]] = {
        "an unknown key": {"surprise": 1},
        "a path as the model": {"model": "nets/mine.py:make"},
        "a path after `hf:`": {"model": "hf:../../etc"},
        "a model of a remote repository": {"model": "timm:hf-hub:somebody/net"},
        "a factory": {"model": "os:getcwd"},
        "a file outside of the folder": {
            "files": spec["files"] | {"../x": spec["files"]["model.safetensors"]}
        },
        "a later format": {"format": 99},
        "a missing key": {"torch": ...},
        "a null": {"torch": None},
    }
    rows = []
    place = folder / "refused"
    for told, changes in cases.items():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(package, place)
        plain = {name: value for name, value in {**spec, **changes}.items() if value is not ...}
        (place / "spec.json").write_text(json.dumps(plain))
        try:
            gradood.hub.load(place)
            rows.append(f"| {told} | **taken** | |")
        except GradoodError as error:
            said = str(error).replace("|", "\\|")
            rows.append(f"| {told} | `{type(error).__name__}` | {said} |")
    return rows


def words_of(package: Path, out: Path, rows: int, place: str) -> list[str]:
    """The command that scores."""
    return [
        *(sys.executable, "-m", "gradood", "score"),
        *(f"{SHARED / 'data' / 'cifar10_test.parquet'}[:{rows}]", "--out", str(out)),
        *("--detector", str(package / "detector.safetensors"), "--model", "resnet20"),
        *("--weights", str(package / "model.safetensors"), "--shard-rows", "100"),
        *("--workers", "0", *(("--devices", place) if place else ())),
    ]


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of each shard."""
    files = sorted(out.glob("*.parquet"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def spread(package: Path, folder: Path, rows: int) -> list[str]:
    """The same job in this process, over one to three CPU devices, and with what is killed."""
    lines = []
    expected: dict[str, str] = {}
    for place in ("", "cpu:1", "cpu:2", "cpu:3"):
        out = folder / f"scores-{place or 'here'}".replace(":", "-")
        began = time.monotonic()
        subprocess.run(words_of(package, out, rows, place), capture_output=True, check=True)
        seconds = time.monotonic() - began
        expected = expected or digests(out)
        told = f"`--devices {place}`" if place else "this process"
        lines.append(_row(told, digests(out), expected, f"{seconds:.0f} s"))
    out = folder / "scores-killed"
    driver = subprocess.Popen(
        words_of(package, out, rows, "cpu:2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(out, 1)
    worker = _children(driver.pid)[0]
    os.kill(worker, signal.SIGKILL)
    _wait_for(out, 3)
    driver.kill()
    driver.wait()
    lines.append(_row("`cpu:2`, a process and then the driver killed", digests(out), expected, ""))
    subprocess.run(words_of(package, out, rows, "cpu:1"), capture_output=True, check=True)
    ids = len((out / "_manifest.jsonl").read_text().splitlines())
    told = f"the same gone on with `cpu:1`, {ids} lines of the manifest"
    lines.append(_row(told, digests(out), expected, ""))
    return lines


def _row(told: str, found: dict[str, str], expected: dict[str, str], note: str) -> str:
    alike = sum(expected.get(name) == digest for name, digest in found.items())
    return f"| {told} | {len(found)} of {len(expected)} | {alike} | {note} |"


def _wait_for(out: Path, lines: int) -> None:
    manifest = out / "_manifest.jsonl"
    while not manifest.exists() or manifest.read_text().count("\n") < lines:
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    """Processes that a driver started to score; not what multiprocessing starts beside them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == parent and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return sorted(found)


def main() -> None:
    """Run all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results" / "hub.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monitor, package = made(folder)
        x = torch.cat(
            [images("cifar10_test.parquet", 2000)[0][1000:], images("svhn_test.parquet", 500)[0]]
        )
        audits = {"resnet20": audited(package, {})}
        for spec, place, options in library_packages(folder):
            audits[spec] = audited(place, options)
        p2 = compared(monitor, package, folder, x)
        p3, requests = pushed(monitor, package, folder, x)
        p4 = refused(package, folder)
        devices = spread(package, folder, args.rows)
    args.page.write_text(page(audits, p2, p3, requests, p4, devices, args.rows), encoding="utf-8")
    print(args.page.read_text(encoding="utf-8"))


def page(
    audits: dict[str, dict[str, Any]],
    p2: list[str],
    p3: list[str],
    requests: list[str],
    p4: list[str],
    devices: list[str],
    rows: int,
) -> str:
    """The page of results."""
    p1 = [
        f"| `{name}` | {found['pickled']} | {', '.join(found['events']) or 'none'} | "
        f"{', '.join(found['imported'])} | {', '.join(found['outside']) or 'none'} | "
        f"{found['files']} | {', '.join(found['pickles']) or 'none'} |"
        for name, found in audits.items()
    ]
    return "\n".join(
        [
            "# Packages: Hugging Face Hub, MLflow, devices",
            "",
            f"`python benchmarks/hub.py --rows {rows}`; torch {torch.__version__}, one thread. "
            f"ResNet-20 with {', '.join(SIX)} and Fisher's combination; 1,000 CIFAR-10 test images "
            "that did not calibrate and 500 of SVHN.",
            "",
            "## A load runs nothing of the package (P1)",
            "Fresh process, audit hook on while `gradood.hub.load` runs. Imported: packages beside "
            "the standard library, those that timm and Transformers import themselves among them. "
            "Elsewhere: modules outside of gradood, installed packages and the standard library.",
            "",
            "| model | `pickle.find_class` | processes, sockets | imported | elsewhere | files "
            "| pickles |",
            "|---|---|---|---|---|---|---|",
            *p1,
            "",
            "## MLflow (P2)",
            "`mlflow.pyfunc.load_model` against `monitor.predict`.",
            "",
            "| what | found |",
            "|---|---|",
            *p2,
            "",
            "## Push and pull (P3)",
            "huggingface-hub against a server on loopback (`HF_ENDPOINT`, `tests/hub_server.py`).",
            "",
            "| what | found |",
            "|---|---|",
            *p3,
            "",
            "Requests:",
            "",
            *(f"    {request}" for request in requests),
            "",
            "## What is refused (P4)",
            "`gradood.hub.load` of a package with another `spec.json`.",
            "",
            "| `spec.json` with | error | message |",
            "|---|---|---|",
            *p4,
            "",
            "## Devices",
            f"`gradood score … --devices`, {rows:,} CIFAR-10 test images, shards of 100 rows, one "
            "thread a process; CPU devices, as there is no GPU here. Seconds include the start of "
            "Python and torch, twice with `--devices`; the load of the machine was "
            f"{os.getloadavg()[2]:.0f} on {os.cpu_count()} cores, so they are no measure of speed.",
            "",
            "| run | shards | of these equal to those of one process (SHA-256) | wall clock |",
            "|---|---|---|---|",
            *devices,
            "",
        ]
    )


if __name__ == "__main__":
    main()

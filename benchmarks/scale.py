"""Scoring and fits on Ray against the same in one process, with kills, poison and a million rows.

    python benchmarks/scale.py R1 R2 R3 R4 R5 R6 R7 R8 [--shared DIR] [--out DIR]

Each line of acceptance is one name; without any, all are run. Needs ``gradood[ray]`` and the
networks and images of ../shared (but for R3, R6 and R7). Every process has one thread. Figures go
to stdout as JSON lines, and to DIR/NAME.json. A failed check ends in exit code 1.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",  # Else 15, so that other work of the machine goes before actors.
    "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
}
STUB = ("--model", "scale_stub:network")


def gradood(*arguments, expect=0):
    """Run a command to its end; its seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "gradood", *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != expect:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def begun(*arguments, errors):
    """A command that goes on beside this program."""
    command = [sys.executable, "-m", "gradood", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=errors.open("a")
    )


def shards(out):
    """SHA-256 of each shard, by name."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in out.glob("*.parquet")}


def lines(out):
    """The manifest."""
    file = out / "_manifest.jsonl"
    whole = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in whole]


def ids(out):
    """Every id of the results."""
    import pyarrow.parquet as pq

    return [
        i for f in out.glob("*.parquet") for i in pq.read_table(f, columns=["id"])["id"].to_pylist()
    ]


def descendants(process):
    """Numbers of all processes that a process began, directly or not."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found, new = set(), {process}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def actors(process):
    """Numbers of the actors that a driver has begun."""
    named = []
    for number in descendants(process):
        try:
            title = (Path("/proc") / str(number) / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Worker"):
            named.append(number)
    return sorted(named)


def alive(number):
    """Whether a process is there and no zombie."""
    try:
        return "Z" not in (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


class Bench:
    """Files that the lines share.

    Args:
        shared: folder of networks and images.
        work: scratch.
    """

    def __init__(self, shared, work):
        self.work = work
        weights = shared / "weights" / "resnet20_cifar10.safetensors"
        self.model = ("--model", "resnet20", "--weights", weights)
        self.data = shared / "data"

    def detector(self):
        """A calibrated one of ResNet-20."""
        file = self.work / "detector.safetensors"
        if not file.exists():
            train, held_out = (
                self.data / "cifar10_train_a.parquet",
                self.data / "cifar10_train_b.parquet",
            )
            methods = ("--methods", "energy,mahalanobis,knn", "--combine", "fisher")
            gradood("fit", *self.model, "--data", f"{train}[:5000]", *methods, "--out", file)
            gradood(
                "calibrate",
                *self.model,
                "--detector",
                file,
                "--data",
                f"{held_out}[:1000]",
                "--out",
                file,
            )
        return file

    def score(self, source, out, *more, rows=500):
        """Arguments of a scoring job on ResNet-20."""
        return (
            *(
                "score",
                source,
                *self.model,
                "--detector",
                self.detector(),
                "--out",
                self.work / out,
            ),
            *("--shard-rows", rows, "--workers", 1, *more),
        )

    def r1(self):
        """5,000 rows, 1 and 2 actors: every shard equal to the local one."""
        source = f"{self.data / 'cifar10_test.parquet'}[0:5000]"
        seconds = {"local": gradood(*self.score(source, "r1"))}
        here, figures = shards(self.work / "r1"), {}
        for count in (1, 2):
            out = f"r1-{count}"
            seconds[out] = gradood(*self.score(source, out, "--on", "ray", "--actors", count))
            there = shards(self.work / out)
            figures[f"equal shards, {count} actors"] = sum(
                there.get(k) == v for k, v in here.items()
            )
        figures |= {"shards": len(here), "seconds": seconds}
        return figures, all(figures[f"equal shards, {n} actors"] == len(here) for n in (1, 2))

    def r2(self, rows=20_000, shard=200):
        """10 kills of actors and 5 of the driver at random points."""
        source = f"{self.data / 'cifar10_train_a.parquet'}[0:{rows}]"
        rng, count = random.Random(7), rows // shard
        gradood(*self.score(source, "r2", rows=shard))
        kinds = ["actor"] * 10 + ["driver"] * 5
        rng.shuffle(kinds)
        points = sorted(rng.sample(range(1, count - 4), len(kinds)))
        out, errors = self.work / "r2-killed", self.work / "r2.log"
        job = self.score(source, "r2-killed", "--on", "ray", "--actors", 2, rows=shard)
        driver, done, orphans = begun(*job, errors=errors), [], []
        for point, kind in zip(points, kinds, strict=True):
            while len(lines(out)) < point:
                time.sleep(0.05)
                if driver.poll() is not None:
                    sys.exit(f"R2: the driver ended early\n{errors.read_text()[-2000:]}")
            time.sleep(rng.uniform(0, 0.5))
            if kind == "actor":
                while not (there := actors(driver.pid)):
                    time.sleep(0.05)
                os.kill(rng.choice(there), signal.SIGKILL)
            else:
                family = actors(driver.pid)
                before = shards(out)
                driver.kill()
                driver.wait()
                began = time.monotonic()
                while any(map(alive, family)) and time.monotonic() - began < 60:
                    time.sleep(0.1)
                orphans.append(round(time.monotonic() - began, 1))
                assert before.items() <= shards(out).items()
                driver = begun(*job, errors=errors)
            done.append((kind, len(lines(out))))
        code = driver.wait()
        found, text = ids(out), errors.read_text()
        figures = {
            "kills": done,
            "exit code": code,
            "ids": len(found),
            "distinct ids": len(set(found)),
            "equal shards": sum(
                shards(out).get(k) == v for k, v in shards(self.work / "r2").items()
            ),
            "shards": count,
            "shards begun again after a kill of an actor": text.count("it is begun again"),
            "actors killed before they had a shard": text.count("ended before it did a task"),
            "seconds until the actors of a killed driver were gone": orphans,
        }
        fine = (
            code == 0 and len(found) == len(set(found)) == rows and figures["equal shards"] == count
        )
        return figures, fine and figures["shards begun again after a kill of an actor"] <= 10

    def r3(self):
        """A row whose decoder ends its process."""
        import scale_stub

        folder, file = self.work / "poison", self.stub_detector()
        folder.mkdir()
        for i in range(100):
            Image.new("RGB", (8, 8), (i, 2 * i, 255 - i)).save(folder / f"{i:03}.png")
        (folder / "042.png").write_bytes(scale_stub.DEADLY + b"." * 100)
        figures = {}
        for workers in (0, 1):
            out = self.work / f"poison-{workers}"
            figures[f"seconds, {workers} processes that decode"] = gradood(
                *("score", folder, *STUB, "--detector", file, "--out", out, "--shard-rows", 20),
                *("--batch-size", 4, "--workers", workers, "--on", "ray", "--actors", 2),
                expect=4,
            )
            statuses = [line["statuses"] for line in lines(out)]
            figures[f"statuses, {workers}"] = sum(s.get("decoder_crashed", 0) for s in statuses)
            figures[f"ok, {workers}"] = sum(s.get("ok", 0) for s in statuses)
        return figures, all(
            figures[f"statuses, {w}"] == 1 and figures[f"ok, {w}"] == 99 for w in (0, 1)
        )

    def stub_detector(self):
        """A calibrated one of the stub."""
        import scale_stub

        import gradood as package

        file = self.work / "stub.safetensors"
        if not file.exists():
            monitor = package.Monitor(scale_stub.network(), "energy", preprocess=_PLAIN)
            monitor.calibrate(torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
            monitor.save(file)
        return file

    def r4(self, rows=2000):
        """All detectors fitted on 1 and 2 actors, by ranges here, and in one pass."""
        from scale_local import fit_by_ranges

        source, batch = f"{self.data / 'cifar10_train_a.parquet'}[:{rows}]", 16
        names = ("pass", "ranges", "actors-1", "actors-2")
        files = {name: self.work / f"r4-{name}.safetensors" for name in names}
        fit = ("fit", *self.model, "--data", source, "--methods", "all", "--batch-size", batch)
        seconds = {"pass": gradood(*fit, "--out", files["pass"])}
        began = time.monotonic()
        fit_by_ranges(self.model[3], source, batch, files["ranges"])
        seconds["ranges"] = time.monotonic() - began
        for count in (1, 2):
            name = f"actors-{count}"
            seconds[name] = gradood(*fit, "--out", files[name], "--on", "ray", "--actors", count)
        learned = {name: load_file(file) for name, file in files.items()}
        tensors = [key for key in learned["pass"] if "/state/" in key]
        detectors = {key.split("/")[1] for key in tensors}
        differing = {
            name: sum(not torch.equal(learned[name][k], learned["ranges"][k]) for k in tensors)
            for name in ("actors-1", "actors-2", "pass")
        }
        off = {k: _relative(learned["ranges"][k], learned["pass"][k]) for k in tensors}
        worst = dict(sorted(off.items(), key=lambda item: -item[1])[:5])
        figures = {
            "fitted detectors": len(detectors),
            "tensors": len(tensors),
            "tensors that differ from the ranges here": differing,
            "largest relative differences of ranges and one pass": worst,
            "seconds": seconds,
        }
        same = differing["actors-1"] == differing["actors-2"] == 0
        return figures, same and max(off.values()) <= 1e-6

    def r5(self, rounds=3, rows=3000, shard=500):
        """Images per second of one actor and of one process, in turns, after the first shard."""
        source, errors = f"{self.data / 'cifar10_test.parquet'}[0:{rows}]", self.work / "r5.log"
        found = {"local": [], "actor": []}
        for number in range(rounds):
            for name, more in (("local", ()), ("actor", ("--on", "ray", "--actors", 1))):
                out = f"r5-{name}-{number}"
                process = begun(*self.score(source, out, *more, rows=shard), errors=errors)
                spent = _spent_between(process, self.work / out, rows // shard)
                if process.wait():
                    sys.exit(f"R5: {name} failed\n{errors.read_text()[-2000:]}")
                found[name].append((_rate(self.work / out), round((rows - shard) / spent, 1)))
        figures = {"rounds": found}
        for place, what in enumerate(("second", "CPU second of all its processes")):
            middle = {n: statistics.median(r[place] for r in runs) for n, runs in found.items()}
            pairs = zip(found["actor"], found["local"], strict=True)
            shares = [round(actor[place] / local[place], 3) for actor, local in pairs]
            figures[f"images per {what}, median"] = middle
            figures[f"shares by {what}"] = {"rounds": shares, "median": statistics.median(shares)}
        return figures, figures["shares by second"]["median"] >= 0.9

    def r6(self, rows=1_000_000):
        """A million rows: memory of the driver, resumption, and rows per second.

        Where SCALE_LIMIT is set, runs are ended so many seconds after their first shard.
        """
        limit = float(os.environ.get("SCALE_LIMIT", "inf"))
        folder, file = self.work / "million", self.stub_detector()
        _million(folder, rows)
        figures = {"listing": _listed(folder)}
        base = ("score", folder, *STUB, "--detector", file, "--batch-size", 256, "--workers", 0)
        job = (*base, "--shard-rows", 5000, "--out", self.work / "r6", "--on", "ray", "--actors", 2)
        errors = self.work / "r6.log"
        for name in ("first run", "after kill -9"):
            before, began = len(lines(self.work / "r6")), time.monotonic()
            driver = begun(*job, errors=errors)
            until = rows // 10_000 if name == "first run" else 10**9
            first, memory = None, 0
            while driver.poll() is None and len(lines(self.work / "r6")) < until:
                if first is None and len(lines(self.work / "r6")) > before:
                    first = time.monotonic() - began
                memory = max(memory, _memory(driver.pid))
                if first is not None and time.monotonic() - began - first > limit:
                    break
                time.sleep(0.1)
            if driver.poll() is None:
                driver.kill()
            figures[name] = {
                "exit code": driver.wait(),
                "seconds to the first new shard": first,
                "driver's memory, MB": memory,
                "shards": len(lines(self.work / "r6")),
                "rows per second": _rate(self.work / "r6", since=before),
            }
            time.sleep(5)
            if name == "first run":
                figures["finding what is missing"] = self._resumed(folder, file, self.work / "r6")
        local = (*base, "--shard-rows", 5000, "--out", self.work / "r6-local")
        process = begun(*local, errors=errors)
        while len(lines(self.work / "r6-local")) < 20:
            time.sleep(0.1)
        process.kill()
        process.wait()
        figures["one process, rows per second"] = _rate(self.work / "r6-local")
        here, there = shards(self.work / "r6-local"), shards(self.work / "r6")
        figures["shards equal to those of one process"] = sum(
            there.get(k) == v for k, v in here.items()
        )
        last = figures["after kill -9"]
        figures["rows"] = sum(line["rows"] for line in lines(self.work / "r6"))
        fine = (last["exit code"] == 0 and figures["rows"] == rows) or limit < float("inf")
        fine = (
            fine
            and max(figures[n]["driver's memory, MB"] for n in ("first run", "after kill -9"))
            < 1000
        )
        # Of the CPU, as other work of the machine adds to the seconds.
        return figures, fine and figures["finding what is missing"]["CPU seconds"] <= 60

    def _resumed(self, folder, file, out):
        """Listing, and looking up what is finished, in a process of its own."""
        code = (
            "import json, resource, sys, time; import scale_stub\n"
            "from gradood.artifact import read\n"
            "from gradood.batch import Settings, list_images, load_predictor\n"
            "from gradood.batch._open_job import open_job\n"
            "from gradood.data import Preprocess\n"
            "folder, file, out = sys.argv[1:]\n"
            "from pathlib import Path\n"
            "predictor = load_predictor(read(Path(file)), scale_stub.network())\n"
            "plain = Preprocess(**predictor.monitor.preprocess).to_dict()\n"
            "began, spent = time.monotonic(), time.process_time()\n"
            "settings = Settings(batch_size=256, shard_rows=5000)\n"
            "listing, identity = list_images(folder), predictor.identity(plain, 'cpu')\n"
            "with open_job(predictor.monitor, listing, out, identity, settings) as job:\n"
            "    print(json.dumps({'missing shards': len(job.missing),\n"
            "        'seconds': round(time.monotonic() - began, 1),\n"
            "        'CPU seconds': round(time.process_time() - spent, 1),\n"
            "        'MB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))\n"
        )
        command = [sys.executable, "-c", code, *map(str, (folder, file, out))]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        return json.loads(done.stdout or sys.exit(f"R6: {done.stderr[-2000:]}"))

    def r7(self):
        """What importing it loads, and what is said without Ray."""
        code = "import sys, gradood.scale; print('ray' in sys.modules)"
        loads = subprocess.run(
            [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
        )
        code = (
            "import sys; sys.modules['ray'] = None; sys.argv[0] = 'gradood'\n"
            "from gradood.cli import main; sys.exit(main())"
        )
        folder = self.work / "few"
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        more = ("--detector", self.stub_detector(), "--out", self.work / "few-out", "--on", "ray")
        command = [sys.executable, "-c", code, "score", folder, *STUB, *more]
        without = subprocess.run(
            [*map(str, command)], env=ENVIRONMENT, capture_output=True, text=True
        )
        figures = {
            "import loads Ray": loads.stdout.strip(),
            "exit code without Ray": without.returncode,
            "said": without.stderr.strip().splitlines()[-1],
        }
        fine = figures["import loads Ray"] == "False" and without.returncode == 5
        return figures, fine and 'pip install "gradood[ray]"' in without.stderr

    def r8(self, limit=100):
        """A benchmark of two networks on 2 actors, on 2 devices, and in one process."""
        weights = self.model[3].parent
        words = ["bench", "--limit", limit, "--fit-limit", 500, "--no-costs", "--no-cache"]
        for name in ("resnet20", "resnet56"):
            words += ["--run", f"{name}={name}@{next(weights.glob(f'{name}*.safetensors'))}"]
        words += ["--id", self.data / "cifar10_test.parquet"]
        words += [
            "--fit",
            self.data / "cifar10_train_a.parquet",
            "--methods",
            "energy,knn,vim,react",
        ]
        words += ["--ood", f"svhn={self.data / 'svhn_test.parquet'}", "--out"]
        places = {
            "here": (),
            "actors": ("--on", "ray", "--actors", 2),
            "devices": ("--devices", "cpu:2"),
        }
        seconds = {n: gradood(*words, self.work / f"r8-{n}", *m) for n, m in places.items()}
        found = {name: _figures(self.work / f"r8-{name}") for name in places}
        figures = {f"equal to one process: {n}": found[n] == found["here"] for n in places}
        figures |= {"figures": sum(map(len, found["here"])), "seconds": seconds}
        return figures, all(figures[f"equal to one process: {n}"] for n in places)


_PLAIN = {"mode": "RGB", "resize": None, "crop": None, "mean": None, "std": None}


def _relative(a, b):
    if not a.numel():
        return 0.0
    scale = b.double().abs().max().clamp(min=1e-300)
    return float((a.double() - b.double()).abs().max() / scale)


def _rate(out, since=0):
    """Rows per second between the first shard of a run and its last."""
    times = sorted((out / line["file"]).stat().st_mtime for line in lines(out)[since:])
    rows = sorted((line["rows"] for line in lines(out)[since:]), reverse=True)
    return None if len(times) < 2 else round(sum(rows[1:]) / (times[-1] - times[0]), 1)


def _spent(process):
    """CPU seconds of a process and all that it began and that are there."""
    ticks = 0
    for number in {process, *descendants(process)}:
        try:
            text = (Path("/proc") / str(number) / "stat").read_text()
        except OSError:
            continue
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _spent_between(process, out, count):
    """CPU seconds of a job from its first shard to its last."""
    first = last = 0
    while process.poll() is None:
        done = len(lines(out))
        if done >= 1 and not first:
            first = _spent(process.pid)
        if done == count and first:
            last = _spent(process.pid)
            break
        time.sleep(0.02)
    return max(last - first, 1e-9)


def _figures(out):
    """What a benchmark found: the rows of each network's table, and the hash of its scores."""
    record = json.loads((out / "arena.json").read_text())
    scores = hashlib.sha256((out / "scores.safetensors").read_bytes()).hexdigest()
    return [[json.dumps(row) for row in run["rows"]] for run in record["runs"]] + [[scores]]


def _memory(process):
    """Largest resident memory of a process so far, MB."""
    try:
        text = (Path("/proc") / str(process) / "status").read_text()
    except OSError:
        return 0
    found = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) // 1024 if found else 0


def _listed(folder):
    """Seconds and memory of a listing by itself."""
    code = (
        "import json, resource, sys, time; from gradood.batch import list_images\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before, began = peak(), time.monotonic()\n"
        "rows = len(list_images(sys.argv[1]))\n"
        "found = {'rows': rows, 'seconds': round(time.monotonic() - began, 1)}\n"
        "print(json.dumps({**found, 'MB before': before, 'MB at most': peak()}))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return json.loads(subprocess.run(command, env=ENVIRONMENT, capture_output=True).stdout)


def _million(folder, rows):
    """Images that are links to a few files, a thousand a folder."""
    sources = folder.parent / "million-sources"
    sources.mkdir()
    for i in range(64):
        Image.new("RGB", (8, 8), (4 * i, 255 - 4 * i, i)).save(sources / f"{i}.png")
    for i in range(rows):
        place = folder / f"{i // 1000:04d}"
        if i % 1000 == 0:
            place.mkdir(parents=True)
        os.link(sources / f"{i % 64}.png", place / f"{i:07d}.png")


def main():
    """Run the lines asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("GRADOOD_SHARED", "../shared"))
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    names = [name.lower() for name in options.names] or [f"r{n}" for n in range(1, 9)]
    work = Path(tempfile.mkdtemp(prefix="gradood-scale-"))
    failed = []
    try:
        bench = Bench(options.shared, work)
        for name in names:
            method = getattr(bench, name)
            began = time.monotonic()
            figures, fine = method()
            figures = {
                "line": name.upper(),
                "what": method.__doc__.split("\n")[0],
                "holds": fine,
                **figures,
            }
            figures["seconds of all"] = round(time.monotonic() - began, 1)
            print(json.dumps(figures), flush=True)
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / f"{name}.json").write_text(json.dumps(figures, indent=2))
            failed += [] if fine else [name.upper()]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

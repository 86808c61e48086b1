"""`gradood score` on a folder with bad images, killed and restarted, and against a plain loop.

    python benchmarks/scoring.py [--images 20000] [--kills 20] [--rounds 7] [--out FILE.md]

A folder of small images is generated, one in a hundred of them bad in one of ten ways. It is scored
without interruption, then again with as many kills (−9) at random times as asked for. Checked:
every image is one row, every bad one has the status it should have, the exit code is 4; after the
kills each id is there once, every shard has the same bytes as without, and no finished shard was
written twice. Then the images that can be decoded are scored, in turns, by `score_images` and by a
plain DataLoader with a forward pass. A failed check ends in exit code 1.
"""

import argparse
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

import gradood
from gradood.batch import Identity, Settings, list_images, score_images
from gradood.bench.folder import provenance
from gradood.data import Preprocess
from gradood.models import REFERENCES, build

WAYS = {
    "empty": "empty",
    "truncated": "truncated",
    "web page": "not_an_image",
    "CMYK": "cmyk",
    "16-bit": "sixteen_bit",
    "animated": "animated",
    "decompression bomb": "too_large",
    "unreadable": "unreadable",
    "link to itself": "unreadable",
    "name not UTF-8": "name_not_utf8",
}
"""Ways to be bad, and the status that each should get."""
SCORED = ("cmyk", "sixteen_bit", "animated", "name_not_utf8")
MODEL, FOLDERS = "resnet20", 10


def make_images(folder: Path, count: int, *, bad: float, side: int = 64) -> dict[str, str]:
    """Write `count` images, a share `bad` of them in the ten ways in turn.

    Returns:
        id → status that the bad ones should get.
    """
    rng = np.random.default_rng(0)
    places = rng.choice(count, round(count * bad), replace=False)
    ways = {int(place): list(WAYS)[i % len(WAYS)] for i, place in enumerate(sorted(places))}
    expected = {}
    for i in range(count):
        name = f"{i % FOLDERS}/{i:06d}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        image = coarse.resize((side, side), Image.Resampling.BICUBIC)
        if i not in ways:
            image.save(path, quality=90)
            continue
        if ways[i] == "name not UTF-8":
            path = Path(os.fsdecode(os.fsencode(path)[:-4] + b"\xff\xe9.jpg"))
            name = f"{name[:-4]}\\xff\\xe9.jpg"
        _spoil(path, image, ways[i])
        expected[name] = WAYS[ways[i]]
    return expected


def _spoil(path: Path, image: Image.Image, way: str) -> None:
    stream = io.BytesIO()
    if way == "unreadable":
        if os.geteuid() == 0:  # Whom no permission stops.
            path.symlink_to("gone.jpg")
        else:
            path.touch(mode=0)
        return
    if way == "link to itself":
        path.symlink_to(path.name)
        return
    if way == "CMYK":
        image.convert("CMYK").save(stream, "JPEG")
    elif way == "16-bit":
        values = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(values).save(stream, "PNG")
    elif way == "animated":
        image.save(stream, "GIF", save_all=True, append_images=[image.rotate(90)])
    elif way == "decompression bomb":
        stream.write(_bomb(20_000))
    elif way == "web page":
        stream.write(b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")
    elif way != "empty":
        image.save(stream, "JPEG")
    content = stream.getvalue()
    path.write_bytes(content[: len(content) // 2] if way == "truncated" else content)


def _bomb(side: int) -> bytes:
    """A PNG that promises side × side pixels, in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


@dataclass
class Bench:
    """A folder with a model and a detector, and what was found on it."""

    folder: Path
    images: int
    shard_rows: int
    workers: int
    batch_size: int
    expected: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    found: dict[str, object] = field(default_factory=dict)

    def prepare(self, bad: float) -> None:
        """Images, weights, and a calibrated detector."""
        self.expected = make_images(self.folder / "images", self.images, bad=bad)
        torch.manual_seed(0)
        model = build(MODEL).eval()
        save_file(model.state_dict(), self.folder / "weights.safetensors")
        monitor = gradood.Monitor(
            model, "energy", preprocess=asdict(self.preprocess), progress=False
        )
        monitor.calibrate(torch.randn(256, 3, 32, 32), fpr=0.05)
        monitor.save(self.folder / "detector.safetensors")

    @property
    def preprocess(self) -> Preprocess:
        """Of the reference network."""
        return Preprocess(**REFERENCES[MODEL].preprocess)

    def command(self, out: str) -> list[str]:
        """The command that scores the folder."""
        return [
            *(sys.executable, "-m", "gradood.cli", "score", str(self.folder / "images")),
            *("--detector", str(self.folder / "detector.safetensors")),
            *("--model", MODEL, "--weights", str(self.folder / "weights.safetensors")),
            *("--out", str(self.folder / out), "--shard-rows", str(self.shard_rows)),
            *("--workers", str(self.workers), "--batch-size", str(self.batch_size), "--json"),
        ]

    def check(self, holds: bool, what: str) -> None:
        """Note a check that failed."""
        if not holds:
            self.failures.append(what)

    def uninterrupted(self) -> float:
        """One run, and what it should give; returns its seconds."""
        began = time.monotonic()
        done = subprocess.run(self.command("whole"), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        self.check(done.returncode == 4, f"exit code {done.returncode}, not 4: {done.stderr}")
        self.check(done.stderr == "", f"stderr: {done.stderr[:500]}")
        rows = self.rows("whole")
        self.check(len(rows) == self.images, f"{len(rows)} rows, not {self.images}")
        self.check(len({row["id"] for row in rows}) == len(rows), "an id is there twice")
        status = {row["id"]: row["status"] for row in rows if row["status"] != "ok"}
        wrong = sorted(set(status.items()) ^ set(self.expected.items()))
        self.check(not wrong, f"wrong status: {wrong[:6]}")
        for row in rows:
            lost = row["status"] not in ("ok", *SCORED)
            fine = (row["score"] == float("inf")) == lost and (not lost or row["is_ood"])
            self.check(fine and (row["error"] is None) == (row["status"] == "ok"), f"row {row}")
        self.found |= {
            "rows": len(rows),
            "exit": done.returncode,
            "statuses": json.loads(done.stdout)["statuses"] if done.stdout else {},
            "seconds": round(seconds, 1),
        }
        return seconds

    def killed(self, kills: int, seconds: float, seed: int = 0, start: float | None = None) -> None:
        """Kill a run at random times, restart it as often, compare.

        Args:
            kills: how often.
            seconds: that a whole run takes.
            seed: of the times.
            start: seconds that a run takes where nothing is left to do; None to measure them.
        """
        if start is None:
            began = time.monotonic()
            subprocess.run(self.command("whole"), capture_output=True, check=False)
            start = time.monotonic() - began
        shards = len(self.finished("whole"))
        each = max(0.0, seconds - start) / shards
        rng = random.Random(seed)
        written: dict[str, int] = {}
        progress = []
        for _ in range(kills):
            process = subprocess.Popen(
                self.command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self.wait(process, rng, 1.6 * shards / kills, start, each)
            process.kill()
            process.wait()
            progress.append(len(self.finished("killed")))
            self.unchanged(written)
        done = subprocess.run(self.command("killed"), capture_output=True, text=True, check=False)
        self.check(done.returncode == 4, f"exit code {done.returncode} after kills: {done.stderr}")
        self.unchanged(written)
        rows = self.rows("killed")
        self.check(len({row["id"] for row in rows}) == len(rows) == self.images, "ids after kills")
        same = self.shards("killed") == self.shards("whole")
        self.check(same, "shards differ from those of the run without kills")
        self.found |= {"kills": kills, "shards after each kill": progress, "same bytes": same}

    def wait(
        self, process: subprocess.Popen, rng: random.Random, most: float, start: float, each: float
    ) -> None:
        """Wait until some more shards, `most` at most, are finished, and a part of another.

        Counted in shards, as time says little on a busy machine.
        """
        before, more = len(self.finished("killed")), int(rng.uniform(0, most))
        if more == 0:
            time.sleep(rng.uniform(0.5, 1.0) * start)
        while process.poll() is None and len(self.finished("killed")) < before + more:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, each))

    def unchanged(self, written: dict[str, int]) -> None:
        """Whether shards that were finished are as they were; takes note of new ones."""
        now = self.finished("killed")
        for name, stamp in written.items():
            self.check(now.get(name) == stamp, f"{name} was finished, and written again")
        written |= now

    def finished(self, out: str) -> dict[str, int]:
        """Shards in the manifest, and when they were written."""
        manifest = self.folder / out / "_manifest.jsonl"
        if not manifest.exists():
            return {}
        lines = manifest.read_text().split("\n")[:-1]
        names = [json.loads(line)["file"] for line in lines]
        return {name: (manifest.parent / name).stat().st_mtime_ns for name in names}

    def rows(self, out: str) -> list[dict]:
        """Every row of the results, read as anyone would."""
        return pq.read_table(self.folder / out).to_pylist()

    def shards(self, out: str) -> dict[str, bytes]:
        """Every shard's content."""
        return {p.name: p.read_bytes() for p in (self.folder / out).glob("*.parquet")}

    def throughput(self, images: int, rounds: int) -> None:
        """`score_images` and a plain loop over the same images, in turns."""
        model = build(MODEL).eval()
        listing = list_images(str(self.folder / "images"))
        names = [listing.id(row) for row in range(len(listing))]
        rows = [row for row, name in enumerate(names) if name not in self.expected]
        good = [str(listing.encoded(row)) for row in rows]
        chosen = self.folder / "good.txt"
        chosen.write_text("\n".join(good[:images]))
        monitor = gradood.load(self.folder / "detector.safetensors", self.loaded(model))
        seconds: dict[str, list[float]] = {"plain": [], "score": []}
        for _ in range(rounds + 1):
            began = time.perf_counter()
            logits = self.plain(model, good[:images])
            seconds["plain"].append(time.perf_counter() - began)
            shutil.rmtree(self.folder / "fast", ignore_errors=True)
            began = time.perf_counter()
            self.ours(monitor, chosen)
            seconds["score"].append(time.perf_counter() - began)
        energy = -torch.logsumexp(logits.double(), 1)
        scores = torch.tensor([row["score"] for row in self.rows("fast")]).double()
        self.check(torch.allclose(scores, energy, rtol=1e-5), "scores are not those of the logits")
        # The first round warms up. Other work on the machine only ever adds time.
        plain, ours = (seconds[name][1:] for name in ("plain", "score"))
        ratio = min(plain) / min(ours)
        self.found |= {
            "images timed": len(logits),
            "plain, images/s, best round": round(len(logits) / min(plain)),
            "score, images/s, best round": round(len(logits) / min(ours)),
            "throughput ratio, best rounds": round(ratio, 3),
            "ratio of each round": [round(p / s, 2) for p, s in zip(plain, ours, strict=True)],
        }
        self.check(ratio >= 0.9, f"throughput {ratio:.3f} of a plain loop, less than 0.9")

    def loaded(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model with the weights of the bench."""
        from gradood.models import load_weights

        load_weights(model, self.folder / "weights.safetensors")
        return model

    def ours(self, monitor: gradood.Monitor, chosen: Path) -> None:
        """What the command does once everything is loaded."""
        score_images(
            monitor,
            list_images(str(chosen)),
            self.folder / "fast",
            preprocess=self.preprocess,
            identity=Identity(artifact="0" * 64, model="bench"),
            settings=Settings(batch_size=self.batch_size, workers=self.workers, progress=False),
        )

    def plain(self, model: torch.nn.Module, paths: list[str]) -> torch.Tensor:
        """What one would write without gradood."""
        loader = DataLoader(
            Plain(paths, self.preprocess), batch_size=self.batch_size, num_workers=self.workers
        )
        with torch.inference_mode():
            return torch.cat([model(x) for x in loader])


class Plain(Dataset):
    """Images by path."""

    def __init__(self, paths: list[str], preprocess: Preprocess) -> None:
        self.paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.preprocess(image.convert("RGB"))


def main() -> int:
    """Run what was asked for; 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--bad", type=float, default=0.01)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--shard-rows", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timed", type=int, default=6_000, help="images of a timed round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write a Markdown record")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.images, given.shard_rows, given.workers, given.batch_size)
        bench.prepare(given.bad)
        seconds = bench.uninterrupted()
        print(bench.found, flush=True)
        if given.kills:
            bench.killed(given.kills, seconds)
            print(bench.found, flush=True)
        if given.rounds:
            bench.throughput(given.timed, given.rounds)
    text = record(vars(given), bench)
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    return 1 if bench.failures else 0


def record(given: dict, bench: Bench) -> str:
    """What was run, what was found, and which checks failed, in Markdown."""
    made = provenance()
    lines = [
        "# Batch scoring",
        "",
        "`python benchmarks/scoring.py`: see there what is checked.",
        "",
    ]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in given.items() if name != "out"]
    lines += [f"| {name} | {value} |" for name, value in bench.found.items()]
    lines += [f"| checks that failed | {len(bench.failures)} |", ""]
    lines += [f"- {failure}" for failure in bench.failures[:20]]
    lines += [f"Commit {made['commit']}, {made['date']}, {made['versions']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

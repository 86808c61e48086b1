"""Run every block of README.md and of the pages of docs/, as printed; or check types of Python.

    python3 scripts/pages.py [--here] [--network]     # README.md in a fresh copy, then every page
    python3 scripts/pages.py [--twice] docs/serve.md … # these pages, on demo/ and .venv as they are
    .venv/bin/python scripts/pages.py --types

README.md comes first and makes .venv and demo/. Every other page begins in a folder of its own,
with a copy of demo/ and with .venv active. The shell blocks of a page run in one shell. Python
blocks one after another are one program; a shell block between them ends it. What a block must
not do here, it says above itself, for readers too: ``*Not run here: needs the network.*``; these
run with ``--network``. ``<!-- setup: digits -->`` puts docs/setup/digits.py before each program
of a page. ``text`` blocks are output. README.md runs twice, one after the other in one folder, as a
reader who comes back runs it; other pages do with ``--twice``. ``--here`` runs README.md in this
working copy, which must be fresh, such as CI's clone. Needs Python alone, and git; ``--types``
needs pyright, and runs mypy where it is installed.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OUTPUT = "text"
NETWORK = "needs the network."
_BLOCK = re.compile(
    r"^(?:\*Not run here: (?P<reason>[^*\n]+)\*\n\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_SETUP = re.compile(r"^<!-- setup: (\w+) -->$", re.M)
# What an outer environment, or make with ARGS of its own, would hand on.
_OUTER = ("PYTHONPATH", "VIRTUAL_ENV", "ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")


@dataclass(frozen=True)
class Block:
    """What a fence encloses, with the line it begins on, and why it is not run, if it is not."""

    line: int
    language: str
    text: str
    reason: str

    def runs(self, *, network: bool = False) -> bool:
        """Whether it is a command or a program to run."""
        return self.language != OUTPUT and (not self.reason or (network and self.reason == NETWORK))


@dataclass(frozen=True)
class Program:
    """Python blocks one after another, on the lines where the page has them."""

    line: int
    text: str


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        """All of them; one in another language than sh, python and text needs a reason."""
        found = [
            Block(
                self.text[: m.start("text")].count("\n") + 1,
                m["language"],
                m["text"],
                m["reason"] or "",
            )
            for m in _BLOCK.finditer(self.text)
        ]
        other = [b for b in found if b.language not in ("sh", "python", OUTPUT) and not b.reason]
        fences = len(re.findall(r"^\s*```", self.text, re.M))
        if other or fences != 2 * len(found):
            where = f"line {other[0].line}" if other else "a fence that is not closed or indented"
            sys.exit(
                f"{self.name}: {where}: a block is sh, python or text (output), or has a line "
                "such as *Not run here: needs the network.* and an empty one above it"
            )
        return found

    @property
    def setup(self) -> str:
        """Python that comes before each of its programs."""
        names = _SETUP.findall(self.text)
        files = [ROOT / "docs" / "setup" / f"{name}.py" for name in names]
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def parts(self, *, network: bool = False) -> list[Block | Program]:
        """What runs, in order: blocks of shell, and programs."""
        parts: list[Block | Program] = []
        for block in self.blocks:
            if not block.runs(network=network):
                continue
            if block.language == "sh":
                parts.append(block)
            elif parts and isinstance(parts[-1], Program):
                parts[-1] = Program(parts[-1].line, _appended(parts[-1].text, block))
            else:
                parts.append(Program(block.line, _appended("", block)))
        return parts


def _appended(program: str, block: Block) -> str:
    lines = program.splitlines()
    return "\n".join([*lines, *[""] * (block.line - 1 - len(lines)), block.text])


def pages() -> list[Page]:
    """README.md, and every page of docs/. CONTRIBUTING.md has a test of its own."""
    files = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    return [page(file) for file in files]


def page(file: Path) -> Page:
    """The page in a file."""
    name = file.resolve().relative_to(ROOT).as_posix()
    return Page(name, file.read_text(encoding="utf-8"))


def script(given: Page, folder: Path, *, network: bool = False) -> str:
    """One shell program: every part, each told on stderr before it runs."""
    lines = ["set -euo pipefail"]
    for part in given.parts(network=network):
        lines.append(f"echo '=== {given.name}:{part.line}' >&2")
        if isinstance(part, Program):
            file = folder / f"{given.name.replace('/', '-')}.{part.line}.py"
            file.write_text(given.setup + part.text, encoding="utf-8")
            lines.append(f"python -W error '{file}'")
        else:
            lines.append(part.text)
    return "\n".join(lines) + "\n"


def copy_of_the_tree(folder: Path) -> None:
    """What is, or is about to be, in the repository; all but what git ignores."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    ).stdout
    for name in filter(None, listing.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def environment(root: Path | None = None) -> dict[str, str]:
    """Of a page's commands; with the .venv below a root active."""
    made = {key: value for key, value in os.environ.items() if key not in _OUTER}
    made.setdefault("OMP_NUM_THREADS", "1")  # A second thread costs more than it brings.
    if root is not None:
        made |= {"PATH": f"{root}/.venv/bin:{made['PATH']}", "VIRTUAL_ENV": f"{root}/.venv"}
    return made


def run_first(given: Page, root: Path, *, network: bool) -> int:
    """Run README.md in a working copy; the exit code of what failed, or 0."""
    with tempfile.TemporaryDirectory(prefix="gradood-page-") as name:
        shell = repeated(script(given, Path(name), network=network))
        return subprocess.run(["bash", "-c", shell], cwd=root, env=environment()).returncode


def run_all(given: Sequence[Page], root: Path, *, network: bool, twice: bool = False) -> int:
    """Run pages side by side, each in a folder of its own; the first exit code that is not 0.

    Pages of Python alone share a process that has imported torch, and forks for each program;
    where pages run twice, these do not, as two programs at a time would write the same files.
    """
    parts = {page: page.parts(network=network) for page in given}
    shell = [
        page
        for page in given
        if parts[page] and (twice or any(isinstance(part, Block) for part in parts[page]))
    ]
    with tempfile.TemporaryDirectory(prefix="gradood-pages-") as name:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            scratch = Path(name)
            run = partial(run_page, root=root, scratch=scratch, network=network, twice=twice)
            codes = list(pool.map(run, shell))
        plain = [page for page in given if parts[page] and page not in shell]
        codes += [run_programs(plain, root, Path(name), network=network)] if plain else []
    return next((code for code in codes if code), 0)


def repeated(shell: str) -> str:
    """A shell program that runs another twice, in one folder, each time in a shell of its own."""
    return f"set -e\n(\n{shell})\necho '=== the second time' >&2\n(\n{shell})\n"


def run_page(given: Page, root: Path, scratch: Path, *, network: bool, twice: bool = False) -> int:
    """Run one page in a folder of its own, and say what it printed if it failed."""
    start, folder = time.monotonic(), _own_folder(given, root, scratch)
    shell = script(given, scratch, network=network)
    shell = repeated(shell) if twice else shell
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=folder,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    report(given.name, done.returncode, time.monotonic() - start, done.stdout)
    return done.returncode


def run_programs(given: Sequence[Page], root: Path, scratch: Path, *, network: bool) -> int:
    """Run the programs of pages without shell; the exit code."""
    listed = []
    for one in given:
        folder = _own_folder(one, root, scratch)
        for part in one.parts(network=network):
            file = scratch / f"{one.name.replace('/', '-')}.{part.line}.py"
            file.write_text(part.text, encoding="utf-8")
            listed.append([f"{one.name}:{part.line}", str(file), one.setup, str(folder)])
    (scratch / "programs.json").write_text(json.dumps(listed), encoding="utf-8")
    command = ["python", "-W", "error", str(ROOT / "scripts" / "programs.py")]
    command.append(str(scratch / "programs.json"))
    return subprocess.run(command, cwd=scratch, env=environment(root)).returncode


def _own_folder(given: Page, root: Path, scratch: Path) -> Path:
    if not (root / "demo").is_dir() or not (root / ".venv").exists():
        sys.exit("pages: no demo/ or no .venv; run make demo first")
    folder = scratch / given.name.replace("/", "-").removesuffix(".md")
    folder.mkdir()
    (folder / ".venv").symlink_to((root / ".venv").resolve())
    shutil.copytree(root / "demo", folder / "demo", copy_function=_linked)
    return folder


def _linked(source: str, to: str) -> None:
    """A hard link, as 2,000 small files are soon linked; where that cannot be, a copy."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)


def report(name: str, code: int, seconds: float, output: str = "") -> None:
    """One line for a page; of one that failed, what it said too."""
    if code:
        print(output, file=sys.stderr)
    ended = "ok" if code == 0 else f"FAILED with {code}"
    print(f"{name}: {ended} after {seconds:.1f} s", file=sys.stderr, flush=True)


def run(*, here: bool, network: bool) -> int:
    """Run README.md, then all others on what it made; the exit code of what failed, or 0."""
    if here and (ROOT / "demo").exists():
        sys.exit("pages: demo/ is there already; leave out --here, or run make clean")
    first, *others = pages()
    with tempfile.TemporaryDirectory(prefix="gradood-readme-") as name:
        start, root = time.monotonic(), ROOT if here else Path(name) / "gradood"
        if not here:
            root.mkdir()
            copy_of_the_tree(root)
        code = run_first(first, root, network=network)
        report(first.name, code, time.monotonic() - start)
        if code:
            return code
        # What the other pages show is in more extras than what README.md begins with.
        install = [sys.executable, str(root / "scripts" / "bootstrap.py"), "docs"]
        code = subprocess.run(install, env=environment()).returncode
        return code or run_all(others, root, network=network)


def types(given: Sequence[Page]) -> int:
    """Check the Python of pages by pyright, strictly, and by mypy where it is installed."""
    with tempfile.TemporaryDirectory(prefix="gradood-pages-") as name:
        names = []
        for one in given:
            for part in one.parts():
                if isinstance(part, Program):
                    names.append(f"{re.sub(r'[^a-z]+', '_', one.name.lower())}_{part.line}.py")
                    text = one.setup + part.text
                    (Path(name) / names[-1]).write_text(text, encoding="utf-8")
        settings = {"include": names, "typeCheckingMode": "strict"}
        settings |= {"reportUnknownVariableType": False, "reportUnknownMemberType": False}
        (Path(name) / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        checks = [["pyright", "-p", name, "--pythonpath", sys.executable]]
        if importlib.util.find_spec("mypy"):
            checks.append(["mypy", "--strict", "--cache-dir", f"{ROOT}/.mypy_cache", *names])
        codes = [subprocess.run([sys.executable, "-m", *c], cwd=name).returncode for c in checks]
        return max(codes)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options = {a for a in arguments if a.startswith("--")}
    named = [page(Path(a)) for a in arguments if a not in options]
    if not options <= {"--types", "--here", "--network", "--twice"}:
        sys.exit(__doc__)
    network, twice = "--network" in options, "--twice" in options
    if "--types" in options:
        return types(named or [page(README)])
    if named:
        return run_all(named, ROOT, network=network, twice=twice)
    if twice:
        sys.exit("pages: --twice is of named pages; README.md runs twice anyway")
    return run(here="--here" in options, network=network)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

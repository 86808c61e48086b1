"""Make `.venv` and install gradood into it with the extras named; instant when nothing changed.

    python3 scripts/bootstrap.py test

Needs Python alone. Installs with uv where it is on the PATH or pip can install it, else, or should
uv fail, with pip; `NO_UV=1` goes straight to pip. On Linux without a GPU, `UV_TORCH_BACKEND=cpu`
lets uv choose the small torch where nothing better is configured.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one should be told so
    sys.exit(
        f"gradood needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name another, as in: make PYTHON=python3.12 test"
    )

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".gradood-bootstrap.json"
CONSTRAINTS = ROOT / "constraints.txt"

# pip's setting -> the variable by which uv, which does not read pip's settings, takes the same.
# Without the first, uv would miss a CPU build of torch kept on disk and fetch gigabytes of CUDA.
UV_NAMES = {"find-links": "UV_FIND_LINKS", "index-url": "UV_DEFAULT_INDEX"}


def say(text: str) -> None:
    """One line to stderr: stdout belongs to the command that follows."""
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


def succeeds(command: list[str], **options) -> bool:
    """Run it, and tell whether it ended well."""
    return subprocess.run(command, cwd=ROOT, check=False, **options).returncode == 0


def fingerprint() -> str:
    """Of everything that decides what belongs in the environment."""
    files = [ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def stamp() -> dict:
    """What the last run that ended well left behind; empty if there was none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def usable() -> bool:
    """Whether `.venv` has a Python that still runs and is new enough, and was not moved here.

    The scripts of an environment hold its path.
    """
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return (
        PYTHON.exists()
        and stamp().get("root", str(ROOT)) == str(ROOT)
        and succeeds([str(PYTHON), "-c", check])
    )


def make_environment() -> None:
    """A new `.venv`."""
    say(f"making .venv with {sys.executable}")
    if succeeds([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        return
    uv = shutil.which("uv")  # Debian's Python has no `venv` until python3-venv is installed
    if uv is None or not succeeds(
        [uv, "venv", "-q", "--clear", "--seed", "--python", sys.executable, str(VENV)]
    ):
        sys.exit(
            f"bootstrap: {sys.executable} cannot make a virtual environment (its words are above). "
            "Install its venv module (on Debian: apt-get install python3-venv) or uv."
        )


def uv_environment() -> dict[str, str]:
    """This environment, with pip's settings told to uv where uv was told nothing itself."""
    environment = dict(os.environ)
    listing = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    # Lines such as global.find-links='a b'; the last wins, and pip lets :env: win.
    for line in sorted(listing.splitlines(), reverse=True):
        name, _, value = line.partition("=")
        variable = UV_NAMES.get(name.rpartition(".")[2])
        if variable and variable not in os.environ:
            try:
                environment[variable] = ",".join(ast.literal_eval(value).split())
            except (ValueError, SyntaxError):
                continue
    return environment


def install_with_uv(wanted: list[str]) -> bool:
    """Whether uv was to be had and installed everything."""
    if os.environ.get("NO_UV"):
        return False
    on_path = shutil.which("uv")
    uv = [on_path] if on_path else [str(PYTHON), "-m", "uv"]
    if not on_path and not succeeds([str(PYTHON), "-m", "pip", "install", "-q", "uv"]):
        say("uv is not to be had")
        return False
    say(f"installing {wanted[-1]} with uv")
    command = [*uv, "pip", "install", "--python", str(PYTHON), *wanted]
    if succeeds(command, env=uv_environment()):
        return True
    say("uv failed")
    return False


def main(extras: list[str]) -> None:
    """Bring `.venv` up to date for these extras."""
    sound, mark, last = usable(), fingerprint(), stamp()
    done = set(last["extras"]) if sound and last.get("fingerprint") == mark else set()
    if done.issuperset(extras):
        return
    if not sound:
        make_environment()
    elif not succeeds([str(PYTHON), "-c", "import pip"], stderr=subprocess.DEVNULL):
        succeeds([str(PYTHON), "-m", "ensurepip"], stdout=subprocess.DEVNULL)  # made by uv
    STAMP.unlink(missing_ok=True)  # an interrupted install must not look finished
    wanted = ["-c", str(CONSTRAINTS), "-e", f".[{','.join(extras)}]"]
    if not install_with_uv(wanted):
        say(f"installing {wanted[-1]} with pip")
        if not succeeds([str(PYTHON), "-m", "pip", "install", *wanted]):
            sys.exit("bootstrap: pip failed too; its words are above")
    now = {"fingerprint": mark, "root": str(ROOT), "extras": sorted(done.union(extras))}
    STAMP.write_text(json.dumps(now))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(f"usage: {sys.argv[0]} EXTRA...")
    main(sys.argv[1:])

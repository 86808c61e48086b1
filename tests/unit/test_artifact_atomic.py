import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from artifact_samples import benchmark, sample

import gradood
from gradood._io.atomic import replace
from gradood.artifact import check, write
from gradood.errors import ArtifactError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(gradood.__file__).parents[1])}


def accept(file) -> None:
    """Verify nothing."""


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def target(tmp_path):
    file = tmp_path / "target"
    file.write_bytes(b"old")
    return file


def test_a_file_is_made_and_replaced(tmp_path):
    target = tmp_path / "target"
    replace(target, [b"a", memoryview(b"b"), bytearray(b"c")], accept)
    assert target.read_bytes() == b"abc"
    replace(str(target), [], accept)
    assert target.read_bytes() == b""
    assert names(tmp_path) == ["target"]


def test_what_is_verified_is_what_was_written(target):
    seen = []

    def verify(file):
        seen.append((file.read(), target.read_bytes()))

    replace(target, [b"n", b"ew"], verify)
    assert seen == [(b"new", b"old")]


@pytest.mark.parametrize("failure", [ArtifactError("x"), KeyboardInterrupt(), MemoryError()])
def test_whatever_fails_leaves_the_old_file_and_no_other(target, failure):
    def verify(file):
        raise failure

    def parts():
        yield b"new"
        raise failure

    for arguments in (([b"new"], verify), (parts(), accept)):
        with pytest.raises(type(failure)):
            replace(target, *arguments)
        assert target.read_bytes() == b"old"
        assert names(target.parent) == ["target"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_an_error_of_the_system_says_what_happened(target, monkeypatch, call):
    def failing(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match=r"saving failed .*was there before is unchanged") as caught:
        replace(target, [b"new"], accept)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["target"]


def test_the_order_is_write_sync_verify_rename_sync(target, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*arguments, name=name, real=real):
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            steps.append(f"{name} folder" if folder else name)
            return real(*arguments)

        monkeypatch.setattr(os, name, noted)
    replace(target, [b"new"], lambda file: steps.append("verify"))
    assert steps == ["fsync", "verify", "replace", "fsync folder"]


DYING = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from artifact_samples import sample
from gradood.artifact import write
target = Path({target!r})
write(target.with_name("warm"), *sample(1, 5000))  # Whatever is imported on first use has been.

def save(point):
    count = 0
    def dying(frame, event, argument):
        nonlocal count
        if event in ("c_call", "call"):
            count += 1
            if count == point:
                os.kill(os.getpid(), 9)
    sys.setprofile(dying)
    write(target, *sample(1, 5000))
    sys.setprofile(None)
    print(count, flush=True)

for point in sys.stdin:
    if os.fork() == 0:
        save(int(point))
        os._exit(0)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_killed_at_any_call_of_a_save_the_file_is_whole(tmp_path):
    """Not at random: at forty calls spread from the first to the last of one save."""
    target = tmp_path / "detector.safetensors"
    old = write(target, *sample(0, 5000)).sha256
    new = write(tmp_path / "warm", *sample(1, 5000)).sha256
    program = DYING.format(tests=str(Path(__file__).parents[1]), target=str(target))
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as saves:
        assert saves.stdin is not None and saves.stdout is not None

        def save(point: int) -> int:
            """What a process of its own says or ends with, killed at that call."""
            print(point, file=saves.stdin, flush=True)
            return int(saves.stdout.readline())

        calls = save(0)
        assert saves.stdout.readline() == "0\n"
        assert check(target).sha256 == new
        (tmp_path / "warm").unlink()
        found = []
        spread = {calls * step // 40 for step in range(1, 40)}
        for point in spread | set(range(calls - 45, calls, 6)):
            write(target, *sample(0, 5000))
            assert names(tmp_path) == [target.name]
            assert save(point) == -9
            found.append(check(target).sha256)
        assert set(found) == {old, new}
        write(target, *sample(0, 5000))
        assert names(tmp_path) == [target.name]


def test_stale_temporary_files_go_and_others_stay(target):
    folder = target.parent
    stale = f".target.{'0' * 16}.tmp"
    kept = [".target.tmp", f".other.{'0' * 16}.tmp", f".target.x.{'0' * 16}.tmp", "target.bak"]
    for name in (stale, *kept):
        (folder / name).write_bytes(b"x")
    replace(target, [b"new"], accept)
    assert names(folder) == sorted([*kept, "target"])


def test_the_temporary_file_of_a_living_save_stays(target):
    inside, go_on = threading.Event(), threading.Event()

    def slow(file):
        inside.set()
        assert go_on.wait(20)

    first = threading.Thread(target=replace, args=(target, [b"slow"], slow))
    first.start()
    assert inside.wait(20)
    replace(target, [b"quick"], accept)
    assert target.read_bytes() == b"quick"
    assert len(names(target.parent)) == 2
    go_on.set()
    first.join()
    assert target.read_bytes() == b"slow"
    assert names(target.parent) == ["target"]


def test_many_at_once_leave_one_whole_file(target):
    contents = [bytes([i]) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=replace, args=(target, [c], accept)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        replace(tmp_path / "x", [b"x"], accept)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400, 0o666])
def test_a_file_keeps_its_mode(target, mode):
    target.chmod(mode)
    seen = []
    replace(target, [b"new"], lambda file: seen.append(os.fstat(file.fileno()).st_mode))
    assert target.read_bytes() == b"new" and stat.S_IMODE(target.stat().st_mode) == mode
    assert not stat.S_IMODE(seen[0]) & ~mode  # Nobody else could read it meanwhile.


def test_a_link_keeps_the_mode_of_its_file(target, tmp_path):
    target.chmod(0o600)
    (tmp_path / "link").symlink_to(target)
    replace(tmp_path / "link", [b"new"], accept)
    assert (tmp_path / "link").is_symlink() and target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe"])
def test_only_a_file_is_replaced(tmp_path, kind):
    place = tmp_path / "place"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place))
    else:
        os.mkfifo(place)
    before = os.lstat(place)
    path = place
    if kind == "link to a pipe":
        path = tmp_path / "link"
        path.symlink_to(place)
    with pytest.raises(OSError, match=f"no file but a {kind.split()[-1]}; name another"):
        replace(path, [b"new"], accept)
    assert os.lstat(place) == before
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first, through a dangling link", b"second"):
        replace(link, [content], accept)
        assert link.is_symlink() and target.read_bytes() == content
    assert names(tmp_path / "store") == ["target"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="no file"):
        replace(loop, [b"x"], accept)
    assert loop.is_symlink()


def test_where_nothing_can_be_saved(tmp_path):
    with pytest.raises(IsADirectoryError, match="no file"):
        replace(tmp_path, [b"x"], accept)
    with pytest.raises(FileNotFoundError, match="saving failed"):
        replace(tmp_path / "absent" / "x", [b"x"], accept)


def test_long_names_have_room_for_a_temporary_one(tmp_path):
    for name in ("x" * 255, "ä" * 127):
        replace(tmp_path / name, [b"x"], lambda file: None)
    assert len(names(tmp_path)) == 2


def test_no_room_for_the_file_leaves_the_old_one(tmp_path):
    """A limit on the size of files, which needs no root, stands for the full disk."""
    target = tmp_path / "detector.safetensors"
    old = write(target, *sample(0, 1000)).sha256
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large.*what was there before is unchanged"):
            write(target, *sample(1, 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert check(target).sha256 == old
    assert names(tmp_path) == [target.name]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    done = benchmark.full_disk(tmp_path)
    if "skipped" in done:
        pytest.skip(done["skipped"])
    assert done["lost"] == 0 and done["temporary files"] == 0
    assert [said.startswith("[Errno 28] saving failed") for said in done["refused"]] == [True]


def test_a_disk_that_changes_what_it_stores_is_noticed(tmp_path, monkeypatch):
    target = tmp_path / "detector.safetensors"
    old = write(target, *sample(0)).sha256
    real = os.fsync

    def corrupting(handle):
        real(handle)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            os.pwrite(handle, b"\xff", os.fstat(handle).st_size - 1)

    monkeypatch.setattr(os, "fsync", corrupting)
    with pytest.raises(ArtifactError, match="do not match their SHA-256"):
        write(target, *sample(1))
    assert check(target).sha256 == old and names(tmp_path) == [target.name]

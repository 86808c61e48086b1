import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from artifact_samples import SCRIPT, benchmark, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gradood
from gradood.artifact import Spec, Stored, check, read, write
from gradood.artifact.container import MAX_HEADER
from gradood.artifact.tensors import to_torch
from gradood.errors import ArtifactError, DataError

SOURCE = str(Path(gradood.__file__).parents[1])
ENVIRONMENT = os.environ | {"PYTHONPATH": SOURCE}


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / "detector.safetensors"
    write(file, *sample())
    return file


def refusal(file: Path, content: bytes | None = None) -> str:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read(file)
    with pytest.raises(ArtifactError) as again:
        check(file)
    assert str(again.value) == str(caught.value)
    return str(caught.value)


def resealed(file: Path, change, **options) -> str:
    """Why a file is refused after a change of (document, manifest, payload), all hashes right."""
    document, manifest, payload = benchmark.opened(file.read_bytes())
    changed = change(document, manifest, payload)
    payload = changed if isinstance(changed, bytes) else payload
    if isinstance(document["__metadata__"], dict) and "gradood" in document["__metadata__"]:
        document["__metadata__"]["gradood"] = benchmark.canonical(manifest)
    return refusal(file, benchmark.sealed(document, payload, **options))


def test_what_is_written_is_read_again(saved):
    manifest, arrays = sample()
    artifact = read(saved)
    assert artifact.verified == check(saved)
    assert artifact.verified.manifest == manifest
    assert {n: (s.spec, bytes(s.data)) for n, s in artifact.arrays.items()} == {
        n: (s.spec, bytes(s.data)) for n, s in arrays.items()
    }
    assert artifact.verified.size == saved.stat().st_size
    payload = saved.read_bytes()[-sum(s.spec.size for s in arrays.values()) :]
    assert artifact.verified.payload_sha256 == hashlib.sha256(payload).hexdigest()


def test_the_same_content_gives_the_same_bytes(saved, tmp_path):
    manifest, arrays = sample()
    other = tmp_path / "other.safetensors"
    write(other, manifest, dict(reversed(arrays.items())))
    assert other.read_bytes() == saved.read_bytes()


def test_safetensors_reads_it_too(saved):
    theirs = load_file(saved)
    ours = {name: to_torch(stored) for name, stored in read(saved).arrays.items()}
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype and tensor.shape == ours[name].shape
        same = tensor.contiguous().view(torch.uint8) == ours[name].contiguous().view(torch.uint8)
        assert bool(same.all()), name
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["gradood"])["library"] == gradood.__version__


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20),
        st.tuples(
            st.sampled_from(["BOOL", "U8", "BF16", "F16", "F32", "I64", "F64"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        max_size=6,
    )
)
def test_any_names_types_and_shapes(tmp_path_factory, chosen):
    file = tmp_path_factory.mktemp("any") / "x.safetensors"
    manifest, arrays = sample()
    for i, (name, (dtype, shape)) in enumerate(chosen.items()):
        spec = Spec(dtype, tuple(shape))
        arrays[f"x/{name}"] = Stored(spec, bytes([i % 2]) * spec.size)
    names = tuple(name for name in arrays if name.startswith("x/"))
    write(file, replace(manifest, arrays=(*manifest.arrays, *names)), arrays)
    found = read(file).arrays
    assert {n: (s.spec, bytes(s.data)) for n, s in found.items()} == {
        n: (s.spec, bytes(s.data)) for n, s in arrays.items()
    }
    assert load_file(file).keys() == arrays.keys()


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_truncation_is_refused(tmp_path):
    done = benchmark.truncations(tmp_path)
    assert done["accepted"] == 0 and done["tried"] > 2000


@pytest.mark.slow
def test_flipped_bits_are_refused(tmp_path):
    assert benchmark.flips(tmp_path, 1500) == {"tried": 1500, "accepted": 0}


def test_a_flip_in_every_byte_of_the_length_the_end_of_the_header_and_the_payload(saved):
    whole = saved.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in [*range(8), *range(end - 12, len(whole))]:
        content = bytearray(whole)
        content[place] ^= 1
        refusal(saved, bytes(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w + b"\0", "followed by something else"),
        (lambda w: w + w, "followed by something else"),
        (lambda w: w[:-1], "It is truncated"),
        (lambda w: w[:100], "fewer than its header needs"),
        (lambda w: w[:5], "it has 5 bytes; it is truncated or no saved detector"),
        (lambda w: b"", "it is empty"),
        (lambda w: w[:-1] + b"\xff", "the tensors do not match their SHA-256"),
        (lambda w: w.replace(b'\\"knn\\"', b'\\"knm\\"'), "does not match its SHA-256"),
        (lambda w: (8).to_bytes(8, "little") + w[8:], "the header is no strict JSON"),
        (lambda w: bytes(8) + w[8:], "the header is no strict JSON"),
        (lambda w: b"\xff" * 8 + w[8:], "larger than 16,777,216 bytes"),
        (lambda w: pickle.dumps(PICKLED, 2), "looks like a pickle"),
        (lambda w: pickle.dumps(PICKLED, 5), "looks like a pickle"),
        (lambda w: b"PK\x03\x04" + w, "looks like a pickle"),
        (lambda w: b"<html>not found</html>", "no saved detector"),
    ],
)
def test_the_message_says_what_is_wrong(saved, change, words):
    message = refusal(saved, change(saved.read_bytes()))
    assert words in message
    assert repr(str(saved)) in message


PICKLED = {"a": 1}


def test_other_files_are_told_from_damaged_ones(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    assert "no saved detector: its metadata has no 'gradood'" in refusal(file)
    torch.save({"a": torch.zeros(2)}, file)
    assert "file of torch.save" in refusal(file)


def test_what_is_no_file(tmp_path):
    for path, words in ((tmp_path / "absent", "it is absent"), (tmp_path, "it is a folder")):
        with pytest.raises(DataError, match=words):
            read(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a folder or a device"):
        read(tmp_path / "pipe")


# -- malice: all hashes are right -----------------------------------------------------------------


def _spoil(**changes):
    def change(document, manifest, payload):
        entry = document["detectors/knn/unit"]
        for key, value in changes.items():
            if value is None:
                del entry[key]
            else:
                entry[key] = value

    return change


def _rename(document, manifest, payload):
    document["other"] = document.pop("detectors/knn/unit")


def _both(document, manifest, payload):
    end = len(payload)
    document["other"] = {"data_offsets": [end, end], "dtype": "U8", "shape": [0]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_spoil(dtype="F4"), "has type 'F4'; expected one of BF16, BOOL"),
        (_spoil(dtype=["F32"]), "has type"),
        (_spoil(dtype="F16"), "not spelled and laid out"),
        (_spoil(shape=[-64, -1]), "has shape"),
        (_spoil(shape=[64.0, 1]), "has shape"),
        (_spoil(shape=[True, 64]), "has shape"),
        (_spoil(shape=[1] * 40), "has shape"),
        (_spoil(shape=[2**60, 2**60]), "not spelled and laid out"),
        (_spoil(shape=[0, 1]), "not spelled and laid out"),
        (_spoil(data_offsets=[0, 256]), "not spelled and laid out"),
        (_spoil(data_offsets=[False, 256]), "not spelled and laid out"),
        (_spoil(data_offsets=None), "is not described by"),
        (_spoil(extra=1), "is not described by"),
        (_rename, "lacks ['detectors/knn/unit']"),
        (_both, "has ['other'], which nothing refers to"),
        (lambda d, m, p: d.update({"x\n": d.pop("canary/inputs")}), "cannot be stored"),
        (lambda d, m, p: d.update({"": d.pop("canary/inputs")}), "cannot be stored"),
        (lambda d, m, p: d.update({"x": [1]}), "is not described by"),
        (lambda d, m, p: d["__metadata__"].update(format="pt"), "the metadata has keys"),
        (lambda d, m, p: d["__metadata__"].pop("payload_sha256"), "the metadata has keys"),
        (lambda d, m, p: d["__metadata__"].pop("gradood"), "has no 'gradood'"),
        (lambda d, m, p: d.update(__metadata__="x"), "has no 'gradood'"),
        (lambda d, m, p: p + b"\0", "followed by something else"),
        (lambda d, m, p: p[:-1], "truncated"),
        (lambda d, m, p: m.update(__reduce__="os.system"), "unknown key '__reduce__'"),
        (lambda d, m, p: m["model"].pop("classes"), "lacks the key 'classes'"),
        (lambda d, m, p: m["model"].update(classes="10"), "manifest.model.classes is '10'"),
        (lambda d, m, p: m["seeds"].update(x=2**64), "beyond 64 bits"),
    ],
)
def test_sealed_nonsense_is_refused(saved, change, words):
    assert words in resealed(saved, change)


@pytest.mark.parametrize("spaces", [0, 1, 8, 4096])
def test_other_padding_is_refused(saved, spaces):
    document, _, payload = benchmark.opened(saved.read_bytes())
    content = benchmark.sealed(document, payload, spaces=spaces)
    if content == saved.read_bytes():
        pytest.skip("that is the padding it has")
    assert "other spaces" in refusal(saved, content)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', "occurs twice"),
        (b'"dtype":"F32"', b'"dtype" :"F32"', "not spelled and laid out"),
        (b'"dtype":"F32"', b'"dtype":"\\u004632"', "not spelled and laid out"),
        (b'\\"share\\":0.5', b'\\"share\\":NaN', "the literal NaN is not allowed"),
        (b'\\"share\\":0.5', b'\\"share\\":1e999', "expected a finite number"),
        (b'\\"share\\":0.5', b'\\"share\\":0.50', "not in the one canonical spelling"),
        (b'\\"share\\":0.5', b'\\"share\\":' + b"[" * 5000, "too deeply nested"),
        (b'\\"share\\":0.5', b'\\"share\\":' + b"[" * 40 + b"]" * 40, "exceeds 24 levels"),
        (b'\\"share\\":0.5', b'\\"share\\":' + b"9" * 5000, "no strict JSON"),
        (b'\\"share\\":0.5', b'\\"share\\":\\"\\\\ud800\\"', "half a character"),
        (b'\\"share\\":0.5', b'\\"share\\":' + b"," * 1_000_001, "more than 1,000,000 values"),
        (b'\\"k\\":1', b'\\"k\\":1,\\"k\\":1', "'k' occurs twice"),
    ],
)
def test_sealed_text_is_refused(saved, old, new, words):
    """Spellings that no JSON writer gives, so written as text, and sealed as text."""
    whole = saved.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    seal = json.loads(whole[8:end])["__metadata__"]["sha256"].encode()
    text = whole[8:end].rstrip(b" ").replace(old, new, 1).replace(seal, b"0" * 64)
    text += b" " * (-len(text) % 8)
    raw = len(text).to_bytes(8, "little") + text
    found = hashlib.sha256(raw).hexdigest().encode()
    assert old in whole
    assert words in refusal(saved, raw.replace(b"0" * 64, found, 1) + whole[end:])


def test_sizes_are_checked_before_memory_is_taken(saved):
    """A header that claims a terabyte is refused by a process that may use no such thing."""
    document, _, payload = benchmark.opened(saved.read_bytes())
    entry = document["detectors/knn/unit"]
    more = 4 * 2**38 - entry["data_offsets"][1]
    assert entry["data_offsets"][0] > 0
    entry["shape"] = [(entry["data_offsets"][1] + more - entry["data_offsets"][0]) // 4, 1]
    order = sorted(
        (name for name in document if name != "__metadata__"),
        key=lambda name: document[name]["data_offsets"],
    )
    shift = entry["shape"][0] * 4 - 256
    for name in order[order.index("detectors/knn/unit") :]:
        begin, stop = document[name]["data_offsets"]
        moved = 0 if name == "detectors/knn/unit" else shift
        document[name]["data_offsets"] = [begin + moved, stop + shift]
    message = refusal(saved, benchmark.sealed(document, payload))
    assert "It is truncated" in message and "1,099,5" in message


def test_a_header_over_the_limit_is_not_read(tmp_path):
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.write((MAX_HEADER + 1).to_bytes(8, "little"))
        stream.truncate(MAX_HEADER + 100)
    assert "larger than 16,777,216 bytes" in refusal(file)


def test_a_pickle_as_payload_is_only_numbers(saved):
    document, _, payload = benchmark.opened(saved.read_bytes())
    evil = benchmark.PICKLE.ljust(len(payload), b"\0")
    saved.write_bytes(benchmark.sealed(document, evil))
    assert b"".join(bytes(s.data) for s in read(saved).arrays.values()) == evil


@pytest.mark.slow
def test_no_import_exec_process_socket_or_write_while_mutants_are_read(tmp_path):
    done = benchmark.mutants(tmp_path, 1500)
    assert done["events"] == {} and done["other errors"] == {}
    assert done["refused"] > 1000 and done["harmless"] > 30


def test_the_audit_hook_of_the_mutants_would_see(tmp_path):
    writing = ("x", "w", os.O_WRONLY | os.O_CREAT)
    assert benchmark.harmless("open", ("x", "rb", os.O_RDONLY))
    assert not benchmark.harmless("open", writing)
    assert not benchmark.harmless("import", ("os", None, None, None, None))


# -- writing --------------------------------------------------------------------------------------


def test_manifest_and_tensors_must_fit(tmp_path):
    manifest, arrays = sample()
    file = tmp_path / "x"
    with pytest.raises(ArtifactError, match=r"has \['stray'\], which nothing refers to"):
        write(file, manifest, arrays | {"stray": Stored(Spec("U8", (1,)), b"\0")})
    less = {name: stored for name, stored in arrays.items() if name != "canary/inputs"}
    with pytest.raises(ArtifactError, match=r"lacks \['canary/inputs'\]"):
        write(file, manifest, less)
    with pytest.raises(ArtifactError, match="has not the bytes of"):
        write(file, manifest, arrays | {"canary/inputs": Stored(Spec("F32", (3,)), b"")})
    with pytest.raises(ArtifactError, match="has type 'F8_E5M2'"):
        write(file, manifest, arrays | {"canary/inputs": Stored(Spec("F8_E5M2", (0,)), b"")})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_too_large_is_refused(tmp_path):
    manifest, arrays = sample()
    with pytest.raises(ArtifactError, match="expected at most 16,777,216"):
        write(tmp_path / "x", replace(manifest, notes=("x" * MAX_HEADER,)), arrays)


@pytest.mark.parametrize("words", [["verify"], ["card"], ["verify", "--json"], ["card", "--json"]])
def test_verify_and_card_load_neither_torch_nor_numpy(saved, words):
    program = (
        "import sys\n"
        "from gradood.cli import main\n"
        f"code = main({[words[0], str(saved), *words[1:]]!r})\n"
        "heavy = sys.modules.keys() & {'torch', 'numpy', 'safetensors', 'PIL', 'pyarrow'}\n"
        "print(code, sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.stderr == "0 []\n"


@pytest.mark.slow
def test_the_benchmark_script_passes(tmp_path, full):
    kills = 25 if full else 8
    counts = ["--flips", "200", "--mutants", "100", "--kills", str(kills)]
    options = [*counts, "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", *options],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    killed, full = results["killed"], results["full disk"]
    assert killed["lost"] == 0 and killed["temporary files after the next save"] == 0
    assert killed["old file found"] + killed["new file found"] == kills
    assert "skipped" in full or (full["lost"] == 0 and len(full["refused"]) == 1)


def test_a_newer_format_is_told_from_damage_whatever_else_is_new_in_it(saved):
    def newer(document, manifest, payload):
        document["__metadata__"]["signature"] = "x"
        document["canary/inputs"]["dtype"] = "F4"
        manifest.update(format={"major": 2, "minor": 0}, library="7.0.0", new_key=1)

    message = resealed(saved, newer)
    assert "has format 2.0" in message and "pip install 'gradood>=7.0.0'" in message
    damaged = bytearray(saved.read_bytes())
    damaged[60] ^= 1
    assert "pip install" not in refusal(saved, bytes(damaged))


def test_another_intact_file_in_place_of_the_one_written_is_noticed(saved, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    write(other, *sample(1))
    foreign, before = other.read_bytes(), saved.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: os.pwrite(handle, foreign, 0))
    with pytest.raises(ArtifactError, match="what was read back is not what was written"):
        write(saved, *sample(2))
    assert saved.read_bytes() == before


@pytest.mark.slow
def test_a_monitor_is_loaded_and_asked_without_the_slow_packages_of_torch(tmp_path):
    """`torch.unravel_index` imported sympy: a second and more at every start of a process."""
    script = """
import sys, torch, gradood
from torch import nn
model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
x = torch.randn(60, 4)
monitor = gradood.Monitor(model, ["energy", "gradnorm"], combine="fisher").calibrate(x, fpr=0.2)
monitor.save(sys.argv[1])
gradood.load(sys.argv[1], model).predict(x)
print(*sorted(sys.modules.keys() & {"sympy", "matplotlib", "pandas", "torch._dynamo"}))
"""
    words = [sys.executable, "-c", script, str(tmp_path / "d.safetensors")]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""

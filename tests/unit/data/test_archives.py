"""Images in tar and zip archives: read in place, by any slice, and harmless whatever they hold."""

import io
import pickle
import struct
import tarfile
import zipfile

import fsspec
import pytest
import torch
from PIL import Image

from gradood.data import ImageFolder, Preprocess, list_images, loader, open_images
from gradood.data import _archive_stream as stream
from gradood.data._decode import decode
from gradood.data._labels import class_labels
from gradood.errors import BadImageError, DataError

GRAY = Preprocess(mode="L")


def png(shade):
    buffer = io.BytesIO()
    Image.new("L", (2, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


CLASSES = {f"{c}/{i}.png": png(40 * k + i) for k, c in enumerate(("ant", "bee")) for i in range(4)}


def tar(path, files, mode="w", extra=()):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make(path, files):
    kinds = {".gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", ".xz": "w:xz", "tar": "w"}
    if path.name.endswith("zip"):
        return zipped(path, files)
    return tar(path, files, kinds[path.name[-3:]])


def shades(dataset):
    return [round(float((x if isinstance(x, torch.Tensor) else x[0]).max()) * 255) for x in dataset]


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_an_archive_is_the_folder_it_was_made_of(tmp_path, name):
    for file, content in CLASSES.items():
        (tmp_path / "f" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / file).write_bytes(content)
    folder = ImageFolder(tmp_path / "f", GRAY)
    path = make(tmp_path / name, CLASSES)
    for found in (open_images(path, GRAY), pickle.loads(pickle.dumps(open_images(path, GRAY)))):
        assert shades(found) == shades(folder)
        assert found.labels.tolist() == folder.labels.tolist()
        assert (found.classes, found.content()) == (folder.classes, folder.content())
    part = open_images(f"{path}[:4]", GRAY)
    assert part.labels.tolist() == [0, 0, 1, 1]
    assert shades(part) == shades(open_images(f"{tmp_path / 'f'}[:4]", GRAY))
    source = list_images(f"{path}[:4]")
    ids = [source.id(row) for row in range(4)]
    assert ids == [part.name(i) for i in range(4)]
    assert source.uri(0) == f"{path}#{ids[0]}"
    assert [decode(source.encoded(r)).getpixel((0, 0)) for r in range(4)] == shades(part)


def test_processes_read_each_by_themselves(tmp_path):
    path = tar(tmp_path / "a.tar", CLASSES)
    alone = torch.cat([x for x, _ in loader(open_images(path, GRAY), batch_size=3)])
    among = torch.cat([x for x, _ in loader(open_images(path, GRAY), batch_size=3, workers=2)])
    assert torch.equal(alone, among)


def test_at_a_url(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name in ("a.tar", "a.zip"):
        memory.pipe(f"/w/{name}", make(tmp_path / name, CLASSES).read_bytes())
        assert shades(open_images(f"memory://w/{name}", GRAY)) == sorted(
            shades(open_images(tmp_path / name, GRAY))
        )
    memory.store.clear()


@pytest.mark.parametrize(
    ("root", "labels", "classes"),
    [
        ("photos/", [0] * 4 + [1] * 4, ("ant", "bee")),
        ("./data/train/", [0] * 4 + [1] * 4, ("ant", "bee")),
    ],
)
def test_folders_that_enclose_everything_are_looked_through(tmp_path, root, labels, classes):
    path = zipped(tmp_path / "a.zip", {root + name: content for name, content in CLASSES.items()})
    found = open_images(path, GRAY)
    assert (found.labels.tolist(), found.classes) == (labels, classes)


def test_images_side_by_side_have_no_labels(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"photos/{i}.png": png(i) for i in range(3)})
    assert not open_images(path).labeled
    with pytest.raises(DataError, match=r"no labels in the archive .* one folder per class"):
        open_images(path, labeled=True)
    with pytest.raises(DataError, match="no image in the archive"):
        open_images(zipped(tmp_path / "b.zip", {"readme.txt": b"x"}))


# -- WebDataset ---------------------------------------------------------------------------


def samples(start, kind):
    files = {}
    for i in range(start, start + 4):
        files[f"{i:04}.jpg"] = png(i)
        files[f"{i:04}.mask.png"] = png(0)
        label = str(i % 3).encode() if kind == "cls" else b'{"fine_label": "c%d"}' % (i % 3)
        files[f"{i:04}.{kind}"] = label
    return files


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_with_labels_beside_the_images(tmp_path, kind):
    for shard in range(3):
        tar(tmp_path / f"train-{shard:03}.tar", samples(4 * shard, kind))
    pattern = f"{tmp_path}/train-{{000..002}}.tar"
    for uri in (pattern, str(tmp_path), f"{tmp_path}/train-{{000,001,002}}.tar"):
        found = open_images(uri, GRAY)
        assert shades(found) == list(range(12))
        assert found.labels.tolist() == [i % 3 for i in range(12)]
        assert found.classes == (None if kind == "cls" else ("c0", "c1", "c2"))
        assert not found.passed_over
    assert open_images(f"{pattern}[:6]").labels.bincount().tolist() == [2, 2, 2]
    source = list_images(f"{pattern}[:6]")
    ids = [source.id(row) for row in range(6)]
    assert ids[0].startswith("train-000.tar:0") and len(set(ids)) == 6
    with pytest.raises(DataError, match=r"'.*train-003\.tar' cannot be read: No such file"):
        open_images(f"{tmp_path}/train-{{000..003}}.tar")


def test_a_sample_without_its_label_is_named(tmp_path):
    files = samples(0, "cls")
    del files["0002.cls"]
    found = open_images(tar(tmp_path / "a.tar", files))
    with pytest.raises(DataError, match=r"'0002\.jpg' .* has no label beside it"):
        found[2]
    with pytest.raises(DataError, match=r"0002\.jpg"):
        _ = found.labels


# -- hostile and damaged ------------------------------------------------------------------


def test_what_is_no_plain_file_inside_is_passed_over_and_counted(tmp_path):
    link, device = tarfile.TarInfo("l.png"), tarfile.TarInfo("d.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    files = {"../../x.png": png(1), "/abs/y.png": png(2), ".z.png": png(3), "a.dcm": b"x"}
    path = tar(tmp_path / "a.tar", {**files, "ok/../b.png": png(4)}, extra=(link, device))
    source = list_images(str(path))
    assert [source.id(row) for row in range(len(source))] == ["abs/y.png"]
    assert source.passed_over == {".dcm": 1, "links and devices": 2, "names with ..": 2}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("l.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("..\\up.png", png(5))
        archive.writestr("ok.png", png(6))
    source = list_images(str(tmp_path / "a.zip"))
    assert len(source) == 1
    assert source.passed_over == {"links and devices": 1, "names with ..": 1}


def test_bombs_do_not_go_off(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_SLACK", 2**16)
    tar(tmp_path / "a.tar.gz", {"a.png": bytes(50 * 2**20), "b.png": png(1)}, "w:gz")
    with pytest.raises(DataError, match=r"unpacks to more than 100 times its size"):
        open_images(tmp_path / "a.tar.gz")
    path = zipped(tmp_path / "a.zip", {"a.png": png(1)})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 2**31)  # A size that is a lie.
    path.write_bytes(raw)
    with pytest.raises(BadImageError, match="too large"):
        list_images(str(path)).encoded(0)


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_what_is_cut_or_damaged_is_told(tmp_path, name):
    whole = make(tmp_path / name, CLASSES).read_bytes()
    path = tmp_path / f"cut-{name}"
    seen = set()
    for size in (0, 1, 511, 512, 1024, len(whole) // 2, len(whole) - 1025, len(whole) - 10_000):
        path.write_bytes(whole[: max(0, size)])
        try:
            found = list_images(str(path))
        except DataError as error:
            assert str(path) in str(error) or "no image" in str(error)
            seen.add("refused")
            continue
        for row in range(len(found)):
            try:
                found.encoded(row)
            except BadImageError:
                seen.add("row")
    assert "refused" in seen
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        broken = bytearray(whole)
        broken[at] ^= 0x55
        path.write_bytes(broken)
        try:
            found = list_images(str(path))
            for row in range(len(found)):
                found.encoded(row)
        except DataError:
            pass


def test_an_archive_that_was_changed_while_it_is_read(tmp_path):
    path = zipped(tmp_path / "a.zip", CLASSES)
    source = list_images(str(path))
    zipped(path, {"other.png": png(1)})
    with pytest.raises(BadImageError, match=r"was changed|cannot be read from its archive"):
        source.encoded(3)


def test_stamps_tell_members_that_changed(tmp_path):
    path = zipped(tmp_path / "a.zip", CLASSES)
    before = list_images(str(path)).stamps()
    zipped(path, {**CLASSES, "bee/3.png": png(99), "cow/1.png": png(7)})
    after = list_images(str(path)).stamps()
    assert [a == b for a, b in zip(before, after, strict=False)] == [True] * 7 + [False]
    path = tar(tmp_path / "a.tar", CLASSES)
    before = list_images(str(path)).stamps()
    tar(path, {**CLASSES, "bee/3.png": png(99)})
    assert not set(before) & set(list_images(str(path)).stamps())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1.0", "3.0"], "'1.0', a fraction"),
        (["99999999999999999999", "5"], "within 64 bits"),
        ([2**63, 1], "within 64 bits"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(values, said):
    with pytest.raises(DataError, match=said):
        class_labels(values)


def test_names_may_look_like_numbers():
    assert class_labels(["nan", "5", "3d"]) == ([2, 1, 0], ("3d", "5", "nan"))
    assert class_labels(["-1", "0"]) == ([-1, 0], None)


def test_two_labels_for_one_sample_are_refused(tmp_path):
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in (3, 0):
            for end, content in ((".png", image.getvalue()), (".cls", b"%d" % number)):
                member = tarfile.TarInfo(f"img.v2.00{number}{end}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="ends at the first dot"):
        assert open_images(str(tmp_path / "a.tar")).labels is None

"""Images in tar and zip archives, WebDataset's shards among them."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from typing import Any, final

import torch
from torch import Tensor

from gradood._engine.batches import LABEL_KEYS
from gradood.data._archives import Archive, Member, open_archive
from gradood.data._labels import class_labels
from gradood.data._listing import is_image_name, name_end
from gradood.data._stamps import file_stamps
from gradood.data._storage import absolute_folder, local_path
from gradood.data.image_source import ImageSource, printable
from gradood.errors import BadImageError, DataError

__all__ = ["ArchiveSource", "expanded"]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_LABEL_ENDS = (".cls", ".json")
_LABEL_BYTES = 2**20


def expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for; the name itself without any.

    >>> expanded("train-{08..10}.tar"), expanded("{a,b}.tar")
    (['train-08.tar', 'train-09.tar', 'train-10.tar'], ['a.tar', 'b.tar'])
    """
    choices: list[list[str]] = []
    for inside in _BRACES.findall(pattern):
        ends = _RANGE.fullmatch(inside)
        if ends is None:
            choices.append(inside.split(","))
            continue
        low, high = int(ends[1]), int(ends[2])
        choices.append([f"{number:0{len(ends[1])}d}" for number in range(low, high + 1)])
    fixed = [part.replace("\0", "") for part in _BRACES.sub("\0\0", pattern).split("\0\0")]
    return [
        "".join(part + choice for part, choice in zip(fixed, (*chosen, ""), strict=True))
        for chosen in product(*choices)
    ]


@final
class ArchiveSource(ImageSource):
    """The images in archives, one archive after another.

    Labels are those of WebDataset where files of that kind lie beside the images: ``0001.cls``, or
    ``0001.json`` with one of the names of `gradood._engine.batches.LABEL_KEYS`, for ``0001.jpg``.
    Else folders in the archive are classes, as `gradood.data.ImageFolder` has them; folders that
    enclose everything are looked through. Images are in the order of their sorted names, in
    WebDataset's shards and in compressed archives in that of the archive.

    Args:
        source: path or URL of an archive, or of several, with braces as in ``{000..012}``.
        uris: of each archive.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.

    Raises:
        DataError: an archive cannot be read, holds no image, or no labels where they are needed.
    """

    def __init__(self, source: str, uris: Sequence[str], *, labeled: bool | None = None) -> None:
        self.source = source
        self.place = absolute_folder(source).removesuffix("/")
        self._archives = [open_archive(uri) for uri in uris]
        self._beside = any(map(_is_labeled, self._archives))
        self._members: list[tuple[int, Member]] = []
        others: Counter[str] = Counter()
        for number, archive in enumerate(self._archives):
            images = [member for member in archive.members if is_image_name(member.name)]
            if self._beside:
                images = _plain_images(images)
            elif archive.uri.lower().endswith((".tar", ".zip")):
                images.sort(key=lambda member: member.name)
            self._members += [(number, member) for member in images]
            others.update(archive.passed_over)
            others.update(
                name_end(member.name)
                for member in archive.members
                if not is_image_name(member.name)
                and not (self._beside and member.name.endswith(_LABEL_ENDS))
            )
        self.passed_over = dict(sorted(others.items()))
        if not self._members:
            raise DataError(f"no image in the archive {source!r}; expected image files in it.")
        self._known: list[int | None] | None = None
        self._find_labels(labeled)

    def __len__(self) -> int:
        return len(self._members)

    def id(self, row: int) -> str:
        number, member = self._members[row]
        if len(self._archives) == 1:
            return printable(member.name)
        return printable(f"{self._shard(number)}:{member.name}")

    def uri(self, row: int) -> str:
        number, member = self._members[row]
        return printable(f"{_absolute(self._archives[number].uri)}#{member.name}")

    def name(self, row: int) -> str:
        return self._members[row][1].name

    def where(self, row: int) -> str:
        number, member = self._members[row]
        return f"the image {member.name!r} in {self._archives[number].uri!r}"

    def encoded(self, row: int) -> bytes:
        number, member = self._members[row]
        return self._archives[number].read(member)

    def label(self, row: int) -> int:
        found = self._every_label()[row]
        if found is None:
            raise DataError(
                f"{self.where(row)} has no label beside it; expected a .cls or .json file. Leave "
                "that row out, or pass labeled=False."
            )
        return found

    def labels(self) -> Tensor:
        return torch.tensor([self.label(row) for row in range(len(self))], dtype=torch.int64)

    def groups(self) -> Sequence[Hashable]:
        if self._beside:
            return self._every_label()
        names = [member.name for _, member in self._members]
        return [name.rpartition("/")[0].partition("/")[0] for name in _without_root(names)]

    def stamps(self) -> Sequence[str | None]:
        files = file_stamps([archive.uri for archive in self._archives])
        return [
            (None if files[number] is None else f"{files[number]}:{member.at}:{member.size}")
            if member.stamp is None
            else member.stamp
            for number, member in self._members
        ]

    def content(self, rows: Sequence[int]) -> str:
        total = hashlib.sha256()
        for row in rows:
            try:
                content = self.encoded(row)
            except BadImageError:
                total.update(b"absent\n")
                continue
            total.update(b"%d %s\n" % (len(content), hashlib.sha256(content).digest()))
        return total.hexdigest()

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        paths = [local_path(archive.uri) for archive in self._archives]
        real = [
            archive.uri if path is None else os.path.realpath(path)
            for archive, path in zip(self._archives, paths, strict=True)
        ]
        for row in rows:
            number, member = self._members[row]
            yield f"{real[number]}#{member.name}"

    def _shard(self, number: int) -> str:
        """The archive's name, or all of its path where another is called so too."""
        uris = [archive.uri for archive in self._archives]
        names = [uri.rstrip("/").rpartition("/")[2] for uri in uris]
        return names[number] if len(set(names)) == len(names) else uris[number]

    def _find_labels(self, labeled: bool | None) -> None:
        """Whether rows have labels, and the names of their classes."""
        if labeled is False:
            return
        if self._beside:
            self._every_label()
            self.labeled = True
            return
        names = [member.name for _, member in self._members]
        below = _without_root(names)
        if not all("/" in name for name in below):
            if labeled:
                raise DataError(
                    f"no labels in the archive {self.source!r}; expected one folder per class, or "
                    ".cls or .json files beside the images. Without labels, pass labeled=False."
                )
            return
        root = len(names[0]) - len(below[0])
        folders = [
            folder[root:].partition("/")[0]
            for archive in self._archives
            for folder in archive.folders
            if folder.startswith(names[0][:root]) and folder[root:]
        ]
        classes = tuple(sorted({*folders, *(name.partition("/")[0] for name in below)}))
        numbers = {name: number for number, name in enumerate(classes)}
        self._known = [numbers[name.partition("/")[0]] for name in below]
        self.labeled, self.classes = True, classes

    def _every_label(self) -> list[int | None]:
        """Of each row; read from beside the images when first asked for."""
        if self._known is None:
            values: dict[tuple[int, str], Any] = {}
            for number, archive in enumerate(self._archives):
                for member in archive.members:
                    if member.name.endswith(_LABEL_ENDS):
                        value = _label_in(archive, member)
                        if value is None:
                            continue
                        if values.setdefault((number, _key(member.name)), value) != value:
                            raise DataError(
                                f"{member.name!r} is not the only label of its sample, whose name "
                                f"ends at the first dot ({_key(member.name)!r}); name the files of "
                                "each sample without further dots."
                            )
            found = [values.get((number, _key(member.name))) for number, member in self._members]
            self._known, classes = class_labels(found)
            self.classes = self.classes if classes is None else classes
        return self._known


def _key(name: str) -> str:
    """What WebDataset knows a sample by: its path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _is_labeled(archive: Archive) -> bool:
    """Whether labels lie beside the images; of the .json files, the first is looked into."""
    keys = {_key(member.name) for member in archive.members if is_image_name(member.name)}
    beside = [m for m in archive.members if m.name.endswith(_LABEL_ENDS) and _key(m.name) in keys]
    if any(member.name.endswith(".cls") for member in beside):
        return True
    return bool(beside) and _label_in(archive, beside[0]) is not None


def _label_in(archive: Archive, member: Member) -> Any:
    """The label in a file beside an image; None if it holds none."""
    if member.size > _LABEL_BYTES:
        return None
    text = archive.read(member).decode("utf-8", "replace").strip()
    if member.name.endswith(".cls"):
        return text or None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in LABEL_KEYS if value.get(key) is not None), None)
    return value if isinstance(value, int | str) else None


def _plain_images(images: list[Member]) -> list[Member]:
    """Of each sample ``0001.jpg``, and others such as ``0001.mask.png`` only where it has none."""
    plain = {_key(m.name) for m in images if m.name.rpartition("/")[2].count(".") == 1}
    return [
        member
        for member in images
        if member.name.rpartition("/")[2].count(".") == 1 or _key(member.name) not in plain
    ]


def _without_root(names: Sequence[str]) -> list[str]:
    """The names without the folders that enclose them all."""
    below = list(names)
    while all("/" in name for name in below) and len({n.partition("/")[0] for n in below}) == 1:
        below = [name.partition("/")[2] for name in below]
    return below


def _absolute(uri: str) -> str:
    path = local_path(uri)
    return uri if path is None else os.path.abspath(path)

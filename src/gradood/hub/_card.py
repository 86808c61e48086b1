"""The model card of a package: front matter for the Hub, how to load it, and the detector's card.

A card carries a hash of itself, by which it is told from one that somebody wrote or edited.
"""

import hashlib
import json
import re
from collections.abc import Iterator

from gradood.artifact import Verified, card
from gradood.hub._spec import DETECTOR, PackageSpec

__all__ = ["card_of", "is_ours"]

_MARK = re.compile(r"<!-- gradood package card ([0-9a-f]{64}) -->\n")
_LIBRARIES = ("timm", "torchvision")


def card_of(spec: PackageSpec, verified: Verified, license: str | None) -> str:
    """The card, in Markdown.

    Args:
        spec: of the package.
        verified: of its detector.
        license: for the front matter, such as ``apache-2.0``; None leaves it out.
    """
    front = "\n".join(["---", *_front_matter(spec, verified, license), "---"]) + "\n"
    start, heading, rest = card(verified, DETECTOR).partition("\n## ")
    body = "\n".join([start, "## How to load this package", "", *_loading(spec), heading]) + rest
    return f"{front}<!-- gradood package card {_digest(front + body)} -->\n{body}"


def is_ours(text: str) -> bool:
    """Whether a card is as `card_of` wrote it; one that was edited belongs to who did so."""
    text = text.replace("\r\n", "\n")
    found = _MARK.search(text)
    return found is not None and _digest(_MARK.sub("", text, count=1)) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _front_matter(spec: PackageSpec, verified: Verified, license: str | None) -> Iterator[str]:
    """YAML; its strings are those of JSON, which YAML reads."""
    images = spec.preprocess is None or "kind" not in spec.preprocess
    methods = dict.fromkeys(record.method for record in verified.manifest.detectors)
    library = spec.model.partition(":")[0]
    yield "library_name: gradood"
    if license is not None:
        yield f"license: {json.dumps(license)}"
    if images and len(verified.manifest.model.input_shape) == 3:
        yield "pipeline_tag: image-classification"
    yield "tags:"
    tags = ["out-of-distribution-detection", "anomaly-detection", "uncertainty", *methods]
    for tag in tags + [library] * (library in _LIBRARIES):
        yield f"- {json.dumps(tag)}"


def _loading(spec: PackageSpec) -> Iterator[str]:
    """How to load the package."""
    options = ""
    if spec.elsewhere is not None:
        options = ', model_folder="the folder of the model"'
    elif ":" in spec.model and spec.model.partition(":")[0] not in _LIBRARIES:
        options = ', trust="package"'
    yield "```python"
    yield "import gradood.hub"
    yield ""
    yield f'monitor = gradood.hub.load("this folder"{options})'
    yield f'monitor = gradood.hub.from_hub("owner/name", revision="commit SHA"{options})'
    yield "```"
    yield ""
    yield (
        "Nothing in this folder is pickled, and no code of it runs. `spec.json` says which model "
        f"the weights are of (`{spec.model}`) and holds the SHA-256 of every file."
    )
    if options.endswith('"package"'):
        yield ""
        yield (
            f"The model is made by `{spec.model}`, which must be installed, and whose import runs "
            'its code: `trust="package"` allows that.'
        )

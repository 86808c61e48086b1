"""From texts and sound to a model's inputs, by its own tokenizer or feature extractor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
import torch

from gradood.data._padding import padded, stacked
from gradood.data._storage import encoded_file
from gradood.data._waves import decode_wave, resampled
from gradood.data.column_input import ColumnInput, Row, check_finite
from gradood.errors import BadRowError

__all__ = ["AudioInput", "TextInput"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextInput(ColumnInput):
    """A text as the token ids, mask and whatever else a tokenizer makes of it.

    Attributes:
        column: of texts.
        tokenizer: from a text to a mapping of lists, one number for each token.
        identity: what tells the tokenizer from others.
        filling: name of a list → what it is padded with; None where rows are never padded.
        left: fill up before the text, not after it.
        max_length: most tokens, or None.
        truncate: cut longer texts, after their last token that fits, instead of refusing them.
    """

    kind: ClassVar[str] = "text"

    column: str
    tokenizer: Callable[[str], Mapping[str, Any]] = field(repr=False)
    identity: str = ""
    filling: Mapping[str, float] | None = None
    left: bool = False
    max_length: int | None = None
    truncate: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def fills(self) -> Mapping[str, float] | None:
        return self.filling

    def __call__(self, values: Mapping[str, Any]) -> Row:
        text = values[self.column]
        if text is None:
            raise BadRowError("it has no text.", "empty")
        if not isinstance(text, str):
            raise BadRowError(f"it has a {type(text).__name__}; expected a text.", "wrong_type")
        if not text.strip():
            raise BadRowError("its text is blank.", "empty")
        found = {name: torch.tensor(part) for name, part in self.tokenizer(text).items()}
        length = len(next(iter(found.values())))
        if not length:
            raise BadRowError("its tokenizer makes no token of it.", "empty")
        if self.max_length is not None and length > self.max_length:
            raise BadRowError(
                f"it has {length} tokens, and the limit is {self.max_length}; cut it, or give "
                "--truncate.",
                "too_long",
            )
        return found

    def collate(self, rows: Any) -> Row:
        if self.filling is None:
            return stacked(rows)
        return padded(rows, self.filling, left=self.left)

    def to_dict(self) -> dict[str, Any]:
        limit = {"max_length": self.max_length, "truncate": self.truncate}
        return {"kind": self.kind, "column": self.column, "tokenizer": self.identity, **limit}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AudioInput(ColumnInput):
    """Sound as a waveform (length,), or as what a feature extractor makes of that.

    Attributes:
        column: of encoded sound, a struct with ``bytes``, or paths relative to the table.
        sampling_rate: the model's, in Hz; others are resampled. None for those of the files.
        extractor: from a waveform to a mapping of arrays without a batch dimension; or None.
        identity: what tells the extractor from others.
        filling: name → what it is padded with; ``""`` of a plain waveform; None where rows are
            never padded.
        argument: name of the model's argument for a plain waveform, or None for its first one.
        mask: name of its argument for the mask of a plain waveform, or None if it has none.
        max_length: most samples, or None.
        truncate: cut longer sound instead of refusing it.
    """

    kind: ClassVar[str] = "audio"
    files: ClassVar[bool] = True

    column: str
    sampling_rate: int | None = None
    extractor: Callable[[np.ndarray], Mapping[str, Any]] | None = field(default=None, repr=False)
    identity: str = ""
    filling: Mapping[str, float] | None = None
    argument: str | None = None
    mask: str | None = None
    max_length: int | None = None
    truncate: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def fills(self) -> Mapping[str, float] | None:
        return self.filling

    def __call__(self, values: Mapping[str, Any]) -> Row:
        samples = self.waveform(values[self.column])
        if self.extractor is not None:
            found = {n: torch.as_tensor(part) for n, part in self.extractor(samples).items()}
            for part in found.values():
                check_finite(part)
            return found
        x = torch.from_numpy(samples)
        if self.mask is None:
            return x if self.argument is None else {self.argument: x}
        mask = torch.ones(len(x), dtype=torch.int64)
        return {self.argument or "input_values": x, self.mask: mask}

    def waveform(self, value: Any) -> np.ndarray:
        """The samples (length,) float32 at the model's rate.

        Args:
            value: encoded sound, or the path of a file; None for none.

        Raises:
            BadRowError: it cannot be used.
        """
        if value is None:
            raise BadRowError("it has no sound.", "empty")
        if not isinstance(value, bytes | str):
            raise BadRowError(f"it has a {type(value).__name__}; expected sound.", "wrong_type")
        encoded = value if isinstance(value, bytes) else encoded_file(value)
        samples, rate = decode_wave(encoded)
        samples = resampled(samples, rate, self.sampling_rate or rate)
        if self.max_length is not None and len(samples) > self.max_length:
            if not self.truncate:
                raise BadRowError(
                    f"it has {len(samples)} samples, and the limit is {self.max_length}; cut it, "
                    "or give --truncate.",
                    "too_long",
                )
            samples = samples[: self.max_length]
        return np.ascontiguousarray(samples)

    def to_dict(self) -> dict[str, Any]:
        names = ("column", "sampling_rate", "argument", "mask", "max_length", "truncate")
        own = {name: getattr(self, name) for name in names}
        return {"kind": self.kind, **own, "extractor": self.identity}

"""Columns of a table that a user chose as a model's input, and the input made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gradood.data import AudioInput, ColumnInput, FeatureInput, TensorInput, TokenInput
from gradood.errors import ConfigError, suggest
from gradood.models._encoders import argument_names
from gradood.models.opened import OpenedModel

__all__ = ["ColumnChoice", "chosen_input", "stored_input"]

_MASKS = ("attention_mask", "mask")
"""What a model calls its attention mask: the first of these that it takes."""
_ROLES = ("ids", "mask", "input", "features", "categories", "audio")
_KINDS: Mapping[str, type[Any]] = {
    "ids": TokenInput,
    "tensor": TensorInput,
    "features": FeatureInput,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnChoice:
    """Options of a command that say which columns are the input; None where not given.

    Attributes:
        text: column of texts.
        audio: column of sound.
        features: columns of numbers; ``("all",)`` for all that there are.
        categories: columns of categories, beside them.
        column: of token ids, or with `shape` of tensors.
        shape: of a tensor.
        padding: id that rows are padded with.
        max_length: most tokens, or samples.
        truncate: cut what is longer.
        sampling_rate: of sound, in Hz, for a model that does not say.
        names: role (ids, mask, input, features, categories, audio) → the model's argument; the
            mask ``none`` for a model without one.
    """

    text: str | None = None
    audio: str | None = None
    features: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    column: str | None = None
    shape: tuple[int, ...] | None = None
    padding: int | None = None
    max_length: int | None = None
    truncate: bool = False
    sampling_rate: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [self.text, self.audio, self.column, self.features or self.categories or None]
        if sum(one is not None for one in given) > 1:
            raise ConfigError(
                "several kinds of input were given; expected one of --text-column, --audio-column, "
                "--input-column, and --feature-columns with --category-columns."
            )
        for role in self.names:
            if role not in _ROLES:
                raise ConfigError(f"--input-name {role!r}; {suggest(role, _ROLES)}")
        if self.shape is not None and self.column is None:
            raise ConfigError("--shape is of --input-column, which was not given.")
        others = (self.padding, self.max_length, self.sampling_rate, self.truncate or None)
        if not self.given and (self.names or any(one is not None for one in others)):
            raise ConfigError(
                "an option of columns was given without a column; name it by --text-column, "
                "--audio-column, --input-column or --feature-columns."
            )

    @property
    def given(self) -> bool:
        """Whether a column is named."""
        named = self.text is not None or self.audio is not None or self.column is not None
        return named or bool(self.features or self.categories)

    def differing(self, found: ColumnInput) -> str:
        """What of an input is otherwise than chosen, in words; empty where nothing is."""
        own = found.to_dict()
        column = self.text or self.audio or self.column
        wanted: dict[str, Any] = {"column": column} if column is not None else {}
        if self.features not in ((), ("all",)):
            wanted["numbers"] = self.features
        for name in ("shape", "padding", "max_length"):
            if getattr(self, name) is not None:
                wanted[name] = getattr(self, name)
        wrong = {name for name, value in wanted.items() if own.get(name, value) != value}
        wrong |= {name for name in ("column", "numbers") if name in wanted and name not in own}
        return ", ".join(f"{name} {own.get(name)!r}" for name in sorted(wrong))


def chosen_input(choice: ColumnChoice, opened: OpenedModel) -> ColumnInput | None:
    """The input that was chosen; None for images.

    Args:
        choice: of columns.
        opened: the model, whose arguments, tokenizer or feature extractor it is for.

    Raises:
        ConfigError: the model does not take such inputs.
    """
    if not choice.given and opened.encoder is not None:
        return opened.encoder()
    if choice.text is not None or (choice.audio is not None and opened.reads == "audio"):
        kind = "text" if choice.text is not None else "audio"
        if opened.encoder is None or opened.reads != kind:
            raise ConfigError(
                f"--{kind}-column needs a model with a tokenizer of its own, as hf:FOLDER has; for "
                "others give token ids (--input-column ids)."
            )
        limits: dict[str, Any] = {"max_length": choice.max_length, "truncate": choice.truncate}
        return opened.encoder(column=choice.text or choice.audio, **limits)
    if not choice.given:
        return None
    names = argument_names(opened.model)
    if choice.audio is not None:
        return _audio(choice, names)
    if choice.column is None:
        return _features(choice, names)
    if choice.shape is not None:
        argument = choice.names.get("input")
        return TensorInput(column=choice.column, shape=choice.shape, argument=argument)
    return _tokens(choice, names, opened.model)


def stored_input(stored: Mapping[str, Any], opened: OpenedModel) -> ColumnInput:
    """The input that a saved detector was fitted with.

    Args:
        stored: as `ColumnInput.to_dict` gave it.
        opened: the model, whose tokenizer or feature extractor it uses.

    Raises:
        ConfigError: there is no such kind, or the tokenizer is another.
    """
    options = dict(stored)
    kind = options.pop("kind")
    if kind in _KINDS:
        return _KINDS[kind](**options)
    if opened.encoder is not None and opened.reads == kind:
        limits = {name: options[name] for name in ("column", "max_length", "truncate")}
        found = opened.encoder(**limits)
        if found.to_dict() != dict(stored):
            what = "tokenizer" if kind == "text" else "feature extractor"
            raise ConfigError(
                f"the detector was fitted with another {what} than the model's folder has now "
                f"({dict(stored)}, {found.to_dict()}); restore it, or fit again."
            )
        return found
    if kind == "audio" and not options.pop("extractor", ""):
        mask = options["mask"]
        fills = None if mask is None else {options["argument"] or "input_values": 0.0, mask: 0}
        return AudioInput(**options, filling=fills)
    raise ConfigError(
        f"the detector was fitted on {kind!r}, which this model has no tokenizer or feature "
        "extractor for; name the model by its folder, hf:FOLDER."
    )


def _mask(choice: ColumnChoice, names: Sequence[str] | None) -> str | None:
    given = choice.names.get("mask")
    if given is not None:
        return None if given == "none" else given
    return next((name for name in _MASKS if name in (names or ())), None)


def _first(names: Sequence[str] | None, default: str) -> str:
    return names[0] if names else default


def _tokens(choice: ColumnChoice, names: Sequence[str] | None, model: nn.Module) -> TokenInput:
    assert choice.column is not None
    mask, argument = _mask(choice, names), choice.names.get("ids")
    entries = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    return TokenInput(
        column=choice.column,
        argument=argument or (_first(names, "input_ids") if mask is not None else None),
        mask=mask,
        padding=choice.padding,
        vocabulary=max(entries, default=None),
        max_length=choice.max_length,
        truncate=choice.truncate,
    )


def _audio(choice: ColumnChoice, names: Sequence[str] | None) -> AudioInput:
    assert choice.audio is not None
    mask, argument = _mask(choice, names), choice.names.get("audio")
    argument = argument or (_first(names, "input_values") if mask is not None else None)
    return AudioInput(
        column=choice.audio,
        sampling_rate=choice.sampling_rate,
        filling=None if mask is None else {argument or "input_values": 0.0, mask: 0},
        argument=argument,
        mask=mask,
        max_length=choice.max_length,
        truncate=choice.truncate,
    )


def _features(choice: ColumnChoice, names: Sequence[str] | None) -> FeatureInput:
    numbers = None if choice.features == ("all",) else choice.features
    two = bool(choice.categories) and numbers != ()
    given = choice.names.get("features"), choice.names.get("categories")
    arguments = None
    if two:
        known = list(names or ())
        if None in given and len(known) < 2:
            raise ConfigError(
                "numbers and categories are two inputs, and the model's forward names fewer; give "
                "--input-name features=… and categories=…."
            )
        arguments = (given[0] or known[0], given[1] or known[1])
    elif given != (None, None):
        arguments = (given[0] or "", given[1] or "")
    return FeatureInput(
        numbers=numbers,
        categories=dict.fromkeys(choice.categories, ()),
        arguments=arguments,
    )

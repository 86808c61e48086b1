"""Views of a model: private copies of its module tree that share every tensor.

What is hooked, switched to evaluation mode and run is a view. The model's own modules are only
read, so that other threads may run or train it meanwhile. See ADR 0017.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps._references import Place, redirect
from gradood.taps._shell import Shell, require_shareable
from gradood.taps._values import copy_of_tensor
from gradood.taps.wrap import wrapped_name

__all__ = ["View", "Views", "held_tensors", "is_runnable_itself"]


class View:
    """A module tree to run and to hook.

    Attributes:
        module: its root.
        model: the model.
        originals: modules of the model that must not run in its place, by id; of a view that is
            the model itself, all of them.
        direct: whether it is the model itself, which other threads may run too.
        in_training: whether a module of the model was in training mode.
        aliases: names, the parameters, and what the view has in their place; see `alias`.
    """

    def __init__(
        self,
        module: nn.Module,
        model: nn.Module | None = None,
        originals: Mapping[int, nn.Module] | None = None,
        *,
        in_training: bool = False,
    ) -> None:
        self.module = module
        self.model = module if model is None else model
        self.originals = {} if originals is None else originals
        self.direct = model is None
        self.in_training = in_training
        self.aliases: list[tuple[tuple[str, str], Tensor, Tensor]] = []

    def names(self) -> dict[int, str]:
        """Names of the model's `originals`, by id."""
        named = self.model.named_modules()
        return {id(module): name for name, module in named if id(module) in self.originals}

    def find(self, name: str) -> nn.Module | None:
        """The module of that name, or None."""
        found: nn.Module | None = self.module
        for part in name.split(".") if name else ():
            found = None if found is None else found._modules.get(part)
        return found

    def pad_around(self, layer: str) -> None:
        """Let encoders of torch give a layer in them padded tensors, and no nested ones."""
        names = layer.split(".")
        for end in range(len(names)):
            around = self.find(".".join(names[:end]))
            if isinstance(around, nn.TransformerEncoder):
                around.use_nested_tensor = False

    def separate(self, module: str, name: str, copies: dict[int, Tensor]) -> None:
        """Give a module a copy of one of its tensors.

        Args:
            module: its name.
            name: the parameter, buffer or attribute.
            copies: id of a tensor → its copy, for tensors that are held twice; added to.
        """
        holder = self.find(module)
        if holder is None:
            return
        own = (holder._parameters, holder._buffers)
        place: Any = next((held for held in own if name in held), vars(holder))
        tensor = place.get(name)
        if isinstance(tensor, Tensor):
            if id(tensor) not in copies:
                copies[id(tensor)] = copy_of_tensor(tensor)
            place[name] = copies[id(tensor)]

    def alias(self, copies: dict[int, Tensor]) -> None:
        """Have other objects with the same data in place of the parameters.

        So that a forward gives the model's own no other data, flags or attributes.

        Args:
            copies: id of a tensor → its copy, which is left; added to.
        """
        separate = set(map(id, copies.values()))
        for name, module in self.module.named_modules():
            for attribute, parameter in module._parameters.items():
                plain = type(parameter) is nn.Parameter and not parameter.is_inference()
                if parameter is None or not plain or id(parameter) in separate:
                    continue
                if id(parameter) not in copies:
                    made = nn.Parameter(parameter.data, parameter.requires_grad)
                    vars(made).update(vars(parameter))
                    copies[id(parameter)] = made
                module._parameters[attribute] = own = cast("nn.Parameter", copies[id(parameter)])
                self.aliases.append(((name, attribute), parameter, own))

    def places(self, names: Iterable[tuple[str, str]]) -> list[Place]:
        """Where modules hold attributes, given by the names of both."""
        found = ((self.find(module), name) for module, name in names)
        return [
            (vars(held), name) for held, name in found if held is not None and name in vars(held)
        ]


class Views:
    """Views of one model, and what its forward does that they must allow for.

    Each view has the modules, parameters, buffers and hooks that the model has at that moment. Its
    module objects are kept for the next one, unless the model has changed meanwhile.

    Args:
        model: the unwrapped model.
        written: (module, attribute) names of tensors that the forward changes in place; every
            view has its own.
        stateful: likewise of attributes behind which it changes anything else; every view has
            copies of all that they lead to.
        direct: the model's forward reaches its own modules past any view, so that the model
            itself is run; it must then be in evaluation mode.
        draws: the forward may draw from NumPy's or Python's global random generator.

    Attributes:
        observing: whether views have aliases of the parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        written: tuple[tuple[str, str], ...] = (),
        stateful: tuple[tuple[str, str], ...] = (),
        direct: bool = False,
        draws: bool = True,
    ) -> None:
        self.model = model
        self.written = written
        self.stateful = stateful
        self.direct = direct
        self.draws = draws
        self.observing = False
        self._idle: list[_Tree] = []
        self.harmless: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        known = {"written": self.written, "stateful": self.stateful}
        return partial(Views, **known, direct=self.direct, draws=self.draws), (self.model,)

    @contextmanager
    def view(self) -> Iterator[View]:
        """A view to run; after the block nothing is kept of what the forward left in it.

        Raises:
            TapError: a part of the model cannot be viewed and is in training mode, or is sharded.
        """
        if self.direct:
            _require_runnable(self.model)
            yield View(
                self.model, originals={id(module): module for module in self.model.modules()}
            )
            _require_runnable(self.model)
            return
        try:
            tree = self._idle.pop()
        except IndexError:
            tree = None
        places: list[Place] = []
        while tree is None or not tree.follow(places):
            tree = _Tree(self.model)
            places.clear()
        try:
            view = View(tree.root, self.model, tree.originals, in_training=tree.in_training)
            copies: dict[int, Tensor] = {}
            for module, name in self.written:
                view.separate(module, name, copies)
            if self.observing:
                view.alias(copies)
            deep = view.places(self.stateful)
            if places or deep:
                redirect(places, {**tree.copies, **copies}, self.harmless, deep)
            yield view
            tree.require_shareable()
        finally:
            tree.restore()
            self._idle.append(tree)


class _Tree:
    """The modules of a view, to be run by one thread at a time."""

    def __init__(self, model: nn.Module) -> None:
        self.copies: dict[int, nn.Module] = {}
        self._shells: list[Shell] = []
        stack = [model]
        while stack:
            original = stack.pop()
            if id(original) not in self.copies:
                shell = Shell(original)
                self.copies[id(original)] = shell.module
                self._shells.append(shell)
                stack += [child for child in shell.children.values() if child is not None]
        for shell in self._shells:
            shell.learn(self.copies)
        self.root = self.copies[id(model)]
        self.originals = {id(s.original): s.original for s in self._shells if not s.shared}
        self.in_training = False

    def follow(self, places: list[Place]) -> bool:
        """Become what the model is now; False if a module was replaced, which takes a new tree.

        Args:
            places: whose values may lead to modules; added to.
        """
        for shell in self._shells:
            if not shell.follow(self.copies, places):
                return False
        self.in_training = any(original.training for original in self.originals.values())
        return True

    def require_shareable(self) -> None:
        """Raise where a part that cannot be copied was switched to training mode meanwhile."""
        for shell in self._shells:
            if shell.shared:
                require_shareable(shell.original)

    def restore(self) -> None:
        """Let go of what a forward left."""
        for shell in self._shells:
            shell.restore()


def is_runnable_itself(model: nn.Module) -> bool:
    """Whether a model may be run without a view: in evaluation mode, and no part compiled."""
    return not any(
        module.training
        or module.__dict__.get("_compiled_call_impl") is not None
        or wrapped_name(module) == "_orig_mod"
        for module in model.modules()
    )


def _require_runnable(model: nn.Module) -> None:
    if not is_runnable_itself(model):
        raise TapError(
            "the model's forward calls its own modules through references that cannot be followed, "
            "such as global variables, so that it can be run in evaluation mode only, and not if "
            "parts of it are compiled: call model.eval() first, or let the model call its modules "
            "through its attributes."
        )


def held_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers and plain tensor attributes of a module alone, by name; none made in inference mode.

    The latter cannot be changed in place by a forward outside that mode.
    """
    held = {**vars(module), **module._buffers}
    return [
        (name, value)
        for name, value in held.items()
        if isinstance(value, Tensor)
        and not isinstance(value, nn.Parameter)
        and not value.is_inference()
    ]

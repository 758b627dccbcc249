"""One forward pass, watched: which operation got what from where, and how the features went through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mergekit_nb.models import norms, products, views
from mergekit_nb.models.features import fix, fixed, free, is_fixed
from mergekit_nb.models.operations import Call, Rule, is_arithmetic, known
from mergekit_nb.models.reshaping import Dims, extent, settled
from mergekit_nb.models.watch import evaluating, unfused

RULED = (norms, products, views)  # they enter their rules when they are imported
BY_HAND = (
    "pass the spaces by hand: axes=Axes((Space(name, width, (Port(tensor, axis, role), …)), …)), "
    "from mergekit_nb.weights.axes"
)


@dataclass(frozen=True)
class Value:
    """A tensor at one moment; what an operation changes in place is another value after it.

    Attributes:
        number: counts the values of a run.
        dims: its axes.
        live: depends on the network's input.
        weights: names of the parameters and buffers it was made from without the input.
        made: by arithmetic, not by a view or a pool.
    """

    number: int
    dims: Dims
    live: bool
    weights: frozenset[str] = frozenset()
    made: bool = False


@dataclass(frozen=True)
class Step:
    """One operation: the live values it reads and makes, and the parameters it uses."""

    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    weights: frozenset[str]


@dataclass(frozen=True)
class Sight:
    """A module that sees a value: as its first input, or as its output."""

    module: str
    side: Literal["input", "output"]


@dataclass
class Trace:
    """What a watched pass leaves.

    Attributes:
        steps: the operations that depend on the input, in the order they ran.
        sights: value number -> the modules that see it, those called more than once left out; the order is theirs.
        parameters: every tensor of the state dict that was used, tied ones under each of their names.
        outputs: the values the network gives.
    """

    steps: list[Step] = field(default_factory=list)
    sights: dict[int, list[Sight]] = field(default_factory=dict)
    parameters: dict[str, Value] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)


class Watch(TorchDispatchMode):
    """Follows every tensor of one forward pass."""

    def __init__(self, module: nn.Module, inputs: tuple):
        super().__init__()
        self.trace = Trace()
        self.path: list[str] = []
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # an id is a tensor's for as long as the tensor lives
        stored = module.state_dict(keep_vars=True)
        for name, tensor in {**dict(module.named_buffers()), **stored}.items():
            if id(tensor) not in self._values:
                movable = tensor.is_floating_point() and name in stored
                self._keep(tensor, tuple((free if movable else fixed)(n) for n in tensor.shape), False, {name})
        for tensor in _tensors(inputs):
            self._keep(tensor, tuple(map(fixed, tensor.shape)), True)
        self.names = {name: self.value(tensor) for name, tensor in stored.items() if isinstance(tensor, Tensor)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler, seconds, only to keep that out of here

    def value(self, tensor: Tensor) -> Value:
        """What is known of a tensor; one from nowhere is a constant."""
        if id(tensor) not in self._values:
            self._keep(tensor, tuple(map(fixed, tensor.shape)), False)
        return self._values[id(tensor)]

    def _keep(self, tensor: Tensor, dims: Dims, live: bool, weights: Iterable[str] = (), made: bool = False) -> Value:
        self._kept.append(tensor)
        value = self._values[id(tensor)] = Value(len(self._kept), dims, live, frozenset(weights), made)
        return value

    @property
    def where(self) -> str:
        """The module that runs, for messages."""
        return self.path[-1] if self.path and self.path[-1] else "the model"

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = _bound(func, args, kwargs or {})
        sources = {id(tensor): self.value(tensor) for tensor in _tensors(given)}
        live = any(value.live for value in sources.values())
        if live and torch.Tag.data_dependent_output in func.tags:
            raise ValueError(
                f"{self.where} reads a number out of what it is given ({_name(func)}: a comparison in Python, .item()), "
                f"so one pass does not tell what it does with other inputs; {BY_HAND}"
            )
        out = func(*args, **(kwargs or {}))
        every = self._rule(func)(Call(_name(func), given, out, lambda tensor: self.value(tensor).dims, self._weights))
        self._record(
            _name(func), list(sources.values()), live, list(zip(_tensors(out), _listed(out, every), strict=False))
        )
        self._through(func, args, live)
        return out

    def _through(self, func: OpOverload, args: tuple, live: bool) -> None:
        """What is written into a view of a tensor is written into the tensor."""
        if live and func._schema.is_mutable and isinstance(args[0], Tensor) and args[0]._base is not None:
            whole = args[0]._base
            before = self.value(whole)
            after = self._keep(whole, before.dims, True)
            self.trace.steps.append(
                Step((self.value(args[0]), *([before] if before.live else [])), (after,), frozenset())
            )

    def _weights(self, tensor: Tensor) -> bool:
        return not self.value(tensor).live and bool(self.value(tensor).weights)

    def _rule(self, func: OpOverload) -> Rule:
        found = known(_name(func), func.tags)

        def opaque(call: Call) -> list[Dims]:
            if any(not is_fixed(axis) for tensor in _tensors(call.given) for axis in settled(self.value(tensor).dims)):
                raise ValueError(
                    f"{self.where} runs {call.name}, and it is not known how that hands features on; {BY_HAND}"
                )
            made = [tuple(map(fixed, tensor.shape)) for tensor in _tensors(call.out)]
            return made[0] if isinstance(call.out, Tensor) else made

        return found or opaque

    def _record(self, name: str, sources: list[Value], live: bool, outs: list[tuple[Tensor, Dims]]) -> None:
        weights = frozenset[str]().union(*(value.weights for value in sources if not value.live))
        carried = frozenset[str]() if live else weights
        assert all(tuple(map(extent, dims)) == tensor.shape for tensor, dims in outs), f"the rule of {name} is wrong"
        made = tuple(self._keep(tensor, dims, live, carried, is_arithmetic(name)) for tensor, dims in outs)
        if live:
            self.trace.steps.append(Step(tuple(value for value in sources if value.live), made, weights))

    def see(self, tensor: Any, module: str, side: Literal["input", "output"]) -> None:
        """Note that a module has a tensor before it or gives it."""
        if isinstance(tensor, Tensor):
            self.trace.sights.setdefault(self.value(tensor).number, []).append(Sight(module, side))


def watched(module: nn.Module, inputs: tuple) -> Trace:
    """Run a module once, in eval mode and without gradients, and follow its features.

    Raises:
        ValueError: an operation without a rule, or one that depends on the input's values; named, with its module.
    """
    watch = Watch(module, inputs)
    trace = watch.trace
    with evaluating(module), unfused(), sdpa_kernel(SDPBackend.MATH), _hooked(module, watch) as calls, watch:
        given = tree_leaves(module(*inputs))
    trace.outputs = [watch.value(tensor) for tensor in _outputs(given)]
    for value in trace.outputs:
        for axis in settled(value.dims):
            fix(axis)
    trace.sights = {n: [s for s in seen if calls[s.module] == 1] for n, seen in trace.sights.items()}
    used = frozenset[str]().union(*(step.weights for step in trace.steps))
    trace.parameters = {name: value for name, value in watch.names.items() if value.weights & used}
    return trace


def _outputs(given: list) -> list[Tensor]:
    """The tensors a network gives: their features must stay where they are, so none may be overlooked."""
    odd = [leaf for leaf in given if not isinstance(leaf, Tensor | int | float | str | None)]
    if odd or not any(isinstance(leaf, Tensor) for leaf in given):
        what = f"a {type(odd[0]).__name__}" if odd else "no tensor"
        raise ValueError(
            f"the model gives {what}; it has to give tensors, or tuples, lists or dicts of them; {BY_HAND}"
        )
    return [leaf for leaf in given if isinstance(leaf, Tensor)]


@contextmanager
def _hooked(module: nn.Module, watch: Watch) -> Iterator[Counter]:
    """While it lasts, the watch knows which module runs and what it sees; gives how often each was called."""
    calls: Counter[str] = Counter()
    hooks = []

    def enter(name: str, given: tuple) -> None:
        calls[name] += 1
        watch.path.append(name)
        watch.see(given[0] if given else None, name, "input")

    def leave(name: str, out: Any) -> None:
        watch.see(out, name, "output")
        watch.path.pop()

    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda _, given, name=name: enter(name, given)))
        hooks.append(part.register_forward_hook(lambda _, given, out, name=name: leave(name, out)))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _listed(out: Any, every: Any) -> list[Dims]:
    return [every] if isinstance(out, Tensor) else list(every or ())


def _name(func: OpOverload) -> str:
    name = func.overloadpacket.__name__
    return name if name.startswith("__") else name.removesuffix("_")


def _bound(func: OpOverload, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments by name, defaults filled in."""
    given = {}
    for place, argument in enumerate(func._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        given[argument.name] = args[place] if place < len(args) else kwargs.get(argument.name, default)
    return given

"""A network cut in two: what runs up to a boundary, and what runs from there on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Sequence, Set

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

_ONE_AT_A_TIME = threading.Lock()  # fx puts itself in the place of nn.Module.__call__: two at once would leave it there


def halves(networks: Sequence[nn.Module], early: Set[str], example: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Each network as two modules: the first gives a tuple, which the second is called with.

    The cut is as late as it can be: just before the first parameter that is used after the last of the early ones. The
    modules share the network's parameters.

    Args:
        networks: of one architecture up to the boundary; what comes after it may differ.
        early: names of tensors of the state dict that the first half needs.
        example: an input, for networks that torch.fx cannot trace: torch.export runs them.

    Raises:
        ValueError: neither can trace a network.
    """
    return [_halved(graph_of(network, example), early) for network in networks]


def graph_of(network: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network as a graph: by torch.fx, or by torch.export where fx cannot.

    Raises:
        ValueError: neither can; or only torch.export can, which leaves batch norm no way to be re-estimated.
    """
    with _ONE_AT_A_TIME:
        return _graph_of(network, example)


def _graph_of(network: nn.Module, example: Tensor) -> fx.GraphModule:
    try:
        tracer = _Tracer()
        return fx.GraphModule(network, tracer.trace(network), type(network).__name__)
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        said = f"{type(network).__name__} cannot be cut in two: torch.fx says: {str(error).splitlines()[0]}"
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise ValueError(f"{said}; torch.export would freeze its batch norms. Zip it whole: stop_at=None")
    try:
        pair = torch.cat([example, example])  # a batch of one would be taken for the only size there is
        shapes = ({0: torch.export.Dim.AUTO},)
        return torch.export.export(copy.deepcopy(network).eval(), (pair,), dynamic_shapes=shapes).module()
    except Exception as error:
        raise ValueError(
            f"{said}; torch.export says: {str(error).splitlines()[0]}. Zip it whole: stop_at=None"
        ) from None


class _Tracer(fx.Tracer):
    """It follows its own thread only: what others call meanwhile, a panel that measures for one, is none of its business."""

    def __init__(self):
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m, forward, args, kwargs):
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _halved(network: fx.GraphModule, early: Set[str]) -> tuple[nn.Module, nn.Module]:
    nodes = [node for node in network.graph.nodes if node.op != "output" and node.target != "_guards_fn"]
    live = _live(nodes)
    at = _place(nodes, live, early)
    after = set(nodes[at:])
    crossing = [node for node in nodes[:at] if node in live and any(_late(user, after) for user in node.users)]
    inputs = [node for node in nodes if node.op == "placeholder"]
    constant = [node for node in nodes[:at] if node not in live]
    first = _part(network, inputs, [n for n in nodes[:at] if n not in inputs], tuple(crossing))
    return first, _part(network, crossing, [*constant, *nodes[at:]], _result(network))


def _result(network: fx.GraphModule) -> object:
    """What the graph gives; torch.export puts the outputs into a tuple, also a single one."""
    given = next(node for node in network.graph.nodes if node.op == "output").args[0]
    return given[0] if isinstance(given, tuple) and len(given) == 1 else given


def _late(user: fx.Node, after: Set[fx.Node]) -> bool:
    return user in after or user.op == "output"


def _place(nodes: Sequence[fx.Node], live: Set[fx.Node], early: Set[str]) -> int:
    """The first node with a parameter of its own after the last that uses an early one."""
    used: dict[fx.Node, set[str]] = {}
    for node in nodes:
        used[node] = _own(node).union(*(used[source] for source in node.all_input_nodes if source not in live))
    last = max(at for at, node in enumerate(nodes) if node in live and used[node] & early)
    later = (at for at, node in enumerate(nodes) if at > last and node in live and used[node])
    return next(later, len(nodes))


def _own(node: fx.Node) -> set[str]:
    """Names of the parameters and buffers that a node brings in."""
    if node.op == "get_attr":
        return {str(node.target)}
    if node.op != "call_module":
        return set()
    part = node.graph.owning_module.get_submodule(str(node.target))
    return {f"{node.target}.{name}" for name in part.state_dict()}


def _live(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes that depend on the input."""
    live: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live


def _part(network: fx.GraphModule, inputs: Sequence[fx.Node], nodes: Sequence[fx.Node], result: object) -> nn.Module:
    graph = fx.Graph()
    made = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(fx.node.map_arg(result, made.__getitem__))
    whole = fx.GraphModule(network, graph)
    whole.graph.eliminate_dead_code()
    return fx.GraphModule(whole, whole.graph)  # a module takes along what its graph names, and nothing else

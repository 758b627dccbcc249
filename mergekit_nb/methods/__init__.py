"""The second floor: one file per method, one line each in `METHODS`."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches

from mergekit_nb.methods.arcee_fusion import ArceeFusion
from mergekit_nb.methods.average import Average
from mergekit_nb.methods.base import Chain, Knob, Method
from mergekit_nb.methods.breadcrumbs import Breadcrumbs
from mergekit_nb.methods.cabs import Cabs
from mergekit_nb.methods.consensus import Consensus
from mergekit_nb.methods.core_space import CoreSpace
from mergekit_nb.methods.dare import Dare
from mergekit_nb.methods.della import Della
from mergekit_nb.methods.dppa import Dppa
from mergekit_nb.methods.emr import Emr
from mergekit_nb.methods.fr import Fr
from mergekit_nb.methods.iso_c import IsoC
from mergekit_nb.methods.iso_cts import IsoCts
from mergekit_nb.methods.karcher import Karcher
from mergekit_nb.methods.knots import Knots
from mergekit_nb.methods.lines import Lines
from mergekit_nb.methods.magmax import MagMax
from mergekit_nb.methods.model_stock import ModelStock
from mergekit_nb.methods.multi_slerp import MultiSlerp
from mergekit_nb.methods.nearswap import Nearswap
from mergekit_nb.methods.nuslerp import NuSlerp
from mergekit_nb.methods.pcb import Pcb
from mergekit_nb.methods.ram import Ram
from mergekit_nb.methods.sce import Sce
from mergekit_nb.methods.slerp import Slerp
from mergekit_nb.methods.tall_masks import TallMasks
from mergekit_nb.methods.task_arithmetic import TaskArithmetic
from mergekit_nb.methods.ties import Ties
from mergekit_nb.methods.tsv import Tsv
from mergekit_nb.methods.tsv_compress import TsvCompress
from mergekit_nb.methods.wudi import Wudi

METHODS: dict[str, type[Method]] = {
    "average": Average,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare": Dare,
    "emr": Emr,
    "pcb": Pcb,
    "breadcrumbs": Breadcrumbs,
    "della": Della,
    "dppa": Dppa,
    "sce": Sce,
    "cabs": Cabs,
    "lines": Lines,
    "tall_masks": TallMasks,
    "consensus": Consensus,
    "model_stock": ModelStock,
    "magmax": MagMax,
    "fr": Fr,
    "nearswap": Nearswap,
    "ram": Ram,
    "arcee_fusion": ArceeFusion,
    "slerp": Slerp,
    "nuslerp": NuSlerp,
    "multi_slerp": MultiSlerp,
    "karcher": Karcher,
    "tsv": Tsv,
    "iso_c": IsoC,
    "iso_cts": IsoCts,
    "tsv_compress": TsvCompress,
    "wudi": Wudi,
    "knots": Knots,
    "core_space": CoreSpace,
}

__all__ = ["METHODS", "Chain", "Knob", "Method", "resolve", "taking", *(cls.__name__ for cls in METHODS.values())]


def taking(experts: int) -> list[str]:
    """The names of the methods that merge so many experts: SLERP, for one, takes two and no more."""
    return [name for name, cls in METHODS.items() if cls.experts[0] <= experts <= (cls.experts[1] or experts)]


def resolve(method: str | Method, options: dict | None = None) -> Method:
    """A method object from its name and hyper-parameters, or the object that was given.

    Raises:
        ValueError: no such method, no such hyper-parameter, or a value out of its range; with the likely slip.
    """
    options = options or {}
    if isinstance(method, Method):
        if options:
            raise ValueError(
                f"{', '.join(options)}: write hyper-parameters into the method object, {type(method).__name__}(…)"
            )
        return method
    if isinstance(method, type) and issubclass(method, Method):
        return resolve(method.name, options)
    if method not in METHODS:
        raise ValueError(f"no method {method!r}{_near(str(method), METHODS)}; there are {', '.join(METHODS)}")
    cls = METHODS[method]
    known = [f.name for f in fields(cls)]
    for name in options:
        if name not in known:
            raise ValueError(
                f"{method} has no {name!r}{_near(name, known)}; it has {', '.join(known) or 'no hyper-parameters'}"
            )
    return cls(**options)


def _near(name: str, known) -> str:
    near = get_close_matches(name.lower(), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""

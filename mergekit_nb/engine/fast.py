"""Which methods have compiled forms, and when one is taken. Where none is, the readable one does the work: the bits are the same."""

from __future__ import annotations

import torch

from mergekit_nb.engine.forms.emr import FastEmr
from mergekit_nb.engine.forms.form import Fast, kernels
from mergekit_nb.engine.forms.linear import FastAverage, FastSum
from mergekit_nb.engine.forms.pcb import FastPcb
from mergekit_nb.engine.forms.ties import FastTies
from mergekit_nb.methods.base import Method

WORTH = 4_000_000  # entries of a model from which on compiled loops are worth the second they take to load
FORMS: list[type[Fast]] = [FastSum, FastAverage, FastEmr, FastTies, FastPcb]


def choose(method: Method, size: int, device: torch.device, dtype: torch.dtype) -> Fast | None:
    """The compiled form to use for a model of `size` entries, if there is one.

    Only float32 on the CPU is compiled; small models are merged sooner than compiled code is loaded.
    """
    if device.type != "cpu" or dtype != torch.float32 or size < WORTH or kernels() is None:
        return None
    fast = next((form(method) for form in FORMS if type(method) is form.suits), None)
    return fast if fast is not None and fast.ready() else None

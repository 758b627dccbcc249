"""Which methods have compiled forms, and when one is taken. Where none is, the readable one does the work: the bits are the same."""

from __future__ import annotations

import torch

from mergekit_nb.engine.forms.emr import FastEmr
from mergekit_nb.engine.forms.form import Fast, kernels
from mergekit_nb.engine.forms.gpu import OnGpu
from mergekit_nb.engine.forms.gpu_emr import GpuEmr
from mergekit_nb.engine.forms.gpu_linear import GpuAverage, GpuSum
from mergekit_nb.engine.forms.gpu_ties import GpuTies
from mergekit_nb.engine.forms.linear import FastAverage, FastSum
from mergekit_nb.engine.forms.pcb import FastPcb
from mergekit_nb.engine.forms.stack import kernels as on_gpu
from mergekit_nb.engine.forms.ties import FastTies
from mergekit_nb.methods.base import Method

WORTH = 4_000_000  # entries of a model from which on compiled loops are worth the second they take to load
FORMS: list[type[Fast]] = [FastSum, FastAverage, FastEmr, FastTies, FastPcb]
ON_GPU: list[type[OnGpu]] = [GpuSum, GpuAverage, GpuEmr, GpuTies]


def choose(method: Method, size: int, device: torch.device, dtype: torch.dtype) -> Fast | None:
    """The compiled form to use for a model of `size` entries, if there is one.

    Only float32 is compiled, for the CPU and for NVIDIA's GPUs; small models are merged sooner than compiled code is loaded.
    """
    if dtype != torch.float32 or size < WORTH:
        return None
    fast = _on_gpu(method, device) if device.type == "cuda" else _on_cpu(method) if device.type == "cpu" else None
    return fast if fast is not None and fast.ready() else None


def _on_cpu(method: Method) -> Fast | None:
    if kernels() is None:
        return None
    return next((form(method) for form in FORMS if type(method) is form.suits), None)


def _on_gpu(method: Method, device: torch.device) -> OnGpu | None:
    if torch.version.hip or on_gpu() is None:  # nobody has looked at what AMD's compiler makes of them
        return None
    return next((form(method, device=device) for form in ON_GPU if type(method) is form.suits), None)

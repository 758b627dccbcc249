"""Which tensors several models have in common, every mismatch named, and the layer of each."""

from collections.abc import Iterable, Mapping

from mergekit_nb.weights.site import layers
from mergekit_nb.weights.source import Source, dtype_of, shape_of


def floating_names(
    sources: Mapping[str, Source], base: Source | None = None, only: Iterable[str] | None = None
) -> list[str]:
    """Names of the floating tensors, in the order of the base, or of the first model where there is none.

    Args:
        sources: models by name.
        base: what they were fine-tuned from.
        only: tensors to look at, the others may differ; as a rule those a merge merged.

    Raises:
        ValueError: some model lacks a tensor, has one more, or has one of another shape; all of them are listed.
    """
    reference = base if base is not None else next(iter(sources.values()))
    owner = "the base" if base is not None else next(iter(sources))
    names = list(reference) if only is None else list(only)
    problems = [
        f"  {key}: {slip}"
        for key, source in sources.items()
        for slip in _slips(source, reference, owner, names) + (_extra(source, reference, owner) if only is None else [])
    ]
    if problems:
        raise ValueError("these models do not share the same tensors:\n" + "\n".join(problems))
    return [name for name in names if dtype_of(reference, name).is_floating_point]


def by_layer(names: Iterable[str]) -> dict[str, str]:
    """Name -> layer, sorted as a forward pass meets the layers."""
    return {name: layer for layer, inside in layers(names).items() for name in inside}


def _slips(source: Source, reference: Source, owner: str, names: list[str]) -> list[str]:
    lacking = [f"lacks {name}" for name in names if name not in source]
    other = [name for name in names if name in source and shape_of(source, name) != shape_of(reference, name)]
    return lacking + [f"{name} is {shape_of(source, name)}, in {owner} {shape_of(reference, name)}" for name in other]


def _extra(source: Source, reference: Source, owner: str) -> list[str]:
    return [f"has {name}, which {owner} lacks" for name in source if name not in reference]

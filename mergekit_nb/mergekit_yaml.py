"""mergekit's configuration files, as far as both packages mean the same by them; the rest is refused, never guessed.

mergekit trims per tensor, elects on weighted task vectors, takes a tie as positive, divides by the weights that agree
(where `normalize` is on, as it is by default for linear, ties and della), and restores each tensor's L1 norm after dropping.
Our methods have options for each of these, so all give mergekit's numbers up to rounding, except that what drops at random
(dare, della) drops by the same rule, but not the same entries, and where a docstring says that mergekit fails: breadcrumbs
of tensors too small for its gamma, opposite tensors in nuslerp, arcee_fusion's sampled quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mergekit_nb.methods import (
    ArceeFusion,
    Breadcrumbs,
    Dare,
    Della,
    Karcher,
    Method,
    ModelStock,
    MultiSlerp,
    Nearswap,
    NuSlerp,
    Ram,
    Sce,
    Slerp,
    TaskArithmetic,
    Ties,
)
from mergekit_nb.weights.source import dtype_of
from mergekit_nb.weights.source import open as open_source

# method -> whether the weights are divided by their sum, unless `normalize` says otherwise
NORMALIZED = {
    "linear": True, "task_arithmetic": False, "ties": True, "dare_ties": False, "dare_linear": False,
    "breadcrumbs": False, "breadcrumbs_ties": False, "della": True, "della_linear": False,
}  # fmt: skip
SPHERES = ("slerp", "nuslerp", "multislerp", "karcher")
OWN = {  # method -> its parameters
    "slerp": {"t"}, "nuslerp": {"weight", "nuslerp_flatten", "nuslerp_row_wise"}, "multislerp": {"weight", "normalize_weights"},
    "karcher": {"max_iter", "tol"}, "model_stock": {"filter_wise"}, "sce": {"select_topk", "int8_mask"}, "nearswap": {"t"},
    "ram": {"epsilon"}, "ramplus_tl": {"r", "alpha", "epsilon"}, "arcee_fusion": set(),
}  # fmt: skip
PAIRS = ("slerp", "nearswap", "arcee_fusion")  # the base_model and one more
TOP = {"merge_method", "base_model", "models", "parameters", "dtype", "out_dtype"}
GENERAL = {
    "weight",
    "density",
    "normalize",
    "rescale",
    "lambda",
    "int8_mask",
}  # int8_mask saves memory, changes no result
EXTRA = {"breadcrumbs": {"gamma"}, "breadcrumbs_ties": {"gamma"}, "della": {"epsilon"}, "della_linear": {"epsilon"}}
SHARED = {"density": 1.0, "gamma": 0.01, "epsilon": 0.15}  # parameters all models share here, and mergekit's defaults


class Recipe(NamedTuple):
    """What a configuration asks for, ready for `mk.merge(method, base, experts)`."""

    method: Method
    base: Path
    experts: dict[str, Path]


def read(path: str | Path) -> Recipe:
    """The merge a mergekit configuration describes; model paths are folders or files of this machine.

    Raises:
        FileNotFoundError: there is no such configuration, or no such model here (nothing is downloaded).
        ValueError: it is no YAML mapping, or asks for something that is not the same here; the sentence names it.
    """
    config = _mapping(_parsed(Path(path)), TOP, "the configuration")
    name = config.get("merge_method")
    if name not in NORMALIZED and name not in OWN:
        known = ", ".join([*NORMALIZED, *OWN])
        raise ValueError(f"merge_method {name!r} is not one of those both packages have: {known}")
    allowed = OWN.get(name, GENERAL | EXTRA.get(name, set()))
    overall = _mapping(config.get("parameters") or {}, allowed, "parameters")
    models = [_mapping(model, {"model", "parameters"}, "an entry of models") for model in config.get("models") or []]
    if not models or any("model" not in model for model in models):
        raise ValueError("models is a list of entries `- model: PATH`; this configuration has no such list")
    base, models = _roles(name, config.get("base_model"), models)
    per_model = allowed & ({"weight"} if name in OWN else {"weight", *SHARED})
    given = [_parameters(model, overall, per_model) for model in models]
    method = _own(name, overall, given, "base_model" in config) if name in OWN else _general(name, overall, given)
    _check_dtype(config, _local(base))
    return Recipe(method, _local(base), _named([model["model"] for model in models]))


def _roles(name: str, base: str | None, models: list[dict]) -> tuple[str, list[dict]]:
    """What the task vectors start from, and the experts; a sphere without a base_model has no start, and needs none."""
    listed = [model["model"] for model in models]
    if base is None:
        if name not in ("linear", "nuslerp", "multislerp", "karcher"):
            raise ValueError(f"{name} needs a base_model")
        return listed[0], models
    if name == "slerp":  # from the base_model to the other
        return base, [{"model": base}, *_other(name, base, models)]
    if name == "karcher" and base not in listed:
        raise ValueError(
            "karcher averages its base_model with the others, whether it is listed or not; list it, or leave it out"
        )
    if name in ("linear", "karcher"):
        return base, models
    # the base may be listed among the models, where it has nothing to add
    return base, _other(name, base, models) if name in PAIRS else [m for m in models if m["model"] != base]


def _other(name: str, base: str, models: list[dict]) -> list[dict]:
    others = [model for model in models if model["model"] != base]
    if len(others) != 1:
        raise ValueError(f"{name} merges the base_model and one other model; got {len(others)} others")
    return others


def _parsed(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no configuration {path}")
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def _mapping(value: Any, known: set[str], what: str) -> dict:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is no mapping of names to values, but {value!r}")
    if unknown := [str(key) for key in value if key not in known]:
        raise ValueError(
            f"{what} has {', '.join(unknown)}, which is not supported; it may have {', '.join(sorted(known))}"
        )
    return dict(value)


def _parameters(model: Mapping, overall: Mapping, known: set[str]) -> dict[str, float]:
    """A model's weight, density and so on, its own or the overall ones."""
    own = _mapping(model.get("parameters") or {}, known, f"parameters of {model['model']}")
    merged = {key: overall[key] for key in known if key in overall} | own
    return {key: _number(value, f"{key} of {model['model']}") for key, value in merged.items()}


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is {value!r}: only plain numbers are supported, no gradients and no filters by name")
    return float(value)


def _general(name: str, overall: Mapping, models: list[dict[str, float]]) -> Method:
    """What is task arithmetic with something before and after: drop, elect, divide."""
    normalize = bool(overall.get("normalize", NORMALIZED[name]))
    scale, weights = _number(overall.get("lambda", 1.0), "lambda"), _weights(models, name)
    rescale = "l1" if _rescale(overall, name) else None
    if name in ("task_arithmetic", "linear"):
        return _added(TaskArithmetic(scale), weights, normalize, name)
    mean = "dis-mean" if normalize else "dis-sum"
    ties = Ties(1.0, scale, weights, merge_as=mean, scope="tensor", zero_sign="positive", divide_by="weights")
    if name == "ties":
        return replace(ties, density=_shared(models, "density"))
    dropped = _dropped(name, rescale, models)
    if name in ("dare_ties", "breadcrumbs_ties", "della"):
        return dropped | ties
    return _added(replace(dropped, scale=scale), weights, normalize, name)


def _added(method: Method, weights: tuple[float, ...], normalize: bool, name: str) -> Method:
    """The weighted sum, or mean."""
    if normalize:
        weights = tuple(weight / sum(weights) for weight in weights)
    if name == "linear" and abs(sum(weights) - 1) > 1e-6:
        raise ValueError("linear with normalize: false is supported for weights that add up to 1 only")
    return replace(method, weights=weights)


def _dropped(name: str, rescale: str | None, models: list[dict[str, float]]) -> Method:
    """What comes before: dare, breadcrumbs or della, as mergekit does them."""
    density = _shared(models, "density")
    if name.startswith("dare"):
        return Dare(drop=1 - density, rescale=rescale)
    if name.startswith("breadcrumbs"):
        return Breadcrumbs(density=density, remove=_shared(models, "gamma"), scope="tensor")
    return Della(density=density, window=_shared(models, "epsilon"), rescale=rescale, elect="none")


def _own(name: str, overall: Mapping, models: list[dict[str, float]], based: bool) -> Method:
    """The methods that have parameters of their own."""
    on = "task vectors" if based else "weights"
    if name in ("slerp", "nearswap"):
        if "t" not in overall:
            raise ValueError(f"{name} needs t under parameters")
        return (Slerp if name == "slerp" else Nearswap)(t=_number(overall["t"], "t"))
    if name == "nuslerp":
        return NuSlerp(weights=_weights(models, name, least=None), over=_over(overall), on=on)
    if name == "multislerp":
        if not overall.get("normalize_weights", True):
            raise ValueError(
                "multislerp with normalize_weights: false is not supported: here weights are divided by their sum"
            )
        return MultiSlerp(weights=_weights(models, name), on=on)
    if name == "karcher":
        options = {
            "iterations": int(overall.get("max_iter", 10)),
            "tolerance": _number(overall.get("tol", 1e-5), "tol"),
        }
        return Karcher(**options)
    if name == "model_stock":
        return ModelStock(scope="row" if overall.get("filter_wise") else "tensor")
    if name == "sce":
        return Sce(select_topk=_number(overall.get("select_topk", 1.0), "select_topk"))
    if name == "arcee_fusion":
        return ArceeFusion()
    plus = name == "ramplus_tl"
    boost, most = (
        _number(overall.get(key, default), key) for key, default in (("r", 0.1 if plus else 0), ("alpha", 0.2))
    )
    return Ram(boost=boost, most=most, epsilon=_number(overall.get("epsilon", 1e-5), "epsilon"))


def _over(overall: Mapping) -> str:
    if overall.get("nuslerp_flatten", True):
        return "tensor"
    return "first" if overall.get("nuslerp_row_wise", False) else "last"


def _weights(models: list[dict[str, float]], name: str, least: float | None = 1e-8) -> tuple[float, ...]:
    if any("weight" not in model for model in models):
        raise ValueError(f"{name} needs a weight for every model, under its parameters or for all of them")
    weights = tuple(model["weight"] for model in models)
    if least is not None and abs(sum(weights)) < least:
        raise ValueError(
            f"the weights add up to 0 ({', '.join(map(str, weights))}), so nothing can be divided by their sum"
        )
    return weights


def _shared(models: list[dict[str, float]], key: str) -> float:
    """The one density, gamma or epsilon of all models; mergekit's default where none is said."""
    found = {model.get(key, SHARED[key]) for model in models}
    if len(found) > 1:
        many = "densities" if key == "density" else f"{key}s"
        raise ValueError(
            f"the models have different {many} ({', '.join(map(str, sorted(found)))}); here they share one"
        )
    return found.pop()


def _rescale(overall: Mapping, name: str) -> bool:
    """Whether norms are restored after dropping; what drops at random does by default."""
    random = name.startswith(("dare", "della"))
    if overall.get("rescale") and not random:
        raise ValueError(f"rescale: true is supported for the dare and della methods only, not for {name}")
    return bool(overall.get("rescale", random))


def _local(model: Any) -> Path:
    path = Path(str(model)).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"no model {model} on this machine: download it first and give its folder, nothing is fetched"
        )
    return path


def _named(models: list[Any]) -> dict[str, Path]:
    """Paths under their last part, or under themselves where two end alike."""
    paths = [_local(model) for model in models]
    names = [path.stem if path.suffix == ".safetensors" else path.name for path in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def _check_dtype(config: Mapping, base: Path) -> None:
    """mergekit casts to its `dtype`; a merge here keeps the base's stored one, so anything else would be another result."""
    wanted = {config[key] for key in ("dtype", "out_dtype") if config.get(key)}
    source = open_source(base)
    stored = next((dtype_of(source, n) for n in source if dtype_of(source, n).is_floating_point), None)
    if stored is not None and wanted - {str(stored).removeprefix("torch.")}:
        raise ValueError(
            f"dtype {', '.join(sorted(wanted))} is not the base's own, {stored}, in which the merge is stored"
        )

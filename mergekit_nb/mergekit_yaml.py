"""mergekit's configuration files, as far as both packages mean the same by them; the rest is refused, never guessed.

mergekit trims per tensor, elects on weighted task vectors, takes a tie as positive, divides by the weights that agree
(where `normalize` is on, as it is by default for linear and ties), and restores each tensor's L1 norm after dropping.
`Ties` and `Dare` have options for each of these, so linear, task_arithmetic and ties give mergekit's numbers up to
rounding; dare_linear and dare_ties drop by the same rule, but not the same random entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mergekit_nb.methods import Dare, Method, TaskArithmetic, Ties
from mergekit_nb.weights.source import dtype_of
from mergekit_nb.weights.source import open as open_source

NORMALIZED = {"linear": True, "ties": True, "task_arithmetic": False, "dare_ties": False, "dare_linear": False}
TOP = {"merge_method", "base_model", "models", "parameters", "dtype", "out_dtype"}
PER_MODEL = {"weight", "density"}
OVERALL = PER_MODEL | {"normalize", "rescale", "lambda", "int8_mask"}  # int8_mask saves memory and changes no result


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
    if name not in NORMALIZED:
        raise ValueError(f"merge_method {name!r} is not one of those both packages have: {', '.join(NORMALIZED)}")
    overall = _mapping(config.get("parameters") or {}, OVERALL, "parameters")
    models = [_mapping(model, {"model", "parameters"}, "an entry of models") for model in config.get("models") or []]
    if not models or any("model" not in model for model in models):
        raise ValueError("models is a list of entries `- model: PATH`; this configuration has no such list")
    base = config.get("base_model") or (models[0]["model"] if name == "linear" else None)
    if base is None:
        raise ValueError(f"{name} needs a base_model")
    if name != "linear":  # it may be listed among the models, where it has nothing to add
        models = [model for model in models if model["model"] != base]
    method = _method(name, overall, [_parameters(model, overall) for model in models])
    _check_dtype(config, _local(base))
    return Recipe(method, _local(base), _named([model["model"] for model in models]))


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


def _parameters(model: Mapping, overall: Mapping) -> dict[str, float]:
    """A model's weight and density, its own or the overall ones."""
    own = _mapping(model.get("parameters") or {}, PER_MODEL, f"parameters of {model['model']}")
    merged = {key: overall[key] for key in PER_MODEL if key in overall} | own
    return {key: _number(value, f"{key} of {model['model']}") for key, value in merged.items()}


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is {value!r}: only plain numbers are supported, no gradients and no filters by name")
    return float(value)


def _method(name: str, overall: Mapping, models: list[dict[str, float]]) -> Method:
    normalize = bool(overall.get("normalize", NORMALIZED[name]))
    scale = _number(overall.get("lambda", 1.0), "lambda")
    weights, density = _weights(models, name), _density(models, name)
    dare = Dare(drop=1 - density, rescale="l1" if _rescale(overall, name) else None)
    if name in ("ties", "dare_ties"):
        mean = "dis-mean" if normalize else "dis-sum"
        ties = Ties(1.0, scale, weights, merge_as=mean, scope="tensor", zero_sign="positive", divide_by="weights")
        return replace(ties, density=density) if name == "ties" else dare | ties
    if normalize:
        weights = tuple(weight / sum(weights) for weight in weights)
    if name == "linear" and abs(sum(weights) - 1) > 1e-6:
        raise ValueError("linear with normalize: false is supported for weights that add up to 1 only")
    if name == "dare_linear":
        return replace(dare, scale=scale, weights=weights)
    return TaskArithmetic(scale, weights)


def _weights(models: list[dict[str, float]], name: str) -> tuple[float, ...]:
    if any("weight" not in model for model in models):
        raise ValueError(f"{name} needs a weight for every model, under its parameters or for all of them")
    weights = tuple(model["weight"] for model in models)
    if abs(sum(weights)) < 1e-8:
        raise ValueError(
            f"the weights add up to 0 ({', '.join(map(str, weights))}), so nothing can be divided by their sum"
        )
    return weights


def _density(models: list[dict[str, float]], name: str) -> float:
    """The one density of all models; what has none keeps every entry."""
    if name in ("linear", "task_arithmetic"):
        return 1.0
    found = {model.get("density", 1.0) for model in models}
    if len(found) > 1:
        raise ValueError(
            f"the models have different densities ({', '.join(map(str, sorted(found)))}); here they share one"
        )
    return found.pop()


def _rescale(overall: Mapping, name: str) -> bool:
    if overall.get("rescale") and not name.startswith("dare"):
        raise ValueError(f"rescale: true is supported for the dare methods only, not for {name}")
    return bool(overall.get("rescale", True))


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

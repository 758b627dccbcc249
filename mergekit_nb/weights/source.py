"""Sources: any read-only mapping from tensor name to tensor. Files are opened by their headers and read tensor by tensor."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mergekit_nb.weights.view import Lazy

Source = Mapping[str, Tensor]

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


INDEX = ".safetensors.index.json"


class Unreadable(ValueError):
    """A file is there, and is not what it should be: cut short, or no safetensors at all."""

    damaged = True


class Stored(NamedTuple):
    """What a header says of a tensor: its dtype as safetensors calls it, its shape, and where in the file it begins."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @classmethod
    def of(cls, entry: dict) -> Stored:
        return cls(entry["dtype"], tuple(entry["shape"]), entry["begin"])


class Checkpoint(Lazy):
    """A safetensors checkpoint on disk, one file or many. Opening reads headers; `checkpoint[name]` reads one tensor.

    `checkpoint[name]` maps the file into memory; `read_into` reads, so that a file cut short meanwhile is an error and
    no crash, and pages that were read do not pile up.
    """

    def __init__(self, path: str | Path, files: Mapping[str, Path]):
        self.path = Path(path)
        self._files = dict(files)
        self._handles: dict[Path, safe_open] = {}
        self._known: dict[str, Stored] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it lies in."""
        return tuple(dict.fromkeys(self._files.values()))

    @classmethod
    def of(cls, file: Path) -> Checkpoint:
        """One file."""
        return cls(file, _file(file))

    def _handle(self, name: str) -> safe_open:
        file = self._files[name]
        if file not in self._handles:
            self._handles[file] = _open_file(file)
        return self._handles[file]

    def __getitem__(self, name: str) -> Tensor:
        return self._handle(name).get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def _stored(self, name: str) -> Stored:
        if name not in self._known:
            file = self._files[name]
            self._known |= {
                key: Stored.of(entry) for key, entry in read_header(file).items() if self._files.get(key) == file
            }
        return self._known[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, from the header."""
        return self._stored(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """The stored dtype of one tensor, from the header."""
        stored = self._stored(name).dtype
        if stored not in DTYPES:
            raise ValueError(f"{self.path}: {name} is stored as {stored}, which torch has no dtype for")
        return DTYPES[stored]

    def where(self, name: str) -> tuple[Path, int]:
        """The file that one tensor lies in, and its first byte there."""
        return self._files[name], self._stored(name).begin

    def read_into(self, name: str, start: int, buffer: Tensor) -> None:
        """Fill a contiguous 1-D buffer of the stored dtype with the entries from `start` on, row-major.

        Raises:
            OSError: the file is gone, or shorter than its header says.
        """
        file, left = self._files[name], memoryview(buffer.view(torch.uint8).numpy())
        with builtins.open(file, "rb", buffering=0) as stream:
            stream.seek(self._stored(name).begin + start * buffer.element_size())
            while left:
                if not (count := stream.readinto(left)):
                    raise OSError(f"{file} ends within {name}: it was cut short since it was opened; fetch it again")
                left = left[count:]

    def __reduce__(self):  # a worker process opens the files again
        return Checkpoint, (self.path, {name: file.absolute() for name, file in self._files.items()})

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self)} tensors)"


def open(source: str | Path | Source | nn.Module) -> Source:
    """Open weights: a `.safetensors` file, an index of several, a folder (with an index or without), a dict, a module, a PEFT adapter.

    Args:
        source: a path is opened lazily, by its headers; a module gives its `state_dict`, sharing memory; a mapping is
            handed back; a folder with an `adapter_config.json` gives an `Adapter`, which is an expert of its base:
            `merge` puts it there, and `.onto(base)` gives the weights.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a pickle (never opened), an empty folder, a truncated or hostile file.
        TypeError: no kind of source.
    """
    if isinstance(source, nn.Module):
        return {name: tensor.detach() for name, tensor in source.state_dict().items()}
    if isinstance(source, Mapping):
        return _checked(source) if isinstance(source, dict) else source
    if not isinstance(source, str | Path):
        raise TypeError(
            f"weights come from a path, a mapping of tensors or a torch module; got {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; give a .safetensors file or a folder of them")
    if (path / "adapter_config.json").exists():
        from mergekit_nb.weights.adapter import read  # it opens checkpoints itself

        return read(path)
    if path.name.endswith(INDEX):
        return Checkpoint(path, _indexed(path))
    return Checkpoint(path, _folder(path) if path.is_dir() else _file(path))


def _checked(weights: dict) -> Source:
    """The weights themselves, once they are known to be names and tensors that can be computed with."""
    for name, tensor in weights.items():
        if not isinstance(name, str):
            raise TypeError(f"names of tensors are texts; got {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name} is no tensor but of type {type(tensor).__name__}; torch.as_tensor may make one of it"
            )
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            kind = "has no data (device meta)" if tensor.is_meta else f"is {tensor.layout}, {tensor.dtype}"
            raise ValueError(f"{name} {kind}; only dense, real tensors can be merged")
    return weights


def shape_of(source: Source, name: str) -> tuple[int, ...]:
    """The shape of a tensor, where the source is a file from its header."""
    return source.shape(name) if isinstance(source, Lazy) else tuple(source[name].shape)


def dtype_of(source: Source, name: str) -> torch.dtype:
    """The stored dtype of a tensor, where the source is a file from its header."""
    return source.dtype(name) if isinstance(source, Lazy) else source[name].dtype


def nbytes_of(source: Source, name: str) -> int:
    """How many bytes a tensor takes."""
    return prod(shape_of(source, name)) * dtype_of(source, name).itemsize


def entries(source: Source, name: str, start: int = 0, stop: int | None = None) -> Tensor:
    """Entries start..stop of one tensor, row-major, in its stored dtype: 1-D. Of a file only these are read.

    Raises:
        OSError: the file is gone or was cut short.
    """
    if not isinstance(source, Checkpoint):
        return source[name].detach().reshape(-1)[start:stop]
    stop = prod(source.shape(name)) if stop is None else stop
    buffer = torch.empty(stop - start, dtype=source.dtype(name))
    source.read_into(name, start, buffer)
    return buffer


def _open_file(file: Path) -> safe_open:
    if not file.is_file():
        raise Unreadable(f"{file} is no file that can be read in any order; save the weights to one")
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise Unreadable(
            f"{file} is no readable safetensors file ({error}); it may be truncated: fetch it again"
        ) from None


def read_header(file: Path) -> dict:
    """name -> dtype, shape, and where in the file its bytes begin; safetensors itself has checked the file."""
    with builtins.open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return {name: {**entry, "begin": 8 + length + entry["data_offsets"][0]} for name, entry in header.items()}


def _file(path: Path) -> dict[str, Path]:
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run code when it is opened; convert it where you trust it, with "
            f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), {path.with_suffix('.safetensors').name!r})"
        )
    return dict.fromkeys(_open_file(path).keys(), path)


def _folder(path: Path) -> dict[str, Path]:
    indexes = sorted(path.glob(f"*{INDEX}"))
    if len(indexes) > 1:
        raise ValueError(
            f"{path} holds {len(indexes)} indexes ({', '.join(i.name for i in indexes)}); name one file instead"
        )
    if indexes:
        return _indexed(indexes[0])
    shards = sorted(path.glob("*.safetensors"))
    if not shards:
        found = sorted(f.name for f in path.iterdir() if f.suffix in PICKLES)
        hint = f"; it has pickles ({found[0]} …), which are never opened: convert them to safetensors" if found else ""
        raise ValueError(f"{path} holds no .safetensors file{hint}")
    files: dict[str, Path] = {}
    for shard in shards:
        for name in _file(shard):
            if name in files:
                raise ValueError(
                    f"{path}: {name} is in both {files[name].name} and {shard.name}, and no index says which counts"
                )
            files[name] = shard
    return files


def _indexed(index: Path) -> dict[str, Path]:
    try:
        where = json.loads(index.read_text())["weight_map"]
        files = {str(name): index.parent / file for name, file in where.items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(
            f"{index} is no safetensors index (it needs a weight_map from tensor names to files)"
        ) from None
    inside = index.parent.resolve()
    for file in dict.fromkeys(files.values()):
        # shards of a hub cache are links out of the folder: the name is what must stay inside
        if file.parent.absolute().resolve() != inside:
            raise ValueError(f"{index} names {file.name!r} outside its own folder; that index is not to be trusted")
        if not file.exists():
            raise FileNotFoundError(f"{index} names {file.name}, which is missing; fetch the rest of the checkpoint")
        if lost := [name for name, at in files.items() if at == file and name not in set(_open_file(file).keys())]:
            raise ValueError(f"{index} says that {lost[0]} is in {file.name}, but it is not there")
    return files

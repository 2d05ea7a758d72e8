"""Files that are written whole or not at all, what kind one is, and the tensors and shapes of modules."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, even if the process is killed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        TypeError: if the content holds something that JSON cannot represent.
        ValueError: if it holds a NaN or an infinity. In both cases nothing is written.
    """
    write_atomic(path, (json.dumps(content, indent=indent, allow_nan=False) + "\n").encode())


def suffix_of(path: Path, known: Sequence[str], content: str) -> str:
    """The suffix of a file that is there and can be read, in lower case.

    Args:
        path: the file.
        known: the suffixes that can be read.
        content: what the file is read for, such as ``"Problems"``, for the message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its suffix is another one.
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ValueError(f"{content} are read from {', '.join(known)} files; got {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return suffix


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU and contiguous; those that share memory are copied, since safetensors rejects them."""
    found, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return found


def sketched(cls: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """A module whose tensors have shapes but no memory, to compare with weights before the module is built.

    Examples:
        >>> from torch.nn import Linear
        >>> from energysolve.files import sketched
        >>> sketched(Linear, {"in_features": 10**9, "out_features": 10**9}).weight.shape
        torch.Size([1000000000, 1000000000])
    """
    with torch.device("meta"):
        return cls(**arguments)


def tensors_digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of tensors (names, dtypes, shapes and bytes, in the order of the names), and of a text before them."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Checkpoint files: written atomically, verified by a checksum, and pruned."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..checks import check_whole
from ..files import tensors_digest, unshared, write_atomic

FORMAT_VERSION = 1
_NAME = re.compile(r"iteration-(\d{8})\.safetensors")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, read or resumed from; earlier checkpoints are unchanged.

    Examples:
        >>> from pathlib import Path
        >>> import torch
        >>> from energysolve.training import CheckpointError, Checkpoints
        >>> checkpoints = Checkpoints(Path("damaged"))
        >>> path = checkpoints.save(1000, {"weight": torch.zeros(3)}, {})
        >>> _ = path.write_bytes(b"nothing")
        >>> try:
        ...     checkpoints.load(path)
        ... except CheckpointError as error:
        ...     print(error)
        The checkpoint damaged/iteration-00001000.safetensors cannot be used: its 7 bytes are cut short ...
    """


@dataclass(frozen=True)
class Checkpoints:
    """Where the checkpoints of a run are, how often one is written, and which are kept.

    A checkpoint is one file, ``iteration-00001000.safetensors``: the tensors, and in the header the rest of the state
    as JSON and a checksum. It is written under a temporary name and renamed, so every file is complete, even if the
    process is killed.

    Args:
        folder: created with the first checkpoint.
        every: the number of iterations between checkpoints; the last iteration always gets one.
        keep: the number of newest checkpoints to keep, 1 or more. The one with the lowest validation error is kept too.
        same_start: a run is resumed only by one that would start from the same weights and random numbers. Pass False
            for a model whose initial weights no seed determines.

    Raises:
        ValueError: if ``every`` or ``keep`` is not a whole number of 1 or more.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Checkpoints, Constant, make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> trainer = Trainer(solver, Addition(3), schedule=Constant(), accelerator=make_accelerator(cpu=True))
        >>> checkpoints = Checkpoints(Path("run"), every=2)
        >>> trainer.fit(4, checkpoints=checkpoints)
        >>> checkpoints.iterations()
        [2, 4]
        >>> trainer.fit(6, checkpoints=checkpoints, resume=True)  # two iterations more
        >>> checkpoints.latest().name
        'iteration-00000006.safetensors'
    """

    folder: Path
    every: int = 1000
    keep: int = 2
    same_start: bool = True

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))
        check_whole("Checkpoints", least=1, every=self.every, keep=self.keep)

    def due(self, iteration: int, iterations: int) -> bool:
        """Whether a checkpoint is written after this iteration."""
        return iteration % self.every == 0 or iteration == iterations

    def path(self, iteration: int) -> Path:
        """The checkpoint file of an iteration."""
        return self.folder / f"iteration-{iteration:08d}.safetensors"

    def check_free(self) -> None:
        """Raise a CheckpointError if the folder holds checkpoints."""
        found = self.iterations()
        if found:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of another run, the latest after iteration {found[-1]}. Continue it "
                "with resume=True (--resume), delete it with overwrite=True (--overwrite), or choose another folder."
            )

    def clear(self) -> None:
        """Delete all checkpoints in the folder."""
        for iteration in self.iterations():
            self.path(iteration).unlink(missing_ok=True)

    def save(
        self, iteration: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], best: int | None = None
    ) -> Path:
        """Write a checkpoint, then delete those that are not to be kept.

        Args:
            iteration: the number of iterations done.
            tensors: the tensors of the state, on any device.
            state: the rest of the state, as plain JSON.
            best: an iteration whose checkpoint is kept regardless of its age.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        path = self.path(iteration)
        content = encode(tensors, state)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for stale in self.folder.glob(".iteration-*.tmp"):  # left by a process that was killed
                stale.unlink(missing_ok=True)
            write_atomic(path, content)
        except OSError as error:
            last = self.latest()
            earlier = f"The previous checkpoint, {last}, is intact" if last else "There is no earlier checkpoint"
            raise CheckpointError(
                f"Cannot write the checkpoint {path}: {error.strerror or error}. {earlier}. Free some space or choose "
                "another folder, then resume."
            ) from error
        kept = {*self.iterations()[-self.keep :], best}
        for old in self.iterations():
            if old not in kept:
                self.path(old).unlink(missing_ok=True)
        return path

    def iterations(self) -> list[int]:
        """The iterations that have a checkpoint, in ascending order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("iteration-*.safetensors"))
        return sorted(int(name[1]) for name in names if name)

    def latest(self) -> Path | None:
        """The newest checkpoint file; None if there is none."""
        found = self.iterations()
        return self.path(found[-1]) if found else None

    def load(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors and the rest of the state from a checkpoint file.

        Raises:
            CheckpointError: if the file is missing, truncated, altered, or of another format version.
        """
        try:
            return decode(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            earlier = [self.path(number) for number in self.iterations() if self.path(number).name < path.name]
            hint = f"Delete it to resume from {earlier[-1]}." if earlier else "There is no earlier checkpoint."
            raise CheckpointError(f"The checkpoint {path} cannot be used: {error}. {hint}") from error


def encode(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint file."""
    plain = unshared(tensors)
    text = json.dumps(state)
    header = {"version": str(FORMAT_VERSION), "sha256": tensors_digest(plain, text), "state": text}
    return safetensors.torch.save(plain, metadata=header)


def decode(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state from the content of a checkpoint file; a ValueError if it is invalid."""
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]
        version, checksum, text = header["version"], header["sha256"], header["state"]
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"its {len(content)} bytes are cut short or not a checkpoint ({error})") from error
    if version != str(FORMAT_VERSION):
        raise ValueError(f"it has format version {version!r}, but this version of the library reads {FORMAT_VERSION}")
    if checksum != tensors_digest(tensors, text):
        raise ValueError("its checksum does not match, so it is damaged")
    return tensors, json.loads(text)

"""Saving, loading and sharing solvers, following the conventions of the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from torch import nn

from .files import save
from .hub import Download, Upload, load_from_anywhere, upload

S = TypeVar("S", bound="Pretrained")


class Pretrained:
    """The methods of `EnergySolver` that save, load and share it.

    A folder holds ``model.safetensors``, ``config.json`` with a checksum of the weights, and ``README.md``, a model
    card generated from the configuration. Nothing is ever unpickled, and no code is stored or loaded.
    """

    def save_pretrained(
        self,
        path: str | Path,
        *,
        training: Mapping[str, Any] | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
    ) -> str | None:
        """Write the energy's weights and the solver's configuration into a folder.

        Each file is replaced atomically. A model card that a person has written or edited is kept. If the energy has a
        method ``config()``, the arguments that it returns are saved, so that the energy can be built again. Returns
        the URL of the commit on the hub, or None without ``push_to_hub``.

        Args:
            path: the folder, created if it does not exist.
            training: how the energy was trained and evaluated, as plain JSON; part of the configuration and the card.
            push_to_hub: also upload the folder's files, as `push_to_hub` does by default.
            repo_id: the repository to upload to, by default the folder's name in the user's own namespace.

        Raises:
            TypeError: if a part cannot be represented in JSON, such as an initializer that is a function; nothing is
                written then.
            ValueError: if ``repo_id`` is given without ``push_to_hub``.

        Examples:
            >>> from energysolve import EnergySolver, Zeros
            >>> from energysolve.energies import SharedQuadratic
            >>> solver = EnergySolver(SharedQuadratic(size=3), init=Zeros((3,)), max_steps=77)
            >>> solver.save_pretrained("my-solver", training={"task": "toy", "iterations": 1000})
            >>> EnergySolver.from_pretrained("my-solver").max_steps
            77
        """
        if repo_id is not None and not push_to_hub:
            raise ValueError(f"repo_id={repo_id!r} needs a push: pass push_to_hub=True too, or omit it.")
        folder = Path(path)
        save(self, folder, training, name=repo_id)
        return upload(folder, repo_id or folder.resolve().name, Upload()) if push_to_hub else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        training: Mapping[str, Any] | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        commit_message: str = "Upload a solver",
        create_pr: bool = False,
    ) -> str:
        """Save the solver to a repository on the Hugging Face hub, in one commit, and return its URL.

        Args:
            repo_id: such as ``"user/model"``; the repository is created if it does not exist.
            training: as in `save_pretrained`.
            private: whether a new repository is visible to its owners only; by default the owner's setting.
            token: an access token, by default that of ``hf auth login`` or of the environment variable ``HF_TOKEN``.
            branch: by default ``main``; a new branch starts from ``main``.
            commit_message: the first line of the commit message.
            create_pr: open a pull request with the commit, and return its URL instead.

        Raises:
            ImportError: without huggingface_hub (``pip install 'energysolve[hub]'``).
            OSError: if the hub denies the request or cannot be reached.
            TypeError: as in `save_pretrained`.
            ValueError: if ``private=True`` and the repository exists and is public; nothing is uploaded then.

        Examples:
            >>> url = solver.push_to_hub("user/my-solver", private=True)  # doctest: +SKIP
            >>> solver = EnergySolver.from_pretrained("user/my-solver")  # doctest: +SKIP
        """
        options = Upload(token, private, branch, commit_message, create_pr)
        with TemporaryDirectory() as folder:
            save(self, Path(folder), training, name=repo_id)
            return upload(Path(folder), repo_id, options)

    @classmethod
    def from_pretrained(
        cls: type[S],
        path_or_name: str | Path,
        *,
        energy: nn.Module | type[nn.Module] | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> S:
        """Load a solver with a trained energy, ready for use: in evaluation mode, on the CPU.

        Args:
            path_or_name: a folder written by `save_pretrained`, the name of an energy that comes with the library, or
                the id ``"user/model"`` of a model on the Hugging Face hub.
            energy: a class to build with the saved arguments, or an instance of the saved architecture, which keeps its
                device. Needed only for a class that `energysolve.pretrained.register_energy` does not know.
            revision: a branch, tag or commit of a model on the hub.
            cache_dir: the folder for downloads, by default that of huggingface_hub.
            token: as in `push_to_hub`.
            local_files_only: use earlier downloads only, and do not contact the hub.
            force_download: download the files again even if they were downloaded before.

        Raises:
            FileNotFoundError: if there is no such folder, name or model; the message lists what was tried.
            OSError: if the hub denies the request (PermissionError), cannot be reached (ConnectionError) or fails.
            ImportError: if the hub is needed, without huggingface_hub (``pip install 'energysolve[hub]'``).
            TypeError: if ``energy`` is neither a module nor a class of modules.
            ValueError: if the files are damaged, or do not fit the class or instance of the energy.

        Examples:
            >>> import torch
            >>> from energysolve import EnergySolver
            >>> solver = EnergySolver.from_pretrained("inverse")  # comes with the library
            >>> solver.minimize(2 * torch.eye(20).unsqueeze(0)).y[0, 0, :2].round(decimals=3)
            tensor([0.5000, 0.0000])
            >>> EnergySolver.from_pretrained("user/my-solver", energy=MyEnergy)  # doctest: +SKIP
        """
        options = Download(token, revision, cache_dir, local_files_only, force_download)
        return load_from_anywhere(cls, path_or_name, energy, options)

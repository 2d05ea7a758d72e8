"""Saving, loading and sharing solvers by the conventions of the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from torch import nn

S = TypeVar("S", bound="Pretrained")


class Pretrained:
    """What `EnergySolver` has of its methods for saving, loading and sharing: folders, shipped names and the hub.

    A folder holds ``model.safetensors``, ``config.json`` with a checksum of the weights, and ``README.md``, a model
    card made from the configuration. Nothing is ever unpickled, and no code is stored or loaded.
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

        Each file appears whole or not at all. A model card that somebody has written or edited stays as it is.

        Args:
            path: the folder, made if need be.
            training: how the energy was trained and evaluated, JSON-able; kept in the configuration and shown in the
                model card.
            push_to_hub: upload the folder's files as well, as `push_to_hub` does by default.
            repo_id: where to, by default the name of the folder in the user's own namespace.

        Returns:
            The address of the commit on the hub, None without ``push_to_hub``.

        Raises:
            TypeError: if a part cannot be written down, such as an initializer that is a function.
            ValueError: if ``repo_id`` is given without ``push_to_hub``.
        """
        from .files import save
        from .hub import Upload, upload

        if repo_id is not None and not push_to_hub:
            raise ValueError(f"repo_id={repo_id!r} is for a push: pass push_to_hub=True too, or leave it out.")
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
        """Save the solver into a repository on the Hugging Face hub, in one commit.

        Args:
            repo_id: such as ``"user/model"``; the repository is made if need be.
            training: as in `save_pretrained`.
            private: whether only its owners see a repository that is made; by default as the owner has set.
            token: an access token, by default that of ``hf auth login`` or of the environment variable ``HF_TOKEN``.
            branch: by default ``main``; made if need be, from ``main``.
            commit_message: the first line of the commit's message.
            create_pr: open a pull request with the commit.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            ImportError: without huggingface_hub (``pip install 'energysolve[hub]'``).
            OSError: if the hub refuses or cannot be reached.
            TypeError: if a part cannot be written down; the hub is not asked then.
            ValueError: if ``private=True`` and the repository exists and is public; nothing is sent then.
        """
        from .files import save
        from .hub import Upload, upload

        options = Upload(private, token, branch, commit_message, create_pr)
        with TemporaryDirectory() as folder:
            save(self, Path(folder), training, name=repo_id)
            return upload(Path(folder), repo_id, options)

    @classmethod
    def from_pretrained(
        cls: type[S],
        path_or_name: str | Path,
        *,
        energy: nn.Module | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> S:
        """A solver with a trained energy, ready for use: in evaluation mode, on the CPU.

        Args:
            path_or_name: a folder written by `save_pretrained`, or the name of an energy that comes with the library,
                or else the id ``"user/model"`` of a model on the Hugging Face hub.
            energy: for energies that are not the library's own, one of the right architecture, into which the weights
                are loaded.
            revision: of a model on the hub: a branch, a tag or a commit.
            cache_dir: where downloads are kept, by default where huggingface_hub keeps them.
            token: an access token for the hub, by default that of ``hf auth login`` or of ``HF_TOKEN``.
            local_files_only: do not ask the hub, use what has been downloaded before.
            force_download: download again what has been downloaded before.

        Raises:
            FileNotFoundError: if there is no such folder, name or model; the message says what was tried, and lists the
                names.
            OSError: if the hub refuses (PermissionError), cannot be reached (ConnectionError) or fails.
            ImportError: if the hub is needed, without huggingface_hub (``pip install 'energysolve[hub]'``).
            ValueError: if the files are damaged, or belong to another architecture.
        """
        from .hub import Download, load_from_anywhere

        options = Download(revision, cache_dir, token, local_files_only, force_download)
        return load_from_anywhere(cls, path_or_name, energy, options)

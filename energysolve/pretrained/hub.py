"""Saved solvers on the Hugging Face hub: loading one by its id, uploading a folder.

Downloads are checked like other folders. The library ``huggingface_hub`` is imported only when the hub is needed.
"""

import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..version import __version__
from .card import unedited
from .files import CARD, CONFIG, WEIGHTS, find, load, names, read_config, write_card

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_LOGIN = "log in with `hf auth login`, or pass token="


@dataclass(frozen=True)
class _Access:
    token: str | bool | None = field(default=None, repr=False)

    def __post_init__(self):
        # HTTP clients quote an invalid header in their errors, and with it the token.
        if isinstance(self.token, str) and not re.fullmatch(r"[!-~]+", self.token):
            raise ValueError(
                "token= is empty, or contains blanks, line ends or other characters that no access token has (it is "
                "not shown here). Pass the token alone."
            )


@dataclass(frozen=True)
class Download(_Access):
    """How to download, see `EnergySolver.from_pretrained`."""

    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False


@dataclass(frozen=True)
class Upload(_Access):
    """How to upload, see `EnergySolver.push_to_hub`."""

    private: bool | None = None
    branch: str | None = None
    commit_message: str = "Upload a solver"
    create_pr: bool = False


def is_hub_id(path_or_name: str | Path) -> bool:
    """Whether this is an id on the hub: a string like ``"user/model"``, unless a local file or folder has that path."""
    return isinstance(path_or_name, str) and bool(_ID.fullmatch(path_or_name)) and not Path(path_or_name).exists()


def locate(path_or_name: str | Path, options: Download = Download()) -> Path:
    """The folder of a saved solver: a local one, one that comes with the library, or one downloaded from the hub."""
    if is_hub_id(path_or_name):
        return download(str(path_or_name), options)
    if options.revision is not None:
        raise ValueError(
            f"revision={options.revision!r} is for models on the hub, and {str(path_or_name)!r} is a folder or a "
            "shipped name. Omit revision, or move the folder away to load the model from the hub."
        )
    return find(path_or_name)


def load_from_anywhere(cls: Any, path_or_name: str | Path, energy: Any, options: Download) -> Any:
    """Load a solver from a folder, a shipped name or an id on the hub, see `EnergySolver.from_pretrained`."""
    folder = locate(path_or_name, options)
    try:
        return load(cls, folder, energy)
    except ValueError as error:
        if not is_hub_id(path_or_name):
            raise
        raise ValueError(
            f"The model {path_or_name!r} from the hub cannot be used: {error} If only the download was damaged, "
            "force_download=True repeats it."
        ) from error


def download(repo_id: str, options: Download) -> Path:
    """Download a model, unless it is in the local cache, and return its folder there."""
    tried = (
        f"Cannot load {repo_id!r}: there is no folder {repo_id}, it is not one of the names that come with the library "
        f"({', '.join(names()) or 'none'}), and "
    )
    library = _library(f"{tried}looking for it on the Hugging Face hub")
    with _explaining(tried, options.local_files_only):
        folder = library.snapshot_download(
            repo_id,
            **vars(options),
            allow_patterns=[CONFIG, WEIGHTS],
            library_name="energysolve",
            library_version=__version__,
        )
    if not (Path(folder) / CONFIG).is_file():
        raise FileNotFoundError(f"{tried}the model of that id on the hub holds no {CONFIG}, so it is no saved solver.")
    return Path(folder)


def upload(folder: Path, repo_id: str, options: Upload) -> str:
    """Commit a saved solver to a repository, but for its card if that on the hub was edited; returns the URL."""
    failed = f"Cannot push to {repo_id!r}: "
    library = _library(f"{failed}the Hugging Face hub")
    api = library.HfApi(token=options.token, library_name="energysolve", library_version=__version__)
    with _explaining(failed):
        repo_id = api.create_repo(repo_id, private=options.private, exist_ok=True).repo_id
        public = bool(options.private) and not api.model_info(repo_id).private
    if public:
        advice = "Make it private on its page, or choose another id."
        raise ValueError(f"{failed}private=True, but it exists and is public. {advice}")
    write_card(folder, read_config(folder), repo_id)
    with _explaining(failed):
        if options.branch is not None and not options.create_pr:
            api.create_branch(repo_id, branch=options.branch, exist_ok=True)
        ours, theirs = (folder / CARD).read_text(encoding="utf-8"), _card_on_hub(api, repo_id, options.branch)
        keep = unedited(ours) and theirs is not None and not unedited(theirs)
        sent = (CONFIG, WEIGHTS) if keep else (CONFIG, WEIGHTS, CARD)
        # One commit, which upload_folder does not guarantee: the weights and configuration of a revision match.
        commit = api.create_commit(
            repo_id,
            [library.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in sent],
            commit_message=options.commit_message,
            revision=options.branch,
            create_pr=options.create_pr,
        )
        return str(commit.pr_url or commit.commit_url)


def _card_on_hub(api: Any, repo_id: str, revision: str | None) -> str | None:
    if not api.file_exists(repo_id, CARD, revision=revision):
        return None
    with TemporaryDirectory() as cache:
        path = Path(api.hf_hub_download(repo_id, CARD, revision=revision, cache_dir=cache))
        return path.read_text(encoding="utf-8", errors="replace")


def _library(purpose: str) -> types.ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        how = "pip install 'energysolve[hub]'"
        raise ImportError(f"{purpose} needs huggingface_hub, which cannot be imported: {how}") from error
    return huggingface_hub


@contextmanager
def _explaining(failed: str, local_only: bool = False) -> Iterator[None]:
    """Convert the errors of huggingface_hub and of its HTTP client to an OSError that says what to do."""
    try:
        yield
    except Exception as error:
        kind, reason = _reason(error, local_only)
        raise kind(f"{failed}{reason}") from error


def _reason(error: Exception, local_only: bool) -> tuple[type[OSError], str]:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the hub was reached
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if isinstance(error, errors.GatedRepoError):
        return PermissionError, f"it is gated: request access by accepting the terms on its page, and {_LOGIN}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError, f"the hub has no model of that id, or the model is private: in that case {_LOGIN}."
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError, "the model on the hub has no such revision: check the name of the branch."
    if isinstance(error, errors.HFValidationError):
        return FileNotFoundError, f"the hub does not allow such an id ({said})."
    if isinstance(error, errors.LocalEntryNotFoundError) and local_only:
        return FileNotFoundError, "it is not in the local cache. Omit local_files_only=True to download it."
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return ConnectionError, f"the hub cannot be reached ({said})."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return PermissionError, f"the hub does not permit it ({said}): {_LOGIN} one with the necessary rights."
    return OSError, f"the request to the hub failed ({said})."

"""Adapters on the Hugging Face hub: taken from it by name, and put there. Only JSON and safetensors are fetched."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hylorada.card import CARD_FILE, is_own_card
from hylorada.checkpoint import CONFIG_FILE, TENSOR_FILE
from hylorada.errors import HyLoRADAError, shown

COMMIT = (
    *("commit_message", "commit_description", "create_pr", "delete_patterns", "parent_commit", "revision"),
    "token",
)
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def adapter_folder(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the folder that an adapter is read from: the one given, or the copy of a repository of the hub.

    revision: the branch, tag or commit of the repository.

    Raises:
        HyLoRADAError: there is neither folder nor repository, it is no adapter, or a folder has no revision.
    """
    folder = Path(source).expanduser()
    if not isinstance(source, str) or os.path.exists(folder):  # False too for what no path can be
        if revision is not None:
            raise HyLoRADAError(f"revision={revision!r} is of the hub, and {source} is a folder; leave it out.")
        return folder
    if not HUB_NAME.fullmatch(source):
        raise HyLoRADAError(
            f"there is no folder {shown(source)}; give one that save_pretrained wrote, or the OWNER/NAME of one on the "
            "hub."
        )
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(source, revision=revision, allow_patterns=[CONFIG_FILE, TENSOR_FILE])
    except Exception as error:  # the hub's errors share no class, and their texts hold addresses
        raise HyLoRADAError(
            f"there is no folder {shown(source)}, and the hub gave no such repository ({type(error).__name__}); check "
            "the name, the revision and the network."
        ) from error
    if not (Path(found) / CONFIG_FILE).is_file():
        raise HyLoRADAError(f"{source!r} on the hub holds no {CONFIG_FILE}; PEFT's adapters are read by import_peft.")
    return Path(found)


def push_adapter(write: Callable[[Path], Any], repository: str, private: bool | None, **commit: Any) -> str:
    """Put an adapter into a repository of the hub, which is made where there is none; return the address of the commit.

    write: writes the adapter to a folder. A card in the repository that was not written here stays. commit: those of
    `huggingface_hub.HfApi.upload_folder` that COMMIT names; `token` is for an account other than that of this machine.

    Raises:
        HyLoRADAError: as `write`, the name is none of the hub, or the hub refuses or does not answer.
    """
    if not isinstance(repository, str) or not HUB_NAME.fullmatch(repository):
        raise HyLoRADAError(f"{repository!r} is no name of a repository; give OWNER/NAME.")
    from huggingface_hub import HfApi

    with TemporaryDirectory() as place:
        folder = Path(place) / "adapter"
        write(folder)
        try:
            api = HfApi(token=commit.pop("token", None))
            api.create_repo(repository, private=private, exist_ok=True)
            kept = [CARD_FILE] if _has_card_of_its_own(api, repository, commit.get("revision"), Path(place)) else None
            told = api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=kept, **commit)
        except Exception as error:  # as above
            raise HyLoRADAError(
                f"{repository} could not be written on the hub ({type(error).__name__}); check the name, the network, "
                "and that this account may write there."
            ) from error
    return str(getattr(told, "commit_url", told))


def _has_card_of_its_own(api: Any, repository: str, revision: str | None, place: Path) -> bool:
    if not api.file_exists(repository, CARD_FILE, revision=revision):
        return False
    return not is_own_card(Path(api.hf_hub_download(repository, CARD_FILE, revision=revision, local_dir=place / "old")))

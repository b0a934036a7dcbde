"""Models by name: a folder of this machine, or an id on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from critic_jax.checkpoints.publish import standing
from critic_jax.errors import InputError

# Everything of a model's repository but pickled weights, logs and pictures.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")


def model_name(model: str | os.PathLike[str]) -> str:
    """The last part of a folder or hub id, without a revision: what results call the model."""
    found = _HUB_ID.fullmatch(str(model))
    if found and not Path(model).exists():
        return found[1].split("/")[1]
    return Path(model).absolute().name


def local_folder(model: str | os.PathLike[str]) -> Path:
    """The folder of a model; of a hub id (`org/name` or `org/name@revision`), its local copy.

    What is on this machine is taken as it is; a hub id is downloaded into the hub's own cache, or
    found there. Raises InputError for what is neither, or cannot be had.
    """
    path = Path(model)
    found = _HUB_ID.fullmatch(str(model))
    if found is None or standing(path).exists():
        return path.absolute()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = found[1], found[2]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except GatedRepoError:
        said = "asks for access: accept its terms on the hub, then log in (HF_TOKEN)"
    except RevisionNotFoundError:
        said = f"has no revision {revision!r} on the hub"
    except RepositoryNotFoundError:
        said = "is no folder here, and the hub has no such model (or it is private: set HF_TOKEN)"
    except LocalEntryNotFoundError:
        said = "is no folder here, and the hub cannot be reached"
    except (HfHubHTTPError, OSError) as e:
        said = f"cannot be downloaded ({(str(e).splitlines() or [type(e).__name__])[0]})"
    raise InputError(f"{model}: {said}")

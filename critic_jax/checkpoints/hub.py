"""Models by name: a folder of this machine, a URL, or an id on the Hugging Face hub."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from critic_jax.checkpoints.publish import standing
from critic_jax.errors import InputError
from critic_jax.remote import fetched, url_of

# Everything of a model's repository but pickled weights, logs and pictures; and nothing below its
# top folder, where some keep the steps of a training run, or other formats of the same weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
_UNWANTED = "*/*"
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")


def model_name(model: str | os.PathLike[str]) -> str:
    """The last part of a folder or hub id, without a revision: what results call the model."""
    found = _HUB_ID.fullmatch(str(model))
    if found and not Path(model).exists():
        return found[1].split("/")[1]
    return Path(model).absolute().name


def local_folder(model: str | os.PathLike[str]) -> Path:
    """The folder of a model; of a URL such as gs://bucket/critic, or of a hub id (`org/name` or
    `org/name@revision`), its local copy.

    What is on this machine is taken as it is; a hub id is downloaded into the hub's own cache, or
    found there. Raises InputError for what is none of them, or cannot be had.
    """
    if url_of(model) is not None:
        return fetched(model)
    path = Path(model)
    found = _HUB_ID.fullmatch(str(model))
    if found is None or standing(path).exists():
        return path.absolute()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision = found[1], found[2]
    try:
        with _quiet_client():
            return Path(
                snapshot_download(
                    name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
                )
            )
    except GatedRepoError:
        said = "asks for access: accept its terms on the hub, then log in (HF_TOKEN)"
    except RevisionNotFoundError:
        said = f"has no revision {revision or 'main'!r} on the hub"
    except RepositoryNotFoundError:
        said = "is no folder here, and the hub has no such model (or it is private: set HF_TOKEN)"
    except LocalEntryNotFoundError as e:
        cause = _first_line(e.__cause__ or e)
        said = f"is no folder here, and the hub cannot be reached for all of it ({cause})"
    except HFValidationError:
        said = "is no folder here, and no name that a model on the hub can have"
    except Exception as e:  # what breaks underway is of an HTTP library that releases change
        said = f"cannot be downloaded ({_first_line(e)}); files that came whole are kept"
    raise InputError(f"{model}: {said}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Bars on a terminal only, and no warning at every retry: what they come to is told once."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level = logging.get_verbosity()
    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    logging.set_verbosity_error()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if hide:
            enable_progress_bars()

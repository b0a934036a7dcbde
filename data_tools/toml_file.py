"""Files in TOML, read with errors of one line."""

import tomllib
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """The document. Raises InputError for a file that is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML ({error})") from None

"""What several tests of imports share."""

import hashlib
from pathlib import Path
from typing import Any

from critic_data.importing.run import Import


def small_import(sources: tuple[Path, ...], output: Path, **options: Any) -> Import:
    """An import in shards so small that there are several."""
    return Import(sources, output, picture_shard=1 << 20, record_shard=50_000, **options)


def digest(folder: Path) -> dict[str, str]:
    """A hash of every file of an import but its summary, which tells how long it took."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "import.json"
    }

"""The lines that a run writes, without what a clock decides."""

import json
from pathlib import Path
from typing import Any

CLOCK = ("seconds", "tokens_per_second", "useful_tokens_per_second", "mfu", "goodput")


def metrics(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]

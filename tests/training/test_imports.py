"""Training on imports: as on the file itself, with validation, in worker processes, resumed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from run_lines import metrics

from critic_data.importing.run import Import, import_records
from critic_jax.cli import main
from critic_jax.data.selection import Part
from critic_jax.errors import InputError
from critic_jax.sharding import MESH_AXES, ROWS
from critic_jax.training import objective, validation
from critic_jax.training.config import TrainConfig, load_config
from critic_jax.training.inputs import host_rows
from critic_jax.training.loop import train
from critic_jax.training.sft import make_loss, make_step

Data = Callable[..., Path]


@pytest.fixture(autouse=True)
def _compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs are of one model; only what they read differs."""
    monkeypatch.setattr(objective, "make_step", lambda *_: _kept("step", make_step, *_))
    monkeypatch.setattr(validation, "make_loss", lambda *_: _kept("loss", make_loss, *_))


_functions: dict[str, Any] = {}


def _kept(name: str, make: Any, *arguments: Any) -> Any:
    return _functions.setdefault(name, make(*arguments))


def import_of(source: Path, start: Path) -> Path:
    output = source.with_name("import")
    import_records(Import((source,), output, tokenizer=start))
    return output


@pytest.fixture
def imported(data: Data, start: Path) -> Path:
    return import_of(data(), start)


def test_an_import_trains_with_validation_and_workers(
    data: Data, start: Path, config_file: Path, tmp_path: Path
) -> None:
    # Soon learned: the second answer is better, whatever the picture.
    question = {"from": "human", "value": "<image>\nWhich is better?"}
    turns = [question, {"from": "gpt", "value": "The better response: [2]"}]
    asked = {n: {"image": f"{n}.png", "conversations": turns} for n in range(12)}
    imported = import_of(data(asked), start)
    words = ["train", str(config_file), "--data", str(imported), "--validation", "0.3"]
    words += ["--epochs", "2", "--save-every", "4"]
    more = {"threads": ["--validation-judged", "2"], "workers": ["--loader-workers", "1"]}
    for name in more:
        assert main([*words, *more[name], "--output", str(tmp_path / name)]) == 0
    lines, others = (metrics(tmp_path / name) for name in more)
    judged = ("validation_agreement", "validation_unparsed")
    assert others == [{k: v for k, v in line.items() if k not in judged} for line in lines]
    plan = json.loads((tmp_path / "threads" / "plan.json").read_text())
    assert plan["steps"] == len(lines) // 2
    assert 2 * plan["records"] == sum(n["records"] for n in lines)
    assert 12 - plan["records"] > 0
    saved = [line["step"] for line in lines if "validation_loss" in line]
    assert saved == sorted({*range(4, len(lines), 4), len(lines)})
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
    assert all(np.isfinite(losses)) and losses[-1] < 0.5 * losses[0]
    agreed = [line["validation_agreement"] for line in lines if "validation_loss" in line]
    assert agreed[0] == 0 and agreed[-1] == 1 and lines[-1]["validation_unparsed"] == 0


def test_parts_are_mixed_in_a_config(
    imported: Path, start: Path, config_file: Path, tmp_path: Path
) -> None:
    text = config_file.read_text().replace(
        'data="set on the command line"',
        f'data="", parts=(Part({str(imported)!r}, sample=4), Part({str(imported)!r}, weight=2))',
    )
    file = tmp_path / "mixed.py"
    file.write_text("from critic_jax.data.selection import Part\n" + text)
    config = load_config(str(file), ["--output", str(tmp_path / "run")])
    assert config.parts == (Part(str(imported), sample=4), Part(str(imported), weight=2))
    train(config)
    assert sum(line["records"] for line in metrics(tmp_path / "run")) == 4 + 24


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": (Part("x"),)}, "give either data or parts"),
        ({"data": ""}, "give either data or parts"),
        ({"validation": 1e-9}, "holds out 0 of 12 records"),
        ({"row_tokens": 40}, "of 12 records are larger than a row of 40 tokens"),
    ],
)
def test_wrong_ways(
    change: dict[str, Any], said: str, imported: Path, start: Path, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {
        "init": str(start),
        "data": str(imported),
        "output": str(tmp_path / "run"),
        "global_batch": 2,
        "rows": 2,
        "row_tokens": 128,
        "row_tiles": 4,
    }
    with pytest.raises(InputError, match=said):
        train(TrainConfig(**fields | change))


def test_plain_order_shares_nothing(imported: Path, config_file: Path, tmp_path: Path) -> None:
    words = ["train", str(config_file), "--data", str(imported), "--output", str(tmp_path / "run")]
    assert main([*words, "--share-trunks", "False"]) == 0
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["trees"] == 12


def test_a_hosts_rows_are_those_of_its_devices() -> None:
    program = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding
from critic_jax.sharding import MESH_AXES, ROWS
from critic_jax.training import objective
from critic_jax.training.inputs import host_rows
devices = np.asarray(jax.devices()).reshape(2, 2, 1)
print(*host_rows(NamedSharding(Mesh(devices, MESH_AXES), ROWS), 8))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "8"]
    mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), MESH_AXES)
    assert host_rows(NamedSharding(mesh, ROWS), 3) == (0, 3)
    assert PartitionSpec(("data", "fsdp")) == ROWS

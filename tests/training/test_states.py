"""Saved states: what is kept, and what becomes of damaged ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critic_jax.errors import InputError
from critic_jax.training.states import METADATA, States


def a_state(step: int) -> dict[str, Any]:
    key = jax.random.key(step)
    return {
        "params": {"a": jax.random.normal(key, (300, 40)), "b": jnp.arange(7, dtype=jnp.bfloat16)},
        "opt_state": ((), (jax.random.normal(key, (300, 40)) ** 2,)),
        "step": jnp.int32(step),
    }


def shaped(state: dict[str, Any]) -> dict[str, Any]:
    return jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding), state
    )


def saved(folder: Path, keep: int = 2) -> None:
    with States(folder, keep) as states:
        for step in (2, 4, 6):
            states.save(step, a_state(step), {"seed": 5})


def test_a_state_is_as_it_was_though_its_memory_is_used_again(tmp_path: Path) -> None:
    spoil = jax.jit(lambda s: jax.tree.map(lambda v: v * 0, s), donate_argnums=0)
    state = {"params": jax.random.normal(jax.random.key(0), (2000, 500))}
    expected = np.array(state["params"])
    with States(tmp_path / "state", 1) as states:
        states.save(1, state, {})
        for _ in range(5):
            state = spoil(state)
    found = States(tmp_path / "state", 1).load(shaped(state))
    assert found is not None
    np.testing.assert_array_equal(found.state["params"], expected)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_are_kept_with_their_notes(keep: int, tmp_path: Path) -> None:
    saved(tmp_path / "state", keep)
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["2", "4", "6"][-keep:]
    states = States(tmp_path / "state", keep)
    found = states.load(shaped(a_state(0)))
    assert found is not None and states.newest == 6
    assert found.notes["seed"] == 5
    jax.tree.map(np.testing.assert_array_equal, found.state, a_state(6))


def overwrite(file: Path) -> None:
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def data_file(step: Path) -> Path:
    """The largest file of a state."""
    return max((p for p in step.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "data truncated": lambda step: truncate(data_file(step)),
    "data overwritten": lambda step: overwrite(data_file(step)),
    "data gone": lambda step: data_file(step).unlink(),
    "manifest truncated": lambda step: truncate(step / "state" / "manifest.ocdbt"),
    "manifest gone": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "notes truncated": lambda step: truncate(step / METADATA),
    "notes gone": lambda step: (step / METADATA).unlink(),
    "all gone": lambda step: [shutil.rmtree(step), step.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state_is_kept_aside(damage: str, tmp_path: Path, capfd: Any) -> None:
    saved(tmp_path / "state")
    DAMAGES[damage](tmp_path / "state" / "6")
    kept = sorted(p.name for p in (tmp_path / "state" / "6").rglob("*"))
    with States(tmp_path / "state", 2) as states:
        found = states.load(shaped(a_state(0)))
        assert found is not None and states.newest == 4
        jax.tree.map(np.testing.assert_array_equal, found.state, a_state(4))
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        place, aside = tmp_path / "state" / "6", tmp_path / "damaged" / "state-6"
        assert said.startswith(f"critic-jax: warning: {place}: damaged (")
        assert said.endswith(f"; moved to {aside}, the one before it is used\n")
        assert sorted(p.name for p in aside.rglob("*")) == kept
        # The step can be saved again, and damaged again.
        states.save(6, a_state(6), {})
    DAMAGES[damage](place)
    assert States(tmp_path / "state", 2).load(shaped(a_state(0))) is not None
    assert set_aside(tmp_path) == ["state-6", "state-6-2"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_older_state_stands_in_nobodys_way(damage: str, tmp_path: Path) -> None:
    saved(tmp_path / "state")
    DAMAGES[damage](tmp_path / "state" / "4")
    with States(tmp_path / "state", 2) as states:
        assert states.load(shaped(a_state(0))) is not None and states.newest == 6
        states.save(8, a_state(8), {})
        states.save(9, a_state(9), {})
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["8", "9"]


def test_what_a_kill_left_half_removed_goes_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path / "state")
    (tmp_path / "state" / "4" / METADATA).unlink()
    with States(tmp_path / "state", 3) as states:
        assert states.load(shaped(a_state(0))) is not None and states.newest == 6
        states.save(8, a_state(8), {})
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["6", "8"]
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == []


def test_without_a_sound_state_there_is_none(tmp_path: Path, capfd: Any) -> None:
    assert States(tmp_path / "state", 2).load(shaped(a_state(0))) is None
    saved(tmp_path / "state")
    for step in (4, 6):
        truncate(data_file(tmp_path / "state" / str(step)))
    assert States(tmp_path / "state", 2).load(shaped(a_state(0))) is None
    assert capfd.readouterr().err.count("\n") == 2
    assert set_aside(tmp_path) == ["state-4", "state-6"]


def set_aside(run: Path) -> list[str]:
    """The folders of the states, each with a note beside it of what was wrong."""
    folders = [path for path in (run / "damaged").iterdir() if path.is_dir()]
    assert all(path.with_name(f"{path.name}.txt").read_text().strip() for path in folders)
    return sorted(path.name for path in folders)


def test_a_state_of_another_model_is_not_damaged(tmp_path: Path) -> None:
    saved(tmp_path / "state")
    other = shaped(a_state(0))
    other["params"]["a"] = jax.ShapeDtypeStruct(
        (300, 41), jnp.float32, sharding=other["params"]["a"].sharding
    )
    with pytest.raises(InputError, match=r"array params.a is float32\[300, 40\], not .*300, 41"):
        States(tmp_path / "state", 2).load(other)
    assert not (tmp_path / "damaged").exists()

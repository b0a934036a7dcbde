"""Data, models and compiled programs at gs://, in a store that speaks Cloud Storage's interface."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bucket import bucket
from run_lines import metrics
from train_command import begin, end

from critic_jax.remote import sent

IMPORT = "import sys; from critic_data.cli import main; sys.exit(main())"


@pytest.mark.slow
def test_a_run_reads_its_data_and_keeps_its_programs_in_a_bucket(
    config_file: Path,
    data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://my-critic/compiled")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_RAISE_PERSISTENT_CACHE_ERRORS", "true")
    with bucket(tmp_path / "cache", monkeypatch) as store:
        words = [sys.executable, "-c", IMPORT, "import", data(), "--output", "gs://my-critic/set"]
        subprocess.run(words, check=True, timeout=240)
        for name in ("first", "again"):
            output = tmp_path / name
            code, said = end(begin(config_file, "--data", "gs://my-critic/set", "--output", output))
            assert code == 0, said
            assert [line["step"] for line in metrics(output)] == list(range(1, 7))
            if name == "first":
                compiled = store.names("compiled/")
        assert {"set/import.json"} <= set(store.names("set/"))
        # The second run found every program of the first one.
        assert compiled and store.names("compiled/") == compiled
        # What was trained starts another run from there, with the same numbers as from its folder.
        sent(tmp_path / "first" / "critic", "gs://my-critic/critic")
        found = []
        for init in ("gs://my-critic/critic", tmp_path / "first" / "critic"):
            output = tmp_path / f"from {len(found)}"
            words = [config_file, "--data", data(), "--init", init, "--output", output]
            code, said = end(begin(*words))
            assert code == 0, said
            found.append([line["loss"] for line in metrics(output)])
        assert found[0] == found[1]

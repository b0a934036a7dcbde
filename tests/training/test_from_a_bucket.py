"""Data, models and compiled programs at gs://, in a store that speaks Cloud Storage's interface."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server
from pod_gcloud import free_port
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
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="my-critic")
    server.start()
    for name, value in {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "CRITIC_JAX_CACHE": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_DIR": "gs://my-critic/compiled",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_RAISE_PERSISTENT_CACHE_ERRORS": "true",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }.items():
        monkeypatch.setenv(name, value)
    try:
        words = [sys.executable, "-c", IMPORT, "import", data(), "--output", "gs://my-critic/set"]
        subprocess.run(words, check=True, timeout=240)
        for name in ("first", "again"):
            output = tmp_path / name
            code, said = end(begin(config_file, "--data", "gs://my-critic/set", "--output", output))
            assert code == 0, said
            assert [line["step"] for line in metrics(output)] == list(range(1, 7))
            if name == "first":
                compiled = in_bucket(port, "compiled/")
        assert {"set/import.json"} <= set(in_bucket(port, "set/"))
        # The second run found every program of the first one.
        assert compiled and in_bucket(port, "compiled/") == compiled
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
    finally:
        server.stop()


def in_bucket(port: int, folder: str) -> list[str]:
    """Names of the objects; those that note when a program was last used are left out."""
    url = f"http://127.0.0.1:{port}/storage/v1/b/my-critic/o?prefix={folder}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer).get("items", [])
    return sorted(item["name"] for item in found if not item["name"].endswith("-atime"))

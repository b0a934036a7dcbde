"""Runs whose states and model stand at gs://, killed and gone on with by another machine."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from bucket import Bucket, bucket
from pod_gcloud import free_port
from run_lines import metrics
from train_command import begin, end, wait_for_step

from critic_jax.checkpoints import load_checkpoint
from critic_jax.remote import brought, cache_folder

URL = "gs://my-critic/runs/tiny"


def states(store: Bucket) -> list[int]:
    """Steps whose states are whole."""
    marks = (name.split("/") for name in store.names("runs/tiny/state/"))
    return sorted(int(mark[3]) for mark in marks if mark[4:] == ["commit_success.txt"])


def words(config_file: Path, data: Path, output: str | Path) -> list[str]:
    more = ["--epochs", "3", "--save-every", "3", "--output", str(output)]
    return [str(config_file), "--data", str(data), *more]


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_machine_from_what_the_bucket_has(
    config_file: Path,
    data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = data()
    assert end(begin(*words(config_file, records, tmp_path / "here")))[0] == 0
    with bucket(tmp_path / "one", monkeypatch) as store:
        process = begin(*words(config_file, records, URL))
        wait_for_step(cache_folder(URL), 10, process)
        process.send_signal(signal.SIGKILL)
        assert end(process)[0] == -signal.SIGKILL
        *_, before, newest = states(store)
        damage(store, newest)
        monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "another"))
        code, said = end(begin(*words(config_file, records, URL)))
        assert code == 0, said
        assert f"{URL}/state/{newest}: damaged" in said
        assert f"moved to {URL}/damaged/state-{newest}" in said
        assert any(f"/damaged/state-{newest}/" in name for name in store.names("runs/tiny/"))
        assert states(store) == [15, 18] and before < newest < 15
        # Every line is there, whichever machine wrote it, and a third one finds the same model.
        monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "third"))
        brought(URL, tmp_path / "another", ["metrics.jsonl"])
        assert metrics(tmp_path / "another") == metrics(tmp_path / "here")
        assert any("/tensorboard/" in name for name in store.names("runs/tiny/"))
        assert (
            load_checkpoint(f"{URL}/critic").weights
            == load_checkpoint(tmp_path / "here" / "critic").weights
        )
        # The run that is done trains nothing more; what the machine has of another is not sent.
        stray = tmp_path / "another" / cache_folder(URL).relative_to(tmp_path / "third") / "stray"
        stray.write_text("from before")
        monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "another"))
        code, said = end(begin(*words(config_file, records, URL)))
        assert code == 0, said
        assert states(store) == [15, 18] and "runs/tiny/stray" not in store.names("runs/tiny/")


def damage(store: Bucket, step: int) -> None:
    """Lose an object of a state."""
    held = [name for name in store.names(f"runs/tiny/state/{step}/state/") if "/d/" in name]
    store.remove(held[-1])


@pytest.mark.slow
def test_adapters_and_the_model_they_make_are_sent(
    config_file: Path,
    data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records, lora = data(), ("--adapters", "lora", "--lora-rank", "4")
    assert end(begin(*words(config_file, records, tmp_path / "here"), *lora))[0] == 0
    with bucket(tmp_path / "one", monkeypatch) as store:
        code, said = end(begin(*words(config_file, records, URL), *lora))
        assert code == 0, said
        names = store.names("runs/tiny/")
        assert {"runs/tiny/adapters/adapter_config.json", "runs/tiny/critic/critic.json"} <= set(
            names
        )
        found = load_checkpoint(f"{URL}/critic")
        assert found.weights == load_checkpoint(tmp_path / "here" / "critic").weights


@pytest.mark.slow
def test_two_machines_without_a_common_disk_share_a_run(
    config_file: Path,
    data: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = data()

    def together(output: str | Path) -> None:
        hosts, port = [], free_port()
        for process in ("0", "1"):
            monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / f"machine {process}"))
            more = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", process]
            hosts.append(begin(*words(config_file, records, output), *more))
        assert [end(host)[0] for host in hosts] == [0, 0]

    with bucket(tmp_path / "third", monkeypatch) as store:
        together(tmp_path / "here")
        together(URL)
        assert states(store) == [15, 18]
        monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "third"))
        found = load_checkpoint(f"{URL}/critic")
        assert found.weights == load_checkpoint(tmp_path / "here" / "critic").weights
        brought(URL, tmp_path / "third", ["metrics.jsonl"])
        assert metrics(tmp_path / "third") == metrics(tmp_path / "here")

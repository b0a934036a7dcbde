"""An import that is killed, or finds no room, goes on with the same command."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_tools_helpers import digest, small_import

from critic_data.importing.run import import_records

# The command with small shards, so that there is something to go on from.
PROGRAM = """
import sys
from pathlib import Path
from critic_data.importing import run
from critic_data.cli import main
import dataclasses
small = lambda job: dataclasses.replace(job, picture_shard=1 << 20, record_shard=50_000)
whole = run.import_records
run.import_records = lambda job: whole(small(job))
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return [sys.executable, str(program), "import"]


def kill_and_go_on(command: list[str], imported: Path, output: Path, times: list[float]) -> None:
    """Kill the import after each of `times` seconds, then let it finish."""
    for seconds in times:
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)  # the workers must notice by themselves
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert digest(output) == digest(imported)
    time.sleep(0.5)
    assert not list(output.rglob(".*"))


def test_killed_imports_end_like_one_that_was_not(
    command: list[str], published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = [str(published), "--output", str(output), "--tokenizer", str(tokenizer_folder)]
    kill_and_go_on([*command, *words, "--workers", "2"], imported, output, [1.2, 1.8, 2.4])


def test_a_kill_at_the_very_end_leaves_nothing_behind(
    command: list[str], published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = [str(published), "--output", str(output), "--tokenizer", str(tokenizer_folder)]
    subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
    (output / ".work" / "scans").mkdir(parents=True)
    subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
    assert digest(output) == digest(imported)


@pytest.mark.slow
def test_a_storm_of_kills(
    command: list[str], published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    dice = random.Random(0)
    for trial in range(5):
        output = tmp_path / f"out{trial}"
        words = [str(published), "--output", str(output), "--tokenizer", str(tokenizer_folder)]
        times = [dice.uniform(0.5, 4) for _ in range(4)]
        kill_and_go_on([*command, *words, "--workers", "2"], imported, output, times)


@pytest.mark.parametrize("limit", [30_000, 300_000])
def test_no_room(
    limit: int,
    command: list[str],
    published: Path,
    imported: Path,
    tokenizer_folder: Path,
    tmp_path: Path,
) -> None:
    """A file-size limit stands for a full disk: the same call fails, with another errno."""
    output = tmp_path / "out"
    words = [str(published), "--output", str(output), "--tokenizer", str(tokenizer_folder)]
    words = [*command, *words, "--workers", "2"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert "no room left to write (File too large); make room and run the same" in done.stderr
    assert done.stderr.count("\n") == 1 and not (output / "import.json").exists()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert digest(output) == digest(imported)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(
    command: list[str], published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        output = disk / "out"
        words = [str(published), "--output", str(output), "--tokenizer", str(tokenizer_folder)]
        words = [*command, *words, "--workers", "2"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert "no room left to write (No space left)" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        assert digest(output) == digest(imported)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_at_once_do_not_disturb_each_other(published: Path, tmp_path: Path) -> None:
    from critic_data.importing.run import _work_folder
    from critic_jax.errors import WorkError

    with (
        _work_folder(tmp_path / "out", {}),
        pytest.raises(WorkError, match="another import is writing there"),
    ):
        import_records(small_import((published,), tmp_path / "out"))


def test_a_stopped_import_of_something_else_makes_way(
    published: Path, imported: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / ".work" / "scans").mkdir(parents=True)
    (output / ".work" / "scans" / "000000.jsonl").write_text("of another import")
    (output / ".work" / "job.json").write_text("{}")
    import_records(small_import((published,), output, tokenizer=tokenizer_folder))
    assert digest(output) == digest(imported)

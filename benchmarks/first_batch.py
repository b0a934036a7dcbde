"""Time to the first batch of an import as large as the published set: 112,936 records.

    python benchmarks/first_batch.py FOLDER

Makes the import in FOLDER the first time (minutes, 2 GB): 46,000 pictures, which are 64 photographs
of 336 pixels, each file told apart by a few bytes behind its end. Then, in a process of its own
each time: open the index, choose, plan an epoch and build the first batch, with a tokenizer that
the import knows.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

RECORDS, PICTURES = 112_936, 46_000


def make(folder: Path) -> None:
    import io

    from PIL import Image
    from published_set import picture_file, published_rows
    from tiny_critic import tiny_tokenizer

    from critic_data.importing.run import Import, import_records
    from critic_jax.pool import core_count

    files = []
    for number in range(64):
        image = Image.open(io.BytesIO(picture_file(number))).convert("RGB").resize((336, 336))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        files.append(file.getvalue())
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        (pictures / f"{number}.jpg").write_bytes(files[number % 64] + number.to_bytes(4))
    with (folder / "records.jsonl").open("w") as lines:
        for row in published_rows(RECORDS, PICTURES):
            image_name = f"{row.picture}.jpg"
            lines.write(json.dumps({**row.fields, "image": image_name}) + "\n")
    tiny_tokenizer().save(folder / "tokenizer")
    began = time.perf_counter()
    import_records(
        Import(
            (folder / "records.jsonl",),
            folder / "import",
            images=pictures,
            tokenizer=folder / "tokenizer",
            workers=core_count(),
        )
    )
    seconds = time.perf_counter() - began
    print(f"import: {seconds:.0f} s, {RECORDS / seconds:.0f} records a second")


def first_batch(folder: Path) -> None:
    began = time.perf_counter()
    from critic_jax.data.chosen import choose
    from critic_jax.data.corpus_rows import CorpusRows
    from critic_jax.data.encode import Encoder
    from critic_jax.data.pipeline import batches
    from critic_jax.data.plan import Budget
    from critic_jax.data.selection import Part
    from critic_jax.imaging import ImageGeometry
    from critic_jax.text import ChatTokenizer

    imported = time.perf_counter()
    tokenizer, geometry = ChatTokenizer.load(folder / "tokenizer"), ImageGeometry()
    records, _ = choose([Part(str(folder / "import"))], tokenizer, geometry, 0, 1)
    chosen = time.perf_counter()
    budget = Budget(records=32, rows=16, tokens=8192, tiles=16)
    rows = CorpusRows(records, Encoder(tokenizer, geometry), budget, 1, 0)
    planned = time.perf_counter()
    next(iter(batches(rows, len(rows) // 2)))
    done = time.perf_counter()
    print(
        f"first batch of {len(records)} records after {done - began:.1f} s: modules "
        f"{imported - began:.1f}, index {chosen - imported:.1f}, plan {planned - chosen:.1f} "
        f"({len(rows)} steps), batch {done - planned:.1f}; {time.process_time():.1f} s of one core"
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if len(sys.argv) > 2:
        first_batch(target)
    else:
        if not (target / "import" / "import.json").exists():
            make(target)
        for _ in range(3):
            subprocess.run([sys.executable, __file__, target, "again"], check=True)

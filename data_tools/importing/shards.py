"""ArrayRecord shards of a tensorflow-datasets data set, written one by one and each in one step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from critic_jax.files import told_if_full

SPLIT = "train"

RECORDS = tfds.features.FeaturesDict(
    {
        "id": tfds.features.Text(),
        "source": tfds.features.Text(),
        "config": tfds.features.Text(),
        "conversations": tfds.features.Sequence(
            {"from": tfds.features.Text(), "value": tfds.features.Text()}
        ),
        "pictures": tfds.features.Sequence(np.int64),
    }
)
"""One critic record; `pictures` are places in the data set of pictures."""

PICTURES = tfds.features.FeaturesDict(
    {"hash": tfds.features.Text(), "image": tfds.features.Scalar(np.object_)}
)
"""One picture: the SHA-256 of its file, and the file's bytes as they came."""


def shard_path(folder: Path, name: str, number: int, count: int) -> Path:
    """Where shard `number` of `count` of the data set `name` stands, as TFDS names it."""
    return folder / f"{name}-{SPLIT}.array_record-{number:05d}-of-{count:05d}"


def write_shard(
    path: Path, features: tfds.features.FeaturesDict, examples: Iterable[Mapping[str, Any]]
) -> None:
    """Write a shard beside `path` and move it there whole.

    Raises WorkError where the disk is full; an older file at `path` stays.
    """
    serializer = ExampleSerializer(features.get_serialized_info())
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with told_if_full(path.parent):
        # Pictures are compressed already, and the texts are small beside them.
        writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
        try:
            for example in examples:
                message = serializer.get_tf_example(features.encode_example(example))
                writer.write(message.SerializeToString(deterministic=True))
        finally:
            writer.close()
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


def write_metadata(
    folder: Path, name: str, features: tfds.features.FeaturesDict, lengths: list[int], about: str
) -> None:
    """Write the files by which TFDS knows the shards in `folder`; `lengths` are their examples."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=SPLIT, filetype_suffix="array_record"
    )
    shards = [shard_path(folder, name, n, len(lengths)) for n in range(len(lengths))]
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=lengths,
        num_bytes=sum(shard.stat().st_size for shard in shards),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[split],
        description=about,
        check_data=False,
    )

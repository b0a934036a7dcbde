"""Real records of one picture, for each label rule: the packed tree against each record alone."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tree_helpers import as_batch, gradients_close, packed_row, separate_rows

from critic_jax.data import Record
from critic_jax.data.encode import Encoder, LabelRule
from critic_jax.demo.digits import make_digits, picture, png
from critic_jax.imaging import ImageGeometry
from critic_jax.models.build import init_params
from critic_jax.models.config import tiny
from critic_jax.text import train_tokenizer
from critic_jax.training.sft import make_loss
from critic_jax.tree import build, common_prefix, size, token_keys

COMPILED_QUICKLY = True

RULES: tuple[LabelRule, ...] = ("answer", "upstream-sft", "upstream-dpo")
GEOMETRY = ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16), (32, 32)))

# Questions that begin alike and part, one asked three times with answers that begin alike, one
# with two rounds; an answer that is another's beginning, and a record that comes twice.
CONVERSATIONS = (
    ("Which digit is this?", "It is a 7."),
    ("Which digit is this?", "It is a 7. The bar on top says so."),
    ("Which digit is this?", "It is a 1."),
    ("Which digit is this?", "It is a 7."),
    ("Which digit is\n\nshown, and why?", "A 7.\nIts bar.", "Sure?", "Yes, a 7."),
    ("Score the answer: it is even.", "\nScore: 0"),
    ("Score the answer: it is odd.", "Score: 100"),
)

TOKENIZER = train_tokenizer([text for turns in CONVERSATIONS for text in turns], 320)
CONFIG = tiny(vocab_size=TOKENIZER.vocab_size)


def make_records() -> list[Record]:
    image = png(picture(make_digits().heldout[0]))
    records = []
    for line, turns in enumerate(CONVERSATIONS, start=1):
        said = [
            {"from": ("human", "gpt")[n % 2], "value": ("" if n else "<image>\n") + text}
            for n, text in enumerate(turns)
        ]
        place = f"train.jsonl line {line}"
        records.append(Record(f"r{line}", "", tuple(said), (image,), line, place))
    return records


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return make_records()


@pytest.fixture(scope="module")
def params() -> dict:
    return init_params(CONFIG, 2)


@cache
def value_and_grad() -> Callable[..., tuple[jax.Array, dict]]:
    return jax.jit(jax.value_and_grad(make_loss(CONFIG, jnp.dtype("float32"))))


@pytest.mark.parametrize("rule", RULES)
def test_the_tree_of_a_picture_teaches_what_its_records_teach(
    rule: LabelRule, records: list[Record], params: dict
) -> None:
    encoder = Encoder(TOKENIZER, GEOMETRY, rule)
    paths = [encoder.record(one, encoder.visuals(one)) for one in records]
    keys = token_keys(paths)
    trunk = min(common_prefix(keys[0], key) for key in keys)
    used = size(build(keys, range(len(paths))))
    assert trunk > len(paths[0].visuals[0].tap_index)
    # The picture and the words around it stand once; what parts stands no more often than alone.
    assert used < sum(map(len, paths)) - (len(paths) - 1) * (trunk - 1)
    together = packed_row(paths, [range(len(paths))], 320, 6)
    loss, ours = value_and_grad()(params, as_batch([together]))
    expected, theirs = value_and_grad()(params, as_batch(separate_rows(paths, 192, 6)))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    gradients_close(ours, theirs, 1e-5)
    # Each record weighs 1 in the loss; tokens in the trunk count for every record that learns them.
    assert together["weights"].sum() == pytest.approx(len(records), rel=1e-6)
    in_trunk = together["weights"][together["where"][0][: trunk - 1]]
    assert (in_trunk > 0).any() == (rule != "answer")


def test_the_rules_differ(records: list[Record]) -> None:
    supervised = []
    for rule in RULES:
        encoder = Encoder(TOKENIZER, GEOMETRY, rule)
        path = encoder.record(records[4], encoder.visuals(records[4]))
        supervised.append(np.flatnonzero(path.weights).tolist())
    assert len(set(map(tuple, supervised))) == 3
    assert set(supervised[0]) < set(supervised[1])

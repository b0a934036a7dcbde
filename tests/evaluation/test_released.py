"""Checking released weights, on a stand-in: a small torch model with golden values of its own."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch_peer import make_peer, peer_tokenizer, save_peer
from transformers import LlavaOnevisionImageProcessorPil

from critic_jax import cli
from critic_jax.checkpoints.blocks import parameters
from critic_jax.checkpoints.convert import convert
from critic_jax.checkpoints.hf_config import read_config
from critic_jax.data.encode import prepare_pictures, prompt_path
from critic_jax.evaluation import released
from critic_jax.evaluation.golden import Asked
from critic_jax.evaluation.published import Golden, Published, Question, Released, Size
from critic_jax.evaluation.published import load_published as load_real
from critic_jax.evaluation.released import Verification, verify

NAME = "llava-onevision-qwen2-0.5b-ov"
QUESTION = Question("radar.png", "https://example.org/radar.png", (300, 384), "What is shown?", 16)
PENALTY = 1.1
GOLDEN = ["golden logits", "golden answer"]


@dataclass
class Standin:
    """The folder of the torch model, the picture, what is "published", and the loaded model."""

    folder: Path
    picture: Path
    published: Published
    asked: Asked
    second_best: float  # how far below torch's first choice "It" and the stop token lie, at most

    def verify(self, folder: Path | None = None, **options: Any) -> Verification:
        published = options.pop("published", self.published)
        return verify(folder or self.folder, published=published, **options)

    def golden(self, **changes: Any) -> Published:
        """The published values with the golden entry of the model changed."""
        model = self.published.models["0.5b-ov"]
        assert model.golden is not None
        changed = replace(model, golden=replace(model.golden, **changes))
        return replace(self.published, models=self.published.models | {"0.5b-ov": changed})


def torch_values(folder: Path, picture: Path) -> tuple[list[list[float]], str, float]:
    """First logits and greedy answer in float32, by transformers; and the margin of "It"."""
    model, tokenizer = make_peer(tied=False), peer_tokenizer()
    image = Image.open(picture)
    visuals = prepare_pictures([image], read_config(folder)[1], "picture")
    ids = torch.from_numpy(prompt_path(QUESTION.text, visuals, tokenizer).tokens).long()[None]
    processor = LlavaOnevisionImageProcessorPil(
        image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 384, "width": 384}
    )
    inputs = dict(processor(image, return_tensors="pt"))
    other = torch.tensor([[*tokenizer.encode("It"), tokenizer.im_end]])
    assert other.shape[1] < QUESTION.max_new_tokens
    with torch.no_grad():
        first = model(input_ids=ids, **inputs).logits[0, :3, :3]
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **inputs,
            do_sample=False,
            max_new_tokens=QUESTION.max_new_tokens,
            eos_token_id=list(tokenizer.stop_ids),
            pad_token_id=0,
        )
        forced = model(input_ids=torch.cat([ids, other], 1), **inputs).logits[0, ids.shape[1] - 1 :]
    margins = forced[:-1].max(-1).values - forced[:-1].gather(1, other.T)[:, 0]
    answer = tokenizer.decode(whole[0, ids.shape[1] :].tolist()).strip()
    return first.tolist(), answer, float(margins.max())


def published_of(folder: Path, logits: list[list[float]], answer: str) -> Published:
    config = read_config(folder)[0]
    tokenizer = peer_tokenizer()
    parameters = sum(p.numel() for p in make_peer(tied=False).parameters())
    rows = config.decoder.vocab_size
    ids = (tokenizer.end_of_text, tokenizer.im_start, tokenizer.im_end, tokenizer.image)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    far = [[value + 5.0 for value in row] for row in logits]
    return Published(
        "made by this test",
        QUESTION,
        0.001,
        dict(zip(names, ids, strict=True)),
        {"lmms-lab": "float32", "llava-hf": "float16"},
        {"0.5b": Size(config, parameters, {"lmms-lab": rows, "llava-hf": rows + 64})},
        {
            "0.5b-si": Released("0.5b", None, Golden(far, "Nothing.")),
            "0.5b-ov": Released("0.5b", PENALTY, Golden(logits, answer)),
            "critic-7b": Released("0.5b", PENALTY),
        },
    )


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Standin:
    folder = save_peer(make_peer(tied=False), tmp_path_factory.mktemp("hub") / "lmms-lab" / NAME)
    peer_tokenizer().save(folder)
    settings = {"repetition_penalty": PENALTY, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    picture = folder.parent / "radar.png"
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((300, 384), Image.Resampling.BICUBIC).save(picture)
    logits, answer, margin = torch_values(folder, picture)
    published = published_of(folder, logits, answer)
    asked = released._ask(folder, Image.open(picture), published)
    return Standin(folder, picture, published, asked, margin)


@pytest.fixture
def loaded(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """The stand-in, with the model that `verify` loaded once, not loaded and compiled anew."""
    monkeypatch.setattr(released, "_ask", lambda *_: standin.asked)
    return standin


@pytest.fixture
def copy(standin: Standin, tmp_path: Path) -> Path:
    """A folder of the same name to spoil."""
    folder = tmp_path / "lmms-lab" / NAME
    folder.mkdir(parents=True)
    for file in standin.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def row(found: Verification, name: str) -> released.Check:
    (check,) = [c for c in found.checks if c.name == name]
    return check


def test_the_same_model_differs_in_nothing(loaded: Standin) -> None:
    found = loaded.verify(image=loaded.picture)
    assert {c.name: c.state for c in found.checks} == dict.fromkeys(
        [
            *("size", "sizes", "tower layers", "tied embeddings", "vocabulary rows"),
            *(f"parameters, {part}" for part in ("decoder", "tower", "projector", "newline")),
            *("parameters", "dtype", "key layout", "finite weights", "control tokens"),
            *("repetition penalty", *GOLDEN),
        ],
        "ok",
    )
    assert (found.model, found.family, found.differing) == ("0.5b-ov", "lmms-lab", [])
    assert "inferred" in row(found, "repetition penalty").why
    golden = loaded.published.models["0.5b-ov"].golden
    assert golden is not None and row(found, "golden answer").found == golden.answer
    np.testing.assert_allclose(row(found, "golden logits").found, golden.logits, atol=1e-4)
    assert "nearest" not in row(found, "golden logits").why


def test_without_the_picture_the_model_is_not_loaded(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "load_checkpoint", None)
    found = standin.verify()
    assert [c.name for c in found.checks if c.state == "not checked"] == GOLDEN
    assert "--image FILE" in row(found, "golden logits").line()


def test_a_converted_checkpoint_is_held_against_the_same(standin: Standin, tmp_path: Path) -> None:
    convert(str(standin.folder), tmp_path / "mine")
    found = standin.verify(tmp_path / "mine")
    assert (found.model, found.differing) == ("0.5b-ov", [])
    assert row(found, "key layout").found == "hf-old-bare-tower"


def with_decoder(published: Published, **changes: Any) -> Published:
    size = published.sizes["0.5b"]
    decoder = replace(size.config.decoder, **changes)
    config = replace(size.config, decoder=decoder)
    return replace(published, sizes={"0.5b": replace(size, config=config)})


def with_rows(published: Published) -> Published:
    """Of 12 rows more than the checkpoint has; embedding and head are 64 wide."""
    size = with_decoder(published, vocab_size=512).sizes["0.5b"]
    rows = {"lmms-lab": 512, "llava-hf": 576}
    size = replace(size, parameters=size.parameters + 12 * 2 * 64, rows=rows)
    return replace(published, sizes={"0.5b": size})


def with_tower(published: Published) -> Published:
    size = published.sizes["0.5b"]
    config = replace(size.config, tower=replace(size.config.tower, num_layers=3))
    return replace(published, sizes={"0.5b": replace(size, config=config)})


PUBLISHED: dict[str, tuple[Callable[[Published], Published], list[str], str]] = {
    "rows": (with_rows, ["vocabulary rows"], "found 500, expected 512"),
    "layers": (lambda p: with_decoder(p, num_layers=3), ["sizes"], "found decoder.num_layers 2, "),
    "base": (lambda p: with_decoder(p, rope_theta=1e4), ["sizes"], "decoder.rope_theta 1000000.0"),
    "tied": (lambda p: with_decoder(p, tied_embeddings=True), ["tied embeddings"], "found no, "),
    "tower": (with_tower, ["tower layers"], "found 2, expected 3"),
    "count": (
        lambda p: replace(p, sizes={"0.5b": replace(p.sizes["0.5b"], parameters=7)}),
        ["parameters"],
        "expected 7",
    ),
    "width": (
        lambda p: with_decoder(p, hidden_size=896),
        ["size"],
        "found 64, expected 896 (0.5b) (the decoder's width)",
    ),
    "type": (
        lambda p: replace(p, dtypes=p.dtypes | {"lmms-lab": "bfloat16"}),
        ["dtype"],
        "found float32, expected bfloat16",
    ),
    "token": (
        lambda p: replace(p, control_tokens=p.control_tokens | {"<image>": 7}),
        ["control tokens"],
        "<image> 498, expected",
    ),
}


@pytest.mark.parametrize("fault", PUBLISHED)
def test_one_difference_is_named(standin: Standin, fault: str) -> None:
    change, names, said = PUBLISHED[fault]
    found = standin.verify(published=change(standin.published))
    # What is counted from other sizes differs with them.
    assert [n for n in found.differing if n in names or "parameters" not in n] == names
    assert said in row(found, names[0]).line()


def test_a_wrong_penalty_is_named(standin: Standin, copy: Path) -> None:
    (copy / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    found = standin.verify(copy)
    assert found.differing == ["repetition penalty"]
    said = "differs: found 1.3, expected 1.1 (inferred from the length of the published file)"
    assert row(found, "repetition penalty").line() == said


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_named(standin: Standin, copy: Path, value: float) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["vision_tower.encoder.layers.1.mlp.fc2.weight"][3, 5] = value
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    found = standin.verify(copy)
    assert found.differing == ["finite weights"]
    assert row(found, "finite weights").found == "tower.layers.fc2.kernel of layer 1"


def test_one_logit_off_is_named(loaded: Standin) -> None:
    golden = loaded.published.models["0.5b-ov"].golden
    assert golden is not None
    logits = [list(values) for values in golden.logits]
    logits[1][2] += 0.01
    found = loaded.verify(image=loaded.picture, published=loaded.golden(logits=logits))
    assert found.differing == ["golden logits"]
    assert "largest difference 0.01, tolerance 0.001" in row(found, "golden logits").why


def test_the_logits_of_another_model_are_told_apart(loaded: Standin) -> None:
    found = loaded.verify(image=loaded.picture, released="0.5b-si")
    assert found.differing == GOLDEN
    assert "largest difference 5, " in row(found, "golden logits").why
    assert "nearest are 0.5b-ov's" in row(found, "golden logits").why


def test_another_text_is_named_with_where_it_parts(loaded: Standin) -> None:
    golden = loaded.published.models["0.5b-ov"].golden
    assert golden is not None
    wrong = golden.answer[:9] + ("x" if golden.answer[9] != "x" else "y") + golden.answer[10:]
    found = loaded.verify(image=loaded.picture, published=loaded.golden(answer=wrong))
    assert found.differing == ["golden answer"]
    check = row(found, "golden answer")
    assert (check.found, check.expected) == (golden.answer[9:], wrong[9:])
    assert "parts from 0.5b-ov's after 9 characters" in check.why


def test_a_text_within_rounding_is_accepted(loaded: Standin) -> None:
    """Two tokens, each chosen over by `second_best` or less, as torch has it."""
    for factor, differing in [(1.001, []), (0.999, ["golden answer"])]:
        published = replace(loaded.golden(answer="It"), tolerance=loaded.second_best / 2 * factor)
        found = loaded.verify(image=loaded.picture, published=published)
        assert found.differing == differing
        assert f"at most {loaded.second_best:.3g} below" in row(found, "golden answer").why


def test_a_logit_that_is_nan_differs(loaded: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded.asked, "first_logits", lambda *_: np.full((3, 3), np.nan))
    found = loaded.verify(image=loaded.picture)
    assert found.differing == ["golden logits"]
    assert "largest difference inf" in row(found, "golden logits").why


def test_a_model_without_a_known_name(loaded: Standin, copy: Path) -> None:
    unnamed = copy.rename(copy.with_name("weights"))
    found = loaded.verify(unnamed, image=loaded.picture)
    assert (found.model, found.family, found.differing) == (None, "lmms-lab", [])
    assert "nearest are 0.5b-ov's" in row(found, "golden logits").why
    assert row(found, "repetition penalty").state == "not checked"
    told = loaded.verify(unnamed, released="lmms-lab/" + NAME)
    assert row(told, "repetition penalty").state == "ok"


def test_of_a_critic_no_golden_values_are_published(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "load_checkpoint", None)
    found = standin.verify(image=standin.picture, released="llava-critic-7b")
    assert found.differing == []
    assert [c.name for c in found.checks if c.state == "not checked"] == GOLDEN
    assert row(found, "golden logits").line() == "not checked: none are published of critic-7b"


def test_a_port_has_no_penalty_and_more_rows(standin: Standin) -> None:
    found = standin.verify(released=f"llava-hf/{NAME}-hf")
    assert found.differing == ["vocabulary rows", "dtype", "repetition penalty"]
    assert row(found, "vocabulary rows").line() == ("differs: found 500, expected 564 (lmms-lab's)")


@pytest.fixture
def command(loaded: Standin, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`critic-jax verify` with the published values of the stand-in."""
    monkeypatch.setattr(released, "load_published", lambda: loaded.published)
    return lambda *words: cli.main(["verify", *map(str, words)])


def test_exit_codes_and_what_is_printed(
    loaded: Standin, command: Callable[..., int], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(loaded.folder, "--image", loaded.picture) == 0
    out = capsys.readouterr().out
    assert "held against" in out and "0.5b-ov, lmms-lab files\n" in out
    assert out.endswith("17 ok, 0 differ, 0 not checked\n")
    (copy / "generation_config.json").write_text("{}")
    assert command(copy, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["differing"] == ["repetition penalty"]
    fields = {f.name for f in dataclasses.fields(released.Check)}
    assert all(set(check) == fields for check in document["checks"])


def test_wrong_input_is_one_line_and_exit_code_2(
    loaded: Standin, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (384, 300)).save(tmp_path / "other.png")
    for words, said in [
        ((loaded.folder, "--image", tmp_path / "other.png"), "is 384x300 pixels; the published "),
        ((loaded.folder, "--image", tmp_path / "none.png"), "none.png"),
        ((loaded.folder, "--released", "7b-xl"), "7b-xl: no released model; these are: 0.5b-si,"),
        ((tmp_path / "none",), "no such checkpoint folder"),
    ]:
        assert command(*words) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.count("\n") == 1


REAL = load_real()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lmms-lab/llava-onevision-qwen2-7b-ov", ("7b-ov", "lmms-lab")),
        ("lmms-lab/llava-onevision-qwen2-7b-ov-chat@abc", ("7b-ov-chat", "lmms-lab")),
        ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", ("0.5b-ov", "llava-hf")),
        ("/data/lmms-lab/llava-critic-72b/", ("critic-72b", "lmms-lab")),
        ("LLaVA-Critic-7B", ("critic-7b", None)),
        ("72b-si", ("72b-si", None)),
        ("lmms-lab/llava-onevision-qwen2-7b-mid-stage-a4", None),
        ("runs/critic", None),
    ],
)
def test_names(name: str, expected: tuple[str, str | None] | None) -> None:
    assert REAL.find(name) == expected


def test_the_published_counts_are_those_of_the_presets() -> None:
    totals = {
        n: sum(released.parts_of(parameters(s.config)).values()) for n, s in REAL.sizes.items()
    }
    assert totals == {"0.5b": 893_618_208, "7b": 8_030_348_832, "72b": 73_180_522_016}
    for name, size in REAL.sizes.items():
        assert size.parameters == totals[name]
        decoder = replace(size.config.decoder, vocab_size=size.rows["llava-hf"])
        port = replace(size.config, decoder=decoder)
        assert size.count(decoder.vocab_size) == sum(released.parts_of(parameters(port)).values())
        assert size.rows["lmms-lab"] == size.config.decoder.vocab_size


def test_no_logits_fit_two_published_models() -> None:
    golden = {n: (m.size, m.golden) for n, m in REAL.models.items() if m.golden is not None}
    apart = [
        np.abs(np.subtract(a[1].logits, b[1].logits)).max()
        for n, a in golden.items()
        for m, b in golden.items()
        if n < m and a[0] == b[0]
    ]
    assert len(apart) == 1 + 3 + 3
    # 8 to 16 in float16 are 2^-7 apart: the tolerance leaves room for several roundings.
    assert 5 * 2**-7 < REAL.tolerance < min(apart) / 2

"""The console script `critic-jax`: verbs and their options, no logic.

Every verb is a dataclass of options and a function that imports what does the work and calls it,
so that `--help` costs nothing. Exit codes are those of `critic_jax.verbs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from critic_jax.alignment.verbs import ALIGNMENT
from critic_jax.console import show
from critic_jax.errors import InputError
from critic_jax.evaluation.verbs import EVALUATIONS, EvaluateOptions
from critic_jax.host_options import HostOptions
from critic_jax.verbs import Verb, dispatch, family


@dataclass(frozen=True)
class DemoOptions:
    """Learn to judge handwritten digits from scratch, judge held-out ones, write a report."""

    out: Path = Path("runs/demo")
    """Folder for the report, the checkpoint, the held-out files and summary.json."""
    seed: int = 0
    """Seed of the data, the weights and the order of training."""


def demo(options: DemoOptions) -> None:
    from critic_jax.demo.run import run_demo

    run_demo(out=options.out, seed=options.seed)


@dataclass(frozen=True)
class TrainOptions(HostOptions):
    """Train a critic as a config says; continue by itself where an earlier run was stopped.

    Words after CONFIG change the config's fields: critic-jax train CONFIG --field value.
    """

    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """Name of an experiment that comes with critic_jax, or the path of a Python file like one."""
    overrides: tyro.conf.Suppress[tuple[str, ...]] = ()


def train(options: TrainOptions) -> None:
    from critic_jax.evaluation.held_out import held_out_judge
    from critic_jax.training.config import load_config
    from critic_jax.training.loop import train as train_critic

    options.join()
    config = load_config(options.config, overrides=list(options.overrides))
    train_critic(config, judge=held_out_judge)


@dataclass(frozen=True)
class DpoOptions(TrainOptions):
    """Train a model on preference pairs as a config says; continue by itself where it was stopped.

    A line of the data is a JSON object: id, image (optional), prompt, chosen and rejected. Words
    after CONFIG change the config's fields: critic-jax dpo CONFIG --field value.
    """


def dpo(options: DpoOptions) -> None:
    from critic_jax.training.config import DpoConfig, load_config
    from critic_jax.training.loop import train as train_policy

    options.join()
    train_policy(load_config(options.config, list(options.overrides), DpoConfig))


@dataclass(frozen=True)
class JudgeOptions(HostOptions):
    """Score, compare or rank answers about pictures, whichever each line of the input asks for.

    An input line is a JSON object: id, image, question, and response (to score), response_a and
    response_b (to compare) or responses (a list to rank); optional template, reference, criteria.
    In CSV and parquet these are columns. Ids that the output already holds are not judged again.
    """

    model: str
    """Folder of a critic, as training saves it or in the Hugging Face layout; or a hub id. With
    --endpoint, the name that the endpoint knows its model by."""
    input: Path
    """JSONL, CSV (.csv) or parquet (.parquet) file to judge."""
    output: Path
    """JSONL file of judgments."""
    order: Literal["given", "both"] = "given"
    """Compare answers in the given order, or also swapped and combine both."""
    skip_bad: bool = False
    """Write wrong lines to rejected.jsonl beside the output and judge the rest."""
    limit: int | None = None
    """Judge the first LIMIT lines only."""
    repetition_penalty: float | None = None
    """Instead of the penalty that the checkpoint prescribes; 1 switches it off."""
    temperature: float | None = None
    """Sample the judge's text instead of taking the likeliest token every time."""
    seed: int | None = None
    """Seed of that sampling."""
    max_new_tokens: int | None = None
    """Cut the judge's text after this many tokens, instead of where the checkpoint says."""
    verdict_only: bool = False
    """Ask for no reason. Two scores end with their line; otherwise only a verdict is allowed."""
    probabilities: bool = False
    """Also tell what the probabilities of the verdict's tokens say: expected score, preference."""
    relative: Literal["scores", "verdict", "probability"] | None = None
    """What rewards of rankings are made of; by default scores where the template asks for two."""
    reasks: int = 0
    """Sample an answer that cannot be read anew, so often at most."""
    constrained: bool = False
    """Go on with an answer that still cannot be read, only valid tokens allowed for its verdict."""
    memory: str | None = None
    """Memory for keys and values, such as 12GB: fewer prompts and answers are worked on at a time,
    if need be. By default as much as 16,384 tokens of prompts and 32 answers take."""
    weights: Literal["full", "int8"] = "full"
    """int8 holds the model's weights in eight bits; verdicts may differ in a few places."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the computation; by default bfloat16, on a CPU float32."""
    replica_devices: int = 0
    """Devices that hold the model together; by default as few as can. Replicas share the lines."""
    cache: Path | None = None
    """Folder of earlier judgments to use and add to, instead of the one all runs share."""
    no_cache: bool = False
    """Use no earlier judgments but those of the output."""
    endpoint: str | None = None
    """URL of an OpenAI-style endpoint that judges instead; its key in OPENAI_API_KEY."""
    concurrency: int | None = None
    """Requests to the endpoint at a time (8)."""
    timeout: float | None = None
    """Seconds to wait for the endpoint (120)."""
    retries: int | None = None
    """Further tries of a request that failed for want of capacity or connection (6)."""
    request_budget: int | None = None
    """Stop after this many requests, tries included."""
    token_budget: int | None = None
    """Begin no request after this many tokens, of prompts and answers."""
    fail_under: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """METRIC=VALUE: leave with exit code 1 if the summary's metric is below. May be repeated."""
    fail_on_unparsed: float | None = None
    """Leave with exit code 1 if more than this share, from 0 to 1, held no verdict."""
    json: bool = False
    """Print the summary as one JSON document."""


def judge(options: JudgeOptions) -> None:
    from critic_jax.judging.ask import Asking
    from critic_jax.judging.batch import judge_file, judgments_folder
    from critic_jax.judging.endpoint import policy_from
    from critic_jax.judging.memory import parse_bytes
    from critic_jax.judging.summary import parse_limits

    words = options.join()
    as_json, words["devices"] = words.pop("json"), words.pop("replica_devices")
    limits = parse_limits(words.pop("fail_under"), words.pop("fail_on_unparsed"))
    asked = ("concurrency", "timeout", "retries", "request_budget", "token_budget")
    policy = policy_from(options.endpoint, **{name: words.pop(name) for name in asked})
    asking = Asking(**{field.name: words.pop(field.name) for field in fields(Asking)})
    words["memory"] = parse_bytes(words.pop("memory"))
    words["cache"] = judgments_folder(words.pop("cache"), words.pop("no_cache"))
    summary = judge_file(**words, policy=policy, asking=asking)
    if options.leads:
        show(summary, as_json=as_json)
    limits.check(summary)


@dataclass(frozen=True)
class GenerateOptions(HostOptions):
    """Answer prompts about pictures.

    An input line is a JSON object: id, image (optional) and prompt.
    """

    model: str
    """Folder of a model, as training saves it or in the Hugging Face layout; or a hub id."""
    input: Path
    """JSONL file of prompts."""
    output: Path | None = None
    """JSONL file of answers; without it they are printed, one JSON object a line."""
    n: int | None = None
    """Answers to each prompt (1)."""
    best_of: int | None = None
    """Sample this many answers, let the judge rank them, and name the best."""
    judge: str | None = None
    """The model that ranks the answers for --best-of: a folder or a hub id."""
    temperature: float | None = None
    """0 takes the likeliest token every time; 1 samples from the model as it is. By default 0, and
    0.7 with --best-of."""
    top_p: float | None = None
    """Sample among the likeliest tokens that hold this much probability together. By default 1, and
    0.9 with --best-of."""
    top_k: int = 0
    """Sample among this many likeliest tokens; 0 means all."""
    max_new_tokens: int = 256
    """Cut an answer after this many tokens."""
    seed: int = 0
    """Seed of the sampling."""
    skip_bad: bool = False
    """Write wrong lines to rejected.jsonl beside the output and answer the rest."""
    repetition_penalty: float | None = None
    """Instead of the penalty that the checkpoint prescribes; 1 switches it off."""
    memory: str | None = None
    """Memory for keys and values, such as 12GB: fewer prompts and answers are worked on at a time,
    if need be. By default as much as 16,384 tokens of prompts and 32 answers take."""
    weights: Literal["full", "int8"] = "full"
    """int8 holds the weights of the model and of the judge in eight bits."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the computation; by default bfloat16, on a CPU float32."""
    replica_devices: int = 0
    """Devices that hold a model together; by default as few as can. Replicas share the prompts."""


def generate(options: GenerateOptions) -> None:
    from critic_jax.judging.answer_file import generate_file
    from critic_jax.judging.memory import parse_bytes

    words = options.join()
    words["memory"], words["devices"] = parse_bytes(options.memory), words.pop("replica_devices")
    summary = generate_file(**words)
    if options.output is not None and options.leads:
        show(summary, as_json=False)


@dataclass(frozen=True)
class ServeOptions:
    """Answer requests as OpenAI's endpoint does, with a model of ours.

    POST /v1/chat/completions (streams too), POST /v1/judge for verdicts with types, /v1/models,
    /healthz, /readyz, /metrics, /openapi.json. If CRITIC_JAX_API_KEY is set, clients must send it.
    SIGTERM finishes what runs.
    """

    model: str
    """Folder of a critic, as training saves it or in the Hugging Face layout; or a hub id."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all of this machine's."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    batch: int = 32
    """Answers that are worked on at a time."""
    prompt_tokens: int = 16384
    """Refuse prompts of more tokens, those of pictures included."""
    new_tokens: int = 1024
    """Cut answers after this many tokens, whatever is asked for."""
    memory: str | None = None
    """Memory for keys and values, such as 12GB. By default as much as one prompt of the longest and
    all answers take."""
    weights: Literal["full", "int8"] = "full"
    """int8 holds the model's weights in eight bits; verdicts may differ in a few places."""
    picture_folders: tuple[Path, ...] = ()
    """Folders whose pictures requests may name by path or file:// URL; by default none."""
    keep_order: bool = False
    """Leave pictures where they stand in a message, not in front as the critic has learned."""
    queue: int = 256
    """Requests that may wait or run at a time; who comes then is told to come again (429)."""
    timeout: float = 600.0
    """Seconds that a request may take."""
    no_warm_up: bool = False
    """Compile when a program is first needed, instead of for every size before /readyz says ok."""


def serve(options: ServeOptions) -> None:
    from critic_jax.judging.memory import parse_bytes

    try:
        from critic_jax.serving.server import serve as serve_model
    except ModuleNotFoundError as missing:
        raise InputError(
            f"{missing.name} is not installed; the endpoint is an extra: "
            "pip install 'critic-jax[serve]'"
        ) from None

    words = dict(vars(options))
    words["memory"] = parse_bytes(words["memory"])
    serve_model(**words)


@dataclass(frozen=True)
class ReportOptions:
    """Make one self-contained HTML page of judgments, or of runs of rounds."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """Files that critic-jax judge wrote; or folders of critic-jax align, held against another."""
    output: Path
    """The page to write."""
    labels: Path | None = None
    """JSONL file of true verdicts and scores (id with verdict or score) to hold them against."""


def report(options: ReportOptions) -> None:
    if options.results and all(path.is_dir() for path in options.results):
        from critic_jax.alignment.report import write_page

        print(write_page(options.results, options.output, options.labels))
        return
    from critic_jax.evaluation.agreement import agreement_of_files
    from critic_jax.reporting.results import write_results_page

    numbers = agreement_of_files(options.results, options.labels)
    print(write_results_page(options.results, options.output, options.labels, numbers))


@dataclass(frozen=True)
class ConvertOptions:
    """Make a checkpoint of a Hugging Face model; memory stays small, whatever the model's size."""

    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Folder of safetensors files, or a hub id such as lmms-lab/llava-critic-7b (@REVISION)."""
    dst: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    """Folder of the checkpoint; one that is there is replaced when the new one is complete."""
    json: bool = False
    """Print what was read as one JSON document."""


def convert(options: ConvertOptions) -> None:
    from critic_jax.checkpoints.convert import convert as convert_model

    show(convert_model(options.src, options.dst), as_json=options.json)


@dataclass(frozen=True)
class ExportOptions:
    """Write a model as files that torch tools load."""

    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Folder of a checkpoint, ours or in the Hugging Face layout, or a hub id."""
    dst: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    """New folder for safetensors files, configs, tokenizer and model card."""
    layout: Literal["lmms-lab", "hf"]
    """As LLaVA-NeXT's code loads it, or as transformers' LlavaOnevisionForConditionalGeneration."""
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Type of the written weights; by default that of the checkpoint."""
    json: bool = False
    """Print what was written as one JSON document."""


def export(options: ExportOptions) -> None:
    from critic_jax.checkpoints.export import export as export_model

    written = export_model(options.src, options.dst, options.layout, options.dtype)
    show(written, as_json=options.json)


@dataclass(frozen=True)
class InfoOptions:
    """Tell what a model is: sizes, types, provenance, sampler settings, fingerprint."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Folder of a checkpoint, ours or in the Hugging Face layout, or a hub id."""
    json: bool = False
    """Print one JSON document."""


def info(options: InfoOptions) -> None:
    from critic_jax.checkpoints.info import describe

    show(describe(options.path), as_json=options.json)


@dataclass(frozen=True)
class VerifyOptions:
    """Hold a checkpoint of the released weights against what is published of them.

    One row a check: ok, differs (found and expected) or not checked (why). The exit code is 0 if
    nothing differs and 1 if something does.
    """

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Folder of a checkpoint, ours or in the Hugging Face layout, or a hub id."""
    image: Path | None = None
    """The picture llava_v1_5_radar.jpg: run the model, compare its first logits and its answer."""
    released: str | None = None
    """The model it should be (7b-ov, critic-7b, or a hub id), where its name does not tell."""
    json: bool = False
    """Print one JSON document."""


def verify(options: VerifyOptions) -> int:
    from critic_jax.evaluation.released import verify as verify_model

    found = verify_model(options.path, options.image, options.released)
    show(found.document() if options.json else found.lines(), as_json=options.json)
    return 1 if found.differing else 0


@dataclass(frozen=True)
class AotOptions:
    """Compile a config's steps for a slice of TPUs, on a machine without one: what they need.

    Words after CONFIG change the config's fields, as for critic-jax train. The exit code is 0 if
    all steps fit into the chips' memory and 1 if one does not.
    """

    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """Name of an experiment that comes with critic_jax, or the path of a Python file like one."""
    topology: str
    """The slice, such as v5e:4x8, v5p:4x4x4, v6e:8x8 (v4, v5e, v5p, v6e or tpu7x)."""
    model: str | None = None
    """0.5b, 7b, 72b or a checkpoint's folder, instead of what the config starts from."""
    search: bool = False
    """Find the longest rows that fit, with as many tiles for each token as the config has."""
    json: bool = False
    """Print one JSON document."""
    overrides: tyro.conf.Suppress[tuple[str, ...]] = ()


def aot(options: AotOptions) -> int:
    import os

    # Only a compiler is wanted: an accelerator of this machine is left alone.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from critic_jax.aot.report import aot as compile_steps

    found = compile_steps(
        options.config, options.topology, options.model, options.search, list(options.overrides)
    )
    show(found, as_json=options.json)
    return 0 if all(step["fits"] for step in found["steps"].values()) else 1


VERBS: dict[str, Verb] = {
    "demo": Verb("learn and judge handwritten digits, write a report", DemoOptions, demo),
    "train": Verb("train a critic as a config says", TrainOptions, train, rest="overrides"),
    "dpo": Verb("train a model on preference pairs", DpoOptions, dpo, rest="overrides"),
    **ALIGNMENT,
    "judge": Verb("score, compare or rank the answers in a file", JudgeOptions, judge),
    "generate": Verb("answer the prompts in a JSONL file", GenerateOptions, generate),
    "serve": Verb("answer requests as OpenAI's endpoint does", ServeOptions, serve),
    "evaluate": family(
        "agreement with labels, leaderboards, benchmarks, probes", EvaluateOptions, EVALUATIONS
    ),
    "report": Verb("make one HTML page of judgments", ReportOptions, report),
    "convert": Verb("make a checkpoint of a Hugging Face model", ConvertOptions, convert),
    "export": Verb("write a model as files that torch tools load", ExportOptions, export),
    "info": Verb("tell what a checkpoint is", InfoOptions, info),
    "aot": Verb("compile for a TPU slice: memory, operations", AotOptions, aot, rest="overrides"),
    "verify": Verb("hold released weights against what is published", VerifyOptions, verify),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    about = "An open multimodal judge: train it, judge with it, look at what it judged."
    return dispatch("critic-jax", about, VERBS, argv)

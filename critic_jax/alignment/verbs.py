"""The verbs of alignment, as those in `critic_jax.cli`: options, no logic, imports when called."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from critic_jax.console import show
from critic_jax.host_options import HostOptions
from critic_jax.verbs import Verb


@dataclass(frozen=True)
class AlignOptions(HostOptions):
    """Align a model with a critic, in rounds of sampling, ranking and preference training.

    Continues by itself where an earlier run was stopped. Words after CONFIG change the config's
    fields: critic-jax align CONFIG --field value.
    """

    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """Name of an experiment that comes with critic_jax, or the path of a Python file like one."""
    overrides: tyro.conf.Suppress[tuple[str, ...]] = ()


def align(options: AlignOptions) -> None:
    from critic_jax.alignment.report import write_report
    from critic_jax.alignment.rounds import align as align_policy
    from critic_jax.training.config import AlignConfig, load_config

    options.join()
    config = load_config(options.config, list(options.overrides), AlignConfig)
    assert isinstance(config, AlignConfig)
    policy = align_policy(config, write_report)
    if options.leads:
        print(policy)


@dataclass(frozen=True)
class RolloutOptions(HostOptions):
    """Sample several answers to each prompt, to be ranked.

    An input line is a JSON object: id, image (optional) and prompt; or the conversations of a
    record, of which the last question is asked. Ids that the output already holds are not asked
    again.
    """

    model: str
    """Folder of a model, as training saves it or in the Hugging Face layout; or a hub id."""
    input: Path
    """JSONL file of prompts."""
    output: Path
    """JSONL file of answers."""
    n: int = 5
    """Answers to each prompt."""
    temperature: float = 0.7
    """1 samples from the model as it is; below, likelier answers come more often."""
    top_p: float = 0.9
    """Sample among the likeliest tokens that hold this much probability together."""
    max_new_tokens: int = 512
    """Cut an answer after this many tokens."""
    seed: int = 0
    """Seed of the sampling."""
    memory: str | None = None
    """Memory for keys and values, such as 12GB. By default as critic-jax generate takes."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the computation; by default bfloat16, on a CPU float32."""
    replica_devices: int = 0
    """Devices that hold the model together; by default as few as can; replicas share prompts."""


def rollout(options: RolloutOptions) -> None:
    from critic_jax.alignment.rollout import rollout_file
    from critic_jax.judging.memory import parse_bytes

    words = options.join()
    words["memory"], words["devices"] = parse_bytes(options.memory), words.pop("replica_devices")
    summary = rollout_file(**words)
    if options.leads:
        show(summary, as_json=False)


@dataclass(frozen=True)
class PairsOptions(HostOptions):
    """Make preference pairs of sampled answers: the best against the worst to each prompt.

    What an answer is worth is told by a judge, a file of scores or of preferences, or a Python
    function. Prompts that give no pair go to dropped.jsonl beside the output.
    """

    input: Path
    """JSONL file of prompts."""
    rollouts: Path
    """The answers to them, as critic-jax rollout writes them."""
    output: Path
    """JSONL file of pairs, as critic-jax dpo reads them."""
    judge: str = ""
    """The critic that ranks the answers: a folder or a hub id. With --endpoint, the name that the
    endpoint knows its model by."""
    endpoint: str = ""
    """URL of an OpenAI-style endpoint that judges instead; its key in OPENAI_API_KEY."""
    template: str = "llava-bench"
    """The pairwise template that the judge is asked with."""
    scores: str = ""
    """File of scores: id, response and score a line."""
    preferences: str = ""
    """File of preferences: id, response_a, response_b and verdict a line."""
    reward_function: str = ""
    """Python function by its dotted name: prompts, completions and images in, numbers out."""
    min_margin: float = 0.0
    """Drop prompts whose best answer has less than this much more reward than the worst."""
    max_unparsed: float = 0.25
    """Drop prompts of which more than this share of judgments could not be read."""
    memory: str | None = None
    """Memory for the judge's keys and values, such as 12GB."""
    json: bool = False
    """Print the summary as one JSON document."""


def pairs(options: PairsOptions) -> None:
    from critic_jax.alignment.choice import Limits
    from critic_jax.alignment.pairs import pairs_file
    from critic_jax.alignment.sources import Wish, make_source
    from critic_jax.judging.memory import parse_bytes

    words = options.join() | {"memory": parse_bytes(options.memory)}
    limits = Limits(options.min_margin, options.max_unparsed)
    source = make_source(Wish(**{field.name: words[field.name] for field in fields(Wish)}))
    found = pairs_file(options.input, options.rollouts, options.output, source, limits)
    if options.leads:
        show(found, as_json=options.json)


ALIGNMENT: dict[str, Verb] = {
    "align": Verb("align a model with a critic, in rounds", AlignOptions, align, rest="overrides"),
    "rollout": Verb("sample several answers to each prompt", RolloutOptions, rollout),
    "pairs": Verb("make preference pairs of sampled answers", PairsOptions, pairs),
}

"""The README of an exported model: what it is, where it is from, how to load it."""

from __future__ import annotations

from typing import Any

_LOAD = {
    "hf": """\
```python
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

model = LlavaOnevisionForConditionalGeneration.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
```

The chat template adds no system turn. The critic was trained with one: give
`You are a helpful assistant.` as a message of the role `system`.
""",
    "lmms-lab": """\
The files are laid out as LLaVA-NeXT's code has them (`LlavaQwenForCausalLM`); its
`load_pretrained_model` loads them with the model name `llava_qwen`.
""",
}


def model_card(name: str, layout: str, facts: dict[str, Any], base: str | None) -> str:
    """Markdown with the front matter that the hub reads.

    facts: rows of the table of provenance. base: the hub id of the model it was made from.
    """
    front = ["library_name: transformers" if layout == "hf" else "library_name: llava"]
    front += ["pipeline_tag: image-text-to-text", "tags: [llava, critic, judge, multimodal]"]
    if base:
        front.append(f"base_model: {base}")
    rows = [f"| {label} | {value} |" for label, value in facts.items() if value not in (None, "")]
    return "\n".join(
        [
            "---",
            *front,
            "---",
            "",
            f"# {name}",
            "",
            "LLaVA-OneVision (SigLIP tower, projector, Qwen2 decoder), exported by critic_jax.",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            _LOAD[layout].format(name=name),
        ]
    )

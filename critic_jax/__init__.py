"""critic_jax: an open multimodal judge in JAX, from training data to judgments.

The public names load when they are first asked for, so `import critic_jax` is light: it imports
neither JAX nor transformers, and starts no device. Data loader processes rely on that.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critic_jax.errors import InputError
    from critic_jax.judging.ask import Asking
    from critic_jax.judging.both_orders import BothOrders
    from critic_jax.judging.critic import Critic
    from critic_jax.judging.judgment import Judgment
    from critic_jax.judging.rank import Ranking
    from critic_jax.judging.templates import get_template
    from critic_jax.judging.verdicts import Verdict, parse_verdict

__version__ = "0.1.0"

# Public name -> the module that defines it. The same names stand above, for type checkers, and in
# `__all__`.
_PUBLIC: dict[str, str] = {
    "Asking": "critic_jax.judging.ask",
    "BothOrders": "critic_jax.judging.both_orders",
    "Critic": "critic_jax.judging.critic",
    "InputError": "critic_jax.errors",
    "Judgment": "critic_jax.judging.judgment",
    "Ranking": "critic_jax.judging.rank",
    "Verdict": "critic_jax.judging.verdicts",
    "get_template": "critic_jax.judging.templates",
    "parse_verdict": "critic_jax.judging.verdicts",
}

__all__ = [
    "Asking",
    "BothOrders",
    "Critic",
    "InputError",
    "Judgment",
    "Ranking",
    "Verdict",
    "__version__",
    "get_template",
    "parse_verdict",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, and keep it (PEP 562)."""
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'critic_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

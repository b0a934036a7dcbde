"""Judgments with types: one answer scored, two compared, several ranked."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from critic_jax.errors import InputError
from critic_jax.imaging import Visual
from critic_jax.judging.ask import DEFAULT_PAIRWISE, DEFAULT_POINTWISE, Asking
from critic_jax.judging.both_orders import BothOrders
from critic_jax.judging.critic import Critic
from critic_jax.judging.rank import DEFAULT_RANKING
from critic_jax.judging.rank_lines import ranked_fields
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.service import Service
from critic_jax.serving.errors import Refused
from critic_jax.serving.pictures import Pictures
from critic_jax.serving.schema import JudgeBody


class ServedCritic(Critic):
    """A critic for one client: its prompts are answered by a service that all share, its pictures
    come with the request."""

    def __init__(
        self, critic: Critic, service: Service, pictures: Pictures, new_tokens: int
    ) -> None:
        # Everything but the engine is the other's own; of an engine a critic wants the one method.
        self.__dict__.update(critic.__dict__)
        self._gone = threading.Event()
        generate = partial(service.generate, gone=self._gone)
        self.engine = SimpleNamespace(generate=generate)  # type: ignore[assignment]
        self._pictures, self._new_tokens = pictures, new_tokens

    def leave(self) -> None:
        """The client waits no longer."""
        self._gone.set()

    def sampling(self, **settings: Any) -> Sampling:
        """The critic's, cut where the server cuts answers."""
        found = super().sampling(**settings)
        return replace(found, max_new_tokens=min(found.max_new_tokens, self._new_tokens))

    def visuals(self, image: Any, name: str = "image") -> tuple[Visual, ...]:
        """Pictures from the URLs of a request: one, several, or None."""
        return self._pictures.visuals([image] if isinstance(image, str) else image or [])


def judge(critic: Critic, body: JudgeBody) -> dict[str, Any]:
    """What the critic says, as `critic-jax judge` writes it; waits for it. Raises Refused."""
    try:
        return _judged(critic, body)
    except InputError as error:
        raise Refused(400, str(error)) from None


def _judged(critic: Critic, body: JudgeBody) -> dict[str, Any]:
    asking = Asking(body.verdict_only, body.probabilities, body.reasks, body.constrained)
    more: dict[str, Any] = {"reference": body.reference, "criteria": body.criteria}
    one = body.response is not None
    two = body.response_a is not None or body.response_b is not None
    if one + two + (body.responses is not None) != 1:
        raise InputError("give response, or response_a and response_b, or responses")
    if body.responses is not None:
        chosen = asking if asking.wishes() else None
        template = body.template or DEFAULT_RANKING
        ranked = critic.rank(
            body.image,
            body.question,
            body.responses,
            template=template,
            relative=body.relative,
            asking=chosen,
            **more,
        )
        return ranked_fields(ranked)
    if body.relative is not None:
        raise InputError("relative: is for responses, a list to rank")
    if body.response is not None:
        template = body.template or DEFAULT_POINTWISE
        given = (body.image, body.question, body.response)
        return critic.score(*given, template=template, asking=asking, **more).to_dict()
    if body.response_a is None or body.response_b is None:
        raise InputError("response_a and response_b belong together; one is missing")
    answers = (body.image, body.question, body.response_a, body.response_b)
    template = body.template or DEFAULT_PAIRWISE
    if body.order == "given":
        return critic.compare(*answers, template=template, asking=asking, **more).to_dict()
    both = critic.compare_both_orders(*answers, template=template, asking=asking, **more)
    return _both(both)


def _both(both: BothOrders) -> dict[str, Any]:
    fields: dict[str, Any] = {"state": both.state}
    if both.verdict is not None:
        fields["verdict"] = both.verdict
    said = {"ab": both.ab.to_dict(), "ba": both.ba.to_dict()}
    return fields | {"orders": said, "template": both.ab.template, "model": both.ab.model}

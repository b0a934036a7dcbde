"""The bodies of requests. Fields that are not listed are ignored, as OpenAI's clients expect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from critic_jax.sampling.choose import LIKELIEST


def _a_text(text: str) -> str:
    """Half a surrogate pair is no character, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_a_text)]


class Body(BaseModel):
    """Any part of a request."""

    model_config = ConfigDict(extra="ignore", strict=True)


class TextPart(Body):
    """A stretch of text."""

    type: Literal["text"]
    text: Text


class ImageUrl(Body):
    """Where a picture is."""

    url: str


class ImagePart(Body):
    """A picture: a data URL, or a file in a folder that the server was given."""

    type: Literal["image_url"]
    image_url: ImageUrl | str

    @property
    def url(self) -> str:
        """The URL, whichever way it was given."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Body):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart] | None = None


class JsonSchema(Body):
    """A JSON schema that the answer is to follow."""

    name: str = "answer"
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Body):
    """What the answer is to look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Body):
    """What else a stream tells."""

    include_usage: bool | None = None


Whole = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]


class ChatBody(Body):
    """A request for answers to a conversation."""

    model: str = ""
    messages: Annotated[list[Message], Field(min_length=1)]
    n: Whole | None = None
    temperature: Annotated[Number, Field(ge=0)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0)] | None = None
    seed: int | None = None
    stop: Text | list[Text] | None = None
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=LIKELIEST)] | None = None
    response_format: ResponseFormat | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    tools: list[Any] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class JudgeBody(Body):
    """A question, and one answer to score, two to compare, or several to rank."""

    model: str = ""
    image: str | list[str] | None = None
    question: Text
    response: Text | None = None
    response_a: Text | None = None
    response_b: Text | None = None
    responses: Annotated[list[Text], Field(min_length=2, max_length=16)] | None = None
    template: str | None = None
    reference: Text | None = None
    criteria: Text | None = None
    order: Literal["given", "both"] = "given"
    relative: Literal["scores", "verdict", "probability"] | None = None
    verdict_only: bool = False
    probabilities: bool = False
    reasks: Annotated[int, Field(ge=0, le=8)] = 0
    constrained: bool = False

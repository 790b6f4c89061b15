"""What clients may ask, as OpenAI's API has it, and one key of ours: `prag`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prag_lightning.data.chat_text import Message
from prag_lightning.files import parse_json
from prag_lightning.inference.methods import InferenceMethod
from prag_lightning.lora.names import Merge
from prag_lightning.serve.api_errors import ApiError

_WITHOUT_EFFECT = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention verbosity "
    "parallel_tool_calls reasoning_effort modalities".split()
)
"""Of OpenAI's API, what changes nothing of an answer here."""
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""Of OpenAI's API, what is not built, and the values that ask for nothing."""

_Count = Annotated[int, Field(ge=1, le=2**31)]
_Text = Annotated[str, Field(min_length=1)]
_MOST_STOPS = 16


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Options(_Strict):
    """The key `prag`: how passages are used for this request."""

    method: InferenceMethod | None = None
    topk: Annotated[int, Field(ge=1, le=1000)] | None = None
    merge: Merge | None = None
    passages: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    scale: Annotated[float, Field(ge=0, le=1000)] = 1.0
    extract: bool = True


class _Part(_Strict):
    type: Literal["text"]
    text: str


class _Turn(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    name: str | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Request(_Strict):
    model: str
    max_tokens: _Count | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Text | Annotated[list[_Text], Field(max_length=_MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    prag: Options | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(_Request):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[_Turn], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: _Count | None = None

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Its messages; what a developer says is said by the system."""
        return tuple(Message("system" if m.role == "developer" else m.role, m.text) for m in self.messages)


class CompletionRequest(_Request):
    """The body of `/v1/completions`."""

    prompt: str | list[str] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class DocumentRequest(_Strict):
    """The body of `POST /v1/documents`."""

    id: Annotated[str, Field(max_length=500)] | None = None
    text: _Text
    title: Annotated[str, Field(max_length=1000)] = ""


@dataclass(frozen=True)
class Asked:
    """What one text is to be written for.

    Args:
        method: How passages are used; none for the plain model, which knows no question.
        conversation: Turns, of which the last is the user's; or
        prompt: the text or the tokens that the plain model is to continue.
        options: The key `prag`.
        max_tokens: Longest reply, if it was given.
        temperature: 0 for the best token of each.
        top_p: See `Sampling`.
        seed: Of sampling, if it was given.
        stops: Where a reply ends, without them.
    """

    method: InferenceMethod | None
    conversation: tuple[Message, ...]
    prompt: str | tuple[int, ...] = ""
    options: Options = field(default_factory=Options)
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()


_Body = TypeVar("_Body", bound=BaseModel)


def read_body(body: bytes, kind: type[_Body]) -> _Body:
    """A request's body.

    Raises:
        ApiError: naming what in it cannot be.
    """
    try:
        value = parse_json(body.decode("utf-8"))
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "the body is no JSON object")
    value = {name: each for name, each in value.items() if name not in _WITHOUT_EFFECT}
    for name in value.keys() & _NEUTRAL.keys():
        each = value.pop(name)
        if each is not None and not any(each == other and type(each) is type(other) for other in _NEUTRAL[name]):
            raise ApiError(400, f"{name} is not supported here. Leave it out", param=name, code="unsupported_value")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("list[", "constrained")))
        raise ApiError(400, f"{place or 'the body'}: {first['msg']}", param=place or None) from error

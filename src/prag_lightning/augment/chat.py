"""Augmenting through a server that speaks the OpenAI chat API: vLLM, SGLang, Ollama, or a provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prag_lightning.augment.base import Draft, Failures, JournalledAugmenter, Reply
from prag_lightning.augment.replies import qa_schema
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.data.prompts import PromptTemplates, fill
from prag_lightning.errors import InputError, PragError, check_least
from prag_lightning.journal import Journal
from prag_lightning.records import whole_characters

_NO_KEY = "none"


@dataclass(frozen=True)
class ChatSettings:
    """A server that augments instead of a local LLM; needs the extra `chat`.

    Args:
        base_url: Of the API, such as http://localhost:8000/v1.
        model: The server's name for the model; unset means `augment_model`.
        api_key_env: The environment variable that holds the key; a server of your own may need none.
        concurrency: Passages that are worked on at once.
        requests_per_minute: At most so many; unset means no limit.
        max_retries: How often a request is sent again after a time-out, a refused connection, or a status of 408, 409,
            429 or 5xx, waiting longer each time.
        timeout: Seconds to wait for an answer.
        extra_body: Further fields of each request, such as `{top_k: 50}` for vLLM.
    """

    base_url: str = "https://api.openai.com/v1"
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    requests_per_minute: float | None = None
    max_retries: int = 6
    timeout: float = 120.0
    extra_body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_least(self, "data.chat", 1, "concurrency")
        check_least(self, "data.chat", 0, "max_retries")
        for name in ("timeout", "requests_per_minute"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} is {value}", where=f"data.chat.{name}", hint="Give a number above 0")


class ChatAugmenter(JournalledAugmenter):
    """Augments through a server, many passages at once.

    Every request carries the seed of its passage and attempt; whether that decides the reply is up to the server.

    Args:
        chat: The server.
        model: Its name for the model.
        prompts: The templates `rewrite` and `qa`.
        settings: Attempts and sampling.
        journal: Finished passages of this and earlier runs.
        failures: Counts what failed.

    Raises:
        InputError: if the client is not installed.
    """

    def __init__(
        self,
        chat: ChatSettings,
        model: str,
        prompts: PromptTemplates,
        settings: AugmentSettings,
        journal: Journal,
        failures: Failures,
    ) -> None:
        super().__init__([model, chat.extra_body], prompts, settings, journal, failures)
        try:
            import aiolimiter
            import openai
        except ImportError as error:
            raise InputError(
                "the client of the chat API is not installed",
                where="data.chat",
                hint="pip install 'prag-lightning[chat]'",
            ) from error
        self._openai = openai
        self.chat, self.model = chat, model
        self._limiter = aiolimiter.AsyncLimiter(chat.requests_per_minute, 60) if chat.requests_per_minute else None
        self._succeeded = False

    def _write(self, passages: Sequence[str]) -> Iterator[Sequence[Draft]]:
        with asyncio.Runner() as runner:
            pending: set[asyncio.Task[Draft]] = runner.run(self._begin(passages))
            while pending:
                done, pending = runner.run(_first_done(pending))
                written, errors = [], []
                for task in done:
                    error = task.exception()
                    if error is None:
                        written.append(task.result())
                    else:
                        errors.append(error)
                if written:
                    yield written
                if errors:
                    raise self._named(errors[0]) from errors[0]

    async def _begin(self, passages: Sequence[str]) -> set[asyncio.Task[Draft]]:
        """A task a passage, of which `concurrency` run at once."""
        client = self._openai.AsyncOpenAI(
            base_url=self.chat.base_url,
            api_key=os.environ.get(self.chat.api_key_env) or _NO_KEY,
            max_retries=self.chat.max_retries,
            timeout=self.chat.timeout,
        )
        room = asyncio.Semaphore(self.chat.concurrency)

        async def one(passage: str) -> Draft:
            async with room:
                return await self._write_one(client, passage)

        return {asyncio.create_task(one(passage)) for passage in passages}

    async def _write_one(self, client: Any, passage: str) -> Draft:
        written = Draft(passage)
        try:
            for attempt in range(self.settings.attempts):
                self.add_rewrite(written, await self._reply(client, "rewrite", attempt, passage))
                if written.rewrite:
                    break
            for attempt in range(self.settings.qa_replies):
                self.add_reply(written, await self._reply(client, "qa", attempt, passage), attempt)
                if written.complete(self.settings.qa_per_passage):
                    break
        except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
            # A passage may be refused, for being too long say; a server that takes none is asked wrongly.
            if not self._succeeded:
                raise
            self.failures.add("the server refused the passage", passage, str(error))
            written.final = False
        self._succeeded |= written.qa is not None
        return written

    async def _reply(self, client: Any, template: str, attempt: int, passage: str) -> Reply:
        if self._limiter is not None:
            await self._limiter.acquire()
        settings = self.settings
        name = "qa.lines" if template == "qa" and settings.format == "lines" else f"{template}.user"
        sentence = self.sentence(passage, attempt)
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "user", "content": fill(self.prompts.templates[name], passage=passage, sentence=sentence)}
            ],
            "temperature": settings.temperature,
            "max_tokens": settings.augment_max_new_tokens,
            "seed": self._seed(f"{template} {attempt}", passage),
            "extra_body": self.chat.extra_body,
        }
        if settings.constrained and template == "qa":
            pairs = {
                "type": "object",
                "properties": {"qa": qa_schema()},
                "required": ["qa"],
                "additionalProperties": False,
            }
            request["response_format"] = {"type": "json_schema", "json_schema": {"name": "qa", "schema": pairs}}
        try:
            response = await client.chat.completions.create(**request)
            choice = response.choices[0]
            text = whole_characters(str(choice.message.content or ""))
            return Reply(text, "the reply was cut" if choice.finish_reason == "length" else "")
        except (ValueError, AttributeError, IndexError, TypeError, self._openai.APIResponseValidationError) as error:
            return Reply(str(error), "the server's answer is no chat completion")

    def _named(self, error: BaseException) -> BaseException:
        """An error of the server, as one of ours."""
        library, where = self._openai, self.chat.base_url
        if not isinstance(error, library.APIError):
            return error
        kept = "What is finished is kept: run the same command again to go on"
        reason = " ".join(str(getattr(error, "message", error)).split())[:300]
        if isinstance(error, (library.AuthenticationError, library.PermissionDeniedError)):
            hint = f"Put a key for it into the environment variable {self.chat.api_key_env}. {kept}"
            return InputError(f"the server refuses the key: {reason}", where=where, hint=hint)
        if isinstance(error, library.NotFoundError):
            hint = f"Check data.chat.base_url and the model's name {self.model!r}. {kept}"
            return InputError(f"the server knows no such model or path: {reason}", where=where, hint=hint)
        if isinstance(error, (library.BadRequestError, library.UnprocessableEntityError)):
            hint = f"Check data.augment and data.chat.extra_body. {kept}"
            return InputError(f"the server refuses the request: {reason}", where=where, hint=hint)
        return PragError(f"the server does not answer: {reason}", where=where, hint=kept)


async def _first_done(pending: set[asyncio.Task[Draft]]) -> tuple[set[asyncio.Task[Draft]], set[asyncio.Task[Draft]]]:
    return await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)

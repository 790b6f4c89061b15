"""The server's routes: OpenAI's, documents, health, metrics, and the page."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from prag_lightning.data.chat_text import Message
from prag_lightning.inference.methods import InferenceMethod
from prag_lightning.records import Json
from prag_lightning.serve.api_errors import ApiError
from prag_lightning.serve.backend import Backend
from prag_lightning.serve.delivery import Delivery
from prag_lightning.serve.documents import Documents
from prag_lightning.serve.engine import Engine, failure
from prag_lightning.serve.metrics import ServerMetrics
from prag_lightning.serve.requests import Asked, ChatRequest, CompletionRequest, DocumentRequest, Options, read_body
from prag_lightning.serve.settings import Limits, ServerSettings

_MOST_PROMPTS = 64


class Server:
    """Answers clients.

    Args:
        backend: Finds what answers rest on.
        settings: How it is reached.
        limits: What it takes on.
    """

    def __init__(self, backend: Backend, settings: ServerSettings, limits: Limits) -> None:
        self.backend, self.settings, self.limits = backend, settings, limits
        self.name, self.created = backend.llm.name, int(time.time())
        self.metrics = ServerMetrics(self.name)
        self.engine = Engine(backend, limits, self.metrics)
        self.delivery = Delivery(self.engine, limits.timeout)
        self.metrics.watch("num_requests_running", "Replies that are being written.", lambda: self.engine.running)
        self.metrics.watch("num_requests_waiting", "Requests that wait.", lambda: self.engine.waiting)
        self.documents: Documents | None = None
        if backend.changing is not None:
            documents = Documents(backend.changing, self.engine.encoding, self.engine.drop_forgotten)
            self.metrics.watch("num_documents_waiting", "Documents to come.", lambda: len(documents.waiting))
            self.documents = documents

    @property
    def models(self) -> list[str]:
        """What can be asked for: the plain model, and each method."""
        return [self.name, *(f"{self.name}:{method}" for method in self.backend.methods)]

    def app(self) -> Starlette:
        """The routes."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            await asyncio.to_thread(self.engine.close)

        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/health", self.health),
                Route("/metrics", self.tell_metrics),
                Route("/v1/models", self._checked(self.list_models)),
                Route("/v1/models/{name:path}", self._checked(self.get_model)),
                Route("/v1/chat/completions", self._checked(self.chat), methods=["POST"]),
                Route("/v1/completions", self._checked(self.complete), methods=["POST"]),
                Route("/v1/documents", self._checked(self.list_documents), methods=["GET"]),
                Route("/v1/documents", self._checked(self.add_document), methods=["POST"]),
                Route("/v1/documents/{id:path}", self._checked(self.get_document), methods=["GET"]),
                Route("/v1/documents/{id:path}", self._checked(self.delete_document), methods=["DELETE"]),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=self.settings.hosts, www_redirect=False)],
            exception_handlers={HTTPException: _no_route, ApiError: _refused},
            lifespan=lifespan,
        )

    def _checked(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """A handler that asks for the key."""

        async def checked(request: Request) -> Response:
            key = self.settings.api_key
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if key and not hmac.compare_digest(given.encode(), key.encode()):
                raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except (ApiError, HTTPException):
                raise
            except Exception as error:
                raise failure(error) from error

        return checked

    # About the server

    async def page(self, _: Request) -> Response:
        """The page."""
        text = files("prag_lightning.serve").joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers=_PAGE_HEADERS)

    async def health(self, _: Request) -> Response:
        """Whether it is up."""
        return JSONResponse({"status": "ok"})

    async def tell_metrics(self, _: Request) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def list_models(self, _: Request) -> Response:
        """The models."""
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self.models]})

    async def get_model(self, request: Request) -> Response:
        """One of them."""
        self._method(request.path_params["name"])
        return JSONResponse(self._model(request.path_params["name"]))

    def _model(self, name: str) -> dict[str, Json]:
        context = self.backend.llm.context
        told: dict[str, Json] = {"id": name, "object": "model", "created": self.created, "owned_by": "prag-lightning"}
        return told | {"max_model_len": context}

    def _method(self, model: str) -> InferenceMethod | None:
        """The method that a model's name stands for.

        Raises:
            ApiError: if there is no such model.
        """
        if model == self.name:
            return None
        for method in self.backend.methods:
            if model == f"{self.name}:{method}":
                return method
        raise ApiError(
            404,
            f"there is no model {model!r}. Take one of {', '.join(self.models)}",
            param="model",
            code="model_not_found",
        )

    # Replies

    async def chat(self, request: Request) -> Response:
        """`/v1/chat/completions`."""
        body = read_body(await self._body(request), ChatRequest)
        method = self._asked_method(body.model, body.prag)
        conversation = body.conversation
        if conversation[-1].role != "user":
            raise ApiError(400, "the last message is not the user's", param="messages")
        asked = self._asked(body, method, body.max_completion_tokens or body.max_tokens)
        return await self.delivery.reply(request, body, [Asked(**asked, conversation=conversation)], chat=True)

    async def complete(self, request: Request) -> Response:
        """`/v1/completions`."""
        body = read_body(await self._body(request), CompletionRequest)
        method = self._asked_method(body.model, body.prag)
        prompts = self._prompts(body)
        asked = self._asked(body, method, body.max_tokens)
        if method is None:
            each = [Asked(**asked, conversation=(), prompt=prompt) for prompt in prompts]
        else:
            if not all(isinstance(prompt, str) for prompt in prompts):
                raise ApiError(400, "a question is a text, not tokens", param="prompt")
            each = [Asked(**asked, conversation=(Message("user", str(prompt)),)) for prompt in prompts]
        return await self.delivery.reply(request, body, each, chat=False)

    def _prompts(self, body: CompletionRequest) -> list[str | tuple[int, ...]]:
        prompt = body.prompt
        if isinstance(prompt, str):
            return [prompt]
        if not prompt or (len(prompt) > _MOST_PROMPTS and isinstance(prompt[0], str)):
            raise ApiError(400, f"give 1 to {_MOST_PROMPTS} prompts", param="prompt")
        if isinstance(prompt[0], int):
            return [tuple(int(token) for token in prompt)]
        return [str(each) for each in prompt]

    def _asked_method(self, model: str, options: Options | None) -> InferenceMethod | None:
        method = self._method(model)
        if options is None or options.method is None:
            if options is not None and method is None:
                raise ApiError(
                    400, f"{model} is the plain model. Ask for {model}:prag, or give prag.method", param="prag"
                )
            return method
        if method not in (None, options.method):
            raise ApiError(400, f"prag.method is {options.method}, and the model {model}", param="prag.method")
        if options.method not in self.backend.methods:
            raise ApiError(400, f"there is nothing to retrieve from for {options.method}", param="prag.method")
        return options.method

    def _asked(
        self, body: ChatRequest | CompletionRequest, method: InferenceMethod | None, max_tokens: int | None
    ) -> _Common:
        return {
            "method": method,
            "options": body.prag or Options(),
            "max_tokens": max_tokens,
            "temperature": body.temperature or 0.0,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "seed": None if body.seed is None else body.seed % 2**63,
            "stops": body.stops,
        }

    # Documents

    def _store(self) -> Documents:
        if self.documents is None:
            raise ApiError(404, "documents are those of a store. Serve one with --store", code="no_store")
        return self.documents

    async def list_documents(self, _: Request) -> Response:
        """Those that the store holds, and those that are to come."""
        return JSONResponse({"object": "list", "data": await asyncio.to_thread(self._store().all)})

    async def get_document(self, request: Request) -> Response:
        """One of them."""
        return JSONResponse(await asyncio.to_thread(self._store().one, request.path_params["id"]))

    async def add_document(self, request: Request) -> Response:
        """Take one on; with `wait`, so many seconds until it is held."""
        store = self._store()
        wait = _wait(request)
        key, done = store.add(read_body(await self._body(request), DocumentRequest))
        finished = await _within(done, wait)
        try:
            document = await asyncio.to_thread(store.one, key)
        except ApiError:  # deleted meanwhile
            document = {"id": key, "object": "document", "deleted": True}
        return JSONResponse(document, status_code=200 if finished else 202)

    async def delete_document(self, request: Request) -> Response:
        """Forget one; with `wait`, so many seconds until nothing is left of it."""
        store, key = self._store(), request.path_params["id"]
        wait = _wait(request)
        done = await asyncio.to_thread(store.delete, key)
        deleted = await _within(done, wait)
        return JSONResponse({"id": key, "object": "document", "deleted": deleted}, status_code=200 if deleted else 202)

    async def _body(self, request: Request) -> bytes:
        """A request's body.

        Raises:
            ApiError: if it is too large, or not declared as JSON: pages of the web cannot send such to others unasked.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, f"the content type is {kind!r}. Send application/json")
        most, body = self.settings.max_body_mb * 1e6, bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise ApiError(413, f"the request is larger than {self.settings.max_body_mb:g} MB")
        return bytes(body)


class _Common(TypedDict):
    """What requests of both kinds say."""

    method: InferenceMethod | None
    options: Options
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stops: tuple[str, ...]


_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _wait(request: Request) -> float:
    """Seconds that the client waits for."""
    given = request.query_params.get("wait", "0")
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ApiError(400, f"wait is {given!r}. Give seconds from 0 to 3600", param="wait")
    return seconds


async def _within(done: Future[None], seconds: float) -> bool:
    """Whether something is done within seconds."""
    waiting = asyncio.wrap_future(done)
    finished, _ = await asyncio.wait({waiting}, timeout=seconds)
    if not finished:
        return False
    waiting.result()
    return True


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body, status_code=error.status, headers=headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path} is not here" if error.status_code in (404, 405) else error.detail
    return JSONResponse(ApiError(error.status_code, what).body, status_code=error.status_code, headers=error.headers)

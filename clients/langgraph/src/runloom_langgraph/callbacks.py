"""What LangChain reports inside a node, as chunks and events of the run's stream."""
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from runloom import Context, MessageChunk, OtherBlock, Reasoning, Text, ToolCallChunk, Usage

from .values import readable

ROLES = {"human": "human", "ai": "ai", "AIMessageChunk": "ai", "system": "system", "tool": "tool"}
NOSTREAM = "nostream"


class Emitter(BaseCallbackHandler):
    """Emits what starts, streams and ends inside a task. The outermost run is the node itself, which the server reports."""

    run_inline = True

    def __init__(self, context: Context, namespace: str) -> None:
        self._context, self._namespace = context, namespace
        self._runs: dict[UUID, tuple[str, UUID | None, list[str], dict[str, Any]]] = {}
        self._root: UUID | None = None
        self._inputs: dict[UUID, Any] = {}
        self._streamed: dict[UUID, str] = {}

    # Runs

    def _start(self, kind: str, name: str, run_id: UUID, parent: UUID | None, given: dict[str, Any], data: dict[str, Any]) -> None:
        if parent is None and self._root is None:
            self._root = run_id
            return
        tags = [tag for tag in given.get("tags") or () if not tag.startswith("graph:step:")]
        self._runs[run_id] = (name, parent, tags, given.get("metadata") or {})
        self._inputs[run_id] = data.get("input")
        self._event(f"{kind}_start", run_id, data)

    def _event(self, kind: str, run_id: UUID, data: dict[str, Any]) -> None:
        known = self._runs.get(run_id)
        if known is not None:
            name, _, tags, metadata = known
            self._context.nested_event(
                kind, name, run_id=str(run_id), parent_ids=self._parents(run_id), tags=tags, metadata=readable(metadata), data=data
            )

    def _end(self, kind: str, run_id: UUID, data: dict[str, Any]) -> None:
        given = self._inputs.pop(run_id, None)
        if kind.endswith("_end") and given is not None:
            data = {"input": given, **data}
        self._event(kind, run_id, data)
        self._runs.pop(run_id, None)
        self._streamed.pop(run_id, None)

    def _parents(self, run_id: UUID) -> list[str]:
        parents: list[str] = []
        parent = self._runs[run_id][1]
        while parent is not None and parent in self._runs:
            parents.insert(0, str(parent))
            parent = self._runs[parent][1]
        return parents

    # Chains

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **given: Any) -> None:
        self._start("chain", name_of(serialized, given), run_id, parent_run_id, given, {"input": readable(inputs)})

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **given: Any) -> None:
        self._end("chain_end", run_id, {"output": readable(outputs)})

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **given: Any) -> None:
        self._inputs.pop(run_id, None)
        self._runs.pop(run_id, None)

    # Models

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, run_id: UUID, parent_run_id: UUID | None = None, **given: Any
    ) -> None:
        data = {"input": {"messages": [[readable(m) for m in batch] for batch in messages]}}
        self._start("chat_model", name_of(serialized, given), run_id, parent_run_id, given, data)

    def on_llm_new_token(self, token: str, *, chunk: Any = None, run_id: UUID, **given: Any) -> None:
        known = self._runs.get(run_id)
        if known is None or not isinstance(chunk, ChatGenerationChunk):
            return
        message = chunk.message
        # LangChain's own last piece has the id of the call. Here all pieces have the id of the message.
        if message.id is None or (run_id in self._streamed and not is_own(message.id)):
            message.id = self._streamed.get(run_id) or f"lc_run--{run_id}"
        self._streamed[run_id] = message.id
        piece = message_chunk(message, known[0])
        if NOSTREAM not in known[2]:
            self._context.chunk(piece, tags=known[2], run_id=str(run_id), namespace=self._inside(known[3]))
        self._event("chat_model_stream", run_id, {"message_chunk": piece})

    def on_llm_end(self, response: Any, *, run_id: UUID, **given: Any) -> None:
        known = self._runs.get(run_id)
        generation = response.generations[0][0] if response.generations and response.generations[0] else None
        if known is None or not isinstance(generation, ChatGeneration):
            return
        message = generation.message
        if run_id not in self._streamed and NOSTREAM not in known[2]:
            piece = message_chunk(message, known[0])
            piece.last = True
            self._context.chunk(piece, tags=known[2], run_id=str(run_id), namespace=self._inside(known[3]))
        self._end("chat_model_end", run_id, {"output": readable(message)})

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **given: Any) -> None:
        self._inputs.pop(run_id, None)
        self._runs.pop(run_id, None)

    # Tools and retrievers

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None, **given: Any) -> None:
        self._start("tool", name_of(serialized, given), run_id, parent_run_id, given, {"input": readable(given.get("inputs"))})

    def on_tool_end(self, output: Any, *, run_id: UUID, **given: Any) -> None:
        self._end("tool_end", run_id, {"output": readable(output)})

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **given: Any) -> None:
        given = {"type": type(error).__name__, "message": str(error)}
        self._end("tool_error", run_id, {"error": given})

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: UUID | None = None, **given: Any) -> None:
        self._start("retriever", name_of(serialized, given), run_id, parent_run_id, given, {"input": {"query": query}})

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **given: Any) -> None:
        self._end("retriever_end", run_id, {"output": readable(documents)})

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, tags: Any = None, metadata: Any = None, **given: Any) -> None:
        self._context.event(name, readable(data))

    def _inside(self, metadata: dict[str, Any]) -> list[str]:
        """The namespace inside the task in which a model was called."""
        namespace = str(metadata.get("langgraph_checkpoint_ns") or metadata.get("checkpoint_ns") or "")
        inner = namespace.removeprefix(self._namespace).strip("|")
        return inner.split("|") if inner and namespace.startswith(self._namespace) else []


class StreamingEmitter(Emitter, _StreamingCallbackHandler):
    """The same, for a run whose tokens are read: models then stream also when they are invoked."""

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        return output


def is_own(id: str) -> bool:
    """Whether an id is the model's own, and not that of LangChain's call."""
    return not id.startswith(("lc_run-", "run-"))


def name_of(serialized: Any, given: dict[str, Any]) -> str:
    """The name of what runs."""
    known = serialized or {}
    return str(given.get("name") or known.get("name") or (known.get("id") or [""])[-1] or "Unnamed")


def message_chunk(message: BaseMessage, model: str) -> MessageChunk:
    """A piece of a message."""
    made = MessageChunk(message_id=message.id or "", role=ROLES.get(message.type, "ai"), name=message.name or "", model=model)
    made.content = blocks(message.content)
    if isinstance(message, AIMessageChunk):
        made.tool_call_chunks = [
            ToolCallChunk(one.get("index") or 0, one.get("id") or "", one.get("name") or "", one.get("args") or "")
            for one in message.tool_call_chunks
        ]
        made.last = message.chunk_position == "last"
    else:
        made.tool_call_chunks = [
            ToolCallChunk(n, one.get("id") or "", one["name"], json.dumps(one["args"]))
            for n, one in enumerate(getattr(message, "tool_calls", ()))
        ]
    usage = getattr(message, "usage_metadata", None)
    if usage:
        made.usage = Usage(
            usage["input_tokens"],
            usage["output_tokens"],
            usage["total_tokens"],
            (usage.get("input_token_details") or {}).get("cache_read") or 0,
            (usage.get("input_token_details") or {}).get("cache_creation") or 0,
            (usage.get("output_token_details") or {}).get("reasoning") or 0,
        )
    if message.response_metadata:
        made.response_metadata = readable(message.response_metadata)
    return made


def blocks(content: Any) -> list[Any]:
    """Content as blocks."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    made: list[Any] = []
    for n, block in enumerate(content):
        index = block.get("index", n) if isinstance(block, dict) and isinstance(block.get("index", n), int) else n
        if isinstance(block, str):
            made.append(Text(block, index))
        elif block.get("type") == "text":
            made.append(Text(block.get("text", ""), index))
        elif block.get("type") == "reasoning" and "reasoning" in block:
            made.append(Reasoning(block["reasoning"], index=index))
        else:
            made.append(OtherBlock(readable(block), index))
    return made

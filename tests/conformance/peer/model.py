"""The scripted chat model: it answers with `responses[k mod n]`, k being the number of AI messages in the prompt."""
from __future__ import annotations

import asyncio
import json
import re
from typing import Any, AsyncIterator

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

CUTS = {"words": re.compile(r"\s+|\S+").findall, "chars": list, "whole": lambda text: [text] if text else []}


class ScriptedModel(BaseChatModel):
    responses: list[Any]
    chunk: str = "words"
    delay_ms: float = 0
    model: str = "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _answer(self, messages) -> tuple[dict, list[dict], dict | None]:
        spoken = sum(isinstance(m, AIMessage) for m in messages)
        response = self.responses[spoken % len(self.responses)]
        if isinstance(response, str): response = {"content": response}
        calls = [{"id": f"call_{spoken}_{i}", **c} for i, c in enumerate(response.get("tool_calls") or [])]
        usage = response.get("usage")
        if usage: usage = {"total_tokens": usage["input_tokens"] + usage["output_tokens"], **usage}
        return response, calls, usage

    def _generate(self, messages, stop=None, run_manager=None, **kw) -> ChatResult:
        response, calls, usage = self._answer(messages)
        message = AIMessage(response.get("content", ""), tool_calls=[{**c, "args": c.get("args") or {}} for c in calls], usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(self, messages, stop=None, run_manager=None, **kw) -> AsyncIterator[ChatGenerationChunk]:
        response, calls, usage = self._answer(messages)
        chunks = [AIMessageChunk(text) for text in CUTS[self.chunk](response.get("content", ""))]
        for i, c in enumerate(calls):
            args = json.dumps(c.get("args") or {})
            chunks.append(AIMessageChunk("", tool_call_chunks=[{"name": c["name"], "args": args, "id": c["id"], "index": i, "type": "tool_call_chunk"}]))
        chunks.append(AIMessageChunk("", chunk_position="last", usage_metadata=usage))
        for chunk in chunks:
            if self.delay_ms and chunk.content: await asyncio.sleep(self.delay_ms / 1000)
            generation = ChatGenerationChunk(message=chunk)
            if run_manager: await run_manager.on_llm_new_token(chunk.content, chunk=generation)
            yield generation

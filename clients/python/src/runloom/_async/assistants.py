"""Service Assistants."""
from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from ..codec import decode
from ..options import Config
from ..types import Assistant, AssistantSchemas, Drawing, IfExists
from ..v1 import assistants_pb2, assistants_pb2_grpc
from .caller import Caller

Names = list[str]


class Assistants:
    """Assistants: graphs with a configuration, a context and metadata, in versions."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, assistants_pb2_grpc.AssistantsStub(caller.channel)

    async def create(
        self,
        graph_name: str,
        *,
        assistant_id: str | None = None,
        name: str | None = None,
        description: str | None = None,
        config: Config | None = None,
        context: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        if_exists: IfExists | None = None,
        timeout: float | None = None,
    ) -> Assistant:
        """Creates an assistant with version 1. Without an id it gets a new one, and the call is safe to repeat."""
        if assistant_id is None:
            assistant_id, if_exists = str(uuid.uuid4()), "return"
        fields = {"assistant_id": assistant_id, "graph_name": graph_name, "name": name, "description": description}
        fields |= {"config": config, "context": context, "metadata": metadata, "if_exists": if_exists}  # type: ignore[dict-item]
        request = self._caller.request(assistants_pb2.CreateAssistantRequest, **fields)
        call = self._caller.repeated if if_exists == "return" else self._caller.once
        assistant: Assistant = decode((await call(self._stub.CreateAssistant, request, timeout)).assistant)
        return assistant

    async def get(self, assistant_id: str, *, timeout: float | None = None) -> Assistant:
        """Reads the latest version of an assistant."""
        request = self._caller.request(assistants_pb2.GetAssistantRequest, assistant_id=assistant_id)
        assistant: Assistant = decode((await self._caller.repeated(self._stub.GetAssistant, request, timeout)).assistant)
        return assistant

    async def update(
        self,
        assistant_id: str,
        *,
        graph_name: str | None = None,
        name: str | None = None,
        description: str | None = None,
        config: Config | None = None,
        context: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        update_mask: Names | None = None,
        timeout: float | None = None,
    ) -> Assistant:
        """Creates a new version of an assistant, which becomes the latest. Fields that are not given keep their values."""
        fields = {"assistant_id": assistant_id, "graph_name": graph_name, "name": name, "description": description}
        fields |= {"config": config, "context": context, "metadata": metadata}  # type: ignore[dict-item]
        request = self._caller.request(assistants_pb2.UpdateAssistantRequest, assistant=fields, update_mask=update_mask)
        assistant: Assistant = decode((await self._caller.once(self._stub.UpdateAssistant, request, timeout)).assistant)
        return assistant

    async def delete(self, assistant_id: str, *, timeout: float | None = None) -> None:
        """Deletes an assistant with all its versions. Its runs and threads are kept."""
        request = self._caller.request(assistants_pb2.DeleteAssistantRequest, assistant_id=assistant_id)
        await self._caller.once(self._stub.DeleteAssistant, request, timeout)

    async def list(
        self,
        *,
        graph_name: str | None = None,
        metadata_filter: dict[str, Any] | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Assistant]:
        """Iterates over the latest versions of assistants, newest first."""
        fields = {"graph_name": graph_name, "metadata_filter": metadata_filter, "page_size": page_size}
        token = ""
        while True:
            request = self._caller.request(assistants_pb2.ListAssistantsRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListAssistants, request, timeout)
            for assistant in page.assistants:
                yield decode(assistant)
            token = page.next_page_token
            if not token:
                return

    async def versions(self, assistant_id: str, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[Assistant]:
        """Iterates over the versions of an assistant, newest first."""
        token = ""
        while True:
            fields = {"assistant_id": assistant_id, "page_size": page_size, "page_token": token}
            request = self._caller.request(assistants_pb2.ListAssistantVersionsRequest, **fields)
            page = await self._caller.repeated(self._stub.ListAssistantVersions, request, timeout)
            for version in page.versions:
                yield decode(version)
            token = page.next_page_token
            if not token:
                return

    async def set_latest(self, assistant_id: str, version: int, *, timeout: float | None = None) -> Assistant:
        """Makes a version the latest, which new runs use."""
        fields = {"assistant_id": assistant_id, "version": version}
        request = self._caller.request(assistants_pb2.SetLatestAssistantVersionRequest, **fields)
        response = await self._caller.repeated(self._stub.SetLatestAssistantVersion, request, timeout)
        assistant: Assistant = decode(response.assistant)
        return assistant

    async def graph(self, assistant_id: str, *, subgraph_depth: int = 0, timeout: float | None = None) -> Drawing:
        """Returns a drawing of an assistant's graph."""
        fields = {"assistant_id": assistant_id, "subgraph_depth": subgraph_depth}
        request = self._caller.request(assistants_pb2.GetAssistantGraphRequest, **fields)
        drawing: Drawing = decode(await self._caller.repeated(self._stub.GetAssistantGraph, request, timeout))
        return drawing

    async def schemas(
        self, assistant_id: str, *, include_subgraphs: bool = False, timeout: float | None = None
    ) -> AssistantSchemas:
        """Returns the JSON Schemas of an assistant's graph."""
        fields = {"assistant_id": assistant_id, "include_subgraphs": include_subgraphs}
        request = self._caller.request(assistants_pb2.GetAssistantSchemasRequest, **fields)
        schemas: AssistantSchemas = decode(await self._caller.repeated(self._stub.GetAssistantSchemas, request, timeout))
        return schemas

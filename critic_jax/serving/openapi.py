"""The endpoint described for programs, in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from critic_jax import __version__
from critic_jax.serving.schema import ChatBody, JudgeBody

_CHAT = "/v1/chat/completions"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def description(with_key: bool) -> dict[str, Any]:
    """All routes, with the schemas of what they take."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {
        _CHAT: {"post": _posted("Answer a conversation", ChatBody, schemas, with_key)},
        "/v1/judge": {
            "post": _posted(
                "Score an answer, compare two or rank several", JudgeBody, schemas, with_key
            )
        },
        "/v1/models": {"get": _got("The model that answers", with_key)},
        "/healthz": {"get": _got("Whether the server runs", False, "text/plain", "503")},
        "/readyz": {
            "get": _got("Whether it is warmed up", False, "text/plain", "503"),
        },
        "/metrics": {"get": _got("Numbers for Prometheus", False, "text/plain")},
    }
    components: dict[str, Any] = {"schemas": schemas}
    if with_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "critic_jax", "version": __version__},
        "paths": paths,
        "components": components,
    }


def _posted(
    about: str, body: type[BaseModel], schemas: dict[str, Any], with_key: bool
) -> dict[str, Any]:
    schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[body.__name__] = schema
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    answered: dict[str, Any] = {"application/json": {}}
    if body is ChatBody:
        answered["text/event-stream"] = {}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": answered}}
    for status in ("400", "401", "408", "413", "429", "500", "503", "504"):
        responses[status] = _refusal()
    return {
        "summary": about,
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    } | _security(with_key)


def _got(
    about: str, with_key: bool, kind: str = "application/json", *statuses: str
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "It", "content": {kind: {}}}}
    for status in statuses:
        responses[status] = {"description": "Not so", "content": {kind: {}}}
    if with_key:
        responses["401"] = _refusal()
    return {"summary": about, "responses": responses} | _security(with_key)


def _refusal() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": "Refused, and why",
        "content": {"application/json": {"schema": schema}},
    }


def _security(with_key: bool) -> dict[str, Any]:
    return {"security": [{"key": []}]} if with_key else {}

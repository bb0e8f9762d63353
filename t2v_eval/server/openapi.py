"""The description of a server's paths, as OpenAPI for programs and as a page for people."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from t2v_eval import __version__
from t2v_eval.inputs.media import EDIT
from t2v_eval.server.requests import TEMPLATES, ServerLimits

ERRORS = {
    "400": "The request is not valid; the message says which field.",
    "401": "The token is missing or wrong.",
    "403": "A server without a token was asked by another name than localhost.",
    "404": "The server has no such scorer.",
    "408": "The body did not arrive in time.",
    "413": "The request is larger than the server's limits.",
    "415": "The body is not `application/json`.",
    "429": "Too many requests wait; send it again after `Retry-After` seconds.",
    "500": "No scorer of the request could score; the message says why.",
    "504": "There was no answer within the time of the request.",
}
EXAMPLE = {
    "models": ["MODEL"],
    "images": [{"base64": "iVBORw0KGgo..."}],
    "texts": ["a cat on a mat"],
}


def document(limits: ServerLimits) -> dict[str, Any]:
    """Return the description of a server's paths in OpenAPI 3.1.

    >>> sorted(document(ServerLimits())["paths"])
    ['/healthz', '/metrics', '/v1/models', '/v1/score']
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "t2v-eval",
            "version": __version__,
            "description": "Scores of images and videos with texts; higher is better.",
        },
        "security": [{"token": []}],
        "paths": {
            "/v1/score": {"post": _score_operation()},
            "/v1/models": {"get": _operation("The scorers and the limits", "Models")},
            "/metrics": {"get": _operation("Measurements in the format of Prometheus")},
            "/healthz": {
                "get": {**_operation("Whether the server runs", "Health"), "security": []}
            },
        },
        "components": {
            "schemas": _schemas(limits),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _score_operation() -> dict[str, Any]:
    operation = _operation("Score images with texts", "ScoreResponse")
    operation["requestBody"] = {"required": True, "content": _json("ScoreRequest", EXAMPLE)}
    for status, description in ERRORS.items():
        operation["responses"][status] = {"description": description, "content": _json("Error")}
    return operation


def _operation(summary: str, schema: str = "") -> dict[str, Any]:
    content = _json(schema) if schema else {"text/plain": {"schema": {"type": "string"}}}
    answer = {"description": summary, "content": content}
    return {"summary": summary, "responses": {"200": answer}}


def _json(schema: str, example: Any = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"application/json": media if example is None else {**media, "example": example}}


def _schemas(limits: ServerLimits) -> dict[str, Any]:
    text = {"type": "string", "maxLength": limits.text_chars}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": limits.texts}
    score = {"type": ["number", "null"], "description": "null where there is no score"}
    failure = _object(
        {"image": {"type": "integer"}, "text": {"type": "integer"}, "reason": {"type": "string"}}
    )
    image = {"$ref": "#/components/schemas/Image"}
    images = {"type": "array", "items": image, "minItems": 1, "maxItems": limits.images}
    inputs = {**images, "items": {"anyOf": [image, {"$ref": "#/components/schemas/Edit"}]}}
    error = {"status": {"type": "integer"}, "message": {"type": "string"}}
    name = {"type": "string"}
    result = {
        "model": name,
        "id": {"type": ["string", "null"], "description": "all that decides the scores"},
        "scores": {
            "type": ["array", "null"],
            "items": {"anyOf": [score, {"type": "array", "items": score}]},
            "description": "M lists of N scores; of pairs, one list",
        },
        "failures": {"type": "array", "items": failure},
        "error": {"anyOf": [_object(error), {"type": "null"}]},
    }
    model: dict[str, Any] = dict.fromkeys(
        "name id encoder_id kind range image_mode question answer".split(), name
    ) | {key: {"type": "boolean"} for key in ("uses_text", "uses_references")}
    model["image_roles"] = {
        "type": "array",
        "items": name,
        "description": "source and result for a scorer of edits; empty for one of single images",
    }
    file = {"type": "string", "contentEncoding": "base64"}
    of_video = {**images, "items": _object({"base64": file})}
    frames = {"frames": of_video, "fps": {"type": "number", "exclusiveMinimum": 0}}
    return {
        "Image": {
            "description": "A file of an image or a video, or the frames of a video.",
            "oneOf": [
                _object({"base64": file}),
                _object({"url": {"type": "string"}}),
                {**_object(frames), "required": ["frames"]},
            ],
        },
        "Edit": {
            "description": "The image before and after an edit; the text says what to edit.",
            **_object(dict.fromkeys(EDIT, image)),
        },
        "ScoreRequest": {
            "type": "object",
            "additionalProperties": False,
            "required": ["images"],
            "properties": {
                "models": {
                    "type": "array",
                    "items": name,
                    "description": "names of scorers; by default all of the server",
                },
                "images": inputs,
                "texts": texts,
                "references": {"type": "array", "items": texts, "maxItems": limits.images},
                "pairs": {
                    "type": "boolean",
                    "description": "score image b with text b alone, not all with all",
                },
                "timeout": {"type": "number", "exclusiveMinimum": 0, "description": "in seconds"},
                **dict.fromkeys(TEMPLATES, text),
            },
        },
        "ScoreResponse": _object(
            {"results": {"type": "array", "items": _object(result), "minItems": 1}}
        ),
        "Models": _object(
            {
                "version": name,
                "models": {"type": "array", "items": _object(model)},
                "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            }
        ),
        "Health": _object({"status": {"const": "ok"}}),
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "object", "required": ["message"]}},
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "required": [*properties],
        "properties": properties,
        "additionalProperties": False,
    }


def page(description: dict[str, Any]) -> str:
    """Return a page that shows a description; it loads nothing and runs no script.

    >>> "/v1/score" in page(document(ServerLimits()))
    True
    """
    parts = []
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            rows = "".join(
                f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td></tr>"
                for status, answer in operation["responses"].items()
            )
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            example = f"<pre>{_pretty(body['example'])}</pre>" if body else ""
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
                f"<p>{escape(operation['summary'])}</p>{example}<table>{rows}</table>"
            )
    for name, schema in description["components"]["schemas"].items():
        parts.append(
            f"<details><summary>{escape(name)}</summary><pre>{_pretty(schema)}</pre></details>"
        )
    title = escape(f"{description['info']['title']} {description['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px/1.5 sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.1rem 1rem .1rem 0;vertical-align:top}pre{overflow:auto}</style>"
        f"<h1>{title}</h1><p>{escape(description['info']['description'])} "
        "For programs: <code>/openapi.json</code>.</p>" + "".join(parts) + "</html>"
    )


def _pretty(value: Any) -> str:
    return escape(json.dumps(value, indent=2))

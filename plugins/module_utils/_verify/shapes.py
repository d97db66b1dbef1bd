# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fields that OpenAI's API promises in its answers, as far as clients need them.

From OpenAI's OpenAPI document, version 2.3.0, https://github.com/openai/openai-openapi (openapi.yaml): the `required`
fields of the schemas that are named below. Fields that may be null are left out where providers make them, such as
`refusal` and `logprobs`: clients read a field that is missing as null, and many servers leave them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError

#: What is at each path of a body: the type in JSON's words; `=text` for exactly this; with `?` null is right, too, with
#: `!` it must not be empty. `[]` in a path is every element of a list.
Shape = Mapping[str, str]

# ErrorResponse, Error
ERROR: Shape = {
    "error": "object",
    "error.message": "string!",
    "error.type": "string!",
    "error.param": "string?",
    "error.code": "string?",
}
# Model
MODEL: Shape = {"id": "string!", "object": "=model", "created": "integer", "owned_by": "string!"}
# ListModelsResponse
MODELS: Shape = {"object": "=list", "data": "array", **{f"data[].{path}": kind for path, kind in MODEL.items()}}
# CreateChatCompletionResponse, ChatCompletionResponseMessage
CHAT: Shape = {
    "id": "string!",
    "object": "=chat.completion",
    "created": "integer",
    "model": "string!",
    "choices": "array!",
    "choices[].index": "integer",
    "choices[].finish_reason": "string!",
    "choices[].message": "object",
    "choices[].message.role": "=assistant",
    "choices[].message.content": "string?",
}
# CreateChatCompletionStreamResponse
CHUNK: Shape = {
    "id": "string",
    "object": "=chat.completion.chunk",
    "created": "integer",
    "model": "string",
    "choices": "array",
    "choices[].index": "integer",
    "choices[].delta": "object",
    "choices[].finish_reason": "string?",
}
# CompletionUsage
USAGE: Shape = {
    "usage": "object",
    "usage.prompt_tokens": "integer",
    "usage.completion_tokens": "integer",
    "usage.total_tokens": "integer",
}
# Response, OutputItem
RESPONSE: Shape = {
    "id": "string!",
    "object": "=response",
    "created_at": "number",
    "model": "string!",
    "tools": "array",
    "parallel_tool_calls": "boolean",
    "output": "array",
    "output[].type": "string!",
}
# ResponseUsage
RESPONSE_USAGE: Shape = {
    "usage": "object",
    "usage.input_tokens": "integer",
    "usage.output_tokens": "integer",
    "usage.total_tokens": "integer",
}
# ResponseStreamEvent
RESPONSE_EVENT: Shape = {"type": "string!", "sequence_number": "integer"}
# CreateEmbeddingResponse, Embedding
EMBEDDINGS: Shape = {
    "object": "=list",
    "model": "string!",
    "data": "array!",
    "data[].object": "=embedding",
    "data[].index": "integer",
    "data[].embedding": "array!",
    "usage": "object",
    "usage.prompt_tokens": "integer",
    "usage.total_tokens": "integer",
}

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_MISSING = object()
_PROBLEMS_SHOWN = 5


def expect_shape(body: Any, *shapes: Shape) -> None:
    """Raise VerifyError that says of each field that is not right what was expected and what came."""
    problems = [problem for shape in shapes for problem in _problems(body, shape)]
    if problems:
        more = len(problems) - _PROBLEMS_SHOWN
        raise VerifyError("; ".join(problems[:_PROBLEMS_SHOWN]) + (" and %d more" % more if more > 0 else ""))


def _problems(body: Any, shape: Shape) -> Iterator[str]:
    if not isinstance(body, dict):
        yield f"the body: expected an object in JSON, got {_name(body) if body is not None else 'something else'}"
        return
    for path, kind in shape.items():
        for where, value in _at(body, path.split("."), ""):
            if not _fits(value, kind):
                yield f"{where}: expected {_wanted(kind)}, got {_name(value)}"


def _at(value: Any, path: list[str], where: str) -> Iterator[tuple[str, Any]]:
    """What is at a path, with the place of each. What lacks a part of the path before its end is told of by itself."""
    if not path:
        yield where, value
        return
    name = path[0].replace("[]", "")
    if not isinstance(value, dict):
        return
    where = f"{where}.{name}" if where else name
    found = value.get(name, _MISSING)
    if not path[0].endswith("[]"):
        yield from _at(found, path[1:], where)
    elif isinstance(found, list):
        for index, element in enumerate(found):
            if isinstance(element, dict):
                yield from _at(element, path[1:], f"{where}[{index}]")
            else:
                yield f"{where}[{index}]", _MISSING


def _fits(value: Any, kind: str) -> bool:
    if kind.startswith("="):
        return bool(value == kind[1:])
    if kind.endswith("?") and value is None:
        return True
    # A boolean is an integer in Python only.
    is_right = isinstance(value, _TYPES[kind.rstrip("?!")]) and isinstance(value, bool) == (kind == "boolean")
    return is_right and (bool(value) or not kind.endswith("!"))


def _wanted(kind: str) -> str:
    if kind.startswith("="):
        return repr(kind[1:])
    plain = kind.rstrip("?!")
    if kind.endswith("?"):
        return f"{plain} or null"
    return f"{plain}, not empty" if kind.endswith("!") else plain


def _name(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    if isinstance(value, list) and not value:
        return "an empty array"
    return _NAMES.get(type(value), "something else")

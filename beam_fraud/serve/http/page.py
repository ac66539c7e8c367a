"""The OpenAPI document as a page: one file without scripts, that loads nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, TypeAlias

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

#: Type: an object of an OpenAPI document, or a row of the page.
Part: TypeAlias = dict[str, Any]


def page(document: Part, url: str) -> str:
    """Return the page of an OpenAPI document, as HTML.

    Args:
      document: as `openapi.document` returns it.
      url: of the server, for an example of a call.
    """
    source = files("beam_fraud.serve.http").joinpath("templates/docs.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["prose"] = _prose
    schemas = document["components"]["schemas"]
    predict, *others = _operations(document)
    return environment.from_string(source).render(
        info=document["info"],
        predict=predict,
        others=others,
        curl=_curl(document, url),
        schemas=[
            {
                "name": name,
                "description": schemas[name].get("description", ""),
                "members": list(_members(schemas[name], "")),
            }
            for name in ("Transaction", "Answer", "Problem")
        ],
    )


def _operations(document: Part) -> Iterator[Part]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = [_resolved(document, one) for one in operation["parameters"]]
            responses = {
                status: _resolved(document, one) for status, one in operation["responses"].items()
            }
            yield {
                "id": operation["operationId"],
                "path": path,
                "method": method,
                "summary": operation["summary"],
                "description": operation.get("description", ""),
                "parameters": [
                    {**one, "type": _type(one["schema"]), "description": _words(one)}
                    for one in parameters
                ],
                "responses": [
                    {
                        "status": status,
                        "description": one["description"],
                        "media": list(one.get("content", {})),
                    }
                    for status, one in responses.items()
                ],
            }


def _members(schema: Part, prefix: str) -> Iterator[Part]:
    """Yield the members of an object, those of inner objects by their path."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield {
            "name": path,
            "type": _type(member),
            "required": name in required,
            "description": _words(member),
            "example": ", ".join(json.dumps(one) for one in member.get("examples", ())),
        }
        yield from _members(member, f"{path}.")
        if "items" in member:
            yield from _members(member["items"], f"{path}[].")


def _type(schema: Part) -> str:
    if "enum" in schema:
        return " | ".join(schema["enum"])
    types = schema.get("type", "any")
    text = types if isinstance(types, str) else " | ".join(types)
    return f"{text}, {schema['minimum']} or more" if "minimum" in schema else text


def _words(part: Part) -> str:
    default = part.get("schema", {}).get("default")
    words = str(part.get("description", ""))
    return words if default is None else f"{words} Default: {json.dumps(default)}."


def _curl(document: Part, url: str) -> str:
    """Return a call that the server answers."""
    (example,) = document["components"]["schemas"]["Transaction"]["examples"]
    lines = [f"curl {url}/predict", "-H 'Content-Type: application/json'"]
    if document["security"]:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    lines.append(f"-d {shlex.quote(json.dumps(example))}")
    return " \\\n  ".join(lines)


def _prose(text: str) -> Markup:
    """Show what is between backticks as code."""
    parts = map(escape, text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else part
        for odd, part in enumerate(parts)
    )


def _resolved(document: Part, part: Part) -> Part:
    """Return a part itself, or what it refers to."""
    reference = part.get("$ref")
    if reference is None:
        return part
    found: Part = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found

"""A hook of MkDocs: the page "Every route and field" from docs/openapi.json, which is written from the code (`make openapi`)."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

INTRO = """# Every route and field

From the service's own description, [openapi.json](openapi.json), which it also serves at `/openapi.json`; `/docs` of a running service
is the same with a form to try it. The [API in words](api.md) says what the calls mean together.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    described = json.loads((Path(config.docs_dir) / "openapi.json").read_text())
    files.append(File.generated(config, "reference.md", content=page(described)))
    return files


def page(described: dict[str, Any]) -> str:
    """The page in Markdown: routes by tag, then the shapes that they take and give."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in sorted(described["paths"].items()):
        for method, operation in methods.items():
            by_tag.setdefault((operation.get("tags") or ["others"])[0], []).append(route(method.upper(), path, operation))
    parts = [INTRO]
    for tag, routes in by_tag.items():
        parts += [f"## {tag[:1].upper()}{tag[1:]}", *routes]
    parts.append("## Shapes")
    parts += [shape(name, schema) for name, schema in sorted(described["components"]["schemas"].items())]
    return "\n\n".join(parts) + "\n"


def route(method: str, path: str, operation: dict[str, Any]) -> str:
    """One operation: what it does, its parameters, what it takes and gives."""
    lines = [f"### `{method} {path}`", f"**{operation.get('summary', '')}**", _flat(operation.get("description", ""))]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            f"| `{each['name']}` | {each['in']} | {kind(each['schema'])} | {_flat(each.get('description', ''))} |"
            for each in sorted(parameters, key=lambda each: (each["in"], each["name"]))
        ]
        lines.append("\n".join(["| parameter | in | type | |", "| --- | --- | --- | --- |", *rows]))
    for form, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"Takes {kind(content['schema'])} as `{form}`.")
    rows = []
    for status, answer in operation["responses"].items():
        gives = ", ".join(kind(content.get("schema", {})) for content in answer.get("content", {}).values())
        rows.append(f"| {status} | {gives} | {'' if int(status) < 300 else _flat(answer.get('description', ''))} |")
    lines.append("\n".join(["| status | gives | |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(line for line in lines if line)


def shape(name: str, schema: dict[str, Any]) -> str:
    """A schema: its fields, or its values."""
    lines = [f"### {name}", _flat(schema.get("description", ""))]
    if "enum" in schema:
        lines.append(", ".join(f"`{value}`" for value in schema["enum"]))
    if schema.get("properties"):
        needed = set(schema.get("required", ()))
        rows = [
            f"| `{field}` | {kind(of)} | {'yes' if field in needed else 'no'} | {_flat(of.get('description', ''))} |"
            for field, of in schema["properties"].items()
        ]
        lines.append("\n".join(["| field | type | always | |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(line for line in lines if line)


def kind(schema: dict[str, Any]) -> str:
    """A type in a few words, with a link where it has a shape of its own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(kind(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind(schema['additionalProperties'])}"
    return schema.get("format") or str(schema.get("type", "anything"))


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

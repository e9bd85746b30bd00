"""JSON Schemas of the API's models, as the components of the document that refer to each other."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

Schema = dict[str, Any]
Mode = Literal["validation", "serialization"]
Use = tuple[type[BaseModel], Mode]
"""A model, and whether it is read or written: defaults and serializers make two schemas of one model."""

PREFIX: Final = "#/components/schemas/"


class _Generator(GenerateJsonSchema):
    """Without the titles that pydantic makes of field names: they say nothing that the name does not."""

    def field_title_should_be_set(self, _schema: core_schema.CoreSchema) -> bool:
        return False


class Schemas:
    """The components by name, and where each model stands among them."""

    def __init__(self, uses: Sequence[Use]) -> None:
        found, whole = models_json_schema(list(uses), schema_generator=_Generator, ref_template=PREFIX + "{model}")
        self._refs = {use: _renamed(schema) for use, schema in found.items()}
        self.components: dict[str, Schema] = {}
        for name, schema in whole.get("$defs", {}).items():
            schema.pop("title", None)
            self.components[_name(name)] = self._hoisted(_renamed(schema))

    def of(self, model: type[BaseModel], mode: Mode) -> Schema:
        """A reference to a model's schema."""
        return dict(self._refs[model, mode])

    def resolved(self, schema: Schema) -> Schema:
        """What a schema is, or what it refers to."""
        return self.components[schema["$ref"].removeprefix(PREFIX)] if "$ref" in schema else schema

    def page(self, model: type[BaseModel], *, at_end: bool = False) -> Schema:
        """A reference to the schema of a page of a model; it is made if there is none."""
        item = self.of(model, "serialization")
        name = item["$ref"].removeprefix(PREFIX) + "Page"
        examples = self.resolved(item).get("examples", [])
        self.components[name] = {
            "type": "object",
            "description": "A page of a list.",
            "properties": {
                "data": {"type": "array", "items": item},
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "The `cursor` of the next page; null: this is the last. A page may be short, or "
                    "empty, and still not be the last.",
                },
            },
            "required": ["data", "next_cursor"],
            "examples": [{"data": examples[:1], "next_cursor": None}],
        }
        if at_end:
            self.components[name]["properties"]["at_end"] = {
                "type": "boolean",
                "description": "Whether everything up to the end of the log was looked at: what matches is all here, "
                "and `next_cursor` leads to what is to come. False: go on, even if this page is empty.",
            }
            self.components[name]["required"].append("at_end")
            self.components[name]["examples"][0]["at_end"] = True
        return {"$ref": PREFIX + name}

    def merge_patch(self, model: type[BaseModel]) -> Schema:
        """A reference to the schema of merge patches (RFC 7396) of a model: nothing is required, null resets."""
        ref = self.of(model, "validation")
        name = ref["$ref"].removeprefix(PREFIX).removesuffix("In") + "Patch"
        about = "What is to change (RFC 7396): objects merge, null sets a field back to its default."
        self.components[name] = self._patch(self.resolved(ref)) | {"description": about}
        return {"$ref": PREFIX + name}

    def _patch(self, schema: Schema) -> Schema:
        required = schema.get("required", ())
        properties = {
            name: self._patched(one) if name in required else _or_null(self._patched(one))
            for name, one in schema.get("properties", {}).items()
        }
        kept = {name: value for name, value in schema.items() if name not in ("required", "properties", "default")}
        if "patternProperties" in kept:
            kept["patternProperties"] = {name: _or_null(one) for name, one in kept["patternProperties"].items()}
        return {**kept, "properties": properties} if properties else kept

    def _patched(self, schema: Schema) -> Schema:
        inner = self.resolved(schema)
        if inner.get("type") == "object":
            return self._patch({**inner, **{name: value for name, value in schema.items() if name != "$ref"}})
        return {name: value for name, value in schema.items() if name != "default"}

    def _hoisted(self, node: Any) -> Any:
        """Let an enumeration that has a title of its own be a component too, and names of properties be binding."""
        if isinstance(node, list):
            return [self._hoisted(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "enum" in node and isinstance(node.get("title"), str):
            name = node["title"]
            self.components[name] = {key: value for key, value in node.items() if key != "title"}
            return {"$ref": PREFIX + name}
        closed = {"additionalProperties": False} if "patternProperties" in node else {}
        return {key: self._hoisted(value) for key, value in node.items()} | closed


def parameter_schema(schema: Mapping[str, Any]) -> Schema:
    """Schema of a query parameter: it can be left out, but not be null."""
    kept = {key: value for key, value in schema.items() if key not in ("description", "anyOf")}
    if kept.get("default", ...) is None:
        del kept["default"]
    for one in schema.get("anyOf", ()):
        if one != {"type": "null"}:
            kept |= one
    return kept


def _or_null(schema: Schema) -> Schema:
    kind = schema.get("type")
    if {"type": "null"} in schema.get("anyOf", ()) or kind == "null":
        return schema
    if not isinstance(kind, str):
        return {"anyOf": [schema, {"type": "null"}]}
    choice = schema.get("enum", [schema["const"]] if "const" in schema else None)
    kept = {name: value for name, value in schema.items() if name != "const"}
    return {**kept, "type": [kind, "null"], **({} if choice is None else {"enum": [*choice, None]})}


def _name(name: str) -> str:
    """A component's name: what is shown carries the noun's own."""
    base, _, mode = name.partition("-")
    return (base.removesuffix("In") if mode == "Output" else base).removesuffix("Out")


def _renamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_renamed(one) for one in node]
    if isinstance(node, dict):
        return {
            key: PREFIX + _name(value.removeprefix(PREFIX)) if key == "$ref" else _renamed(value)
            for key, value in node.items()
        }
    return node

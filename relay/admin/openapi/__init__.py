"""The API's description, OpenAPI 3.1: made of the table of routes, the models and the catalogue, not by hand."""

from relay.admin.openapi.document import document

__all__ = ["document"]

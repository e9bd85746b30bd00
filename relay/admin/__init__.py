"""The REST API for operators and integrators, and the ops endpoints for the cluster."""

from relay.admin.app import admin_app
from relay.admin.feed_tail import FeedTail
from relay.admin.ops import ops_app
from relay.admin.server import OPS_CONNECTIONS, Gate, api_connections, serving
from relay.admin.sources import SourceInfo

__all__ = ["OPS_CONNECTIONS", "FeedTail", "Gate", "SourceInfo", "admin_app", "api_connections", "ops_app", "serving"]

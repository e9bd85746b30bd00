"""The REST API for operators and integrators, and the ops endpoints for the cluster."""

from relay.admin.app import admin_app
from relay.admin.feed_tail import FeedTail
from relay.admin.ops import ops_app
from relay.admin.sources import SourceInfo

__all__ = ["FeedTail", "SourceInfo", "admin_app", "ops_app"]

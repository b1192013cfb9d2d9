"""Runs first in every Python process that tests start: conftest puts this folder on their path."""

import os

import small_backbone

small_backbone.register_with_timm()
if "NETWORK_LOG" in os.environ:
    import network_watch

    network_watch.begin()

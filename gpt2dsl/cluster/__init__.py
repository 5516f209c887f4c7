"""Clusters: rank tables, and ranks that are started and watched."""

import gpt2dsl.model  # noqa: F401  # what MindSpore is to know before anything imports it

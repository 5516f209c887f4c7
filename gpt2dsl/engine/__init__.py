"""Engines carry a plan's steps out on MindSpore: one file a task."""

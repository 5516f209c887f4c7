"""Ranks of a job: the groups they exchange in, and every collective."""

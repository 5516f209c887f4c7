"""The identity of a run: what decides its result, and which of it may differ at a resume."""

"""Identity of a run: everything that determines its result, and what may differ on resume."""

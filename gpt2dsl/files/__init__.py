"""File helpers: atomic writes, cache folders, locks."""

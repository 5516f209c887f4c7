"""A recipe as TOML: read with every fault collected, written so that it reads back the same."""

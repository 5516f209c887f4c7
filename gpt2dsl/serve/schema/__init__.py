"""Request bodies, one module per endpoint, with OpenAI's keys and some additional ones."""

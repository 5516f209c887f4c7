"""An OpenAI-compatible server of completions: FastAPI, and a thread with the network."""

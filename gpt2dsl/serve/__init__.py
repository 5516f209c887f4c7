"""OpenAI-compatible completion server: FastAPI, and a thread that runs the network."""

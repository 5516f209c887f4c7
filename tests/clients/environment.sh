#!/bin/sh
# Makes .clients/: the clients that people point at a server, as their users install them.
set -eu
cd "$(dirname "$0")/../.."
. tests/environments.sh

begin .clients tests/clients/environment.sh
create .venv/bin/python
# The hf class of lm-eval is the judge of its scores; it needs torch, transformers and accelerate.
install schemathesis==4.32.5 openai litellm langchain-openai llama-index-llms-openai-like \
    "lm-eval[api]==0.4.13" torch==2.13.0 "transformers<5" accelerate "datasets<4"
finish

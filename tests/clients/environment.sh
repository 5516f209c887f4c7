#!/bin/sh
# Makes .clients/: the clients that people point at a server, as their users install them.
set -eu
cd "$(dirname "$0")/../.."

environment=.clients
# The marker carries a digest of this file: a changed list of packages makes the environment anew.
digest=$(cksum <"tests/clients/environment.sh")
marker=$environment/complete
if [ -f "$marker" ] && [ "$(cat "$marker")" = "$digest" ]; then
    exit 0
fi

rm -rf "$environment"
.venv/bin/python -m venv "$environment"
# What walks the repository by git's rules, ruff first of all, stays out of it.
echo '*' >"$environment/.gitignore"
# The hf class of lm-eval is the judge of its scores; it needs torch, transformers and accelerate.
"$environment/bin/pip" install -qq --disable-pip-version-check \
    schemathesis==4.32.5 openai litellm langchain-openai llama-index-llms-openai-like \
    "lm-eval[api]==0.4.13" torch==2.13.0 "transformers<5" accelerate "datasets<4"
printf '%s' "$digest" >"$marker"

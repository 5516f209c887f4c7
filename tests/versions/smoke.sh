#!/usr/bin/env bash
# What an installed gpt2dsl must do in an empty folder. Usage: smoke.sh GPT2DSL
set -euo pipefail
gpt2dsl=$(realpath --no-symlinks "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export GPT2DSL_CACHE=$folder/cache

"$gpt2dsl" --version
"$gpt2dsl" list | grep -q quickstart
"$gpt2dsl" check quickstart
cat > smoke.toml <<'END'
extends = "quickstart"

[model]
layers = 1
hidden = 32

[data]
vocab = 512

[train]
seq_length = 32
steps = 20
evaluate_every = 0
END
"$gpt2dsl" plan smoke.toml | grep -F "sha256 aa941e73.."  # the same text everywhere
"$gpt2dsl" run smoke.toml 2> log || { cat log; exit 1; }
"$gpt2dsl" generate runs/smoke --prompt "It is" --max-new-tokens 4
test -s runs/smoke-*/report.html

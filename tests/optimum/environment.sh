#!/bin/sh
# Makes .optimum/: optimum beside what .venv has, of which it uses torch, transformers and onnxruntime.
set -eu
cd "$(dirname "$0")/../.."
. tests/environments.sh

begin .optimum tests/optimum/environment.sh
create .venv/bin/python
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
.venv/bin/python -c "$packages" >"$("$environment/bin/python" -c "$packages")/shared.pth"
# Everything that these two need is in .venv.
install --no-deps optimum==2.1.0 optimum-onnx==0.1.0
finish

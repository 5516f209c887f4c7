#!/bin/sh
# Makes .optimum/: optimum beside what .venv has, of which it uses torch, transformers and onnxruntime.
set -eu
cd "$(dirname "$0")/../.."

environment=.optimum
# The marker carries a digest of this file: a changed list of packages makes the environment anew.
digest=$(cksum <"tests/optimum/environment.sh")
marker=$environment/complete
if [ -f "$marker" ] && [ "$(cat "$marker")" = "$digest" ]; then
    exit 0
fi

rm -rf "$environment"
.venv/bin/python -m venv "$environment"
echo '*' >"$environment/.gitignore"
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
.venv/bin/python -c "$packages" >"$("$environment/bin/python" -c "$packages")/shared.pth"
# Everything that these two need is in .venv.
"$environment/bin/pip" install -qq --disable-pip-version-check --no-deps \
    optimum==2.1.0 optimum-onnx==0.1.0
printf '%s' "$digest" >"$marker"

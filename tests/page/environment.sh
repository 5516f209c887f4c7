#!/bin/sh
# Makes .browser/: Playwright, with Chromium where none is installed.
set -eu
cd "$(dirname "$0")/../.."

environment=.browser
# The marker carries a digest of this file: a changed list of packages makes the environment anew.
digest=$(cksum <"tests/page/environment.sh")
marker=$environment/complete
if [ -f "$marker" ] && [ "$(cat "$marker")" = "$digest" ]; then
    exit 0
fi

rm -rf "$environment"
.venv/bin/python -m venv "$environment"
echo '*' >"$environment/.gitignore"
"$environment/bin/pip" install -qq --disable-pip-version-check playwright==1.65.2
if ! command -v chromium >/dev/null; then
    "$environment/bin/playwright" install chromium
fi
printf '%s' "$digest" >"$marker"

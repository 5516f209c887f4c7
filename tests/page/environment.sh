#!/bin/sh
# Makes .browser/: Playwright, with Chromium where none is installed.
set -eu
cd "$(dirname "$0")/../.."
. tests/environments.sh

begin .browser tests/page/environment.sh
create .venv/bin/python
install playwright==1.65.2
if ! command -v chromium >/dev/null; then
    "$environment/bin/playwright" install chromium
fi
finish

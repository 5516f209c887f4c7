#!/usr/bin/env bash
# Builds a wheel, and tries it in an empty environment of each Python that is there, by pip, pipx and uv.
# VERSIONS="3.12" or WAYS="uv" says fewer.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=$PWD/.versions
smoke=$PWD/tests/versions/smoke.sh
versions=${VERSIONS:-3.10 3.11 3.12}
ways=${WAYS:-pip pipx uv}
rm -rf "$place"
mkdir "$place"

interpreter() {  # the Python of a version, of this shell or of pyenv; fails where there is none
    local path
    for path in "$(command -v "python$1")" "$HOME/.pyenv/versions/$1".*/bin/python; do
        if [ -x "$path" ] && "$path" -c "import venv" 2> /dev/null; then
            echo "$path"
            return
        fi
    done
    return 1
}

tried=0
for version in $versions; do
    python=$(interpreter "$version") || { echo "Python $version is not here"; continue; }
    "$python" -m venv "$place/tools"
    "$place/tools/bin/pip" install --quiet --disable-pip-version-check pipx uv
    "$place/tools/bin/pip" wheel --quiet --no-deps --wheel-dir "$place" .
    wheel=$(ls "$place"/*.whl)
    for way in $ways; do
        echo "== Python $version, $way"
        SECONDS=0
        case $way in
            pip)
                "$python" -m venv "$place/environment"
                "$place/environment/bin/pip" install --quiet --disable-pip-version-check "$wheel"
                program=$place/environment/bin/gpt2dsl
                ;;
            pipx)
                export PIPX_HOME=$place/pipx PIPX_BIN_DIR=$place/bin
                "$place/tools/bin/pipx" install --quiet --python "$python" "$wheel"
                program=$place/bin/gpt2dsl
                ;;
            uv)
                "$place/tools/bin/uv" venv --quiet --python "$python" "$place/environment"
                "$place/tools/bin/uv" pip install --quiet --python "$place/environment" "$wheel"
                program=$place/environment/bin/gpt2dsl
                ;;
        esac
        echo "installed in $SECONDS s"
        "$smoke" "$program"
        rm -rf "$place/environment" "$place/pipx" "$place/bin"
        tried=$((tried + 1))
    done
    rm -rf "$place/tools" "$wheel" build
done
rm -rf "$place"
echo "$tried installations work"
[ "$tried" -gt 0 ]

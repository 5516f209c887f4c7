# Sourced by the scripts that make environments for judges, each a folder beside .venv.

# begin FOLDER SCRIPT: end the script where the environment is as this script makes it.
begin() {
    environment=$1
    # The marker carries a digest of the script: a changed list of packages makes it anew.
    digest=$(cksum <"$2")
    if [ "$(cat "$environment/complete" 2>/dev/null)" = "$digest" ]; then
        exit 0
    fi
}

# create PYTHON: make an empty environment.
create() {
    rm -rf "$environment"
    "$1" -m venv "$environment"
    # What walks the repository by git's rules, ruff first of all, stays out of it.
    echo '*' >"$environment/.gitignore"
}

install() {
    "$environment/bin/pip" install -qq --disable-pip-version-check "$@"
}

finish() {
    printf '%s' "$digest" >"$environment/complete"
}

#!/bin/sh
# Makes a virtual environment from requirements/dev.txt, with hashes checked: install.sh FOLDER [INTERPRETER]
set -eu

folder=$1
asked=${2:-}
here=$(dirname "$0")

# What an interpreter must be able to do, tried by doing it: a pyenv shim may be on the PATH and not run, and Debian's
# python3 comes without ensurepip.
fits='
import sys
version = ".".join(map(str, sys.version_info[:3]))
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"is Python {version}")
try:
    import ensurepip, venv
except ImportError:
    sys.exit(f"is Python {version} without the venv module; on Debian: apt install python3-venv")
'
tried=
python=

try() {
    [ -x "$1" ] || return 1
    if said=$("$1" -c "$fits" 2>&1); then
        python=$1
        return 0
    fi
    case $said in
    "is Python "*) ;;
    *) said="does not run" ;;
    esac
    tried="$tried
  $1 $said"
    return 1
}

find_python() {
    if [ -n "$asked" ]; then
        try "$(command -v "$asked" || echo "$asked")"
        return
    fi
    try "$folder/bin/python" && return
    tried=
    for name in python3.12 python3.13 python3.11 python3 python; do
        rest=$PATH:
        while [ -n "$rest" ]; do
            try "${rest%%:*}/$name" && return
            rest=${rest#*:}
        done
    done
    return 1
}

if ! find_python; then
    echo "Delaywatch needs Python 3.11, 3.12 or 3.13 with its venv module. Tried:${tried:-
  nothing, there is no python${asked:+ $asked} here}" >&2
    echo "Install one, or name one that you have: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

if [ "$python" != "$folder/bin/python" ]; then
    "$python" -m venv --clear "$folder"
fi
# pip's own settings for an index are not read by uv; a mirror that was set for pip serves both.
if [ -n "${PIP_INDEX_URL:-}" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi
echo "Installing the locked packages into $folder with $("$folder/bin/python" --version); this happens once."
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/uv.txt"
"$folder/bin/uv" pip sync --quiet --python "$folder/bin/python" --require-hashes "$here/dev.txt" "$here/uv.txt"

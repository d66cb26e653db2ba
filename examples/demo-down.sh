#!/usr/bin/env bash
# Removes what the demo launched. Data volumes are removed too, because they are named.
set -euo pipefail
cd "$(dirname "$0")/.."
lockstep=${LOCKSTEP:-target/release/lockstep}
for environment in staging production; do
  "$lockstep" down "$environment" --yes
  if docker volume inspect "alphanode-$environment-cache.data" >/dev/null 2>&1; then
    "$lockstep" down "$environment" --delete-data cache.data --yes
  fi
done

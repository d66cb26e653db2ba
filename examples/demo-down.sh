#!/usr/bin/env bash
# Removes what the demo launched. Data volumes are removed too, because they are named.
set -euo pipefail
cd "$(dirname "$0")/.."
lockstep=${LOCKSTEP:-target/quick/lockstep}
for environment in staging production; do
  "$lockstep" down "$environment" --yes
  named=()
  while read -r volume; do
    [[ -z $volume ]] || named+=(--delete-data "${volume#alphanode-"$environment"-}")
  done < <(docker volume ls -q --filter label=dev.lockstep.stack=alphanode --filter label=dev.lockstep.role=data \
    --filter "label=dev.lockstep.environment=$environment")
  ((${#named[@]} == 0)) || "$lockstep" down "$environment" "${named[@]}" --yes
done

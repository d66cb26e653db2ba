#!/usr/bin/env bash
# The main job on real input, told as it happens: two environments from one spec, real page views, one
# setting changed with a backup first, one change by hand that is caught and put right, parity proven.
# Leaves both sites up; `make demo-down` removes them. Restores the spec that it changes for the demonstration.
set -euo pipefail
cd "$(dirname "$0")/.."
lockstep=${LOCKSTEP:-target/quick/lockstep}
spec=environments/stack.yaml
staging=http://127.0.0.1:8081
production=http://127.0.0.1:8080

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
say() { printf '\n%s==> %s%s\n' "$bold" "$*" "$plain"; }
run() { printf '    $ lockstep %s\n' "$*"; "$lockstep" "$@"; }

# One GET with nothing but bash, since a fresh machine may have neither curl nor wget.
get() { # url -> headers and body
  local address=${1#http://} path host port
  path=/${address#*/}
  host=${address%%/*}
  port=${host##*:}
  exec 3<>"/dev/tcp/${host%%:*}/$port"
  printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
  cat <&3
  exec 3>&-
}
cache_header() { get "$1" | tr -d '\r' | sed -n 's/^x-cache: //p' | head -n 1; }
keys() { "$lockstep" status "$1" | sed -n 's/.*, \([0-9]* keys\),.*/\1/p'; }
browse() { # site -> "hits of views"
  local hits=0 views=0 page
  for page in / /articles/redis-caching /articles/choosing-a-ttl /articles/restore-drills /articles/health-checks; do
    views=$((views + 1))
    if [ "$(cache_header "$1$page")" = HIT ]; then hits=$((hits + 1)); fi
  done
  echo "$hits of $views"
}

original=$(mktemp)
cp "$spec" "$original"
trap 'cp "$original" "$spec"; rm -f "$original"' EXIT

say "1. The spec is checked without an engine."
run check

say "2. Staging is launched: networks, volumes, files, Redis, site; each is asked whether it answers."
run apply staging --reason "first launch"

say "3. Production is launched from the same spec. It is protected, so it wants to be confirmed."
run apply production --reason "first launch" --yes

say "4. Real page views on staging. The first round fills the cache, the second is served from it."
echo "    first round:  $(browse $staging) pages from the cache"
echo "    second round: $(browse $staging) pages from the cache"
echo "    the cache holds $(keys staging)"

say "5. One setting changes in the spec: eviction by use (lfu) instead of by age (lru)."
sed -i 's/maxmemory-policy: allkeys-lru/maxmemory-policy: allkeys-lfu/' "$spec"
run plan staging || [ $? -eq 3 ]
echo "    Exit code 3: there is something to do. Nothing of it restarts the server."
run apply staging --reason "keep popular pages"
echo "    third round:  $(browse $staging) pages from the cache: it stayed warm"
run backup list staging

say "6. Production gets the same change."
run apply production --reason "keep popular pages" --yes

say "7. Somebody changes staging's Redis by hand."
password=$(mktemp)
trap 'cp "$original" "$spec"; rm -f "$original" "$password"' EXIT
docker cp alphanode-staging-files:/v/cache.etc.redis/ - | tar -xO --wildcards '*/r/*/lockstep.password' | tail -c 48 >"$password"
echo "    \$ redis-cli CONFIG SET timeout 7"
printf 'AUTH lockstep %s\nCONFIG SET timeout 7\n' "$(cat "$password")" |
  docker exec -i alphanode-staging-cache redis-cli | sed 's/^/    /'
echo "    verify finds it, at its place, with both values:"
run verify staging || [ $? -eq 3 ]
echo "    and so does the comparison with production:"
run verify staging production || [ $? -eq 3 ]

say "8. Apply puts it right."
run apply staging --reason "undo a change by hand"

say "9. The experiment is over: the spec is put back, and both environments follow."
cp "$original" "$spec"
run apply staging --reason "end of the experiment"
run apply production --reason "end of the experiment" --yes

say "10. The proof: staging and production match, declared differences apart."
run verify staging production

say "Done. Both sites are up:"
echo "    staging     $staging/"
echo "    production  $production/"
echo "    Look at them with \`$lockstep status\`; remove them with \`make demo-down\`."

#!/bin/bash
# The pages of reports in a real browser, Debian's Chromium without a window: nothing on its console, no request to anybody,
# the findings there although a page may run no script (its policy allows none, and it has none), and pictures of it all in target/page, light and dark, wide and on a phone.
set -euo pipefail
cd "$(dirname "$0")/.."

browser=$(command -v chromium-headless-shell || command -v chromium || true)
if [ -z "$browser" ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium-headless-shell >/dev/null
    browser=$(command -v chromium-headless-shell)
fi

out=target/page
rm -rf "$out"
mkdir -p "$out"
failed=0
complain() { echo "$1" >&2; failed=1; }

# What a page has to show, by the case that it is made of.
look() {
    local name=$1 page=$2
    shift 2
    cp "$page" "$out/$name.html"
    # A profile of its own, no host but none, and no sandbox: whoever tests is root in a container.
    local common=(--no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$out/profile" --hide-scrollbars
        --host-resolver-rules="MAP * ~NOTFOUND" --enable-logging=stderr --virtual-time-budget=2000)
    local size scheme
    for size in 1200,1600 390,1600; do
        for scheme in light dark; do
            local dark=()
            [ $scheme = dark ] && dark=(--blink-settings=preferredColorScheme=0)
            [ $scheme = light ] && dark=(--blink-settings=preferredColorScheme=1)
            local picture="$out/$name-${size%,*}-$scheme.png"
            timeout 60 "$browser" --headless "${common[@]}" "${dark[@]}" --window-size="$size" --screenshot="$picture" \
                "file://$PWD/$out/$name.html" 2>"$out/$name.log" >/dev/null || complain "$name: the browser failed"
            if grep -q CONSOLE "$out/$name.log"; then
                complain "$name, $scheme: $(grep CONSOLE "$out/$name.log")"
            fi
            [ -s "$picture" ] || complain "$name: no picture at $size"
        done
    done
    local dom="$out/$name.dom"
    timeout 60 "$browser" --headless "${common[@]}" --dump-dom \
        "file://$PWD/$out/$name.html" 2>"$out/$name.log" >"$dom" || complain "$name: the browser failed to read it"
    if grep -q CONSOLE "$out/$name.log"; then
        complain "$name, with scripts: $(grep CONSOLE "$out/$name.log")"
    fi
    for text in "$@"; do
        grep -qF "$text" "$dom" || complain "$name: \`$text\` is not there"
    done
    grep -qF "default-src 'none'" "$dom" || complain "$name: its policy is not there"
    if grep -qiE '<(script|link|img|iframe|object)[ >]|<[a-z]+[^>]* on[a-z]+=|javascript:' "$dom"; then
        complain "$name: it has a script, or loads something"
    fi
}

cases=tests/cases/report
look verify $cases/three-environments-as-html/expected.txt 'container/cache' '<details' 'unknown'
look change $cases/a-change-as-a-page-with-charts/expected.txt '<svg' 'Before and after'
look undone $cases/a-change-that-was-undone-as-a-page/expected.txt '<h1>' 'undone'
rm -rf "$out/profile"
[ $failed = 0 ] && echo "pages are sound; pictures are in $out"
exit $failed

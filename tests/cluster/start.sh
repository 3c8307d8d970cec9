#!/usr/bin/env bash
# Starts a Slurm of two nodes with two simulated GPUs each on this machine, with its accounting in a MariaDB, as root;
# stop.sh ends it. With --install it first installs Debian's packages where they are missing.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
place=${DISTILL_SLURM:-/var/tmp/distill-slurm}
packages="slurmctld slurmd slurmdbd slurm-client munge mariadb-server"
fail() { echo "error: tests/cluster/start.sh: $1" >&2; exit 2; }
await() { # WHAT COMMAND...: until the command succeeds
    local what=$1
    shift
    for _ in $(seq 120); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.5
    done
    fail "expected $what, found none; see $place/*.log"
}

[ "$(id -u)" = 0 ] || fail "expected root, found $(id -un); simulated devices and nodes need it"
if [ "$(command -v slurmctld slurmd slurmdbd sbatch munged mariadbd | wc -l)" != 6 ]; then
    [ "${1:-}" = --install ] || fail "expected $packages, found them missing; install them, or give --install"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $packages >/dev/null
fi
for file in slurm.conf slurmdbd.conf gres.conf; do # the job step takes no SLURM_CONF along, so they lie where Slurm looks
    [ ! -e "/etc/slurm/$file" ] || grep -q distill "/etc/slurm/$file" ||
        fail "expected /etc/slurm/$file of these tests or none, found another; this machine has a Slurm of its own"
done
"$here/stop.sh"
rm -rf "$place"
mkdir -p /etc/slurm "$place/state" "$place/spool.node1" "$place/spool.node2"
for file in slurm.conf slurmdbd.conf; do
    sed "s|HOST|$(hostname -s)|; s|PLACE|$place|" "$here/$file" >"/etc/slurm/$file"
done
chmod 600 /etc/slurm/slurmdbd.conf # else slurmdbd refuses it
echo "NodeName=node1,node2 Name=gpu Count=2 File=/dev/distill-gpu[0-1]" >/etc/slurm/gres.conf
for device in 0 1; do
    [ -e /dev/distill-gpu$device ] || mknod -m 666 /dev/distill-gpu$device c 1 3 # a second /dev/null
done
if [ ! -S /run/munge/munge.socket.2 ] || ! munge -n >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge /var/log/munge /var/lib/munge
    su munge -s /bin/sh -c 'munged --force'
fi
mariadb-install-db --no-defaults --user=root --datadir="$place/mariadb" --auth-root-authentication-method=socket \
    --skip-test-db >"$place/mariadb.log" 2>&1
mariadbd --no-defaults --user=root --datadir="$place/mariadb" --socket="$place/mariadb.sock" \
    --bind-address=127.0.0.1 --port=16920 --pid-file="$place/mariadb.pid" >>"$place/mariadb.log" 2>&1 &
await "MariaDB to answer" mariadb-admin --no-defaults --socket="$place/mariadb.sock" ping
mariadb --no-defaults --socket="$place/mariadb.sock" --execute="CREATE DATABASE slurm;
    CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'distill'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1';"
slurmdbd
await "slurmdbd to answer" sacctmgr --immediate add cluster distilltest
sacctmgr --immediate --quiet add account main cluster=distilltest description=tests organization=tests >/dev/null
sacctmgr --immediate --quiet add user root account=main >/dev/null
slurmctld
slurmd -N node1
slurmd -N node2
await "two idle nodes" sh -c '[ "$(sinfo --noheader --format %T)" = idle ]'

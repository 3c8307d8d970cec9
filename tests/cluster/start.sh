#!/usr/bin/env bash
# Starts a Slurm of two nodes with two simulated GPUs each on this machine, as root; stop.sh ends it.
# With --install it first installs Debian's packages where they are missing.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
place=${DISTILL_SLURM:-/var/tmp/distill-slurm}
packages="slurmctld slurmd slurm-client munge"
fail() { echo "error: tests/cluster/start.sh: $1" >&2; exit 2; }

[ "$(id -u)" = 0 ] || fail "expected root, found $(id -un); simulated devices and nodes need it"
if [ "$(command -v slurmctld slurmd sbatch munged | wc -l)" != 4 ]; then
    [ "${1:-}" = --install ] || fail "expected $packages, found them missing; install them, or give --install"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $packages >/dev/null
fi
for file in slurm.conf gres.conf; do # the job step takes no SLURM_CONF along, so both lie where Slurm looks
    [ ! -e "/etc/slurm/$file" ] || grep -q distill "/etc/slurm/$file" ||
        fail "expected /etc/slurm/$file of these tests or none, found another; this machine has a Slurm of its own"
done
"$here/stop.sh"
rm -rf "$place"
mkdir -p /etc/slurm "$place/state" "$place/spool.node1" "$place/spool.node2"
sed "s|HOST|$(hostname -s)|; s|PLACE|$place|" "$here/slurm.conf" >/etc/slurm/slurm.conf
echo "NodeName=node1,node2 Name=gpu Count=2 File=/dev/distill-gpu[0-1]" >/etc/slurm/gres.conf
for device in 0 1; do
    [ -e /dev/distill-gpu$device ] || mknod -m 666 /dev/distill-gpu$device c 1 3 # a second /dev/null
done
if [ ! -S /run/munge/munge.socket.2 ] || ! munge -n >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge /var/log/munge /var/lib/munge
    su munge -s /bin/sh -c 'munged --force'
fi
slurmctld
slurmd -N node1
slurmd -N node2
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ] && exit 0
    sleep 0.5
done
sinfo --Node --long >&2
fail "expected two idle nodes, found the above; see $place/*.log"

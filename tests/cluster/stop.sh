#!/usr/bin/env bash
# Ends the Slurm that start.sh started. Its state and logs stay for a look.
set -uo pipefail
place=${DISTILL_SLURM:-/var/tmp/distill-slurm}
if [ -f "$place/slurmctld.pid" ] && kill -0 "$(cat "$place/slurmctld.pid")" 2>/dev/null; then
    squeue --noheader --format %i 2>/dev/null | xargs --no-run-if-empty scancel 2>/dev/null
fi
for daemon in slurmd.node1 slurmd.node2 slurmctld slurmdbd mariadb; do
    process=$(cat "$place/$daemon.pid" 2>/dev/null) && [ -n "$process" ] || continue
    kill "$process" 2>/dev/null || continue
    for _ in $(seq 300); do
        kill -0 "$process" 2>/dev/null || break
        sleep 0.1
    done
done

#!/usr/bin/env bash
# Submit from the repository's root:  sbatch --nodes=4 cluster/job.sh --config llama-7b key=value ...
# What happens on signals, requeues and failures, and every BESSEMER_ variable: docs/cluster.md.
#SBATCH --job-name=bessemer
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append

# First of all the traps: a signal that comes before them ends this shell and orphans the ranks.
received="" interrupted="" step=""
on_signal() {
    received=$1 interrupted=yes
    # Always USR2: srun takes TERM as "kill the tasks now", and they want time to save.
    if [[ -n $step ]]; then kill -s USR2 "$step" 2>/dev/null || true; fi
}
for name in USR2 USR1 TERM INT HUP; do
    # shellcheck disable=SC2064 # the name as it is now
    trap "on_signal $name" "$name"
done
set -uo pipefail

say() { echo "job ${SLURM_JOB_ID:-?}: $*" >&2; }

# Slurm runs a copy of this file, so its own place says nothing about the repository's.
root=${BESSEMER_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
if [[ -z ${SLURM_JOB_ID:-} ]]; then
    echo "error: this is a batch script; submit it with: sbatch cluster/job.sh $*" >&2
    exit 2
fi
if ! cd "$root" || [[ ! -f cluster/node_launcher.py ]]; then
    echo "error: $root is not the repository; submit from its root or set BESSEMER_HOME" >&2
    exit 2
fi

venv=${BESSEMER_VENV:-$root/.venv}
python=$venv/bin/python
if [[ ! -x $python ]]; then
    echo "error: no Python in $venv; run 'make venv' there or set BESSEMER_VENV" >&2
    exit 2
fi

rendezvous=$("$python" -m cluster.rendezvous) || exit
read -r MASTER_ADDR MASTER_PORT <<<"$rendezvous"
export MASTER_ADDR MASTER_PORT PYTHONUNBUFFERED=1
say "${SLURM_JOB_NUM_NODES} nodes (${SLURM_JOB_NODELIST}), start $((${SLURM_RESTART_COUNT:-0} + 1))," \
    "rendezvous ${MASTER_ADDR}:${MASTER_PORT}"

status=75 # a signal that came before the step: nothing was done, nothing is lost
if [[ -z $received ]]; then
    # The node launchers end each other with the right status; srun's own way (KILL) would hide it.
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=600 \
        --cpu-bind=none "$python" -m cluster.node_launcher "${BESSEMER_ENTRY:-pretrain/main.py}" "$@" &
    step=$!
    if [[ -n $received ]]; then kill -s USR2 "$step"; fi
    while true; do
        interrupted=""
        wait "$step"
        result=$?
        # 127: the previous round had already collected it.
        if ((result != 127)); then status=$result; fi
        if [[ -z $interrupted ]]; then break; fi
    done
fi

case $status in
    0) say "finished" ;;
    2) say "ended: the config, the data or a machine has to be mended (status 2); not requeued" ;;
    3) say "ended: training diverged (status 3); not requeued" ;;
    75) say "stopped and saved (status 75)" ;;
    *) say "failed (status $status)" ;;
esac
# Only the time limit's signal (USR2, or USR1 where --signal says so) asks to go on later: TERM is a cancel, or a
# preemption that Slurm requeues itself.
if ((status == 75)) && [[ $received == USR[12] && ${BESSEMER_REQUEUE:-1} != 0 ]]; then
    if [[ " $* " == *" checkpoint.resume=never "* || " $* " == *" training.resume=never "* ]]; then
        say "not requeued: with resume=never it would begin anew; submit it without that to go on"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        say "requeued; it continues from the saved step"
    else
        say "could not be requeued; submit the same command to continue"
    fi
fi
exit "$status"

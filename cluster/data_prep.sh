#!/usr/bin/env bash
# Submit from the repository's root:  sbatch --array=0-63 cluster/data_prep.sh tokenize --input ... --output ...
# The tasks of the array share the work through the output directory; any of them may be killed, requeued or submitted
# again. --cpus-per-task says how many processes each of them has.
#SBATCH --job-name=bessemer-data
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Slurm runs a copy of this file, so its own place says nothing about the repository's.
root=${BESSEMER_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
if [[ -z ${SLURM_JOB_ID:-} ]]; then
    echo "error: this is a batch script; submit it with: sbatch --array=0-63 cluster/data_prep.sh $*" >&2
    exit 2
fi
if ! cd "$root" || [[ ! -f data_prep/__main__.py ]]; then
    echo "error: $root is not the repository; submit from its root or set BESSEMER_HOME" >&2
    exit 2
fi
python=${BESSEMER_VENV:-$root/.venv}/bin/python
if [[ ! -x $python ]]; then
    echo "error: there is no $python; run 'make venv' there or set BESSEMER_VENV" >&2
    exit 2
fi
exec "$python" -m data_prep "$@"

#!/usr/bin/env bash
#
# Add workers to the scheduler of start_scheduler.sh: one "dask worker" on each node of
# the job, with as many processes, threads and as much memory as that node has.  Run it
# again when nodes have lost their workers, and name those nodes:
#
#   ./add_workers.sh
#   ./add_workers.sh --nodelist=node7 --nodes=1 --ntasks=1
#
# Arguments are options of srun.
#
#   SCHEDULER_FILE   as for start_scheduler.sh
#   DASK_INTERFACE   likewise
#   LIMITS           options of "dask memdash limits", such as "--nworkers 1"
#   LOCAL_DIRECTORY  where workers spill to: a node's own disk, not a tmpfs; $TMPDIR or /tmp
set -euo pipefail

export SCHEDULER_FILE="${SCHEDULER_FILE:-${SCRATCH:-$HOME}/scheduler_${SLURM_JOB_ID:?run this inside a job}.json}"
export DASK_INTERFACE="${DASK_INTERFACE:-}" LIMITS="${LIMITS:-}"
export LOCAL_DIRECTORY="${LOCAL_DIRECTORY:-${TMPDIR:-/tmp}}"

if [ ! -s "$SCHEDULER_FILE" ]; then
  echo "No scheduler file $SCHEDULER_FILE: run start_scheduler.sh first." >&2
  exit 1
fi

# What a node offers is measured on that node, so the limits are worked out there.  The
# step shares the node (--overlap) with earlier ones, and takes all that the job has of it.
# shellcheck disable=SC2016  # meant for the shell on the node
srun \
  --nodes="${SLURM_JOB_NUM_NODES:-1}" --ntasks="${SLURM_JOB_NUM_NODES:-1}" \
  --ntasks-per-node=1 --cpu-bind=none --mem=0 --overlap \
  "$@" \
  bash -euc '
    plan="$(dask memdash limits $LIMITS --local-directory "$LOCAL_DIRECTORY" --env)"
    set -a; eval "$plan"; set +a
    exec dask worker \
      --scheduler-file "$SCHEDULER_FILE" \
      --nworkers "$MEMDASH_NWORKERS" \
      --nthreads "$MEMDASH_NTHREADS" \
      --memory-limit "$MEMDASH_MEMORY_LIMIT" \
      --local-directory "$LOCAL_DIRECTORY" \
      --death-timeout 60 \
      ${DASK_INTERFACE:+--interface "$DASK_INTERFACE"}
  ' &

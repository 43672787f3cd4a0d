#!/usr/bin/env bash
#
# Start a Dask scheduler with MemDash inside a SLURM job, and wait until it can be used.
# Run it in an salloc session or at the top of a batch script; it stays in the background.
#
#   SCHEDULER_FILE     where workers and clients find it; one for each job by default
#   DASK_INTERFACE     network interface to listen on, such as ib0; Dask's choice if empty
#   DASHBOARD_ADDRESS  where the page listens; port 8787 on all interfaces by default
set -euo pipefail

SCHEDULER_FILE="${SCHEDULER_FILE:-${SCRATCH:-$HOME}/scheduler_${SLURM_JOB_ID:?run this inside a job}.json}"

# A file left by an earlier scheduler would send everybody to the wrong address.
rm -f "$SCHEDULER_FILE"

dask scheduler \
  --preload dask_memdash \
  --scheduler-file "$SCHEDULER_FILE" \
  --pid-file "$SCHEDULER_FILE.pid" \
  --dashboard-address "${DASHBOARD_ADDRESS:-:8787}" \
  ${DASK_INTERFACE:+--interface "$DASK_INTERFACE"} \
  > "$SCHEDULER_FILE.log" 2>&1 &
scheduler=$!

# The scheduler writes the file when it listens.
for _ in $(seq 600); do
  [ -s "$SCHEDULER_FILE" ] && break
  if ! kill -0 "$scheduler" 2> /dev/null; then
    echo "The scheduler ended before it listened:" >&2
    cat "$SCHEDULER_FILE.log" >&2
    exit 1
  fi
  sleep 0.1
done
if [ ! -s "$SCHEDULER_FILE" ]; then
  echo "No scheduler after a minute; see $SCHEDULER_FILE.log" >&2
  kill "$scheduler"
  exit 1
fi
echo "Scheduler file: $SCHEDULER_FILE"
echo "MemDash:        port ${DASHBOARD_ADDRESS:-8787} of $(hostname), /memdash"

#!/usr/bin/env bash
#
# Measure the memory that this machine can spare now, and start the services of
# compose.yaml with it.  Arguments go to "docker compose up".
#
#   RESERVE  memory left to the scheduler and to whatever else grows later; 1GiB by default
set -euo pipefail
cd "$(dirname "$0")"

# With the host's own dask where it has MemDash, else in the image: a container without a
# limit sees the host's memory.
limits() {
  if dask memdash --version > /dev/null 2>&1; then
    dask memdash limits "$@"
  else
    docker run --rm dask-memdash dask memdash limits "$@"
  fi
}

# With one worker, its limit is all that there is to share out.
plan="$(limits --nworkers 1 --reserve "${RESERVE:-1GiB}" --env)"
eval "$plan"
export AVAILABLE_MEMORY_FOR_DASK="${MEMDASH_MEMORY_LIMIT:?no plan was made}"
echo "The workers' container gets $AVAILABLE_MEMORY_FOR_DASK bytes."
exec docker compose up "$@"

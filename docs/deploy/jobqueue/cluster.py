"""Start a SLURM cluster with dask-jobqueue, MemDash on its scheduler.

Two workers a job.  dask-jobqueue divides the job's memory by two and forgets the nanny;
what ``dask memdash limits`` finds inside the job comes later on the command line of
``dask worker``, and counts.
"""

from dask_jobqueue import SLURMCluster
from distributed import Client


def main() -> None:
    """Start it, say where the page is, and compute something."""
    with (
        SLURMCluster(
            cores=16,
            memory="64GiB",
            processes=2,
            walltime="01:00:00",
            local_directory="/tmp",  # a disk of the node's own
            scheduler_options={"preload": ["dask_memdash"]},
            job_script_prologue=['eval "$(dask memdash limits --nworkers 2 --env)"'],
            worker_extra_args=["--memory-limit", '"$MEMDASH_MEMORY_LIMIT"'],
        ) as cluster,
        Client(cluster) as client,
    ):
        print(cluster.job_script())
        print(client.dashboard_link.removesuffix("/status") + "/memdash")
        cluster.scale(jobs=1)
        print(client.submit(sum, [1, 2, 3]).result())


if __name__ == "__main__":
    main()

"""The command line: ``dask memdash …``.

Dask finds :func:`main` through the entry point group ``dask_cli`` and imports this
module with every ``dask`` command, so that nothing heavy is imported at its top. Covers
options and exit statuses; what commands do stands in
:mod:`dask_memdash.cli.worker_plan` and, for the demos of :mod:`dask_memdash.cli.demo`,
in :mod:`dask_memdash.demos`.
"""

from __future__ import annotations

import click

import dask_memdash.config
from dask_memdash.cli.demo import demo
from dask_memdash.cli.options import NOT_EXPLAINED, clear_messages, size_or_none
from dask_memdash.cli.runs import runs
from dask_memdash.cli.runs_what_if import what_if
from dask_memdash.cli.storage import storage
from dask_memdash.cli.terminal import top, watch

# For `dask config get memdash`, which imports this module and nothing else of ours.
dask_memdash.config.register_defaults()

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 88}


@click.group(name="memdash", context_settings=CONTEXT)
@click.version_option(package_name="dask-memdash", prog_name="dask memdash")
def main() -> None:
    """See where the memory of a Dask cluster is, and who takes it.

    MemDash is a plugin of the scheduler. Register it on a running cluster

    \b
        from dask_memdash import MemDash
        client.register_plugin(MemDash())

    or start the scheduler with it

    \b
        dask scheduler --preload dask_memdash

    and open /memdash on the scheduler's dashboard (http://localhost:8787/memdash
    unless configured otherwise). From Python, dask_memdash.explain(error) says why a
    KilledWorker was raised.

    Nothing is needed on a running cluster for the commands below: "limits" says how
    to start workers on this machine, "demo" starts clusters of its own, "storage" looks
    after stored intermediates, "runs" shows recorded runs.
    """


@main.command(short_help="Say how to start workers on this machine.")
@click.option(
    "--nworkers",
    type=click.IntRange(1, 4096),
    help="Workers to start here; chosen for you unless given.",
)
@click.option(
    "--nthreads",
    type=click.IntRange(1, 4096),
    help="Threads of each worker; chosen for you unless given.",
)
@click.option(
    "--profile",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Take measured peaks from a file: the answer of the API's prefixes.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Take measured peaks from a running scheduler: its dashboard's address.",
)
@click.option(
    "--local-directory",
    metavar="PATH",
    help="Directory that the workers will spill to; Dask's default unless given.",
)
@click.option(
    "--reserve",
    callback=size_or_none,
    metavar="SIZE",
    default="0",
    help="Memory to leave free for other programs, beyond what they use now.",
)
@click.option("--json", "form", flag_value="json", help="Write one JSON object.")
@click.option(
    "--env", "form", flag_value="env", help="Write variables, for scripts and compose."
)
@click.pass_context
def limits(
    ctx: click.Context,
    nworkers: int | None,
    nthreads: int | None,
    profile: str | None,
    scheduler: str | None,
    local_directory: str | None,
    reserve: int,
    form: str | None,
) -> None:
    """Say how to start workers on this machine: memory limit, workers, threads.

    Run it where the workers will run, before you start them: in the same container,
    batch job or service. It reads what limits memory there (machine, available memory,
    cgroups, rlimits, batch system) and divides it among the workers. Given peaks that
    MemDash has measured, it also says how many threads fit.

    \b
    Exit status:
      0    there is a plan
      1    the largest task that was measured does not fit here
      2    options that make no sense
      3    no plan can be made: the message says why

    \b
    Examples:
      dask memdash limits
      dask memdash limits --nworkers 1 --reserve 2GiB
      dask memdash limits --scheduler http://localhost:8787
      curl -s localhost:8787/memdash/api/prefixes > peaks.json
      dask memdash limits --profile peaks.json --json
      dask memdash limits --env > workers.env
    """
    if profile and scheduler:
        raise click.UsageError("give --profile or --scheduler, not both")
    with clear_messages():
        from dask_memdash.analysis.limits.worker_plan import Wishes
        from dask_memdash.cli import worker_plan

        found = worker_plan.plan_here(
            Wishes(nworkers, nthreads, reserve),
            profile,
            scheduler,
            local_directory,
        )
        click.echo(worker_plan.written(*found, form or "text"))
    ctx.exit(0 if found[0].fits else NOT_EXPLAINED)


@main.command(short_help="List the failures of a running cluster.")
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
def failures(address: str, as_json: bool) -> None:
    """List the failures of a running cluster, newest first.

    ADDRESS is the dashboard of a scheduler that MemDash runs on, or, with tcp:// or
    tls://, the scheduler itself. A failure is all incidents of one computation: its
    deaths, their cause and what they cost.

    \b
    Examples:
      dask memdash failures http://localhost:8787
      dask memdash failures localhost:8787 --json
    """
    with clear_messages():
        from dask_memdash.cli import failures as command
        from dask_memdash.text import plain_lines

        found = command.ask(address)
        if as_json:
            import json

            click.echo(json.dumps(found, indent=2))
        else:
            click.echo(plain_lines(command.as_text(found)))


@main.command(short_help="Say what a report of a problem needs to say.")
@click.argument("address", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def info(address: str | None, as_json: bool) -> None:
    """Say what a report of a problem needs to say, to be pasted into it.

    Versions, this machine and its limits, what would count the memory of tasks here and
    why not better, settings that differ from the defaults. With ADDRESS, of a
    scheduler's dashboard or (tcp://, tls://) of a scheduler, also how its workers are
    measured and what is degraded there.

    Names of users and hosts, addresses, home directories and credentials are left out.

    \b
    Examples:
      dask memdash info
      dask memdash info http://localhost:8787
    """
    with clear_messages():
        from dask_memdash.cli import info as command
        from dask_memdash.text import plain_lines

        found = command.gather(address)
        write = command.as_json if as_json else command.as_text
        click.echo(plain_lines(write(found)))


main.add_command(top)
main.add_command(watch)
main.add_command(demo)
main.add_command(runs)
runs.add_command(what_if)
main.add_command(storage)

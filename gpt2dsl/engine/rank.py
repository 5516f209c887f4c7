"""Entry point of one rank: ``python -m gpt2dsl.engine.rank JOB``."""

from __future__ import annotations

import os
import pickle
import resource
import sys
from pathlib import Path

from gpt2dsl.cluster.reports import Reporter
from gpt2dsl.cluster.supervisor import STOPPED
from gpt2dsl.engine.job import Job
from gpt2dsl.engine.parallel import RESULT
from gpt2dsl.engine.run import carried_out
from gpt2dsl.errors import Gpt2DslError, Interrupted

INTERRUPTED = 130
"""Exit code of a process ended by Ctrl-C."""


def main() -> int:
    """Run this rank's part of a job, and return its exit code.

    Errors go to the supervisor, which reports them to the user; the traceback of an unexpected one
    is in this rank's log.
    """
    file = Path(sys.argv[1])
    job: Job = pickle.loads(file.read_bytes())  # noqa: S301  # written by our own parent
    reports = Reporter.from_environment()
    try:
        result = carried_out(job)
    except Interrupted as stop:
        reports.error(str(stop))
        reports.done()
        return STOPPED
    except KeyboardInterrupt:
        return INTERRUPTED  # before the first step; the supervisor reports it
    except Gpt2DslError as error:
        reports.error(str(error))
        return 1
    if os.environ["RANK_ID"] == "0":
        (file.parent / RESULT).write_bytes(pickle.dumps(result))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"peak memory {peak / 1e6:,.0f} MB\n")  # in this rank's log
    reports.done()
    return 0


if __name__ == "__main__":
    sys.exit(main())

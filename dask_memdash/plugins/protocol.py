"""What workers, nannies, scheduler and clients have to agree on."""

from __future__ import annotations

#: Version of what workers, nannies and scheduler say to each other.
PROTOCOL = 2

#: Name of the scheduler's handler that takes nannies' samples and reports.
REPORT_OPERATION = "memdash_report"

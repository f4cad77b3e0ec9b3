"""A shared graph against dedicated models: latency, switching, memory and size, measured in one run.

A device measures itself: nothing here needs more than the runtime does. Dedicated models out of other converters, and
the picture of the results, are the command line's (`edgepatch.cli.bench`).
"""

from edgepatch.bench.contestants import Plan, plan
from edgepatch.bench.document import measure

__all__ = ["Plan", "measure", "plan"]

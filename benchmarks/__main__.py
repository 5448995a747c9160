"""Measures the client's data path: ``python -m benchmarks``, or ``make bench``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks.packets import packet_costs
from benchmarks.paths import Certificates, Middle, data_path
from benchmarks.report import Report
from benchmarks.samples import MEASURES, Sample
from benchmarks.traffic import LOADS

ROUNDS: Final = 40
ROUNDS_ALONE: Final = 5
RUN_S: Final = 0.2


async def measure(rounds: int) -> Report:
    """Measure everything; client and peer take turns, so that noise hits both."""
    with tempfile.TemporaryDirectory(prefix="vmredir-bench-") as folder:
        certificates = Certificates(Path(folder))
        async with data_path(certificates, Middle.NOTHING) as path:
            alone = [await path.run(load, RUN_S) for _ in range(ROUNDS_ALONE) for load in LOADS]
        client: list[Sample] = []
        peer: list[Sample] = []
        async with AsyncExitStack() as stack:
            ours = await stack.enter_async_context(data_path(certificates, Middle.CLIENT))
            theirs = await stack.enter_async_context(data_path(certificates, Middle.PEER))
            for _ in range(rounds):
                for load in LOADS:
                    client.append(await ours.run(load, RUN_S))
                    peer.append(await theirs.run(load, RUN_S))
    return Report(
        alone=alone,
        comparisons=[measure.compare(client, peer) for measure in MEASURES],
        packets=packet_costs(),
        far_end_busy=max(sample.far_end_busy for sample in client + peer),
        rounds=rounds,
    )


def main() -> int:
    """Run the benchmarks; the status is 1 if a ratio is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-o", "--output", choices=["json"], help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at least 2")
    options = parser.parse_args()
    report = asyncio.run(measure(max(options.rounds, 2)))
    if options.output == "json":
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.to_text())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())

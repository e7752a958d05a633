"""A parser that knows nothing of this project reads what /metrics shows.

    metrics.py OPENMETRICS CLASSIC

Two files, one in each text format. Both must parse, strictly, and hold the same samples.
"""

import sys
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def main(first, second):
    one = samples(open_metrics(Path(first).read_text()))
    other = samples(classic(Path(second).read_text()))
    if one != other:
        sys.exit(f"the formats differ in {sorted(one ^ other)[:10]}")
    print(f"{len(one)} samples")


main(*sys.argv[1:])

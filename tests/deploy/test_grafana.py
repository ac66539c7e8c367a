"""The dashboard asks only for gauges that `monitor` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from beam_fraud.evaluation.quality.gauges import quality_gauges
from beam_fraud.monitoring.drift.gauges import drift_metrics, exposition
from tests.evaluation.test_quality import World
from tests.monitoring.test_drift_alarms import FIRST_DAY, changed, report, traffic

_BOARD = Path(__file__).parents[2] / "deploy/grafana/drift.json"


def test_every_gauge_of_the_dashboard_is_written():
    found = report(changed(traffic(0), "type", (0, 2), 0.1))
    quality = list(quality_gauges(World(1).quality()))
    written = exposition([*drift_metrics(found), *quality]).decode()
    expressions = [
        target["expr"]
        for panel in json.loads(_BOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    asked = set(re.findall(r"beam_fraud_\w+", " ".join(expressions)))
    assert len(asked) == 11
    assert [name for name in sorted(asked) if not re.search(rf"^{name}[ {{]", written, re.M)] == []
    assert {one.name for one in quality} <= asked
    # What a query selects by a label has samples.
    selected = re.findall(r'(beam_fraud_\w+{\w+="\w+")', " ".join(expressions))
    assert len(selected) == 4
    assert all(one in written for one in selected)


def test_gauges_are_those_of_the_report():
    found = report(traffic(0))
    values = dict(
        line.rsplit(" ", 1)
        for line in exposition(drift_metrics(found)).decode().splitlines()
        if not line.startswith("#")
    )
    last = str(np.datetime64(FIRST_DAY + 79, "D"))
    [window] = [one for one in found.windows if one.day == last]
    assert float(values["beam_fraud_drift_rows"]) == window.rows
    assert float(values["beam_fraud_drift_alarms"]) == len(found.open_alarms)
    psi = values['beam_fraud_drift_psi{measure="age",segment=""}']
    assert float(psi) == next(one.psi for one in found.features if one.name == "age")

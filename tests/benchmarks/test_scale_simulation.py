"""The simulated schedule, where its result can be worked out by hand."""

from __future__ import annotations

import math
from types import ModuleType

import pytest


def costs(script: ModuleType, **changed: float):
    plain = {"picture": 0.5, "fixed": 2.0, "driver": 0.0, "megabytes": 1.0, "copy_megabytes": 0.5, "scatter": 0.0}
    return script.Costs(**{**plain, **changed})


def test_without_scatter_driver_and_failures_it_is_arithmetic(script: ModuleType) -> None:
    # 4 cores, 10 shards of 100 pictures at 52 s: three rounds; the last shard of 50 is done within them.
    found = script.simulate(1050, 100, costs(script), script.Cluster(2, 2))
    assert found.seconds == pytest.approx(3 * 52.0)
    assert found.busy == pytest.approx(10 * 52.0 + 27.0)
    assert (found.repeated, found.failures, found.driver_share) == (0, 0, 0)


def test_a_driver_that_is_asked_too_often_is_the_limit(script: ModuleType) -> None:
    shard = costs(script, picture=0.01, fixed=0.0, driver=0.5)  # 1 s of work a shard, half a second of the driver
    few = script.simulate(40_000, 100, shard, script.Cluster(1, 1))
    assert few.seconds == pytest.approx(400 * 1.5)
    many = script.simulate(40_000, 100, shard, script.Cluster(50, 2))
    assert many.seconds == pytest.approx(400 * 0.5 + 1.0)
    assert many.driver_share > 0.99


@pytest.mark.parametrize("keeps", [True, False])
def test_every_picture_is_written_though_nodes_fail(script: ModuleType, keeps: bool) -> None:
    cluster = script.Cluster(5, 2, between_failures=800.0, away=100.0, noticed=10.0, keeps=keeps)
    found = script.simulate(20_000, 100, costs(script), cluster)
    assert found.failures > 3
    assert (found.repeated > found.failures * 10) is not keeps
    ideal = 20_000 * 0.5 + 200 * 2.0
    assert found.busy - found.repeated * 0.5 >= ideal - 1e-6
    assert found.seconds >= ideal / 10
    assert found == script.simulate(20_000, 100, costs(script), cluster)
    assert found != script.simulate(20_000, 100, costs(script), cluster, seed=1)


def test_shards_that_are_never_finished_end_the_simulation(script: ModuleType) -> None:
    cluster = script.Cluster(1, 1, between_failures=1.0, away=1.0, noticed=1.0, keeps=False)
    with pytest.raises(ValueError, match="before a shard is finished"):
        script.simulate(10_000, 10_000, costs(script), cluster)


def test_the_table_from_costs_that_were_given(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--picture-seconds", "0.25", "--fixed-seconds", "1", "--driver-seconds", "0.01", "--megabytes", "3")
    script.main(["--pictures", "1e6", "5e3", "--nodes", "2", "--cores", "4", "--shard", "100", "1000", *given])
    told = capsys.readouterr().out.splitlines()
    assert "    2,600 cores with shards of 100 pictures (26 s each)" in told
    rows = [line.split("|")[1:-1] for line in told if line.startswith("|")]
    assert [(row[0].strip(), row[2].strip()) for row in rows[2:]] == [
        ("10^6", "100"), ("10^6", "1,000"), ("5,000", "100"), ("5,000", "1,000"),
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        script.main(["--megabytes", "3"])


def test_the_costs_of_this_machine(script: ModuleType) -> None:
    found = script.measure(side=(48, 32), few=2, many=6)
    assert all(math.isfinite(value) for value in (found.picture, found.fixed, found.driver, found.megabytes))
    assert found.driver > 0
    assert 0 < found.copy_megabytes < 48 * 32 * 3 / 1e6 * 1.2

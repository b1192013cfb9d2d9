"""A training process that dies, and two hosts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_config, without_seconds
from training_job import finished, launch

from twincar.core.runs import RunFolder, best_epoch


def test_a_process_that_dies_ends_the_job_and_the_run_goes_on(small_data: Path, tmp_path: Path) -> None:
    """Resumed, it ends as the run that nothing happened to; its metrics are those of the weights it kept."""
    from twincar.evaluation.evaluate import evaluate

    config = small_config(small_data, epochs=3, ema_decay=0.9)
    finished(launch(config, tmp_path / "whole"))
    process = launch(config, tmp_path / "run", DIE_RANK="1", DIE_EPOCH="2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Another process of this training has ended" in err
    assert f"--resume {tmp_path / 'run'}" in err
    assert "Traceback" not in err
    finished(launch(config, tmp_path / "run", resumed=True))
    whole, run = (RunFolder.open(tmp_path / name) for name in ("whole", "run"))
    assert without_seconds(run.read_history()) == without_seconds(whole.read_history())
    evaluation = evaluate(run.path, split="val")
    best = best_epoch(run.read_history())
    for name, value in evaluation.metrics.items():
        if name not in {"loss", "ece", "brier"}:  # the history has them before calibration
            assert best[f"val_{name}"] == pytest.approx(value, abs=1e-4), name


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces that reach each other, as two hosts would; the address of the first is 10.99.0.1."""
    names = ["twincar-a", "twincar-b"]
    commands = [f"ip netns add {name}" for name in names]
    commands += ["ip link add tca netns twincar-a type veth peer name tcb netns twincar-b"]
    for name, link, address in (("twincar-a", "tca", "10.99.0.1/24"), ("twincar-b", "tcb", "10.99.0.2/24")):
        commands += [f"ip -n {name} addr add {address} dev {link}", f"ip -n {name} link set {link} up"]
        commands += [f"ip -n {name} link set lo up"]
    try:
        for command in commands:
            if not shutil.which("ip") or subprocess.run(command.split(), capture_output=True, check=False).returncode:
                pytest.skip("network namespaces need root and iproute2")
        yield names
    finally:
        for name in names:
            if shutil.which("ip"):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_two_hosts_under_torchrun_train_as_two_devices(small_data: Path, tmp_path: Path, hosts: list[str]) -> None:
    config = small_config(small_data, epochs=1)
    processes = []
    for rank, (host, link) in enumerate(zip(hosts, ("tca", "tcb"), strict=True)):
        before = f"ip netns exec {host} {sys.executable} -m torch.distributed.run --nnodes 2 --nproc-per-node 1"
        before += f" --node-rank {rank} --master-addr 10.99.0.1 --master-port 29511"
        processes.append(launch(config, tmp_path / "hosts", *before.split(), GLOO_SOCKET_IFNAME=link))
    outs = [finished(process) for process in processes]
    assert [out.count("Best epoch") for out in outs] == [1, 0]
    finished(launch(config, tmp_path / "devices"))
    first, second = (without_seconds(RunFolder.open(tmp_path / name).read_history()) for name in ("hosts", "devices"))
    assert first == second

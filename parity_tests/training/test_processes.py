"""Tests that training in several processes gives the same result as one process, and that processes end together."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flaxnets.cli import processes
from flaxnets.cli.common import UsageError
from flaxnets.run_config import RunOptions

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
GATES = {"float32": 1e-5, "float64": 1e-10}
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(*words: object, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    return subprocess.Popen(
        command, env={**ENVIRONMENT, **variables}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(*running: subprocess.Popen, seconds: float = 240) -> list[tuple[int, str, str]]:
    """Wait for processes, and return their exit statuses, outputs and errors."""
    found = []
    try:
        for process in running:
            output, error = process.communicate(timeout=seconds)
            found.append((process.returncode, output, error))
    finally:
        for process in running:
            process.kill()
    return found


def worst_error(ours: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    assert ours.keys() == expected.keys()
    return max(
        float(np.abs(ours[name] - array).max() / max(np.abs(array).max(), 1e-3))
        for name, array in expected.items()
        if array.size
    )


def train_in_processes(folder: Path, count: int) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Run ``count`` processes, and return parameters by run and topology."""
    path, port = folder / "runs.npz", free_port()
    words = [HERE / "process_runs.py", f"127.0.0.1:{port}", count]
    for status, _, error in ended(*(start(*words, index, path) for index in range(count))):
        assert status == 0, error[-2000:]
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    with np.load(path) as file:
        for key in file.files:
            run, topology, name = key.split("/")
            found.setdefault(run, {}).setdefault(topology, {})[name] = file[key]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run two processes, and return the folder of their runs, and parameters by run and topology."""
    folder = tmp_path_factory.mktemp("processes")
    return folder, train_in_processes(folder, 2)


@pytest.mark.parametrize(("count", "number"), [(2, 6), (4, 3)])
def test_processes_give_the_parameters_of_one_device_also_when_resumed(request, tmp_path, count, number):
    found = request.getfixturevalue("runs")[1] if count == 2 else train_in_processes(tmp_path, count)
    errors = {
        run: error
        for run, each in found.items()
        if (error := worst_error(each["processes"], each["one"])) > GATES[run.partition(" ")[0]]
    }
    assert errors == {}
    assert len(found) == number


@pytest.mark.parametrize("name", ["lenet_batchnorm", "densenet"])
def test_two_processes_give_the_parameters_of_distributed_data_parallel(runs, name):
    folder, found = runs
    port = free_port()
    script = HERE / "torch_processes.py"
    for status, _, error in ended(*(start(script, port, index, folder, name) for index in (0, 1))):
        assert status == 0, error[-2000:]
    with np.load(folder / f"{name}-torch.npz") as file:
        expected = {key: file[key] for key in file.files}
    assert worst_error(found[f"float64 {name}"]["processes"], expected) < 1e-9


def train(out: Path, launcher: str | None = None) -> list[subprocess.Popen]:
    """Start two processes; with ``launcher="slurm"``, set the variables by which JAX detects Slurm."""
    port = free_port()
    words = ["train.py", "--arch", "mlp", "--dataset", "digits", "--epochs", "2000", "--batch-size", "64", "--out", out]
    if launcher is None:
        words += ["--coordinator", f"127.0.0.1:{port}", "--num-processes", 2]
        return [start(*words, "--process-id", index) for index in (0, 1)]
    job = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    processes = [{"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in (0, 1)]
    return [start(*words, "--distributed", "auto", **job, **variables) for variables in processes]


def await_checkpoint(out: Path, running: list[subprocess.Popen]) -> Path:
    for _ in range(600):
        folders = [*out.glob("*/checkpoints/00*[0-9]/manifest.json")]
        if folders:
            return folders[0].parents[2]
        assert all(process.poll() is None for process in running), ended(*running)
        time.sleep(0.2)
    raise AssertionError(ended(*running))


@pytest.mark.parametrize("index", [0, 1])
def test_the_death_of_a_process_ends_the_others_and_one_process_can_resume(tmp_path, index):
    running = train(tmp_path)
    run = await_checkpoint(tmp_path, running)
    running[index].kill()
    died = time.monotonic()
    found = ended(*running)
    assert time.monotonic() - died < 30
    status, _, error = found[1 - index]
    assert status == 1
    assert f"error: process {index} of 2 has ended; this process ends too" in error
    assert f"--resume {run} --coordinator 127.0.0.1" in error
    if index == 1:
        ((status, output, error),) = ended(start("train.py", "--resume", run, "--time-limit", "0.1"))
        assert status == 0, error
        assert re.search(r"resumed in epoch \d+ after step", output)


def test_a_signal_to_one_of_the_detected_processes_ends_all_with_one_checkpoint_at_the_same_step(tmp_path):
    running = train(tmp_path, launcher="slurm")
    run = await_checkpoint(tmp_path, running)
    running[1].send_signal(signal.SIGTERM)
    found = ended(*running)
    assert [status for status, _, _ in found] == [143, 143]
    assert re.search(r"terminated after \d+ whole epochs; saved in", found[0][1])
    assert len([*run.glob("checkpoints/*.partial")]) == 0
    assert run.joinpath("last.safetensors").exists()


MISUSED = {
    "--coordinator without --num-processes, --process-id": {"coordinator": "127.0.0.1:99"},
    "--distributed auto and --coordinator": {"distributed": "auto", "coordinator": "127.0.0.1:99"},
    "--coordinator 127.0.0.1: expected HOST:PORT": {"coordinator": "127.0.0.1", "num_processes": 2, "process_id": 0},
    "--process-id 2: expected 0 to 1": {"coordinator": "127.0.0.1:99", "num_processes": 2, "process_id": 2},
}


@pytest.mark.parametrize(("message", "options"), MISUSED.items())
def test_options_that_do_not_go_together_are_refused(message, options):
    with pytest.raises(UsageError, match=re.escape(message)):
        processes.is_distributed(RunOptions(**options))


# For each message: the facts that each process reports, as (index, count, other facts).
MEETINGS: dict[str, list[tuple[int, int, dict[str, Any]]]] = {
    "": [(0, 3, {}), (1, 3, {}), (2, 3, {})],
    "the processes differ: --lr is 0.1 in process 0 and 0.2 in process 1": [
        (0, 2, {"--lr": 0.1}),
        (1, 2, {"--lr": 0.2}),
    ],
    "the processes differ: jax is '1' in process 0 and '2' in process 1": [(0, 2, {"jax": "1"}), (1, 2, {"jax": "2"})],
    "the processes differ: --num-processes is 2 in process 0 and 3 in process 1": [(0, 2, {}), (1, 3, {})],
    "two processes have --process-id 1. Expected 0 to 2, each once": [(0, 3, {}), (1, 3, {}), (1, 3, {})],
    "no sign of process 2 of 3 within 2 seconds. Fix: start it": [(0, 3, {}), (1, 3, {})],
}


@pytest.mark.parametrize(("message", "members"), MEETINGS.items())
def test_processes_that_do_not_agree_all_say_why(message, members, monkeypatch):
    monkeypatch.setattr(processes, "TIMEOUT", 2)
    address, found = f"127.0.0.1:{free_port()}", []

    def meet(index: int, count: int, facts: dict[str, Any]) -> None:
        connections: dict[int, socket.socket] = {}
        try:
            connections = processes.meet(address, count, index, facts)
            found.append("")
        except UsageError as error:
            found.append(str(error))
        for connection in connections.values():
            connection.close()

    threads = [threading.Thread(target=meet, args=member) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [message] * len(members)


def test_an_unreachable_coordinator_is_a_message_after_the_time_limit(monkeypatch):
    monkeypatch.setattr(processes, "TIMEOUT", 1)
    with pytest.raises(UsageError, match=r"--coordinator 127.0.0.1:\d+: cannot be reached within 1 seconds"):
        processes.meet(f"127.0.0.1:{free_port()}", 2, 1, {})


def test_a_port_in_use_and_a_visitor_of_another_program_are_told_apart(monkeypatch):
    monkeypatch.setattr(processes, "TIMEOUT", 2)
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"--coordinator 127.0.0.1:{port}: cannot listen there"):
            processes.meet(f"127.0.0.1:{port}", 2, 0, {})
    port = free_port()

    def visit() -> None:
        for _ in range(50):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return
            time.sleep(0.02)

    visitor = threading.Thread(target=visit)
    visitor.start()
    with pytest.raises(UsageError, match="no sign of process 1 of 2 within 2 seconds"):
        processes.meet(f"127.0.0.1:{port}", 2, 0, {})
    visitor.join()


def test_different_options_end_both_commands_with_exit_status_2(tmp_path):
    port, found = free_port(), []
    words = ["--arch", "mlp", "--out", tmp_path, "--coordinator", f"127.0.0.1:{port}", "--num-processes", 2]
    running = [start("train.py", *words, "--process-id", index, "--seed", index) for index in (0, 1)]
    for status, _, error in ended(*running):
        found.append((status, error.strip()))
    assert found == [(2, "train.py: error: the processes differ: --seed is 0 in process 0 and 1 in process 1")] * 2

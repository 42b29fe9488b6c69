"""Tests of commands as processes: signals at any time, environment variables of JAX, and closed streams."""

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from test_cli import make_run

import flaxnets
from benchmarks.run_faults import ENVIRONMENT, TRAIN, begin, wait_for
from flaxnets._startup import EXIT_STATUS
from flaxnets.cli import main
from flaxnets.data import load

MODULE = [sys.executable, "-m", "flaxnets"]


def ended(command, delay, number, cwd):
    """Run a process, send a signal after ``delay`` seconds, and return exit status and output."""
    with subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(delay)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


# During Python's imports, the import of JAX, the loading of data, and the compilation of the step.
@pytest.mark.parametrize("delay", [0.25, 0.6, 1.5, 4.0])
def test_a_signal_before_the_first_step_is_a_line_and_leaves_nothing(delay, tmp_path):
    command = [*TRAIN, "--arch", "lenet_batchnorm", "--cache-dir", "compiled"]
    number = signal.SIGINT if delay != 1.5 else signal.SIGTERM
    status, out, err = ended(command, delay, number, tmp_path)
    assert (status, "Traceback" in err) == (EXIT_STATUS[number], False), err
    assert err == f"train.py: {'interrupted' if number == signal.SIGINT else 'terminated'}\n"
    assert out == "" or out.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] in ([], ["compiled"])


@pytest.mark.parametrize("command", [[*MODULE, "list"], ["flaxnets", "list"]], ids=["module", "script"])
def test_other_commands_are_interrupted_in_a_line_too(command, tmp_path):
    if command[0] == "flaxnets":  # the script that an installer creates
        script = tmp_path / "flaxnets"
        script.write_text("import sys\nfrom flaxnets.cli import main\nsys.exit(main())\n")
        command = [sys.executable, str(script), *command[1:]]
    assert ended(command, 0.5, signal.SIGINT, tmp_path) == (130, "", "flaxnets: interrupted\n")


def test_the_command_after_ctrl_c_goes_on_when_it_is_pasted(tmp_path):
    out = "my runs; 1"
    with begin("--arch", "linear_regression", "--epochs", 400_000, "--out", out, cwd=tmp_path) as process:
        wait_for("my runs; 1/*/metrics.jsonl", tmp_path)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    _, line = stdout.rsplit("resume with:\n", 1)
    run = next((tmp_path / out).iterdir())
    assert shlex.split(line)[-2:] == ["--resume", f"{out}/{run.name}"]
    done = subprocess.run(
        f"{line.strip()} --time-limit 0.1", shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "resumed in epoch" in done.stdout
    assert "(the time limit was reached)" in done.stdout


# An environment variable of JAX, the command, the exit status, and the expected message.
ENVIRONMENTS = {
    "no GPU": ("JAX_PLATFORMS=cuda", "train --arch mlp", 2, "JAX_PLATFORMS=cuda: "),
    "no TPU": ("JAX_PLATFORM_NAME=tpu", "evaluate run", 2, "JAX_PLATFORM_NAME=tpu: "),
    "no GPU for a summary": ("JAX_PLATFORMS=cuda", "summary mlp", 2, "JAX_PLATFORMS=cuda: "),
    "nonsense": ("JAX_PLATFORMS=abacus", "predict run image.png", 2, "JAX_PLATFORMS=abacus: "),
    "a device beside it": ("JAX_PLATFORMS=cuda", "train --arch mlp --dry-run --device cpu", 0, ""),
    "nothing compiled": ("JAX_DISABLE_JIT=1", "train --arch mlp", 2, "JAX_DISABLE_JIT=1: "),
    "no truth value": ("JAX_ENABLE_X64=maybe", "list", 2, "cannot start: invalid truth value 'maybe'"),
    "NaN": ("JAX_DEBUG_NANS=1", "train --arch mlp --lr 1e38 --train-examples 128 --schedule constant", 1, "at step 2"),
}  # fmt: skip


@pytest.mark.parametrize(("variable", "arguments", "status", "message"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_what_the_environment_asks_of_jax_is_done_or_refused_in_a_line(variable, arguments, status, message, tmp_path):
    name, value = variable.split("=")
    environment = {**ENVIRONMENT, name: value}
    done = subprocess.run(
        [*MODULE, *arguments.split()], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    if status:
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
    if status == 2:
        assert (done.stdout, list(tmp_path.iterdir())) == ("", [])


def test_streams_that_are_closed_or_full_are_no_traceback(tmp_path):
    command = shlex.join([*MODULE, "list", "mlp"])
    bad = shlex.join([*MODULE, "list", "nothing"])
    ends = {f"{bad} 2>&-": 2, f"{command} >&- 2>&- <&-": 0}
    if os.path.exists("/dev/full"):
        ends[f"{command} > /dev/full"] = 1
    for line, status in ends.items():
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), (line, done.stderr)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["predict run 猫.png", "evaluate run", "evaluate run --plot", "predict run 猪.png"])
def test_names_that_the_terminal_lacks_are_written_in_ascii(encoding, command, tmp_path, monkeypatch):
    classes = ["猫", "$x_{", "🦉", *"3456789"]
    make_run(tmp_path / "run", "mlp", {"dataset": "digits", "classes": classes})
    Image.new("L", (28, 28)).save(tmp_path / "猫.png")
    digits = load("digits")
    monkeypatch.setattr(
        "flaxnets.cli.evaluate.open_dataset", lambda run, *options: dataclasses.replace(digits, classes=tuple(classes))
    )
    monkeypatch.chdir(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main(command.split())
    out, err = (stream.detach().getvalue() for stream in streams)
    assert status == ("猪" in command), err
    assert (rb"\u732a" if status else rb"\u732b") in (err if status else out)


def test_the_version_is_that_of_the_package(capsys):
    project = Path(flaxnets.__file__).parents[1] / "pyproject.toml"
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flaxnets {flaxnets.__version__}\n"
    assert f'version = "{flaxnets.__version__}"' in project.read_text()

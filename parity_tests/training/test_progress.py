"""Tests of the progress display of a run, in a terminal and in a file."""

import functools
import io
import re

import pytest
from rich.console import Console

from flaxnets.training import progress
from flaxnets.training.progress import Progress

SUMS = {"loss": 128.0, "correct": 32.0, "count": 64.0}
RECORD = {
    "epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5, "test_loss": 1.5, "test_accuracy": 0.625,
    "images_per_second": 640.0,
}  # fmt: skip


@pytest.fixture
def shown(monkeypatch):
    """Return a function that shows epochs of ten one-second steps, and returns the text without control characters."""

    def run(terminal: bool, epochs: int = 2, width: int = 80) -> list[str]:
        file, now = io.StringIO(), [100.0]
        console = functools.partial(Console, file=file, force_terminal=terminal, width=width, legacy_windows=False)
        monkeypatch.setattr(progress, "Console", console)
        monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
        with Progress(epochs, 10) as bar:
            bar._bar.refresh()
            for epoch in range(1, epochs + 1):
                for step in range(1, 11):
                    now[0] += 1
                    bar.step(epoch, step, SUMS)
                    bar._bar.refresh()
                bar.epoch({**RECORD, "epoch": epoch})
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
        return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]

    return run


def test_a_bar_has_speed_and_time_left_and_says_compiling_before_the_first_step_alone(shown):
    lines = shown(terminal=True)
    compiling = ["compiling" in line for line in lines]
    assert compiling == sorted(compiling, reverse=True)  # compiling is only shown before the first step
    assert compiling[0]
    assert max(map(len, lines)) <= 80
    (third,) = {line for line in lines if line.startswith("epoch 1/2") and " 30%" in line}
    assert third.partition("%")[2].strip() == "loss 2  accuracy 50.00%  64 images/s  0:17 left"
    assert any(line.startswith("testing") and "100%" in line and line.endswith("0:10 left") for line in lines)
    assert "1/2  train loss 2  accuracy 50.00%  test loss 1.5  accuracy 62.50%  640 images/s" in lines


def test_a_file_gets_lines_with_the_time_left(shown, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY_LINE", 4.0)
    lines = shown(terminal=False, epochs=400)
    assert lines[0] == "epoch 1/400  step 5/10  train loss 2  accuracy 50.00%  64 images/s  1:06:35 left"
    assert not any("compiling" in line for line in lines)

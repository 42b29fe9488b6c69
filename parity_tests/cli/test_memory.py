"""Tests, in subprocesses, that the commands keep freed memory."""

import os
import platform
import subprocess
import sys

import pytest

# Prints the page faults of writing 64 MB into freed memory: 16,000 if the kernel got the memory back.
PROGRAM = """
import resource
from flaxnets.cli.memory import keep_memory

keep_memory()
b"1" * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"1" * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GIVE_BACK = {"MALLOC_TRIM_THRESHOLD_": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")
@pytest.mark.parametrize(("own", "is_kept"), [({}, True), (GIVE_BACK, False)], ids=["kept", "as the environment says"])
def test_freed_memory_is_kept_unless_the_environment_has_its_own_settings(own, is_kept):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))} | own
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    faults = int(done.stdout)
    assert faults < 100 if is_kept else faults > 1000, faults

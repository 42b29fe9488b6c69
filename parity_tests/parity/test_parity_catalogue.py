"""Test the catalogue of planted faults: ``check`` names each fault, and correct networks pass."""

import jax
import numpy as np
import pytest
from flax import nnx
from native_models import PAIRS, Pair
from parity_faults import FAULTS, NETWORKS_BY_NAME, Fault
from parity_faults.common import edited
from parity_faults.judging import judge
from parity_faults.trainings import TRAINING_FAULTS, TrainingFault

from flaxnets.parity import check

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=str)
quick_faults = pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=str)


@pytest.fixture(autouse=True)
def _user_code_promotes_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


@quick_faults
def test_first_wrong_module_and_cause_are_named(fault: Fault):
    verdict = judge(fault)
    assert not verdict.report.passed
    assert verdict.where in fault.where, verdict
    assert verdict.cause_is_right, verdict


@pytest.mark.parametrize("fault", [fault for fault in TRAINING_FAULTS if fault.quick], ids=str)
def test_cause_of_another_training_is_named(fault: TrainingFault):
    is_named, report = fault.judge()
    assert not report.passed
    assert is_named, str(report)


@every_pair
def test_right_networks_pass_with_nothing_but_the_two_classes(pair: Pair, rng: np.random.Generator):
    networks = pair.torch_type()(), pair.flax_type()(rngs=nnx.Rngs(0))
    modes = ("eval",) if pair.normalizes_batches else ("train", "eval")
    report = check(*networks, *pair.inputs(rng), modes=modes, dtypes=("float64",), runs=("eager",))
    assert report.passed, str(report)
    assert report.matching is not None
    assert report.matching.is_complete()


def test_faults_differ():
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)


def test_each_edit_applies_to_its_source():
    for fault in FAULTS:
        edited(NETWORKS_BY_NAME[fault.network].source, fault.edits)


def test_edit_without_its_line_is_an_error():
    with pytest.raises(ValueError, match="has no text 'no such line'"):
        edited(NETWORKS_BY_NAME["resnet"].source, (("no such line", ""),))

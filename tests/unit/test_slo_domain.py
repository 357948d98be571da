"""Whose fault a failure is: said for every error the router can record, and for every code that is given by hand."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest

import shared
from functions._failures import status_of
from shared.domain import errors
from shared.domain.slo import _OTHER_CODES, BUILT_IN, Fault, Indicator, Slo, fault_of

WALK = ("providers", "scoring", "rag", "services/attempts", "services/cascade", "services/grounded", "services/guarding",
        "services/hedging", "services/limits", "services/refusals", "services/reuse", "services/routing",
        "services/till", "services/walk")  # fmt: skip
"""Where requests fail that have a record."""


def classes(kind=errors.RouterError):
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(found for child in children for found in classes(child))]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_a_fault_agrees_with_the_status_that_the_caller_saw(kind):
    status, fault = status_of(kind("x"))[0], fault_of(kind.code)
    if kind in {errors.ProviderRejected, errors.ContextWindowExceeded}:
        assert fault is Fault.UNCLEAR
    elif kind is errors.ProviderRateLimited:
        assert fault is Fault.PROVIDER
    else:
        assert (fault is Fault.CALLER) == (status < 500)


def test_an_unknown_code_is_held_against_the_router():
    assert fault_of("never_heard_of") is Fault.ROUTER
    assert fault_of("") is Fault.ROUTER


def test_every_code_that_is_given_by_hand_is_classified():
    root = Path(shared.__file__).parent
    paths = [
        path for walked in WALK for path in root.glob(f"{walked}/**/*.py" if "/" not in walked else f"{walked}.py")
    ]
    assert len(paths) > len(WALK)
    given = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                codes = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                if hasattr(errors, name):
                    given |= {code.value for code in codes if isinstance(code, ast.Constant)}
    assert {"policy_limit", "budget_reserved", "provider_stream_cut"} <= given
    assert given - {kind.code for kind in classes()} - _OTHER_CODES.keys() == set()


def test_the_objectives_of_the_specification_are_built_in():
    found = {slo.indicator: (slo.objective, slo.threshold_ms) for slo in BUILT_IN}
    assert found == {
        Indicator.AVAILABILITY: (0.999, None),
        Indicator.ERROR_RATE: (0.99, None),
        Indicator.MEAN_LATENCY: (2_000.0, None),
        Indicator.LATENCY: (0.95, 5_000.0),
        Indicator.OVERHEAD: (0.99, 15.0),
        Indicator.CAPACITY: (100.0, None),
    }
    assert len({slo.name for slo in BUILT_IN}) == len(BUILT_IN)
    assert {slo.window for slo in BUILT_IN} == {timedelta(days=30)}


@pytest.mark.parametrize(
    ("indicator", "objective", "threshold_ms"),
    [
        (Indicator.AVAILABILITY, 1.0, None),
        (Indicator.AVAILABILITY, 0.0, None),
        (Indicator.AVAILABILITY, 99.9, None),
        (Indicator.AVAILABILITY, 0.9, 5.0),
        (Indicator.LATENCY, 0.95, None),
        (Indicator.MEAN_LATENCY, 0.0, None),
        (Indicator.CAPACITY, 1.0, 1.0),
    ],
)
def test_an_objective_that_cannot_be_is_refused(indicator, objective, threshold_ms):
    with pytest.raises(ValueError, match=r"objective|threshold_ms"):
        Slo("x", "x", indicator, objective, threshold_ms)

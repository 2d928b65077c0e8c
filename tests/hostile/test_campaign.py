"""The beginning of the campaign; ``make hostile`` goes on."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.hostile import calls, campaign, sites
from tests.hostile.campaign import CPU_SECONDS, Outcome

COUNT = int(os.environ.get("HOSTILE_COUNT", "250"))
SEED = int(os.environ.get("HOSTILE_SEED", "20261128"))

# What Pillow says while it writes or reads broken files is its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.mark.timeout(900)
def test_hostile_calls_are_answered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for slow in sites.SLOW:  # eight seconds each
        monkeypatch.delitem(sites.HABITS, slow)
    with campaign.running() as started:
        outcomes = list(started.run(SEED, range(COUNT)))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    assert not wrong, "\n".join(f"{SEED}/{one.number} {one}" for one in wrong)
    # The campaign itself sees answers and refusals, of every route and every kind.
    assert {200, 400, 404, 413} <= {outcome.status for outcome in outcomes}
    assert {outcome.path for outcome in outcomes} >= {*calls.READING, "/v1/uploads", "/v1/batches"}
    assert len({outcome.kind for outcome in outcomes}) > 20


def test_what_breaks_a_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign is no use that lets everything pass."""
    monkeypatch.setattr(campaign, "CPU_SECONDS", -1.0)
    monkeypatch.setattr(campaign, "MEGABYTES", -1000.0)
    monkeypatch.setattr(campaign, "HANG_SECONDS", 30.0)
    assert CPU_SECONDS == 2.0
    with campaign.running() as started:
        (outcome,) = started.run(SEED, range(1))
        assert any("CPU-seconds" in wrong for wrong in outcome.wrong)
        assert any("MB" in wrong for wrong in outcome.wrong)
        process = started._worker.start()
        process.kill()
        (outcome,) = started.run(SEED, range(1))
        assert outcome.wrong == ["died or hung"]
        (outcome,) = started.run(SEED, range(1))
        assert "died or hung" not in outcome.wrong


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ({"statusCode": 500, "headers": {}, "body": "{}"}, "status 500"),
        ({"statusCode": 503, "headers": {}, "body": "{}"}, "status 503"),
        ({"statusCode": 400, "headers": JSON, "body": "[]"}, "no envelope"),
        ({"statusCode": 400, "headers": {"content-type": "text/html"}, "body": '{"a": 1}'}, "no envelope"),
        (
            {"statusCode": 404, "headers": JSON, "body": '{"success": true}'},
            "no envelope",
        ),
        (
            {"statusCode": 200, "headers": JSON, "body": "\ud800"},
            "no envelope",
        ),
        (
            {
                "statusCode": 200,
                "headers": JSON,
                "body": '{"a": "' + "x" * campaign.ANSWER_BYTES + '"}',
            },
            "an answer of",
        ),
        ({}, "no envelope"),
    ],
)
def test_an_answer_that_is_none_is_told(answer: dict[str, object], wrong: str) -> None:
    call = calls.Call("x", "/platerecognition", {})
    assert any(said.startswith(wrong) for said in campaign._wrong_answer(call, answer, stopped=False))


def test_a_call_of_a_seed_is_always_the_same() -> None:
    def made() -> list[calls.Call]:
        return [calls.call(Random(f"7/{n}"), "http://127.0.0.1:1") for n in range(30)]

    assert made() == made()


def test_the_table_tells_the_worst() -> None:
    outcomes = [
        Outcome(0, "a", "/", 200, 0.5, 1.0, 10.0),
        Outcome(1, "a", "/", 400, 1.5, 1.0, 5.0, wrong=["x"]),
        Outcome(2, "b", "/", 400, 0.0, 0.0, 0.0),
    ]
    assert campaign.table(outcomes)[0] == {
        "kind": "a",
        "count": 2,
        "statuses": {200: 1, 400: 1},
        "cpu": 1.5,
        "megabytes": 10,
        "wrong": 1,
    }

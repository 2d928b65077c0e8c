"""Plate Recognizer's dialect, as its published clients send and read it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from carsight_service.contract.api import Api, Box, PlateAnswer, PlateCandidate, Region, Vehicle
from carsight_service.contract.errors import NothingFound, UnknownRegions
from tests.events import MULTIPART, form
from tests.fakes import NOW, PHOTO, PLATES, Reply, Service, deploy

PATH = "/v1/plate-reader/"


def post(
    service: Service, *fields: tuple[str, str | bytes], key: str | None = None, path: str = PATH
) -> Reply:
    """One form; the photo as ``upload`` unless a file is among ``fields``."""
    if not any(isinstance(value, bytes) for _, value in fields):
        fields = (*fields, ("upload", PHOTO))
    token: dict[str, Any] = {"headers": {"authorization": f"Token {key}"}} if key else {}
    return service.call(path, Api.PLATE, body=form(*fields), content_type=MULTIPART, **token)


def plates(**changes: Any) -> PlateAnswer:
    """The contract's example, otherwise read."""
    return PLATES.changed(results=(PLATES.results[0].changed(**changes),))


def test_home_assistant_reads_usage_and_the_vehicles_lists(service: Service) -> None:
    (found,) = PLATES.results
    vehicle = found.vehicle.changed(color="black", orientation="rear")
    service.recognition = plates(vehicle=vehicle)
    strict = json.dumps({"detection_rule": "strict", "region": "strict"})
    hints = (("regions", "us-ca"), ("camera_id", "gate"), ("mmc", "True"), ("config", strict))
    reply = post(service, *hints, key=service.key())
    assert reply.status == 200
    assert reply.body["usage"] == {"calls": 1, "max_calls": 1000}
    (plate,) = reply.body["results"]
    assert plate["color"] == [{"color": "black", "score": 0.963}]
    assert plate["orientation"] == [{"orientation": "Rear", "score": 0.963}]
    assert plate["model_make"] == [{"make": "generic", "model": "Unknown", "score": 0.0}]


def test_without_mmc_there_are_no_vehicle_lists(service: Service) -> None:
    (plate,) = post(service, key=service.key()).body["results"]
    assert not {"color", "orientation", "model_make"} & plate.keys()


def test_an_unclear_vehicle_still_has_its_lists(service: Service) -> None:
    (plate,) = post(service, ("mmc", "true"), key=service.key()).body["results"]
    assert plate["color"] == [{"color": "unknown", "score": 0.0}]
    assert plate["orientation"] == [{"orientation": "Unknown", "score": 0.0}]


def test_the_file_name_is_returned(service: Service) -> None:
    assert post(service, key=service.key()).body["filename"] == "photo.jpg"


@pytest.mark.parametrize("name", ["upload", "image", "file", "photo"])
def test_a_file_under_any_name_is_the_image(service: Service, name: str) -> None:
    for path in (PATH, "/platerecognition"):
        assert post(service, (name, PHOTO), key=service.key(), path=path).status == 200


def test_states_that_only_snapshot_has_count_as_their_country(service: Service) -> None:
    known = {"us-ca", "th", "ae"}

    def recognize(*_: Any) -> PlateAnswer:
        regions = service.recognized[-1][1]
        unknown = [code for code in regions if code not in known]
        if unknown:
            raise UnknownRegions(unknown)
        return PLATES

    service.recognition = recognize
    hints = [("regions", code) for code in ("us-ca", "th-37", "ae-du", "zz-top")]
    assert post(service, *hints, key=service.key()).status == 200
    assert service.recognized[-1][1] == ("us-ca", "th", "ae")


def test_a_key_that_is_not_served_is_a_403_with_detail(service: Service) -> None:
    for key in ("nope", None):
        reply = post(service, key=key)
        assert reply.status == 403
        assert reply.body["detail"]
    assert post(service, path="/platerecognition").status == 401


def test_requests_without_a_token_are_charged_to_the_deployments_key(service: Service) -> None:
    key = service.key()
    service.deployment = deploy(service.table, service.client, lambda: NOW, snapshot_key=key)
    assert post(service).status == 200
    assert service.used(key, Api.PLATE) == 1
    assert post(service, path="/platerecognition").status == 401


def test_a_form_without_an_image_says_so(service: Service) -> None:
    reply = service.call(
        PATH,
        Api.PLATE,
        body="camera_id=gate&regions=gb",
        content_type="application/x-www-form-urlencoded",
        headers={"authorization": f"Token {service.key()}"},
    )
    assert (reply.status, reply.body["message"]) == (400, "Missing upload URL")


# -- vehicles without a plate --------------------------------------------------------------------------------

VEHICLES = ("config", '{"detection_mode": "vehicle", "mode": "fast"}')
VAN = Vehicle(
    score=0.71, type="Van", box=Box(xmin=10, ymin=20, xmax=900, ymax=800), color="white", orientation="rear"
)


def test_vehicles_without_a_plate_are_answered_if_requested(service: Service) -> None:
    service.vehicles = (VAN,)
    with_plate, without = post(service, VEHICLES, key=service.key()).body["results"]
    assert with_plate == {
        "plate": {
            "type": "Plate",
            "score": 0.928,
            "box": {"xmin": 2045, "ymin": 1400, "xmax": 2732, "ymax": 1849},
            "props": {
                "plate": [{"value": "9djc652", "score": 1.0}],
                "region": [{"value": "us-ca", "score": 0.849}],
            },
        },
        "vehicle": {
            "type": "Sedan",
            "score": 0.963,
            "box": {"xmin": 56, "ymin": 0, "xmax": 3594, "ymax": 2913},
            "props": {},
        },
    }
    assert without == {
        "plate": None,
        "vehicle": {
            "type": "Van",
            "score": 0.71,
            "box": {"xmin": 10, "ymin": 20, "xmax": 900, "ymax": 800},
            "props": {},
        },
    }


def test_mmc_adds_props_to_vehicles(service: Service) -> None:
    service.vehicles = (VAN,)
    _, without = post(service, VEHICLES, ("mmc", "true"), key=service.key()).body["results"]
    assert without["vehicle"]["props"] == {
        "make_model": [{"make": "generic", "model": "Unknown", "score": 0.0}],
        "orientation": [{"value": "Rear", "score": 0.71}],
        "color": [{"value": "white", "score": 0.71}],
    }


def test_a_vehicle_alone_is_an_answer_and_counts(service: Service) -> None:
    service.recognition, service.vehicles = PLATES.changed(results=()), (VAN,)
    key = service.key()
    (only,) = post(service, VEHICLES, key=key).body["results"]
    assert (only["plate"], only["vehicle"]["type"]) == (None, "Van")
    assert service.used(key, Api.PLATE) == 1


def test_a_plate_without_a_vehicle_has_none(service: Service) -> None:
    nothing = Vehicle(score=0, type="Unknown", box=Box(xmin=0, ymin=0, xmax=0, ymax=0))
    service.recognition = plates(vehicle=nothing)
    (only,) = post(service, VEHICLES, key=service.key()).body["results"]
    assert only.keys() == {"plate"}


def test_the_vehicle_of_a_plate_that_is_left_out_is_one_without_a_plate(service: Service) -> None:
    service.vehicles = (VAN,)
    strict = ("config", '{"detection_mode": "vehicle", "region": "strict"}')
    results = post(service, strict, ("regions", "de"), key=service.key()).body["results"]
    assert [(one["plate"], one["vehicle"]["type"]) for one in results] == [(None, "Van"), (None, "Sedan")]


def test_other_dialects_and_modes_are_unaffected(service: Service) -> None:
    service.vehicles = (VAN,)
    key = service.key()
    (plate,) = post(service, VEHICLES, key=key, path="/platerecognition").body["results"]
    assert plate["plate"] == "9djc652"
    (plate,) = post(service, ("config", '{"detection_mode": "plate"}'), key=key).body["results"]
    assert plate["plate"] == "9djc652"


# -- options, in both dialects -------------------------------------------------------------------------------


def test_strict_regions_leave_other_plates_out(service: Service) -> None:
    key, strict = service.key(), ("config", '{"region": "strict"}')
    for hint, code, count in (
        ("us", "us-ca", 1),
        ("us-ca", "us-ca", 1),
        ("us-ca", "us", 0),
        ("us-nv", "us-ca", 0),
        ("de", "us-ca", 0),
    ):
        service.recognition = plates(region=Region(code=code, score=0.9))
        assert len(post(service, ("regions", hint), strict, key=key).body["results"]) == count
    # Without a hint there is nothing to be strict about.
    assert len(post(service, strict, key=key).body["results"]) == 1


def test_strict_detection_leaves_plates_without_a_vehicle_out(service: Service) -> None:
    key, strict = service.key(), ("config", '{"detection_rule": "strict"}')
    assert len(post(service, strict, key=key).body["results"]) == 1
    vehicle = PLATES.results[0].vehicle.changed(score=0)
    service.recognition = plates(vehicle=vehicle)
    assert post(service, strict, key=key).body["results"] == []


def test_only_texts_that_match_the_formats_are_answered(service: Service) -> None:
    read = [PlateCandidate(score=score, plate=text) for score, text in ((0.6, "ab1zcde"), (0.3, "ab12cde"))]
    service.recognition = plates(plate="ab1zcde", score=0.6, candidates=tuple(read))
    key = service.key()
    for path in ("/platerecognition", PATH):
        reply = post(service, ("text_formats", "[A-Z]{2}\\d{2}[a-z]{3}"), key=key, path=path)
        (plate,) = reply.body["results"]
        assert (plate["plate"], plate["score"]) == ("ab12cde", 0.3)
        assert plate["candidates"] == [{"score": 0.3, "plate": "ab12cde"}]
        assert "".join(one["character"] for one in plate["characters"]) == "ab12cde"
    nothing = post(service, ("text_formats", "[0-9]{5}"), key=key, path="/platerecognition")
    assert (nothing.status, nothing.body["message"]) == (404, "No plates detected in image")
    assert "text_formats" in nothing.body["detail"]  # the photo is not to blame
    assert service.used(key, Api.PLATE) == 2


def test_a_retry_with_other_options_is_another_request(service: Service) -> None:
    key, token = service.key(), {"idempotency-key": "one"}
    for formats, status in (("[0-9a-z]{7}", 200), ("[0-9a-z]{7}", 200), ("[a-z]{7}", 422)):
        query = f"key={key}&text_formats={formats.replace('{', '%7B').replace('}', '%7D')}"
        assert service.call("/platerecognition", Api.PLATE, query=query, headers=token).status == status


@pytest.mark.parametrize(
    "field",
    [
        ("config", "{"),
        ("config", "[1]"),
        ("config", '{"text_formats": "abc"}'),
        ("config", "[" * 100_000),
        ("text_formats", "(a+)+b"),
        ("text_formats", ".*"),
        ("text_formats", "[z-a]"),
        ("text_formats", "[a-z]"[:-1]),
        ("text_formats", "a{1,9}" * 6),
        ("text_formats", "[a--b]"),
        ("text_formats", "[-a]"),
        ("text_formats", "a" * 200),
        ("text_formats", "\ud800"),
    ],
)
def test_invalid_options_are_refused_and_not_counted(service: Service, field: tuple[str, str]) -> None:
    key = service.key()
    name, value = field
    sent = (name, value.encode("utf-8", "replace").decode())
    reply = post(service, sent, key=key)
    assert (reply.status, reply.body["code"]) == (400, "invalid_request")
    assert service.used(key, Api.PLATE) == 0
    assert service.recognized == []


def test_options_are_ignored_for_vins(service: Service) -> None:
    query = f"key={service.key()}&text_formats=nothing"
    assert service.call("/v1/vinocr", Api.VIN, query=query).status == 200


def test_nothing_found_stays_a_200_with_options(service: Service) -> None:
    service.recognition = NothingFound(Api.PLATE)
    reply = post(service, ("config", '{"region": "strict"}'), ("regions", "us"), key=service.key())
    assert (reply.status, reply.body["results"]) == (200, [])
    assert re.fullmatch(r"\S+\.jpg", reply.body["filename"])

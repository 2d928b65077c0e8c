"""Both functions over an embedded key table, with a recognizer that does what a test wants."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from carsight_service.aws.clients import Clients
from carsight_service.aws.dynamo import Clock, utc_now
from carsight_service.aws.lambda_types import Response
from carsight_service.contract import api as contract
from carsight_service.contract.api import Answer, Api, PlateAnswer, PlatesAndVehicles, Vehicle
from carsight_service.contract.errors import InvalidImage
from carsight_service.deployment import Deployment
from carsight_service.http.account import AccountEndpoint
from carsight_service.http.endpoint import Endpoint
from carsight_service.metering.keyring import Keyring
from carsight_service.metering.meter_store import MeterStore
from carsight_service.metering.model import key_id
from carsight_service.settings import Settings
from tests.events import Invocation, event

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)

ROUTES = {
    "/platerecognition": Api.PLATE,
    "/v1/vinocr": Api.VIN,
    "/vinocr": Api.VIN,
    "/vin-ocr": Api.VIN,
}
"""Written out once more: what the contract says, whatever the code says."""

PHOTO = b"\xff\xd8\xff\xfb\xef\xbe a photo"  # base64: /9j/++++IGEgcGhvdG8=
BASE64 = base64.b64encode(PHOTO).decode()
BODY = json.dumps({"image": BASE64})

PLATES = contract.PlateAnswer(
    results=(
        contract.PlateResult(
            box=contract.Box(xmin=2045, ymin=1400, xmax=2732, ymax=1849),
            plate="9djc652",
            region=contract.Region(code="us-ca", score=0.849),
            score=1,
            candidates=(contract.PlateCandidate(score=1, plate="9djc652"),),
            dscore=0.928,
            vehicle=contract.Vehicle(
                score=0.963, type="Sedan", box=contract.Box(xmin=56, ymin=0, xmax=3594, ymax=2913)
            ),
            polygon=((2045, 1400), (2732, 1400), (2732, 1849), (2045, 1849)),
            characters=tuple(contract.Character(character=character, score=1) for character in "9djc652"),
        ),
    ),
    image=contract.Image(width=4032, height=3024),
)

_VIN = contract.VinReading(
    vin="JHLRD77874C026456",
    confidence=0.983425,
    box=contract.VinBox(xmin=257, xmax=1673, ymin=635, ymax=793),
    source="text",
    check_digit=contract.CheckDigit(valid=True, applies=True),
    repairs=(contract.Repair(position=9, from_="B", to="8", reason="check digit"),),
)
VINS = contract.VinAnswer(
    vin=_VIN.vin,
    box=_VIN.box,
    confidence=_VIN.confidence,
    candidates=(_VIN,),
    source=_VIN.source,
    check_digit=_VIN.check_digit,
    repairs=_VIN.repairs,
    image=contract.Image(width=2000, height=1500),
)

Recognition = Answer | Exception | Callable[[], Answer]


@dataclass(frozen=True)
class Reply:
    """An answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @classmethod
    def of(cls, response: Response) -> Reply:
        body = json.loads(response["body"])
        assert isinstance(body, dict)
        assert body
        assert response["headers"]["content-type"] == "application/json"
        assert response["isBase64Encoded"] is False
        return cls(response["statusCode"], response["headers"], body)


def deploy(
    table: str,
    client: DynamoDBClient,
    clock: Clock = utc_now,
    clients: Clients | None = None,
    **settings: Any,
) -> Deployment:
    """A deployment over ``table``, with whatever else ``settings`` say."""
    clients = clients or Clients()
    clients.metering = clients.dynamodb = clients.work = client
    stores = os.environ.get("AWS_ENDPOINT_URL")
    if not stores or getattr(getattr(client, "meta", None), "endpoint_url", "") != stores:
        # A test's own client, or one whose calls are answered in this process, where botocore sends.
        clients.meters = client
    return Deployment(Settings(table_name=table, custom_metrics=True, **settings), clients, clock)


class Service:
    """Answers requests at ``NOW``. ``recognition`` is what photos hold: the contract's example at first."""

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self.table, self.client = table, client
        self.keyring = Keyring(table, client, clock=lambda: NOW)
        self.deployment = deploy(table, client, clock=lambda: NOW)
        self.recognition: Recognition | None = None
        self.vehicles: tuple[Vehicle, ...] = ()
        """Those without a plate."""
        self.recognized: list[tuple[bytes, tuple[str, ...]]] = []

    def key(self, tier: str = "pro", **settings: Any) -> str:
        """A new key."""
        return self.keyring.create(owner="owner@example.com", tier=tier, **settings)[0]

    @property
    def store(self) -> MeterStore:
        """The deployment's meters."""
        return self.deployment.meters

    def used(self, key: str, api: Api) -> int:
        """What ``key`` has used of ``api``."""
        return next(usage.current for usage in self.keyring.show(key_id(key)).usage if usage.api is api)

    def call(self, path: str, api: Api, invocation: Invocation | None = None, **request: Any) -> Reply:
        """One request; by default the photo as JSON."""
        sent = event(**{"path": path, "body": BODY, **request})
        endpoint = Endpoint(
            self.deployment,
            api,
            lambda *photo: self.recognize(api, *photo),
            lambda *photo: self.with_vehicles(self.recognize(api, *photo)),
        )
        return Reply.of(endpoint.handle(sent, invocation or Invocation()))

    def ask(self, path: str, method: str = "GET", **request: Any) -> Reply:
        """One request to the account function."""
        sent = event(**{"method": method, "path": path, "body": "", "content_type": None, **request})
        return Reply.of(AccountEndpoint(self.deployment).handle(sent, Invocation()))

    def with_vehicles(self, answer: Answer) -> Answer:
        """``answer`` for those who ask for vehicles without a plate, too."""
        assert isinstance(answer, PlateAnswer)
        return PlatesAndVehicles(results=answer.results, image=answer.image, vehicles=self.vehicles)

    def recognize(self, api: Api, image: bytes, regions: Sequence[str]) -> Answer:
        """What the functions do with an image."""
        if not image.startswith(PHOTO[:3]):
            raise InvalidImage("not a photo")
        self.recognized.append((image, tuple(regions)))
        recognition = self.recognition or {Api.PLATE: PLATES, Api.VIN: VINS}[api]
        if isinstance(recognition, Exception):
            raise recognition
        return recognition if isinstance(recognition, Answer) else recognition()

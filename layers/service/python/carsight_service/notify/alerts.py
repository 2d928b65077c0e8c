"""Usage alerts: an owner is notified at 80, 90 and 100 % of an allowance, once each per period.

The table's stream has every meter before and after each write, so one record shows that a threshold was
crossed. This may happen more than once: a refunded unit lets the next request cross it again, and a stream
delivers at least once. So each alert is claimed by an item of its own before it is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from carsight_service.aws.dynamo import attribute_names, expiry
from carsight_service.aws.lambda_types import Event
from carsight_service.aws.records import Record, partial_failures
from carsight_service.metering.model import PROFILE, Meter, Profile, partition

if TYPE_CHECKING:
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

    from carsight_service.deployment import Deployment

logger = logging.getLogger(__name__)

THRESHOLDS = (80, 90, 100)
"""Per cent of the limit."""

_CLAIM_KEPT = timedelta(days=400)


def crossed(record: Mapping[str, Any]) -> tuple[Meter, list[int]] | None:
    """Return the meter and the thresholds that were crossed, by a stream record; None if there are none.

    A new item does not count, as a rotated key keeps its usage.
    """
    images = record["dynamodb"]
    if record["eventName"] != "MODIFY" or not images["Keys"]["sk"]["S"].startswith("API#"):
        return None
    before, after = Meter.from_item(images["OldImage"]), Meter.from_item(images["NewImage"])
    used_before = before.used if before.period == after.period else 0
    reached = [
        threshold
        for threshold in THRESHOLDS
        if after.limit > 0
        and after.used * 100 >= threshold * after.limit
        and used_before * 100 < threshold * before.limit
    ]
    return (after, reached) if reached else None


class Alerts:
    """Sends the alerts of a deployment to its SNS topic; one per process."""

    def __init__(self, deployment: Deployment) -> None:
        self._table = deployment.settings.table_name
        self._topic_arn = deployment.settings.alerts_topic_arn or ""
        self._dynamodb = deployment.aws.dynamodb
        self._sns = deployment.aws.sns
        self._clock = deployment.clock

    def handle(self, event: Event, context: object) -> dict[str, Any]:
        """Handle a batch of stream records in order; from the first failure on, they are delivered again."""
        return partial_failures(
            event["Records"],
            identifier=lambda record: str(record["dynamodb"]["SequenceNumber"]),
            process=self._process,
            failed=lambda _, error: logger.error("record not handled", exc_info=error),
            in_order=True,
        )

    def _process(self, record: Record) -> None:
        """Send the alerts of a stream record. Raises botocore's errors, and may then be called again."""
        found = crossed(record)
        if found is None:
            return
        meter, thresholds = found
        for threshold in thresholds:
            self._send_once(meter, threshold, record["eventID"])

    def _send_once(self, meter: Meter, threshold: int, event: str) -> None:
        """Send the alert for a threshold, unless another stream record than ``event`` has claimed it."""
        # A claim belongs to the record that made it: if sending fails, that record is delivered again and may
        # send, but no other may. An alert is sent twice only if the function dies between sending it and
        # recording that.
        #
        #   record 7 (80 of 100)          record 9 (80 again, after one given back)
        #   claim, sent no
        #   publish fails
        #                                 claim refused
        #   delivered again: the claim is its own
        #   publish, sent yes
        key = {
            "pk": {"S": partition(meter.account)},
            # If the limit is changed within a period, its thresholds count anew.
            "sk": {"S": f"ALERT#{meter.api}#{meter.period}#{threshold}#{meter.limit}"},
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={
                    **key,
                    "event": {"S": event},
                    "sent": {"BOOL": False},
                    "expires": expiry(self._clock(), _CLAIM_KEPT),
                },
                ConditionExpression="attribute_not_exists(pk) OR (#event = :event AND #sent = :no)",
                ExpressionAttributeNames=attribute_names("event", "sent"),
                ExpressionAttributeValues={":event": {"S": event}, ":no": {"BOOL": False}},
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return
        self._publish(meter, threshold)
        self._dynamodb.update_item(
            TableName=self._table,
            Key=key,
            UpdateExpression="SET #sent = :yes",
            ExpressionAttributeNames=attribute_names("sent"),
            ExpressionAttributeValues={":yes": {"BOOL": True}},
        )

    def _publish(self, meter: Meter, threshold: int) -> None:
        """Publish an alert, unless the key is gone."""
        item = self._dynamodb.get_item(
            TableName=self._table, Key={"pk": {"S": partition(meter.key_id)}, "sk": {"S": PROFILE}}
        ).get("Item")
        if item is None:
            return  # the key was rotated or removed since
        profile = Profile.from_item(item)
        api = meter.api.contract_name
        period = "its lifetime" if meter.period == "lifetime" else f"{meter.period} (UTC)"
        beyond = "served and counted as overage" if meter.overage else "answered with 429"
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": kind, "StringValue": value}
            for name, kind, value in (
                ("owner", "String", profile.owner),
                ("key_prefix", "String", profile.prefix),
                ("api", "String", meter.api.value),
                ("tier", "String", meter.tier),
                ("period", "String", meter.period),
                ("threshold", "Number", str(threshold)),
                ("used", "Number", str(meter.used)),
                ("limit", "Number", str(meter.limit)),
            )
            if value
        }
        self._sns.publish(
            TopicArn=self._topic_arn,
            Subject=f"Carsight: {threshold} % of {api} used",
            Message=(
                f"Key:   {profile.prefix}... {profile.label}\n"
                f"Owner: {profile.owner}\n"
                f"Tier:  {meter.tier}\n\n"
                f"{meter.used} of {meter.limit} requests of {api} in {period} are used.\n"
                f"Requests over the limit are {beyond}.\n"
            ),
            MessageAttributes=attributes,
        )

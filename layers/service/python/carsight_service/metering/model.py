"""How keys and their usage are stored in the DynamoDB table.

Requests are metered by ``meter_store`` and what is behind it; keys are administered by ``keyring``.

Each key has a partition, ``pk = KEY#<key id>``; the key itself is not stored. Its items, by ``sk``:

=============================  =======================================================================
``PROFILE``                    owner, label, tier, status, created; not read on the hot path
``API#<api>``                  the meter: status, tier, period, limit, used, remaining, overage, included
``WEBHOOK``                    where readings are announced
``USAGE#<api>#<period>``       the usage of a past period; expires
``ALERT#<api>#<period>#...``   a usage alert that has been sent; expires
=============================  =======================================================================

Whatever must outlive the rotation of a key belongs to an account, whose id is that of its first key. History,
alerts, uploads and batches are filed under the account; profile, meters and webhook move to each new key and
leave a pointer to their ``successor`` behind. The account's own pointers are permanent and always lead to the
current key:

    KEY#<first>   API#plate -> third, USAGE#..., ALERT#...     the account
    KEY#<second>  API#plate -> third                           expires
    KEY#<third>   PROFILE, API#plate, account = <first>        the current key
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from carsight_service.aws.dynamo import attribute_names, expiry, item_of
from carsight_service.contract.api import Api

LIFETIME = "lifetime"
"""The period of a one-time allowance."""

PROFILE = "PROFILE"

WEBHOOK = "WEBHOOK"

HISTORY_KEPT = timedelta(days=400)
"""How long the usage of a past period is kept: a year and a month."""

_KEY_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX_LENGTH = 11


class Status(StrEnum):
    """A key's state. Only active keys are served; a disabled one is refused as if it were unknown."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DISABLED = "disabled"
    BLOCKED = "blocked"


def key_id(key: str) -> str:
    """Return the SHA-256 of ``key`` in hex, which identifies it in the table and in upload paths.

    Slow hashes protect secrets that people choose; 256 random bits need none.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def is_key_id(text: str) -> bool:
    """Whether ``text`` has the form of a key id."""
    return _KEY_ID.fullmatch(text) is not None


def prefix_of(key: str) -> str:
    """Return the part of ``key`` that logs and lists may show: 8 of its 43 random characters.

    208 bits stay hidden. Of a short key that was chosen by hand, at most a quarter is shown.
    """
    return key[: min(_PREFIX_LENGTH, len(key) // 4)]


def month_of(now: datetime) -> str:
    """Return the month of ``now`` (UTC) as a period: ``"2026-11"``."""
    return now.astimezone(UTC).strftime("%Y-%m")


def partition(key_id: str) -> str:
    """Return the ``pk`` of all items of a key."""
    return f"KEY#{key_id}"


def meter_sk(api: Api) -> str:
    """Return the ``sk`` of a key's meter for ``api``."""
    return f"API#{api}"


def history_sk(api: Api, period: str) -> str:
    """Return the ``sk`` of the usage of the past ``period``."""
    return f"USAGE#{api}#{period}"


def successor_of(item: Mapping[str, Any] | None) -> str | None:
    """Return the id of the key that has replaced the one of ``item``; None if none has."""
    return item["successor"]["S"] if item and "successor" in item else None


def _key_id_of(item: Mapping[str, Any]) -> str:
    key_id: str = item["pk"]["S"]
    return key_id.removeprefix("KEY#")


def _account_of(item: Mapping[str, Any]) -> str:
    return item["account"]["S"] if "account" in item else _key_id_of(item)


def _but_identity(record: Meter | Profile) -> dict[str, Any]:
    """Return the fields of ``record`` that are not part of its item's key."""
    return {name: value for name, value in asdict(record).items() if name not in ("key_id", "api")}


@dataclass(frozen=True, slots=True)
class Meter:
    """One key's allowance for one API: the item that every counted request writes once.

    ``remaining`` is always ``limit - used`` and falls below zero on overage. It is stored because conditions
    of DynamoDB cannot do arithmetic.
    """

    key_id: str
    account: str
    """The account's id: that of its first key."""
    api: Api
    prefix: str
    status: Status
    tier: str
    included: bool
    """Whether the tier includes this API."""
    period: str
    """``"2026-11"``, or ``"lifetime"``."""
    limit: int
    used: int
    overage: bool
    """Whether requests over the limit are served and counted instead of refused."""

    @property
    def remaining(self) -> int:
        """Units left; below zero on overage."""
        return self.limit - self.used

    def turned_over(self, period: str, used: int) -> Meter:
        """Return this meter at the start of ``period``."""
        return replace(self, period=period, used=used)

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Meter:
        """Return the meter in a DynamoDB item."""
        return cls(
            key_id=_key_id_of(item),
            account=_account_of(item),
            api=Api(item["sk"]["S"].removeprefix("API#")),
            prefix=item["prefix"]["S"],
            status=Status(item["status"]["S"]),
            tier=item["tier"]["S"],
            included=item["included"]["BOOL"],
            period=item["period"]["S"],
            limit=int(item["limit"]["N"]),
            used=int(item["used"]["N"]),
            overage=item["overage"]["BOOL"],
        )

    def to_item(self) -> dict[str, Any]:
        """Return this meter as a DynamoDB item."""
        key = {"pk": partition(self.key_id), "sk": meter_sk(self.api)}
        return item_of(**key, **_but_identity(self), remaining=self.remaining)


@dataclass(frozen=True, slots=True)
class Profile:
    """Who a key belongs to."""

    key_id: str
    account: str
    """The account's id: that of its first key."""
    prefix: str
    owner: str
    """E-mail address that usage alerts name."""
    label: str
    tier: str
    status: Status
    created: str
    """ISO 8601, UTC."""

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Profile:
        """Return the profile in a DynamoDB item."""
        return cls(
            key_id=_key_id_of(item),
            account=_account_of(item),
            prefix=item["prefix"]["S"],
            owner=item["owner"]["S"],
            label=item["label"]["S"],
            tier=item["tier"]["S"],
            status=Status(item["status"]["S"]),
            created=item["created"]["S"],
        )

    def to_item(self) -> dict[str, Any]:
        """Return this profile as a DynamoDB item."""
        return item_of(pk=partition(self.key_id), sk=PROFILE, **_but_identity(self))


@dataclass(frozen=True, slots=True)
class PastUsage:
    """The usage of one past period."""

    api: Api
    period: str
    used: int
    limit: int
    tier: str

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> PastUsage:
        """Return the past period in a DynamoDB item."""
        _, api, period = item["sk"]["S"].split("#")
        return cls(
            api=Api(api),
            period=period,
            used=int(item["used"]["N"]),
            limit=int(item["limit"]["N"]) if "limit" in item else 0,
            tier=item["tier"]["S"] if "tier" in item else "",
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """A key's usage of one API, as a request found it or left it."""

    api: Api
    key_id: str
    prefix: str
    """The part of the key that logs may show."""
    tier: str
    period: str
    """``"2026-11"`` (UTC), or ``"lifetime"``."""
    current: int
    limit: int
    overage: bool
    account: str = ""

    @property
    def remaining(self) -> int:
        """Units left, never below zero."""
        return max(0, self.limit - self.current)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every metered answer."""
        return {
            "x-usage-current": str(self.current),
            "x-usage-limit": str(self.limit),
            "x-usage-remaining": str(self.remaining),
        }

    @classmethod
    def of(cls, meter: Meter) -> Usage:
        """Return the usage in ``meter``."""
        return cls(
            api=meter.api,
            key_id=meter.key_id,
            prefix=meter.prefix,
            tier=meter.tier,
            period=meter.period,
            current=meter.used,
            limit=meter.limit,
            overage=meter.overage,
            account=meter.account,
        )


class Grant(NamedTuple):
    """Units taken for one piece of work, under its ticket."""

    api: Api
    ticket: str
    units: int
    """How many were taken; fewer than requested if the allowance ran out."""
    usage: Usage


class Account(NamedTuple):
    """What the holder of a key may know about it."""

    profile: Profile
    usage: tuple[Usage, ...]
    """In the current period, for each API that the tier includes."""
    history: tuple[PastUsage, ...]
    """Past periods with usage, newest first."""

    @classmethod
    def from_items(cls, items: Iterable[Mapping[str, Any]], now: datetime) -> Account | None:
        """Return the account that a key's items describe at ``now``; None if there is no profile."""
        profile: Profile | None = None
        usage: list[Usage] = []
        history: list[PastUsage] = []
        month = month_of(now)
        for item in items:
            match item["sk"]["S"].split("#")[0]:
                case "PROFILE":
                    profile = Profile.from_item(item)
                case "API":
                    meter = Meter.from_item(item)
                    if not meter.included:
                        continue
                    if meter.period != LIFETIME and meter.period < month:
                        # The month has turned, and nothing has been counted in the new one yet.
                        history.append(
                            PastUsage(meter.api, meter.period, meter.used, meter.limit, meter.tier)
                        )
                        meter = meter.turned_over(month, used=0)
                    usage.append(Usage.of(meter))
                case "USAGE":
                    history.append(PastUsage.from_item(item))
        if profile is None:
            return None
        history.sort(key=lambda past: (past.period, past.api), reverse=True)
        return cls(profile, tuple(usage), tuple(past for past in history if past.used))


def close_period(table_name: str, meter: Meter, now: datetime) -> dict[str, Any]:
    """Return the ``update_item`` arguments that record the usage of ``meter.period``.

    ``ADD``, because a unit of that period may be given back before or afterwards.
    """
    return {
        "TableName": table_name,
        "Key": {"pk": {"S": partition(meter.account)}, "sk": {"S": history_sk(meter.api, meter.period)}},
        "UpdateExpression": "ADD #used :used SET #limit = :limit, #tier = :tier, #expires = :expires",
        "ExpressionAttributeNames": attribute_names("used", "limit", "tier", "expires"),
        "ExpressionAttributeValues": {
            ":used": {"N": str(meter.used)},
            ":limit": {"N": str(meter.limit)},
            ":tier": {"S": meter.tier},
            ":expires": expiry(now, HISTORY_KEPT),
        },
    }

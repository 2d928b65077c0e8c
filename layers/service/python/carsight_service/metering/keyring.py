"""Administration of keys: create, find, change, rotate. Not used while answering requests."""

from __future__ import annotations

import secrets
import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter

from carsight_service.aws.dynamo import Clock, attribute_names, expiry, utc_now
from carsight_service.contract.api import Api
from carsight_service.metering.model import (
    LIFETIME,
    PROFILE,
    WEBHOOK,
    Account,
    Meter,
    Profile,
    Status,
    close_period,
    is_key_id,
    meter_sk,
    month_of,
    partition,
    prefix_of,
    successor_of,
)
from carsight_service.metering.model import key_id as id_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Limits = Mapping[Api, int | None]
"""Requests per period by API; None removes the API from the plan."""

_MAX_ATTEMPTS = 10
"""How often a change is tried if requests are counted at the same time."""

_POINTER_KEPT = timedelta(days=60)
"""How long a rotated key leads to its successor: an upload may wait 14 days in a queue, and as long in the
dead-letter queue. An account's own pointers are kept; batches and upload forms use only those."""

_MAX_CONDITIONS = 120
"""The most attributes that one condition compares: DynamoDB allows 300 operators, of which each comparison is
one, and each AND between two comparisons another."""


_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


class KeyringError(Exception):
    """The operation is impossible; the message tells the operator why."""


class Tier(BaseModel):
    """The limits of a tier's keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    period: Literal["month", "lifetime"]
    overage: bool
    limits: dict[Api, NonNegativeInt]


def read_tiers(path: Path | None = None) -> dict[str, Tier]:
    """Return the tiers in ``path``, or those in this package's ``tiers.toml``, by name.

    Raises ``OSError``, ``tomllib.TOMLDecodeError`` or ``pydantic.ValidationError``.
    """
    path = path or Path(__file__).with_name("tiers.toml")
    return TypeAdapter(dict[str, Tier]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))


def new_key() -> str:
    """Return a new API key: ``cs_`` and 256 random bits as 43 letters and digits."""
    number, text = secrets.randbits(256), ""
    for _ in range(43):
        number, digit = divmod(number, len(_ALPHABET))
        text += _ALPHABET[digit]
    return f"cs_{text}"


class Keyring:
    """The keys of one deployment."""

    def __init__(
        self,
        table_name: str,
        client: DynamoDBClient,
        clock: Clock = utc_now,
        tiers: Mapping[str, Tier] | None = None,
    ) -> None:
        self._table = table_name
        self._client = client
        self._clock = clock
        self._tiers = read_tiers() if tiers is None else tiers

    def create(
        self,
        *,
        owner: str,
        tier: str,
        label: str = "",
        limits: Limits | None = None,
        overage: bool | None = None,
        key: str | None = None,
    ) -> tuple[str, Account]:
        """Create a key and store its hash; the returned key is the only copy.

        ``limits`` and ``overage`` replace the tier's. ``key`` is for development, where a key must be known
        in advance. Raises ``KeyringError`` for an unknown tier, or if ``key`` exists already.
        """
        key = key or new_key()
        now = self._clock()
        plan = self._plan(tier, limits or {}, {})
        profile = Profile(
            key_id=id_of(key),
            account=id_of(key),
            prefix=prefix_of(key),
            owner=owner,
            label=label,
            tier=tier,
            status=Status.ACTIVE,
            created=now.astimezone(UTC).isoformat(timespec="seconds"),
        )
        meters = [
            Meter(
                key_id=profile.key_id,
                account=profile.account,
                api=api,
                prefix=profile.prefix,
                status=Status.ACTIVE,
                tier=tier,
                included=api in plan,
                period=self._period(tier),
                limit=plan.get(api, 0),
                used=0,
                overage=self._tier(tier).overage if overage is None else overage,
            )
            for api in Api
        ]
        items = [profile.to_item(), *(meter.to_item() for meter in meters)]
        try:
            self._client.transact_write_items(TransactItems=[self._put_new(item) for item in items])
        except self._client.exceptions.TransactionCanceledException:
            raise KeyringError("this key already exists") from None
        return key, self.show(profile.key_id)

    def accounts(self) -> list[Account]:
        """Return every key's account, oldest first. This reads the whole table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="begins_with(pk, :keys)",
            ExpressionAttributeValues={":keys": {"S": partition("")}},
            ConsistentRead=True,
        )
        items: dict[str, list[Any]] = {}
        for page in pages:
            for item in page["Items"]:
                items.setdefault(item["pk"]["S"], []).append(item)
        now = self._clock()
        found = []
        for key in items.values():
            account = Account.from_items(key, now)
            if account and account.profile.account != account.profile.key_id:
                history = _history(items.get(partition(account.profile.account), ()))
                account = Account.from_items([*key, *history], now)
            if account:
                found.append(account)
        return sorted(found, key=lambda account: (account.profile.created, account.profile.key_id))

    def profiles(self) -> list[Profile]:
        """Return every key's profile, oldest first. This reads the whole table."""
        return [account.profile for account in self.accounts()]

    def find(self, name: str) -> str:
        """Return the id of the key that ``name`` refers to.

        A name is a key's id or prefix, the beginning of either, or the key itself.

        Raises ``KeyringError`` if it matches none or several.
        """
        if not name:
            raise KeyringError("name a key: its prefix, its id, or the beginning of either")
        if is_key_id(name):
            return name
        known = list(self.profiles())
        # A whole prefix comes first: that of a short key may begin another key's id, too.
        found = [p.key_id for p in known if p.prefix == name] or [
            p.key_id for p in known if p.prefix.startswith(name) or p.key_id.startswith(name)
        ]
        if not found and self._items(id_of(name)):
            return id_of(name)
        if not found:
            raise KeyringError(f"no key begins with {name[:11]!r}")
        if len(found) > 1:
            raise KeyringError(f"{len(found)} keys begin with {name!r}; give more of it, or the key's id")
        return found[0]

    def show(self, key_id: str) -> Account:
        """Return a key's profile, usage and history. Raises ``KeyringError`` if there is no such key."""
        items, now = self._items(key_id), self._clock()
        account = Account.from_items(items, now)
        if account is None:
            raise KeyringError(f"no key has the id {key_id}")
        if account.profile.account != key_id:
            items += _history(self._items(account.profile.account))
        return Account.from_items(items, now) or account

    def meters(self, key_id: str) -> list[Meter]:
        """Return a key's stored meters, one per API."""
        return [Meter.from_item(item) for item in self._items(key_id) if item["sk"]["S"].startswith("API#")]

    def set(
        self,
        key_id: str,
        *,
        status: Status | None = None,
        tier: str | None = None,
        limits: Limits | None = None,
        overage: bool | None = None,
        owner: str | None = None,
        label: str | None = None,
    ) -> Account:
        """Change a key. What is None stays as it is; a new tier sets its limits and overage.

        The current period's usage is kept, unless the change is between a lifetime and a monthly tier, which
        moves the usage to the history and starts again. Meters are written before the profile, so that an
        interrupted change takes effect and can be repeated.
        """
        before = self.show(key_id)
        plan = {usage.api: usage.limit for usage in before.usage}
        if tier is not None:
            plan = self._plan(tier, limits or {}, {})
            overage = self._tier(tier).overage if overage is None else overage
        elif limits:
            plan = self._plan(before.profile.tier, limits, plan)
        changes = _given(status=status, tier=tier, overage=overage)
        for api in Api:
            planned = {"included": api in plan, "limit": plan.get(api, 0)}
            self._change_meter(key_id, api, tier, changes | planned)
        profile = replace(before.profile, **_given(status=status, tier=tier, owner=owner, label=label))
        self._client.put_item(
            TableName=self._table, Item=profile.to_item(), ConditionExpression="attribute_exists(pk)"
        )
        return self.show(key_id)

    def rotate(self, key_id: str) -> tuple[str, Account]:
        """Replace a key by a new one with the same plan, usage, webhook and history; return both.

        The old key is unknown from then on, but work in progress continues: the old meters become disabled
        pointers to the successor, where requests, uploads and batches are charged or refunded. At most a
        dozen items are written, whatever the age of the key, as history stays with the account.
        """
        key = new_key()
        new_id, prefix = id_of(key), prefix_of(key)
        for _ in range(_MAX_ATTEMPTS):
            items = {item["sk"]["S"]: item for item in self._items(key_id)}
            account = Account.from_items(items.values(), self._clock())
            if account is None:
                raise KeyringError(f"no key has the id {key_id}")
            try:
                self._client.transact_write_items(
                    TransactItems=self._moves(items, account.profile.account, key_id, new_id, prefix)
                )
            except self._client.exceptions.TransactionCanceledException:
                continue  # a request was counted between the read and the write
            return key, self.show(new_id)
        raise KeyringError("the key is too busy to be rotated now; try again")

    def _moves(
        self, items: Mapping[str, Mapping[str, Any]], account: str, old_id: str, new_id: str, prefix: str
    ) -> list[Any]:
        """Return the writes of a rotation: each item in its new place, and a pointer in its old one."""
        moves: list[Any] = []
        for name in (PROFILE, *map(meter_sk, Api), WEBHOOK):
            item = items.get(name)
            is_pointer = item is None or successor_of(item) is not None
            if item is not None and not is_pointer:
                moved = {**item, "pk": {"S": partition(new_id)}, "account": {"S": account}}
                if "prefix" in item:
                    moved["prefix"] = {"S": prefix}
                moves.append(self._put_new(moved))
            if name == PROFILE:
                moves.append(self._delete(items[PROFILE]))
                continue
            moves.append(self._point(old_id, name, new_id, item, lasting=old_id == account))
            if account != old_id:
                # The account always leads to the current key in one step.
                moves.append(self._point(account, name, new_id, None, lasting=True))
        return moves

    # -- parts -----------------------------------------------------------------------------------------------

    def _tier(self, name: str) -> Tier:
        if name not in self._tiers:
            raise KeyringError(f"unknown tier {name!r}; there are {', '.join(self._tiers)}")
        return self._tiers[name]

    def _period(self, tier: str) -> str:
        return LIFETIME if self._tier(tier).period == "lifetime" else month_of(self._clock())

    def _plan(self, tier: str, limits: Limits, kept: Mapping[Api, int]) -> dict[Api, int]:
        """Return the limits by API: ``kept`` or else the tier's, overridden by ``limits``."""
        merged: dict[Api, int | None] = {**(kept or self._tier(tier).limits), **limits}
        plan = {api: limit for api, limit in merged.items() if limit is not None}
        if not plan:
            raise KeyringError(
                f"tier {tier!r} has no limits of its own: name at least one, such as plate=50000"
            )
        return plan

    def _items(self, key_id: str) -> list[dict[str, Any]]:
        answer: Any = self._client.query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition(key_id)}},
            ConsistentRead=True,
        )
        items: list[dict[str, Any]] = answer["Items"]
        return items

    def _put_new(self, item: Mapping[str, Any]) -> Any:
        return {
            "Put": {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _delete(self, item: Mapping[str, Any]) -> Any:
        return {"Delete": {"TableName": self._table, "Key": _key(item), **_unchanged(item)}}

    def _point(
        self, key_id: str, name: str, successor: str, seen: Mapping[str, Any] | None, *, lasting: bool
    ) -> Any:
        """Return the write that turns an item of a rotated key into a pointer, if it is still as ``seen``."""
        condition = _unchanged(seen) if seen else {}
        names = condition.pop("ExpressionAttributeNames", {}) | attribute_names("successor", "expires")
        values = condition.pop("ExpressionAttributeValues", {}) | {":successor": {"S": successor}}
        sets, removes = ["#successor = :successor"], []
        if name == WEBHOOK:
            removes += ["#url", "#secret"]
            names |= attribute_names("url", "secret")
        else:
            sets.append("#status = :disabled")
            names |= attribute_names("status")
            values[":disabled"] = {"S": Status.DISABLED.value}
        if lasting:
            removes.append("#expires")
        else:
            sets.append("#expires = :expires")
            values[":expires"] = expiry(self._clock(), _POINTER_KEPT)
        update = f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else "")
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": {"S": partition(key_id)}, "sk": {"S": name}},
                "UpdateExpression": update,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": values,
                **condition,
            }
        }

    def _change_meter(self, key_id: str, api: Api, tier: str | None, changes: Mapping[str, Any]) -> None:
        """Change fields of one meter without losing requests that are counted at the same time."""
        for _ in range(_MAX_ATTEMPTS):
            seen = next(meter for meter in self.meters(key_id) if meter.api is api)
            restarts = tier and (self._tier(tier).period == "lifetime") != (seen.period == LIFETIME)
            period = self._period(tier) if tier and restarts else seen.period
            target = replace(seen, **changes, period=period).to_item()
            written = ["status", "tier", "included", "limit", "overage", "period"]
            values = {f":{name}": target[name] for name in written} | {":seen": {"S": seen.period}}
            assignments = [f"#{name} = :{name}" for name in written]
            if restarts:
                assignments += ["#used = :zero", "#remaining = :limit"]
                values[":zero"] = {"N": "0"}
            else:
                assignments.append("#remaining = :limit - #used")
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key={"pk": target["pk"], "sk": target["sk"]},
                    UpdateExpression=f"SET {', '.join(assignments)}",
                    ConditionExpression="#period = :seen",
                    ExpressionAttributeNames=attribute_names(*written, "used", "remaining"),
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                continue  # a new month began between the read and the write
            if restarts:
                past = Meter.from_item(answer["Attributes"])
                self._client.update_item(**close_period(self._table, past, self._clock()))
            return
        raise KeyringError("the key is too busy to be changed now; try again")


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _key(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"pk": item["pk"], "sk": item["sk"]}


def _history(items: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [item for item in items if item["sk"]["S"].startswith("USAGE#")]


def _unchanged(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition that an item has not changed since it was read, with as many tickets as fit.

    Counters come first, and adding a ticket always changes them. A ticket beyond the limit that was settled
    in the meantime may be moved to the new key, where it counts nothing.
    """
    attributes = sorted((name for name in item if name not in ("pk", "sk")), key=lambda name: ":" in name)
    del attributes[_MAX_CONDITIONS:]
    return {
        "ConditionExpression": " AND ".join(f"#c{n} = :c{n}" for n in range(len(attributes))),
        "ExpressionAttributeNames": {f"#c{n}": name for n, name in enumerate(attributes)},
        "ExpressionAttributeValues": {f":c{n}": item[name] for n, name in enumerate(attributes)},
    }

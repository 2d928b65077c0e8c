"""``carsight keys``: create, list, change and rotate keys, and show their usage."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carsight_service.cli.installation import Installation, add_verb
from carsight_service.cli.output import print_json, print_table
from carsight_service.contract.api import Api
from carsight_service.metering.keyring import Keyring, KeyringError, Limits, read_tiers
from carsight_service.metering.model import Account, Status, Usage


def keys(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of ``carsight keys``."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    create = add_verb(verbs, "create", "create a key, which is shown this once", _create)
    create.add_argument("--owner", required=True, help="e-mail address, named in usage alerts")
    create.add_argument("--tier", required=True, help="sandbox, starter, pro, enterprise, or one of --tiers")
    create.add_argument("--label", default="", help="what the key is for")
    _add_plan(create)

    add_verb(verbs, "list", "list every key", _list)
    _add_key(add_verb(verbs, "show", "show one key: its plan, usage and history", _show))

    change = add_verb(verbs, "set", "change a key; what is not given stays as it is", _set)
    _add_key(change)
    change.add_argument(
        "--status",
        type=Status,
        choices=list(Status),
        metavar="|".join(Status),
        help="whether it is served, and how it is refused",
    )
    change.add_argument("--tier", help="also sets the tier's limits and overage")
    change.add_argument("--owner", help="e-mail address")
    change.add_argument("--label", help="what the key is for")
    _add_plan(change)

    _add_key(
        add_verb(verbs, "rotate", "replace a key at once; usage and history move to the new one", _rotate)
    )
    _add_key(
        add_verb(verbs, "disable", "disable a key, which is then refused as if it were unknown", _disable)
    )

    usage = add_verb(
        verbs, "usage", "show one key's usage with its history, or the current usage of all keys", _usage
    )
    usage.add_argument("key", nargs="?", help="prefix, id, or the beginning of either")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", help="prefix, id, or the beginning of either")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="API=N",
        help="requests per period, such as plate=5000; vin=none removes an API from the plan",
    )
    parser.add_argument("--overage", choices=["on", "off"], help="serve and count requests over the limit")
    parser.add_argument("--tiers", type=Path, help="a file of tiers to use instead of the shipped tiers.toml")


def _limit(text: str) -> tuple[Api, int | None]:
    """Parse ``plate=5000`` or ``vin=none``."""
    api, _, number = text.partition("=")
    if number != "none" and not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not API=N or API=none")
    try:
        return Api(api), None if number == "none" else int(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"no API {api!r}: there are {', '.join(Api)}") from None


# -- verbs ---------------------------------------------------------------------------------------------------


def _create(installation: Installation, options: argparse.Namespace) -> None:
    key, account = _keyring(installation, options).create(
        owner=options.owner,
        tier=options.tier,
        label=options.label,
        limits=_limits(options),
        overage=_overage(options),
    )
    _print_new(key, account, options)


def _list(installation: Installation, options: argparse.Namespace) -> None:
    profiles = _keyring(installation, options).profiles()
    if options.json:
        print_json([asdict(profile) for profile in profiles])
        return
    rows = [(p.prefix, p.status, p.tier, p.owner, p.label, p.created[:10]) for p in profiles]
    print_table(("KEY", "STATUS", "TIER", "OWNER", "LABEL", "CREATED"), rows, nothing="no keys")


def _show(installation: Installation, options: argparse.Namespace) -> None:
    keyring = _keyring(installation, options)
    _print_account(keyring.show(keyring.find(options.key)), options)


def _set(installation: Installation, options: argparse.Namespace) -> None:
    keyring = _keyring(installation, options)
    account = keyring.set(
        keyring.find(options.key),
        status=options.status,
        tier=options.tier,
        limits=_limits(options),
        overage=_overage(options),
        owner=options.owner,
        label=options.label,
    )
    _print_account(account, options)


def _disable(installation: Installation, options: argparse.Namespace) -> None:
    keyring = _keyring(installation, options)
    _print_account(keyring.set(keyring.find(options.key), status=Status.DISABLED), options)


def _rotate(installation: Installation, options: argparse.Namespace) -> None:
    keyring = _keyring(installation, options)
    key, account = keyring.rotate(keyring.find(options.key))
    _print_new(key, account, options)


def _usage(installation: Installation, options: argparse.Namespace) -> None:
    keyring = _keyring(installation, options)
    accounts = [keyring.show(keyring.find(options.key))] if options.key else keyring.accounts()
    if options.json:
        print_json([_as_json(account) for account in accounts])
        return
    _print_usage(accounts)
    if options.key:
        _print_history(accounts[0])


# -- parts ---------------------------------------------------------------------------------------------------


def _keyring(installation: Installation, options: argparse.Namespace) -> Keyring:
    try:
        tiers = read_tiers(getattr(options, "tiers", None))
    except (OSError, ValueError) as error:
        raise KeyringError(f"{options.tiers} is not a valid tiers file: {error}") from error
    return Keyring(installation.table_name, installation.dynamodb(), tiers=tiers)


def _limits(options: argparse.Namespace) -> Limits:
    return dict(options.limit)


def _overage(options: argparse.Namespace) -> bool | None:
    return {"on": True, "off": False, None: None}[options.overage]


def _as_json(account: Account) -> dict[str, Any]:
    usage = [{**asdict(usage), "remaining": usage.remaining} for usage in account.usage]
    return {**asdict(account.profile), "usage": usage, "history": [asdict(past) for past in account.history]}


def _print_new(key: str, account: Account, options: argparse.Namespace) -> None:
    if options.json:
        print_json({"key": key, **_as_json(account)})
        return
    print(key)
    print("\nThis is the only time that the key is shown.\n")
    _print_account(account, options)


def _print_account(account: Account, options: argparse.Namespace) -> None:
    if options.json:
        print_json(_as_json(account))
        return
    profile = account.profile
    facts: Mapping[str, str] = {
        "Key": f"{profile.prefix}...",
        "Id": profile.key_id,
        "Status": profile.status,
        "Tier": profile.tier,
        "Owner": profile.owner,
        "Label": profile.label,
        "Created": profile.created,
    }
    for name, value in facts.items():
        print(f"{name + ':':9}{value}".rstrip())
    print()
    _print_usage([account])
    _print_history(account)


def _print_usage(accounts: list[Account]) -> None:
    rows = [_usage_row(account, usage) for account in accounts for usage in account.usage]
    columns = ("KEY", "OWNER", "API", "PERIOD", "USED", "LIMIT", "SHARE", "OVERAGE")
    print_table(columns, rows, nothing="no keys")


def _usage_row(account: Account, usage: Usage) -> tuple[object, ...]:
    share = f"{100 * usage.current / usage.limit:.0f} %" if usage.limit else "-"
    overage = "on" if usage.overage else "off"
    profile = account.profile
    return (
        profile.prefix,
        profile.owner,
        usage.api,
        usage.period,
        usage.current,
        usage.limit,
        share,
        overage,
    )


def _print_history(account: Account) -> None:
    if account.history:
        print()
        rows = [(past.period, past.api, past.used, past.limit, past.tier) for past in account.history]
        print_table(("PERIOD", "API", "USED", "LIMIT", "TIER"), rows)

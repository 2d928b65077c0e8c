"""Reading ``template.yaml`` for the local emulation and the tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PATH = Path(__file__).resolve().parents[1] / "template.yaml"


class _TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags in their long form: ``!Ref X`` is ``{"Ref": "X"}``."""


def _long_form(loader: _TemplateLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {name: loader.construct_mapping(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode)
    value = loader.construct_scalar(node)
    return {name: value.split(".", 1) if tag == "GetAtt" else value}


_TemplateLoader.add_multi_constructor("!", _long_form)


@cache
def read_template() -> dict[str, Any]:
    """Return ``template.yaml`` as data. It is parsed once; copy it before changing it."""
    template: dict[str, Any] = yaml.load(_PATH.read_text(encoding="utf-8"), _TemplateLoader)  # a safe loader
    return template


def create_table(dynamodb: DynamoDBClient, name: str) -> None:
    """Create the template's key table as ``name``, unless it exists."""
    if name in dynamodb.list_tables()["TableNames"]:
        return
    resources = read_template()["Resources"].values()
    properties = next(r["Properties"] for r in resources if r["Type"] == "AWS::DynamoDB::Table")
    dynamodb.create_table(
        TableName=name,
        KeySchema=properties["KeySchema"],
        AttributeDefinitions=properties["AttributeDefinitions"],
        BillingMode=properties["BillingMode"],
        StreamSpecification={
            "StreamEnabled": True,
            "StreamViewType": properties["StreamSpecification"]["StreamViewType"],
        },
    )

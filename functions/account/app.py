"""Key validation, usage, uploads, batches and the API's description; also answers unknown paths."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.http.account import AccountEndpoint

lambda_handler = AccountEndpoint(Deployment.from_environment()).handle

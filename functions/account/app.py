"""The key check, usage, uploads, batches and the API's description; answers every other path, too."""

from __future__ import annotations

from carsight_service.deployment import Deployment
from carsight_service.http.account import AccountEndpoint

lambda_handler = AccountEndpoint(Deployment.from_environment()).handle

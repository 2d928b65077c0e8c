"""The public contract: the two APIs and what their 200 answers hold."""

from __future__ import annotations

from enum import StrEnum


class Api(StrEnum):
    """The metered APIs. The value names one in the key table, in metrics and in upload paths."""

    PLATE = "plate"
    VIN = "vin"

    @property
    def contract_name(self) -> str:
        """What CarsXE's limit message calls it."""
        return {Api.PLATE: "plate_image_recognition", Api.VIN: "vin_optical_character_recognition"}[self]

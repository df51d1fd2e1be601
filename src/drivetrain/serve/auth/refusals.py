"""Why a request is turned away."""

from __future__ import annotations

from drivetrain.errors import DrivetrainError, QueueFull

__all__ = ["Forbidden", "RateLimited", "Unauthorized", "WrongHost"]


class Unauthorized(DrivetrainError):
    """Nobody we know, or with proof that does not hold."""

    code = "unauthorized"


class Forbidden(DrivetrainError):
    """Known, but without the role; or a request that another site made a browser send."""

    code = "forbidden"


class WrongHost(DrivetrainError):
    """For a host that this server does not answer for."""

    code = "wrong_host"


class RateLimited(QueueFull):
    """Too many requests or wrong passwords from one caller or address."""

    code = "rate_limited"

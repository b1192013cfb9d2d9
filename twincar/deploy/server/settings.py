"""Settings of the server: access, CORS, prefix, logging and shutdown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from twincar.core.errors import UsageError

_ORIGIN = re.compile(r"https?://[^/?#*\s]+")


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """All settings of the server except the model and the limits.

    Raises:
        UsageError: the prefix or an origin is not valid.
    """

    root_path: str = ""
    """Prefix under which a proxy publishes the server, such as '/cars'; the proxy may strip it or not."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may read responses (CORS), such as 'https://cars.example'; '*' for all."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """The keys of which every request except health probes must carry one; empty if none is required."""
    access_log: bool = True
    """Whether a line is logged for each request."""
    grace_period: float = 5.0
    """Seconds from SIGTERM, when `/readyz` becomes 503, until the server stops listening."""
    allow_teach: bool = False
    """Whether clients may teach the model cars; they need the key."""
    taught: Path | None = None
    """The `.onnx` file in which the taught model is kept; None keeps it in memory only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        if self.root_path and not re.fullmatch(r"(/[\w.~-]+)+", self.root_path, re.ASCII):
            raise UsageError(f"Expected a --root-path such as /cars, but it is {self.root_path!r}.")
        for origin in self.allow_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"Expected an --allow-origin such as https://cars.example, without a path, but it is {origin!r}."
                )
        if self.allow_teach and not self.api_keys:
            raise UsageError(
                "Expected an API key with --allow-teach, because whoever reaches the server can change its model then, "
                "but there is none. Make one by: openssl rand -hex 32 > api_key; and give it by --api-key-file api_key."
            )
        if self.taught is not None and not self.allow_teach:
            raise UsageError(
                f"Expected --allow-teach with --taught {self.taught}, but it is missing. To serve what was taught "
                f"before, and teach no more: twincar serve {self.taught}"
            )
        if self.taught is not None and self.taught.suffix != ".onnx":
            raise UsageError(f"Expected a name ending in .onnx for --taught, but found {self.taught}.")

"""The API keys: reading them, and checking that a request carries one."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from twincar.core.errors import UsageError
from twincar.deploy.server.limits import Refusal

VARIABLE = "TWINCAR_API_KEY"
_LEAST, _MOST = 16, 1024  # characters of a key
_FILE = 64 * 1024  # bytes of a file of keys
_MAKE = "Make one with: openssl rand -hex 32"
_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="`X-API-Key: KEY`")
_BASIC = HTTPBasic(auto_error=False, description="For browsers: any name, and the key as the password.")


def read_api_keys(path: Path | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys in a file, one in a line, else those in the environment, else none. Each of them is accepted.

    Raises:
        UsageError: the file cannot be read, or a key is not valid. No key is an error too, because setting one shows
            that a key should be required.
    """
    if path is not None:
        text, source = _read(path), str(path)
    elif VARIABLE in environment:
        text, source = environment[VARIABLE], f"the environment variable {VARIABLE}"
    else:
        return ()
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise UsageError(f"Expected an API key in {source}, but it is empty. {_MAKE}")
    for number, key in enumerate(keys, start=1):
        _check(key, f"{source}, line {number}" if len(keys) > 1 else source)
    return keys


def _check(key: str, source: str) -> None:
    if len(key) > _MOST or not re.fullmatch(r"[!-~]+", key):
        raise UsageError(
            f"Expected an API key of at most {_MOST} ASCII letters, digits and signs in {source}, but it holds "
            "something else."
        )
    if len(key) < _LEAST:
        raise UsageError(
            f"Expected an API key of at least {_LEAST} characters in {source}, because a shorter one can be guessed, "
            f"but it has {len(key)}. {_MAKE}"
        )


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"Expected a file with the API key at {path}, but there is none.")
        with path.open("rb") as file:
            data = file.read(_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"Expected a file with the API key at {path}, but it cannot be read: {error.strerror}."
        ) from None
    if len(data) > _FILE:
        raise UsageError(f"Expected a file with API keys of at most {_FILE // 1024} KiB at {path}, but it is larger.")
    return data.decode("latin-1")


class RequireKey:
    """A FastAPI dependency that refuses a request without one of the keys before its body is read."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    async def __call__(
        self,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
        basic: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)],
    ) -> None:
        """Check the three ways in which a request may carry the key."""
        carried = (bearer and bearer.credentials, header, basic and basic.password)
        if any([hmac.compare_digest(text.encode(), key) for text in carried if text for key in self._keys]):
            return
        found = "another one" if any(carried) else "none"
        message = f"Expected the API key (Authorization: Bearer KEY, or X-API-Key: KEY), but the request has {found}."
        # Only this scheme makes a browser ask its user, and Chromium does not if other schemes are offered too.
        raise Refusal(401, "unauthorized", message, {"WWW-Authenticate": 'Basic realm="TwinCar"'})

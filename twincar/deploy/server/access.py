"""The API key: reading it, and checking that a request carries it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from twincar.core.errors import UsageError
from twincar.deploy.server.limits import Refusal

VARIABLE = "TWINCAR_API_KEY"
_MOST = 1024  # characters of a key
_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="`X-API-Key: KEY`")
_BASIC = HTTPBasic(auto_error=False, description="For browsers: any name, and the key as the password.")


def read_api_key(path: Path | None, environment: Mapping[str, str]) -> str:
    """The key in a file, else that in the environment, else an empty string.

    Raises:
        UsageError: the file cannot be read, or the key is not valid. An empty key is an error too, because setting
            one shows that a key should be required.
    """
    if path is not None:
        text, source = _read(path), str(path)
    elif VARIABLE in environment:
        text, source = environment[VARIABLE], f"the environment variable {VARIABLE}"
    else:
        return ""
    key = text.strip()
    if not key:
        raise UsageError(f"Expected an API key in {source}, but it is empty. Make one with: openssl rand -hex 32")
    if len(key) > _MOST or not re.fullmatch(r"[!-~]+", key):
        raise UsageError(
            f"Expected an API key of at most {_MOST} ASCII letters, digits and signs in one line in {source}, but it "
            "holds something else."
        )
    return key


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"Expected a file with the API key at {path}, but there is none.")
        with path.open("rb") as file:
            return file.read(_MOST + 2).decode("latin-1")  # and a line's end, of two characters at most
    except OSError as error:
        raise UsageError(
            f"Expected a file with the API key at {path}, but it cannot be read: {error.strerror}."
        ) from None


class RequireKey:
    """A FastAPI dependency that refuses a request without the key before its body is read."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    async def __call__(
        self,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
        basic: Annotated[HTTPBasicCredentials | None, Depends(_BASIC)],
    ) -> None:
        """Check the three ways in which a request may carry the key."""
        carried = (bearer and bearer.credentials, header, basic and basic.password)
        if any([hmac.compare_digest(text.encode(), self._key) for text in carried if text]):
            return
        found = "another one" if any(carried) else "none"
        message = f"Expected the API key (Authorization: Bearer KEY, or X-API-Key: KEY), but the request has {found}."
        # Only this scheme makes a browser ask its user, and Chromium does not if other schemes are offered too.
        raise Refusal(401, "no key", message, {"WWW-Authenticate": 'Basic realm="TwinCar"'})

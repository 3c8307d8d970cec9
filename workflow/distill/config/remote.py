"""What the config's sections of models behind a server share: where it is, and what asking it may cost."""

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from distill.config.base import Section
from distill.errors import ConfigError

_HERE = ("localhost", "127.0.0.1", "::1")


class RemoteModel(Section):
    """A chat model behind an OpenAI-compatible server.

    Attributes:
        section: the section's key in the config.
        fewer: the key of how much is asked.
        without: what to set where there is no API key.
        kept: what a rerun finds again.
    """

    section: ClassVar[str]
    fewer: ClassVar[str]
    without: ClassVar[str]
    kept: ClassVar[str]

    base_url: str = Field(
        "https://api.openai.com/v1", pattern=r"^https?://", description="Address of the OpenAI-compatible server."
    )
    model: str = Field(min_length=1, description="The model's name at the server; a dated snapshot can be compared.")
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the key; the key itself is never written anywhere.",
    )
    max_concurrency: int = Field(8, ge=1, le=256, description="Requests in flight at once; 1 to 256.")
    timeout_s: float = Field(60.0, gt=0, description="Seconds to wait for one reply; above 0.")
    max_retries: int = Field(
        6, ge=0, description="Further tries of a request after a rate limit, server error or time-out; at least 0."
    )
    spend_cap_usd: float = Field(
        5.0, ge=0, description="Most US dollars one job may cost, its earlier tries included; at least 0."
    )
    price_per_million_input_tokens: float = Field(
        0.15, ge=0, description="The model's price in US dollars a million prompt tokens; 0 for a server of your own."
    )
    price_per_million_output_tokens: float = Field(
        0.60, ge=0, description="The model's price in US dollars a million reply tokens; 0 for a server of your own."
    )


def key_of(remote: RemoteModel, environ: Mapping[str, str]) -> str:
    """Returns the API key, "" where its variable is not set; a server on this machine then gets a word in its place."""
    key = environ.get(remote.api_key_env, "").strip()
    return key or ("none" if urlsplit(remote.base_url).hostname in _HERE else "")


def check_key(remote: RemoteModel, environ: Mapping[str, str]) -> None:
    """Refuses to begin what would end for want of a key.

    Raises:
        ConfigError: its variable is not set.
    """
    if not key_of(remote, environ):
        raise ConfigError(
            f"{remote.section}.api_key_env: expected an API key in the environment variable {remote.api_key_env}, "
            f"found none; set it, or {remote.without}"
        )

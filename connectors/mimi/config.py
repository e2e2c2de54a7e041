"""What an operator may set for one MIMI network."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.mimi.service.peers import Credentials
from connectors.mimi.uris import is_domain


class MimiConfig(BaseModel):
    """This provider: its name, its certificate, and where it listens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str = Field(description="The provider's domain; rooms and users are named below it.")
    certificate: Path = Field(
        description="PEM file of the certificate, for the domain; it is shown both ways."
    )
    key: Path = Field(description="PEM file of the certificate's key.")
    authorities: Path | None = Field(
        default=None,
        description="PEM file of the authorities that peers' certificates come from; else the system's.",
    )
    listen: str = Field(default="0.0.0.0", description="Address on which other providers are awaited.")
    port: int = Field(default=8443, ge=0, le=65535, description="Port on which other providers are awaited.")
    public_url: str = Field(
        default="",
        description="Where others reach that port: https://mimi.example.org; else the domain and port.",
    )
    open_rooms: bool = Field(
        default=False,
        description="Users of other providers may join the rooms that are made here, uninvited.",
    )
    peers: dict[str, str] = Field(
        default={}, description="Where a provider is reached that is not at https://its.domain, by domain."
    )

    @field_validator("domain")
    @classmethod
    def _lower(cls, value: str) -> str:
        if not is_domain(value):
            raise ValueError("must be a domain in lower case, without a port")
        return value

    @model_validator(mode="after")
    def _readable(self) -> MimiConfig:
        try:
            self.credentials.server()
        except OSError as error:  # with ssl.SSLError
            raise ValueError(f"the certificate files are no use: {Credentials.why(error)}") from None
        return self

    @property
    def credentials(self) -> Credentials:
        """The files, as what connections are made with."""
        return Credentials(self.certificate, self.key, self.authorities)

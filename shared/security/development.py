"""The local principal: everybody is an administrator, on a developer's machine and nowhere else."""

import re
from collections.abc import Mapping

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Principal, Proof, RouterRole

LOCAL_ENVIRONMENT = "local"
SERVICE_HEADER = "x-router-service"
TENANT_HEADER = "x-router-tenant"
GROUPS_HEADER = "x-router-groups"
"""Names, with commas between them."""
_NAME = re.compile(r"[a-z0-9-]{1,64}")


class DevelopmentAuthenticator:
    """Implements `shared.ports.Authenticator` without any proof. Every principal says that it is one of development.

    A caller may say which service, tenant and groups it plays, by `x-router-service`, `x-router-tenant` and
    `x-router-groups`.

    Args:
        environment: `ROUTER_ENVIRONMENT`.
        service: the calling service's name where the header is absent; 1 to 64 of a-z, 0-9 and the dash.
        tenant_id: likewise.

    Raises:
        ValueError: the environment is not `local`, or a name is malformed.
    """

    def __init__(self, *, environment: str, service: str = "local", tenant_id: str = "local") -> None:
        if environment != LOCAL_ENVIRONMENT:
            raise ValueError(
                f"ROUTER_AUTH: development needs ROUTER_ENVIRONMENT={LOCAL_ENVIRONMENT}; anywhere else it would let "
                "everybody in"
            )
        for field, name in (("service", service), ("tenant_id", tenant_id)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{field}: must be 1 to 64 of a-z, 0-9 and the dash")
        self._service = service
        self._tenant_id = tenant_id

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The local principal, with all roles.

        Raises:
            Unauthenticated: a header holds a malformed name.
        """
        service = _name(headers, SERVICE_HEADER, self._service)
        groups = [group.strip() for group in headers.get(GROUPS_HEADER, "").split(",") if group.strip()]
        if not all(_NAME.fullmatch(group) for group in groups):
            raise Unauthenticated(f"{GROUPS_HEADER}: must be names of 1 to 64 of a-z, 0-9 and the dash")
        return Principal(
            id=f"development:{service}",
            tenant_id=_name(headers, TENANT_HEADER, self._tenant_id),
            service=service,
            roles=frozenset(RouterRole),
            development=True,
            proof=Proof.DEVELOPMENT,
            groups=frozenset(groups),
        )


def _name(headers: Mapping[str, str], header: str, default: str) -> str:
    name = headers.get(header, default)
    if not _NAME.fullmatch(name):
        raise Unauthenticated(f"{header}: must be 1 to 64 of a-z, 0-9 and the dash")
    return name

"""Headers by which App Service authentication tells who calls, for the tests of what is behind it."""

import base64
import json

TENANT = "4f1c0a9e-0000-4000-8000-000000000001"
HEADER = "x-ms-client-principal"


def principal_header(application_id="app-1", *, roles=("Router.Service",), tenant=TENANT):
    """A service's principal with these app roles."""
    claims = [("oid", "object-1"), ("tid", tenant), ("azp", application_id), *(("roles", role) for role in roles)]
    return encoded({"auth_typ": "aad", "claims": [{"typ": name, "val": value} for name, value in claims]})


def site_user_header(*roles):
    """A signed-in user's principal, as Static Web Apps tells it."""
    roles = ["anonymous", "authenticated", *roles]
    return encoded({"identityProvider": "aad", "userId": "user-1", "userDetails": "u", "userRoles": roles})


def encoded(document):
    return {HEADER: base64.b64encode(json.dumps(document).encode()).decode()}

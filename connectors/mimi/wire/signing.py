"""What the signatures of bodies are over: the body itself without its signature, which is the last field of each."""

from __future__ import annotations

import msgspec

from connectors.mimi.wire.rooms import (
    GROUP_INFO_REQUEST,
    GROUP_INFO_RESPONSE,
    GivenGroupInfo,
    GroupInfoRequest,
)
from connectors.mimi.wire.users import KEY_MATERIAL_REQUEST, KeyMaterialRequest


def to_be_signed(body: KeyMaterialRequest | GroupInfoRequest | GivenGroupInfo) -> bytes:
    """KeyMaterialRequestTBS, GroupInfoRequestTBS, GroupInfoResponseTBS (draft-ietf-mimi-protocol-06 5.2, 5.6)."""
    match body:
        case KeyMaterialRequest():
            unsigned = KEY_MATERIAL_REQUEST.encode(msgspec.structs.replace(body, signature=b""))
        case GroupInfoRequest():
            unsigned = GROUP_INFO_REQUEST.encode(msgspec.structs.replace(body, signature=b""))
        case GivenGroupInfo():
            unsigned = GROUP_INFO_RESPONSE.encode(msgspec.structs.replace(body, signature=b""))
    return unsigned[:-1]  # an empty signature is one octet of length

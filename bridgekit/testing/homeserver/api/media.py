"""Endpoints of the media repository: upload at once or later, authenticated download."""

from typing import NamedTuple
from urllib.parse import quote

from bridgekit.testing.homeserver.api.routes import Call, Response, routes
from bridgekit.testing.homeserver.refusals import Json, Refused, forbidden, not_found, too_large

_UNUSED_FOR_MS = 24 * 3600 * 1000


class Medium(NamedTuple):
    """One uploaded file."""

    content: bytes
    content_type: str
    name: str | None
    owner: str


class MediaStore:
    """Uploaded files by media id, and ids that were promised a file."""

    def __init__(self, server: str, max_upload: int) -> None:
        self.max_upload = max_upload
        self._server = server
        self._made = 0
        self._media: dict[str, Medium | None] = {}
        self._owners: dict[str, str] = {}

    def reserve(self, owner: str) -> str:
        """Return a new mxc URI without content."""
        self._made += 1
        media_id = f"fakemedia{self._made:012d}"
        self._media[media_id] = None
        self._owners[media_id] = owner
        return f"mxc://{self._server}/{media_id}"

    def put(self, media_id: str, medium: Medium) -> None:
        """Fill a reserved id. Raise `Refused`: 404, 403 for another's, 409 where it is filled, 413."""
        if len(medium.content) > self.max_upload:
            raise too_large("Upload request body is too large")
        if media_id not in self._media:
            raise not_found("Unknown media ID")
        if self._owners[media_id] != medium.owner:
            raise forbidden("Only the creator of the media ID can upload to it")
        if self._media[media_id] is not None:
            raise Refused(409, "M_CANNOT_OVERWRITE_MEDIA", "Media ID already has content")
        self._media[media_id] = medium

    def upload(self, medium: Medium) -> str:
        """Store a file under a new mxc URI. Raise `Refused` 413."""
        if len(medium.content) > self.max_upload:
            raise too_large("Upload request body is too large")
        uri = self.reserve(medium.owner)
        self.put(uri.rpartition("/")[2], medium)
        return uri

    def get(self, server: str, media_id: str) -> Medium:
        """Return a file. Raise `Refused` 404, or 504 M_NOT_YET_UPLOADED for one that is only promised."""
        if server != self._server or media_id not in self._media:
            raise not_found("Media not found")
        medium = self._media[media_id]
        if medium is None:
            raise Refused(504, "M_NOT_YET_UPLOADED", "Media has not been uploaded yet")
        return medium


@routes.add("POST", "media/upload")
def upload(call: Call) -> Json:
    """POST /_matrix/media/v3/upload."""
    return {"content_uri": call.app.media.upload(_medium(call))}


@routes.add("POST", "media/create")
def create(call: Call) -> Json:
    """POST /_matrix/media/v1/create (MSC2246)."""
    unused = call.app.wall() + _UNUSED_FOR_MS
    return {"content_uri": call.app.media.reserve(call.user), "unused_expires_at": unused}


@routes.add("PUT", "media/upload/*/*")
def upload_later(call: Call) -> Json:
    """PUT /_matrix/media/v3/upload/{serverName}/{mediaId}."""
    server, media_id = call.args
    if server != call.world.server:
        raise not_found("Unknown media ID")
    call.app.media.put(media_id, _medium(call))
    return {}


@routes.add("GET", "client/media/download/*/*", "client/media/download/*/*/*", "client/media/thumbnail/*/*")
def download(call: Call) -> Response:
    """GET /_matrix/client/v1/media/download/{serverName}/{mediaId}[/{fileName}]; a thumbnail is the file itself."""
    server, media_id, *name = call.args
    medium = call.app.media.get(server, media_id)
    file_name = name[0] if name else medium.name
    disposition = "inline" if medium.content_type.startswith(("image/", "video/", "audio/")) else "attachment"
    if file_name:
        disposition += f"; filename*=utf-8''{quote(file_name, safe='')}"
    return Response(200, medium.content, medium.content_type, {"Content-Disposition": disposition})


@routes.add("GET", "media/download/*/*", "media/download/*/*/*", "media/thumbnail/*/*", public=True)
def download_unauthenticated(call: Call) -> Response:
    """GET /_matrix/media/v3/download: frozen since Matrix 1.11, new media are not found there."""
    raise not_found("Media not found: unauthenticated media is frozen")


@routes.add("GET", "client/media/config", "media/config")
def config(call: Call) -> Json:
    """GET /_matrix/client/v1/media/config."""
    return {"m.upload.size": call.app.media.max_upload}


def _medium(call: Call) -> Medium:
    content_type = call.request.header(b"content-type").decode("latin-1") or "application/octet-stream"
    return Medium(call.request.body, content_type, call.request.query.get("filename"), call.user)

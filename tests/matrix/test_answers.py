"""What each refusal of a homeserver means."""

import pytest

from bridgekit.contract.errors import (
    HomeserverUnavailable,
    MatrixError,
    MatrixForbidden,
    MatrixRateLimited,
    MatrixRefused,
)
from bridgekit.matrix.answers import LONGEST_HOLD, named
from bridgekit.matrix.wire import Answer


def of(status: int, body: bytes = b"", **headers: str) -> MatrixError:
    return named(
        Answer(status, [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()], body)
    )


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"errcode":"M_UNKNOWN","error":"Internal server error"}'])
def test_trouble_of_the_server_asks_for_another_try_and_is_not_certain(status, body):
    error = of(status, body)
    assert isinstance(error, HomeserverUnavailable)
    assert not error.certain
    assert error.retry_after == 1.0


@pytest.mark.parametrize(("status", "errcode"), [(502, "M_BAD_STATUS"), (504, "M_CONNECTION_TIMEOUT")])
def test_a_ping_that_did_not_get_through_is_no_trouble_of_the_homeserver(status, errcode):
    """Client-Server API, "POST /_matrix/client/v1/appservice/{appserviceId}/ping"."""
    error = of(status, b'{"errcode":"%s"}' % errcode.encode())
    assert isinstance(error, MatrixRefused)
    assert error.errcode == errcode


@pytest.mark.parametrize("status", [200, 201, 302, 401, 403, 404, 405])
def test_a_body_that_is_no_json_is_trouble_too(status):
    assert isinstance(
        of(status, b"<html>Sign in</html>", Location="https://elsewhere"), HomeserverUnavailable
    )
    assert isinstance(of(status, b'{"errcode":"\xff"}'), HomeserverUnavailable)


@pytest.mark.parametrize(
    ("status", "errcode"),
    [(413, "M_TOO_LARGE"), (414, "M_TOO_LARGE"), (431, "M_TOO_LARGE"), (400, "M_BAD_JSON")],
)
def test_a_proxy_that_will_never_take_this_request_is_not_asked_for_ever(status, errcode):
    error = of(status, b"<html>Request Entity Too Large</html>")
    assert isinstance(error, MatrixRefused)
    assert (error.errcode, error.status, error.retry_after) == (errcode, status, None)


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}', {}, 2.5),
        (b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}', {"Retry_After": "9"}, 2.5),
        (b'{"errcode":"M_LIMIT_EXCEEDED"}', {"retry_after": "9"}, 9.0),
        (b'{"errcode":"M_LIMIT_EXCEEDED"}', {}, 1.0),
        (b"<html>", {"Retry_After": "9"}, 9.0),
        (b"", {"Retry_After": "soon"}, 1.0),
        (b"", {"Retry_After": "nan"}, 1.0),
        (b"", {"Retry_After": "-5"}, 0.05),
        (b"", {"Retry_After": "1e12"}, LONGEST_HOLD),
        (b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":-1}', {}, 0.05),
        (
            b"",
            {"Retry_After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:39 GMT"},
            20.0,
        ),
    ],
)
def test_a_rate_limit_says_when_to_come_back(body, headers, seconds):
    error = of(429, body, **headers)
    assert isinstance(error, MatrixRateLimited)
    assert error.retry_after == seconds
    assert error.certain


def test_forbidden_carries_the_homeservers_reason_as_a_sentence():
    error = of(403, b'{"errcode":"M_FORBIDDEN","error":"User @x not in room !r\\n(why)"}')
    assert isinstance(error, MatrixForbidden)
    assert error.notice == "This is not allowed there: User @x not in room !r (why)."
    assert error.certain


@pytest.mark.parametrize(
    ("status", "errcode"),
    [
        (401, "M_UNKNOWN_TOKEN"),
        (400, "M_EXCLUSIVE"),
        (404, "M_NOT_FOUND"),
        (400, "M_SOMETHING_NEW"),
        (403, "M_CONSENT_NOT_GIVEN"),
        (501, "M_UNRECOGNIZED"),
    ],
)
def test_every_other_refusal_keeps_its_code_and_is_a_sentence(status, errcode):
    error = of(status, b'{"errcode":"%s"}' % errcode.encode())
    assert type(error) is MatrixRefused
    assert (error.errcode, error.status) == (errcode, status)
    assert error.notice.endswith(".")

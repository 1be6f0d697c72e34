"""A partner's server that answers with what is no HTTP is a partner that was not told."""

from __future__ import annotations

import socket
import threading

import pytest

from consentkit.newsletter.posting import PartnerUnreachable, post_json


@pytest.mark.parametrize("answer", [b"good morning\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, b""])
def test_an_answer_that_is_no_http_means_that_it_is_tried_again(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()

        with pytest.raises(PartnerUnreachable, match="a partner's webhook failed"):
            post_json(f"http://127.0.0.1:{server.getsockname()[1]}/weg", b"{}", {})

        thread.join(10)

"""A chat-completions server on 127.0.0.1 that answers by a rule and misbehaves on request; for tests only."""

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-fake-0123456789abcdef"


class FakeOpenAI(AbstractContextManager):
    """Serves POST {base_url}/chat/completions while the context is open.

    Args:
        reply: the text of every answer, or a function from the prompt (all messages joined) to it.
        faults: what befalls the first requests, one each in order of arrival: an HTTP status (429 comes with
            `Retry-After: 0`), an (HTTP status, headers, error object) triple, `"close"` (the connection ends without an
            answer), `"html"` (a page instead of JSON), `"cut"` (JSON that breaks off), or None (nothing).
        key: the only accepted key; others get 401 with the offered key quoted, as the real server does in part.
        usage: (prompt tokens, completion tokens) billed for every answer; None leaves the count out.
        together: answer only once so many requests are waiting at the same time.

    Attributes:
        requests: bodies of all requests, in order of arrival.
        most_in_flight: the largest number of requests that were waiting at the same time.
    """

    def __init__(
        self,
        reply: str | Callable[[str], str] = "A",
        faults: Iterable = (),
        key: str = KEY,
        usage: tuple[int, int] | None = (100, 1),
        together: int = 1,
    ):
        self.requests: list[dict] = []
        self.most_in_flight = 0
        self._reply = reply if callable(reply) else lambda prompt: reply
        self._faults = iter(faults)
        self._key, self._usage = key, usage
        self._in_flight = 0
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(together, timeout=10)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                fake._handle(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FakeOpenAI":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(body)
            fault = next(self._faults, None)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self._barrier.wait()
        with self._lock:
            self._in_flight -= 1
        offered = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if handler.path != "/v1/chat/completions":
            _send(handler, 404, {"error": {"message": f"no such path: {handler.path}", "code": "not_found"}})
        elif offered != self._key:
            _send(handler, 401, {"error": {"message": f"Incorrect API key: {offered}", "code": "invalid_api_key"}})
        elif fault == "close":
            handler.close_connection = True
        elif fault == "html":
            _send(handler, 200, "<html>Sign in to the network</html>", {"Content-Type": "text/html"})
        elif fault == "cut":
            _send(handler, 200, '{"id": "chatcmpl-1", "choi')
        elif isinstance(fault, tuple):
            status, headers, error = fault
            _send(handler, status, {"error": error}, headers)
        elif fault is not None:
            _send(handler, fault, {"error": {"message": "injected", "code": None}}, {"Retry-After": "0"})
        else:
            _send(handler, 200, self._completion(body))

    def _completion(self, body: dict) -> dict:
        prompt = "\n".join(message["content"] for message in body["messages"])
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "system_fingerprint": "fp_fake",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": self._reply(prompt)},
                }
            ],
        }
        if self._usage:
            counts = {"prompt_tokens": self._usage[0], "completion_tokens": self._usage[1]}
            completion["usage"] = {**counts, "total_tokens": sum(self._usage)}
        return completion


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict | str, headers: dict | None = None) -> None:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **(headers or {})}.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(content)

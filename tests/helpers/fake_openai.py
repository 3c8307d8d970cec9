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
        reply: the text of every answer, or a function from the prompt (all messages joined) to it, or to the texts of
            all that is asked for (`n`), of which a server may leave some out.
        faults: what befalls the first requests, one each in order of arrival: an HTTP status (429 comes with
            `Retry-After: 0`), an (HTTP status, headers, error object) triple, `"close"` (the connection ends without an
            answer), `"html"` (a page instead of JSON), `"cut"` (JSON that breaks off), or None (nothing).
        key: the only accepted key; others get 401 with the offered key quoted, as the real server does in part.
        usage: (prompt tokens, completion tokens) billed for every answer; None leaves the count out.
        together: answer only once so many requests are waiting at the same time.
        batches: what befalls the first batches, one each: `"expire"` (every second line is left unanswered), `"fail"`
            (refused as a whole), `"lost"` (it is made, but the connection ends without an answer), or None.

    Attributes:
        billed: (prompt tokens, completion tokens) of every answer that was counted, by the server's own account.
        uploads: contents of the files handed in, as lists of lines.
        requests: bodies of all requests, in order of arrival.
        most_in_flight: the largest number of requests that were waiting at the same time.
    """

    def __init__(
        self,
        reply: str | Callable[[str], str | list[str]] = "A",
        faults: Iterable = (),
        key: str = KEY,
        usage: tuple[int, int] | None = (100, 1),
        together: int = 1,
        batches: Iterable = (),
    ):
        self.requests: list[dict] = []
        self.most_in_flight = 0
        self.billed: list[tuple[int, int]] = []
        self.uploads: list[list[dict]] = []
        self._batch_faults = iter(batches)
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, dict] = {}
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
                if self.path == "/v1/chat/completions":
                    fake._handle(self)
                else:
                    fake._manage(self)

            def do_GET(self) -> None:  # noqa: N802
                fake._manage(self)

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
        if offered != self._key:
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

    def _manage(self, handler: BaseHTTPRequestHandler) -> None:
        """Files and batches: a batch is worked through when it is made."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        path, _, _ = handler.path.partition("?")
        parts = path.strip("/").split("/")[1:]
        if (handler.command, path) == ("POST", "/v1/files"):
            start = body.index(b"{")
            content = body[start : body.index(b"\r\n--", start)]
            name = f"file-{len(self._files)}"
            self._files[name] = content
            self.uploads.append([json.loads(line) for line in content.splitlines()])
            _send(handler, 200, {"id": name})
        elif (handler.command, path) == ("POST", "/v1/batches"):
            batch = self._work(json.loads(body))
            if batch.pop("lost", False):
                handler.close_connection = True
            else:
                _send(handler, 200, batch)
        elif path == "/v1/batches":
            _send(handler, 200, {"data": list(self._batches.values()), "has_more": False})
        elif parts[0] == "batches" and parts[1] in self._batches:
            _send(handler, 200, self._batches[parts[1]])
        elif parts[0] == "files" and parts[1] in self._files:
            _send(handler, 200, self._files[parts[1]].decode(), {"Content-Type": "application/octet-stream"})
        else:
            _send(handler, 404, {"error": {"message": f"no such path: {handler.path}", "code": "not_found"}})

    def _work(self, asked: dict) -> dict:
        name, fault = f"batch-{len(self._batches)}", next(self._batch_faults, None)
        batch = {"id": name, "metadata": asked["metadata"], "status": "completed"}
        self._batches[name] = batch
        if fault == "fail":
            batch.update(status="failed", errors={"data": [{"message": "no room in the queue"}]})
            return batch
        done, failed = [], []
        for number, line in enumerate(map(json.loads, self._files[asked["input_file_id"]].splitlines())):
            row = {"custom_id": line["custom_id"], "response": None, "error": None}
            if fault == "expire" and number % 2:
                failed.append(row | {"error": {"code": "batch_expired", "message": "not done in time"}})
                continue
            self.requests.append(line["body"])
            own = next(self._faults, None)
            status, _, error = own if isinstance(own, tuple) else (own or 200, {}, {"message": "injected"})
            content = self._completion(line["body"]) if own is None else {"error": error}
            (done if own is None else failed).append(row | {"response": {"status_code": status, "body": content}})
        for field, rows in (("output_file_id", done), ("error_file_id", failed)):
            if rows:
                batch[field] = f"file-{len(self._files)}"
                self._files[batch[field]] = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        if fault == "expire":
            batch["status"] = "expired"
        return batch | ({"lost": True} if fault == "lost" else {})

    def _completion(self, body: dict) -> dict:
        prompt = "\n".join(message["content"] for message in body["messages"])
        texts = self._reply(prompt)
        texts = [texts] * body.get("n", 1) if isinstance(texts, str) else texts[: body.get("n", 1)]
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "system_fingerprint": "fp_fake",
            "choices": [
                {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                for index, text in enumerate(texts)
            ],
        }
        if self._usage:
            self.billed.append(self._usage)
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

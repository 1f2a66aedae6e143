#!/usr/bin/python3
"""A child of the older contract: one-shot flags, an admin port, `/drain/status` that answers `active`."""

import http.server
import json
import os
import signal
import sys
import threading
import time

BINARY = "0.2.13-test"
ANSWERS = {
    "--print-binary-version": BINARY,
    "--print-protocol-version": "v0.2",
    "--print-admin-api-version": "1",
    "--print-storage-mode": os.environ.get("STORAGE", "sqlite"),
}

# Without it, it has no `/drain/status`.
COUNTS = os.environ.get("COUNTS", "yes") == "yes"

draining = False
active = 0
asked = 0
# The last one would pass for the supervisor's own.
METRICS = """# HELP old_requests_total Requests that came.
# TYPE old_requests_total counter
old_requests_total {}
versiond_pretended 1
"""
lock = threading.Lock()


class Public(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global active, asked
        if self.path == "/healthz":
            return answer(self, 200, b"ok")
        if self.path == "/metrics":
            return answer(self, 200, METRICS.format(asked).encode())
        with lock:
            active += 1
            asked += 1
            refused = draining
        try:
            if refused:
                return answer(self, 503, b"draining")
            if self.path.startswith("/stream"):
                return stream(self)
            answer(self, 200, os.environ["WORD"].encode())
        finally:
            with lock:
                active -= 1

    def log_message(self, *_):
        pass


class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with lock:
            state, busy = draining, active
        if self.path == "/ready":
            body = {"ready": not state, "draining": state, "inflight": busy, "storage_ready": True}
            answer(self, 503 if state else 200, json.dumps(body).encode())
        elif self.path == "/drain/status" and COUNTS:
            answer(self, 200, json.dumps({"ready": not state, "active": busy}).encode())
        else:
            answer(self, 404, b"")

    def do_POST(self):
        global draining
        if self.path != "/drain":
            return answer(self, 404, b"")
        with lock:
            draining = True
        print("told to drain", flush=True)
        answer(self, 200, b"{}")

    def log_message(self, *_):
        pass


def answer(handler, status, body):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def stream(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for number in range(40):
        line = f"data: {os.environ['WORD']} {number}\n\n".encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        handler.wfile.flush()
        time.sleep(0.1)
    handler.wfile.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 1 and arguments[0] in ANSWERS:
        print(ANSWERS[arguments[0]])
        return
    if len(arguments) != 2 or arguments[0] != "--port":
        sys.exit(f"flag provided but not defined: {' '.join(arguments)}\nUsage of older.py:\n  --port int")
    for name in ("DEVSHARD_SHUTDOWN_GRACE", "DEVSHARD_BINARY_LOG_VERSION", "GONKA_HA"):
        print(f"{name}={os.environ[name]}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, port = os.environ["DEVSHARD_ADMIN_ADDR"].split(":")
    admin = Server((host, int(port)), Admin)
    threading.Thread(target=admin.serve_forever, daemon=True).start()
    Server(("127.0.0.1", int(arguments[1])), Public).serve_forever()


main()

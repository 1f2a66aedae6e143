#!/usr/bin/python3
"""A server that says that it is ready on its notification socket, once a file exists."""

import http.server
import os
import socket
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def wait(path):
    say("STATUS=waiting for its file")
    while not os.path.exists(path):
        time.sleep(0.02)
    say("READY=1")


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=wait, args=(sys.argv[2],), daemon=True).start()
server.serve_forever()

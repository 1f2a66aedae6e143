#!/usr/bin/python3
"""A server that binds nothing: it serves on the socket that is handed over to it, and says a word."""

import http.server
import os
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        word = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(word)))
        self.end_headers()
        self.wfile.write(word)

    def log_message(self, *_):
        pass

    def address_string(self):
        return "-"


names = (os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], os.environ["LISTEN_PID"])
assert names == ("1", "http", str(os.getpid())), names
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
# TCP or Unix, it is all the same to it.
server.socket = socket.socket(fileno=3)
server.serve_forever()

"""server [ROOT PORT] - a web server on the loopback with one directory of files, that misbehaves as it is told.

Each request is noted and goes to Server.answer, which a test may replace; Reply has what good and bad answers are made
of. S3 signatures are checked by code of its own. As a program it serves until it is ended."""
import hashlib
import hmac
import http.server
import pathlib
import re
import ssl
import sys
import threading
import urllib.parse


class Request:
    def __init__(self, handler):
        self.path = urllib.parse.unquote(handler.path.split("?")[0])
        self.raw_path = handler.path
        self.headers = handler.headers
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        self.range = (int(asked[1]), int(asked[2]) + 1) if asked else None
        self.name = self.path.rsplit("/", 1)[-1]
        self.sent = 0

    def __repr__(self):
        return f"{self.path} {self.range}"


class Reply:
    """What a handler answers with."""

    def __init__(self, handler, request, data):
        self.handler, self.request, self.data = handler, request, data

    def head(self, status, length, **headers):
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def body(self, data):
        for at in range(0, len(data), 65536):
            self.handler.wfile.write(data[at:at + 65536])
            self.request.sent += len(data[at:at + 65536])

    def hang_up(self):
        self.handler.close_connection = True
        self.handler.wfile.flush()
        self.handler.connection.close()

    def status(self, status, **headers):
        self.head(status, 5, **headers)
        self.body(b"sorry")

    def wanted(self):
        begin, end = self.request.range or (0, len(self.data))
        return begin, min(end, len(self.data))

    def good(self):
        """As a web server should."""
        begin, end = self.wanted()
        if self.request.range is None:
            self.head(200, len(self.data))
        elif begin >= len(self.data):
            return self.status(416, Content_Range=f"bytes */{len(self.data)}")
        else:
            self.head(206, end - begin, Content_Range=f"bytes {begin}-{end - 1}/{len(self.data)}")
        self.body(self.data[begin:end])

    def whole(self):
        """As one that knows no ranges."""
        self.head(200, len(self.data))
        self.body(self.data)

    def dropped(self, after):
        """The connection ends in the middle of the body."""
        begin, end = self.wanted()
        if self.request.range:
            self.head(206, end - begin, Content_Range=f"bytes {begin}-{end - 1}/{len(self.data)}")
        else:
            self.head(200, end)
        self.body(self.data[begin:min(end, begin + after)])
        if end - begin > after:
            self.hang_up()

    def short(self, n):
        """Fewer bytes than were asked for, and said so."""
        begin, end = self.wanted()
        end = min(end, begin + n)
        self.head(206, end - begin, Content_Range=f"bytes {begin}-{end - 1}/{len(self.data)}")
        self.body(self.data[begin:end])

    def wrong_bytes(self):
        begin, end = self.wanted()
        self.head(206, end - begin, Content_Range=f"bytes {begin}-{end - 1}/{len(self.data)}")
        damaged = bytearray(self.data[begin:end])
        damaged[len(damaged) // 2] ^= 1
        self.body(damaged)

    def wrong_range(self, text):
        begin, end = self.wanted()
        self.head(206, end - begin, Content_Range=text.format(begin=begin, end=end - 1, size=len(self.data)))
        self.body(self.data[begin:end])


class Server:
    """Serves `root`; the `with` block ends it."""

    def __init__(self, root, certificate=None, port=0):
        self.root, self.requests, self.lock = pathlib.Path(root), [], threading.Lock()
        self.connections, self.answer = set(), lambda reply: reply.good()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                request = Request(self)
                with server.lock:
                    server.requests.append(request)
                file = server.root / request.path.lstrip("/")
                try:
                    if not file.is_file():
                        Reply(self, request, b"").status(404)
                    else:
                        server.answer(Reply(self, request, file.read_bytes()))
                except OSError:
                    self.close_connection = True  # the client left

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.http = Quiet(("127.0.0.1", port), Handler)
        self.port = self.http.server_address[1]
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def url(self, path=""):
        return f"{self.scheme}://localhost:{self.port}{path}"

    def seen(self, name=""):
        """Requests whose path has this in it, since the last forget()."""
        with self.lock:
            return [r for r in self.requests if name in r.path]

    def forget(self):
        with self.lock:
            self.requests.clear()


def signature_is_right(request, keys, region):
    """AWS signature version 4 of a request, as its description has it; keys: {name: secret}."""
    wanted = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
                          r"SignedHeaders=([\w;-]+), ?Signature=([0-9a-f]{64})", request.headers.get("Authorization", ""))
    if not wanted or wanted[1] not in keys or wanted[3] != region:
        return False
    name, day, _, signed, signature = wanted.groups()
    when = request.headers["X-Amz-Date"]
    if not when.startswith(day) or "host" not in signed.split(";"):
        return False
    for header in request.headers:
        if header.lower().startswith("x-amz-") and header.lower() not in signed.split(";"):
            return False
    path = urllib.parse.quote(urllib.parse.unquote(request.raw_path), safe="/-_.~")
    headers = "".join(f"{h}:{' '.join(request.headers[h].split())}\n" for h in signed.split(";"))
    canonical = "\n".join(["GET", path, "", headers, signed, request.headers["X-Amz-Content-Sha256"]])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + keys[name]).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature)


if __name__ == "__main__":
    with Server(sys.argv[1], port=int(sys.argv[2])) as alone:
        alone.answer = lambda reply: (reply.good() if reply.request.headers.get("Authorization") == "Bearer s3cret"
                                      else reply.status(401))
        print("serving", flush=True)
        alone.thread.join()

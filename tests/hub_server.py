"""As much of Hugging Face Hub as a push and a pull need, on loopback; records every request."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Repository:
    """Commits of one repository: SHA → files."""

    def __init__(self, private, files=None):
        self.private = private
        self.commits = {}
        self.commit({".gitattributes": b"", **(files or {})})

    def commit(self, files):
        text = repr(sorted((name, hashlib.sha1(c).hexdigest()) for name, c in files.items()))
        self.head = hashlib.sha1(f"{len(self.commits)}{text}".encode()).hexdigest()
        self.commits[self.head] = dict(files)
        return self.head

    def at(self, revision):
        return self.commits[self.head if revision in ("main", None) else revision]


class Hub:
    """The server.

    Attributes:
        repositories: by name.
        requests: (method, path) of each.
    """

    def __init__(self):
        self.repositories = {}
        self.requests = []
        self.url = ""

    def get(self, path):
        """What a GET or HEAD of a path gives: status, headers, body."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.repositories.get(name)
        if repository is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        revision = rest[1] if len(rest) > 1 else None
        if revision not in (None, "main", *repository.commits):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = repository.at(revision)
        sha = repository.head if revision in (None, "main") else revision
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": file} for file in files]
            told = {"id": name, "sha": sha, "private": repository.private, "siblings": siblings}
            return 200, {}, json.dumps(told).encode()
        if rest[0] == "tree":
            listed = [
                {"type": "file", "path": f, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for f, c in files.items()
            ]
            return 200, {}, json.dumps(listed).encode()
        assert rest[0] == "resolve", path
        content = files.get("/".join(rest[2:]))
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = hashlib.sha1(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha}, content

    def post(self, path, body):
        """What a POST gives: status and value."""
        parts = path.strip("/").split("/")
        if parts[1:] == ["repos", "create"]:
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            if name in self.repositories:
                return 409, {"url": f"{self.url}/{name}"}
            private = given.get("visibility") == "private" or given.get("private", False)
            self.repositories[name] = Repository(private)
            return 200, {"url": f"{self.url}/{name}"}
        if parts[1] == "validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        assert parts[4] == "commit", path
        repository = self.repositories[name]
        files = dict(repository.at("main"))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, repository.head):
                return 412, {"error": "the parent commit has moved"}
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = repository.commit(files)
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{sha}", "commitOid": sha}


@contextmanager
def running():
    """The server, on a free port of loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            path = urlsplit(self.path).path
            hub.requests.append((self.command, path))
            self.answer(*hub.get(path))

        do_HEAD = do_GET

        def do_POST(self):
            path = urlsplit(self.path).path
            hub.requests.append((self.command, path))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, value = hub.post(path, body)
            self.answer(status, {}, json.dumps(value).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

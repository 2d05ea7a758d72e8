"""A stand-in for the Hugging Face hub: an HTTP server on this machine with the few endpoints that are needed."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

ROUTE = re.compile(r"/(?:api/models/)?(?P<id>[^/]+/[^/]+)(?:/(?P<action>[^/]+)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?")


class Repository:
    """The files of each commit, and the commit at the head of each branch."""

    def __init__(self, private=False):
        self.private, self.refused, self.messages = private, None, []
        self.commits, self.heads = {}, {}
        self.commit("main", {}, "initial commit")

    def files(self, revision="main"):
        return self.commits.get(self.heads.get(revision, revision))

    def commit(self, branch, changes, message):
        files = (self.files(branch) or {}) | changes
        self.messages.append(message)
        name = hashlib.sha1(repr((sorted(files.items()), self.messages)).encode()).hexdigest()
        self.commits[name], self.heads[branch] = files, name
        return name


class Handler(BaseHTTPRequestHandler):
    def log_request(self, *answer):
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))

    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, code):
        self.answer({"error": code}, status, X_Error_Code=code)

    def repository(self):
        """The repository that is asked for, and the rest of the route; None after a refusal."""
        route = ROUTE.fullmatch(urlsplit(self.path).path)
        found = route and self.server.repositories.get(route["id"])
        if found is None:
            self.refuse(401, "RepoNotFound")
        elif found.refused:
            self.refuse(*found.refused)
        else:
            return found, route["id"], route["action"], unquote(route["revision"] or "main"), route["path"]
        return None

    def do_GET(self):
        if not (asked := self.repository()):
            return
        found, name, action, revision, path = asked
        files, head = found.files(revision), found.heads.get(revision, revision)
        if files is None:
            self.refuse(404, "RevisionNotFound")
        elif action == "tree":
            self.answer([{"type": "file", "path": p, "size": len(c), "oid": blob(c)} for p, c in files.items()])
        elif action != "resolve":
            siblings = [{"rfilename": path} for path in files]
            self.answer({"id": name, "sha": head, "private": found.private, "siblings": siblings})
        elif path not in files:
            self.refuse(404, "EntryNotFound")
        else:
            self.answer(files[path], ETag=f'"{blob(files[path])}"', X_Repo_Commit=head)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if (asked := self.repository()) is None:
            return None
        found, name, action, revision, _ = asked
        if action == "branch":
            found.heads.setdefault(revision, found.heads["main"])
            return self.answer({})
        if found.files(revision) is None:
            return self.refuse(404, "RevisionNotFound")
        if action == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        header, *lines = (json.loads(line)["value"] for line in body.splitlines())
        changes = {file["path"]: base64.b64decode(file["content"]) for file in lines}
        address = f"{self.server.address}/{name}"
        pull = {"pullRequestUrl": f"{address}/discussions/1"} if "create_pr=1" in self.path else {}
        commit = found.commit("refs/pr/1" if pull else revision, changes, header["summary"])
        return self.answer({"commitUrl": f"{address}/commit/{commit}", "commitOid": commit, **pull})

    def create(self, asked):
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        private = asked.get("private") or asked.get("visibility") == "private"  # before, and since version 2
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, Repository(bool(private)))
        self.answer({"url": f"{self.server.address}/{name}"}, status)


def blob(content):
    return hashlib.sha1(content).hexdigest()


class Hub(ThreadingHTTPServer):
    """Use it in a ``with`` statement; `repositories` and `asked` (method, path, authorization) are to be looked at."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories, self.asked = {}, []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

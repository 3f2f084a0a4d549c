"""What an editor completes, asked of basedpyright's language server."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path


class LanguageServer:
    """The server on one program, in a directory without the package.

    Args:
        directory: Where the program is put.
        program: Its source.
    """

    def __init__(self, directory, program):
        self.uri = (directory / "program.py").as_uri()
        self.process = subprocess.Popen(
            [
                Path(sys.executable).parent / "basedpyright-langserver",
                "--stdio",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
        )
        self.requests = 0
        root = directory.as_uri()
        self.ask(
            "initialize",
            processId=None,
            rootUri=root,
            workspaceFolders=[{"uri": root, "name": "root"}],
            capabilities={
                "workspace": {"configuration": True},
                "textDocument": {"completion": {}},
            },
        )
        self.tell("initialized")
        self.tell(
            "textDocument/didOpen",
            textDocument={
                "uri": self.uri,
                "languageId": "python",
                "version": 1,
                "text": program,
            },
        )

    def completed(self, line, character):
        """What can stand at a position, sorted."""
        answer = self.ask(
            "textDocument/completion",
            textDocument={"uri": self.uri},
            position={"line": line, "character": character},
        )
        return sorted(item["label"] for item in answer["items"])

    def tell(self, method, **params):
        """Send a notification."""
        self._send({"method": method, "params": params})

    def ask(self, method, **params):
        """Send a request, and answer the server's own until it replies."""
        self.requests += 1
        number = self.requests
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message["id"] == number:
                return message["result"]
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": _answer(message)})

    def _send(self, message):
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(
            b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
        )
        self.process.stdin.flush()

    def _receive(self):
        length = 0
        while header := self.process.stdout.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self.process.stdout.read(length))


def _answer(request):
    """Its settings, which name the Python that has the packages."""
    if request["method"] != "workspace/configuration":
        return None
    settings = {"pythonPath": sys.executable}
    return [settings for _ in request["params"]["items"]]


@contextlib.contextmanager
def language_server(directory, program):
    """A server that ends with the block."""
    server = LanguageServer(directory, program)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()

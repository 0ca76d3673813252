"""Downloads from a server on this machine that does everything that servers do wrong."""

import contextlib
import errno
import hashlib
import http.client
import http.server
import io
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _download, _faults, errors


def hdf5():
    """A file that is not too small to be broken off."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["x"] = list(range(5000))
    return stream.getvalue()


CONTENT = hdf5()
TENSORS = save({"x": np.arange(5000.0)})
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; before, for each request, it does what `script` has next."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/x.h5": CONTENT}
        self.script = []
        self.requests = []
        self.ranges = True
        self.tag = None  # the hash that a hub tells, if not the file's own

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        step = server.script.pop(0) if server.script else None
        if isinstance(step, int):
            self.send_response(step)
            if step == 404:
                self.send_header("X-Error-Code", "EntryNotFound")  # as the hub says it
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif isinstance(step, str):
            self.send_response(302)
            self.send_header("Location", step)
            self.end_headers()
        elif callable(step):
            step(self)
        elif self.path not in server.files:
            self.send_error(404)
        else:
            self.answer(server.files[self.path], step)

    def answer(self, content, cut):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = int(asked[1]) if asked and self.server.ranges else 0
        if begin and begin >= len(content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("X-Repo-Commit", "0" * 40)
        tag = self.server.tag or hashlib.sha256(content).hexdigest()
        self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = content[begin:]
        self.wfile.write(sent[: int(len(sent) * cut)] if cut else sent)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_download, "FIRST_WAIT", 0.01)
    for name in ("KCC_OFFLINE", "HF_HUB_OFFLINE", "KCC_WEIGHTS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def here(server, name="x.h5", digest=MD5):
    return WeightsFile(f"{server.url}/{name}", digest)


def left():
    """What the cache holds, but for locks."""
    return sorted(p.name for p in _download.cache_dir().iterdir() if p.name != ".locks")


def test_a_file_arrives_once(server):
    file = here(server)
    path = _download.fetch(file)
    assert path.read_bytes() == CONTENT
    assert path == _download.cache_dir() / "x.h5" == _download.fetch(file)
    assert _download.cached(file) == path
    assert left() == ["x.h5"]
    assert len(server.requests) == 1


def test_faults_that_pass(server):
    """Busy, cut off, cut off again: each attempt goes on where the last one ended."""
    server.script = [503, 0.5, 0.5, 429]
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    more = half + int((len(CONTENT) - half) * 0.5)
    begun = [None, None, f"bytes={half}-", f"bytes={more}-", f"bytes={more}-"]
    assert [asked for _, asked in server.requests] == begun


def test_a_server_that_cannot_go_on_starts_again(server):
    server.script, server.ranges = [0.5], False
    assert _download.fetch(here(server)).read_bytes() == CONTENT


def test_without_a_hash_every_attempt_starts_again(server):
    server.script = [0.5]
    assert _download.fetch(here(server, digest="")).read_bytes() == CONTENT
    assert server.requests[1][1] is None


def test_faults_that_stay(server):
    file = here(server)
    server.script = [0.5, *([503] * 9)]
    with pytest.raises(errors.DownloadError, match=r"in 5 attempts.*503.*put the file .*x\.h5 at"):
        _download.fetch(file)
    assert len(server.requests) == 5
    assert left() == ["x.h5.part"]
    server.script = []
    assert _download.fetch(file).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={len(CONTENT) // 2}-"
    assert left() == ["x.h5"]


@pytest.mark.parametrize("rest", [b"of another version", CONTENT + b"longer than the file"])
def test_what_is_left_of_another_version_is_thrown_away(server, rest):
    folder = _download.cache_dir()
    folder.mkdir(parents=True)
    (folder / "x.h5.part").write_bytes(rest)
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert left() == ["x.h5"]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_files_that_are_not_there(server, code):
    server.script = [code]
    with pytest.raises(errors.NotPublishedError, match=str(code)):
        _download.fetch(here(server))
    assert left() == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-1] + b"?", f"than the file: its md5 is [0-9a-f]{{32}}, not {MD5[4:]}"),
        (b"<!DOCTYPE html><html>Please log in", "gave a page of text"),
        (b"", "than the file: its md5 is"),
    ],
)
def test_other_files_under_the_name(server, content, words):
    server.files["/x.h5"] = content
    with pytest.raises(errors.HashError, match=words):
        _download.fetch(here(server))
    assert left() == []


PAGES = (
    b"<html>",
    b"\n <!-- served by a proxy --><html>",
    b"\xef\xbb\xbf<!doctype html>",
    b'<?xml version="1.0"?><Error/>',
)
WRONG = (b"", b"text", b'{"error": "gone"}', CONTENT[: len(CONTENT) // 2], TENSORS[:-1])


@pytest.mark.parametrize("name", ["x.h5", "x.safetensors"])
def test_files_without_a_hash_must_open(server, name):
    file = here(server, name, digest="")
    path = _download.cache_dir() / name
    path.parent.mkdir(parents=True)
    for content in (*PAGES, *WRONG):
        server.files[f"/{name}"] = content
        kind = errors.PageError if content in PAGES else errors.HashError
        with pytest.raises(kind, match=r"a page of text|it is empty|it cannot be opened \("):
            _download.fetch(file)
        assert left() == []
        path.write_bytes(content)
        assert _download.cached(file) is None
        path.unlink()
    path.write_bytes(b"text")
    good = CONTENT if name == "x.h5" else TENSORS
    server.files[f"/{name}"] = good
    assert _download.fetch(file).read_bytes() == good
    assert _download.cached(file) == path


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def deflated():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.h5", CONTENT)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["x.h5", "../../x.h5", "/x.h5"])
def test_archives_are_unpacked_into_the_cache_only(server, name, tmp_path):
    server.files["/x.h5.zip"] = zipped({"../other": b"no", name: CONTENT})
    path = _download.fetch(here(server, "x.h5.zip"))
    assert path.read_bytes() == CONTENT
    assert left() == ["x.h5"]
    inside = {p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert inside == {path}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped({"y.h5": CONTENT}), r"an archive without x\.h5"),
        (zipped({"x.h5": CONTENT})[:300], "a damaged archive"),
        (zipped({"x.h5": CONTENT}).replace(CONTENT[:99], b"?" * 99), "a damaged archive"),
        (deflated().replace(deflated()[40:99], b"?" * 59), "a damaged archive"),
    ],
)
def test_damaged_archives(server, content, words):
    server.files["/x.h5.zip"] = content
    with pytest.raises(errors.ArchiveError, match=words):
        _download.fetch(here(server, "x.h5.zip"))
    assert left() == []


def test_an_archive_of_too_much(server, monkeypatch):
    server.files["/x.h5.zip"] = zipped({"x.h5": CONTENT})
    monkeypatch.setattr(_download, "UNPACKED", len(CONTENT) - 1)
    with pytest.raises(errors.ArchiveError, match=r"an archive with a x\.h5 of"):
        _download.fetch(here(server, "x.h5.zip"))
    assert left() == []


def test_an_archive_of_another_file(server):
    server.files["/x.h5.zip"] = zipped({"x.h5": b"other"})
    with pytest.raises(errors.HashError, match="its md5"):
        _download.fetch(here(server, "x.h5.zip"))
    assert left() == []


def test_the_first_digits_of_a_hash_are_a_hash(server):
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    _download.fetch(here(server, digest=f"sha256:{digits}"))
    with pytest.raises(errors.HashError, match="not 00000000"):
        _download.fetch(WeightsFile(f"{server.url}/x.h5", "sha256:00000000"))


@pytest.mark.parametrize("url", ["http://example.org/x.h5", "ftp://example.org/x.h5"])
def test_insecure_addresses(server, url, monkeypatch):
    with pytest.raises(errors.UnsafeError, match=re.escape(url)):
        _download.fetch(WeightsFile(url, MD5))
    server.script = [url]
    with pytest.raises(errors.UnsafeError, match=re.escape(url)):
        _download.fetch(here(server))
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", url.removesuffix("/x.h5"))
    with pytest.raises(errors.UnsafeError, match=re.escape(url)):
        _download.fetch(here(server))


def test_redirects_are_followed(server):
    server.files["/moved.h5"] = CONTENT
    server.script = [f"{server.url}/moved.h5"]
    assert _download.fetch(here(server)).read_bytes() == CONTENT


def test_redirects_that_lead_nowhere(server):
    server.script = [f"{server.url}/x.h5"] * 20
    with pytest.raises(
        errors.DownloadError, match=r"moved\.h5 is redirected in a circle"
    ) as caught:
        _download.fetch(here(server, "moved.h5"))
    assert "\n" not in str(caught.value)
    server.script = ["http://example.org/y.h5"]
    words = r"/x\.h5 leads to .*Received: http://example\.org/y\.h5\. Instead, put the file"
    with pytest.raises(errors.UnsafeError, match=words):
        _download.fetch(here(server))
    for place in ("http://[::1", "ftp://example.org/x", "file:///etc/hosts"):
        server.script = [place]
        with pytest.raises(errors.WeightsError, match=r"/x\.h5 .*put the file"):
            _download.fetch(here(server))


def test_a_mirror_serves_in_place_of_the_publishers(server, monkeypatch, tmp_path):
    gone = WeightsFile("https://example.invalid/models/x.h5.zip", MD5)
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", server.url + "/")
    assert _download.fetch(gone).read_bytes() == CONTENT
    assert server.requests == [("/x.h5", None)]
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", folder.as_uri())
    hub = "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    (folder / "timm--resnet50.a1_in1k--model.safetensors").write_bytes(TENSORS)
    assert _download.fetch(WeightsFile(hub)).read_bytes() == TENSORS
    with pytest.raises(errors.NotPublishedError, match="does not exist"):
        _download.fetch(here(server, "other.h5"))


@pytest.mark.parametrize("form", ["path", "uri", "plain"])
def test_a_mirror_in_a_folder_of_any_name(server, monkeypatch, tmp_path, form):
    folder = tmp_path / "a #1 mirror"
    folder.mkdir()
    (folder / "x.h5").write_bytes(CONTENT)
    forms = {"path": str(folder), "uri": folder.as_uri(), "plain": f"file://{folder}/"}
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", forms[form])
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("mirror/folder", r"KCC_WEIGHTS_MIRROR must be .*file:///some/folder.*: mirror/folder$"),
        ("http://[::1", r"This is no address .*http://\[::1/x\.h5"),
    ],
)
def test_a_mirror_that_is_none(server, monkeypatch, mirror, words):
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", mirror)
    with pytest.raises(errors.UnsafeError, match=words):
        _download.fetch(here(server))


@pytest.mark.parametrize("value", ["0", "", "false", "No", "off"])
def test_what_does_not_forbid_downloads(server, monkeypatch, value):
    monkeypatch.setenv("KCC_OFFLINE", value)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert _download.fetch(here(server)).read_bytes() == CONTENT


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, folder in (("~/x", "x/models"), ("", ".keras/models")):
        monkeypatch.setenv("KERAS_HOME", value)
        assert _download.cache_dir() == tmp_path / folder


def test_a_proxy_is_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.files["http://localhost:9/x.h5"] = CONTENT
    assert _download.fetch(WeightsFile("http://localhost:9/x.h5", MD5)).read_bytes() == CONTENT


def test_without_network(server, monkeypatch):
    with pytest.raises(
        errors.OfflineError, match=r"host of .* cannot be reached.*HTTPS_PROXY.*put"
    ):
        _download.fetch(WeightsFile("https://host.invalid/x.h5", MD5))
    for name in ("KCC_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.raises(errors.OfflineError, match=f"{name} is set.*put the file"):
                _download.fetch(here(server))
    path = _download.fetch(here(server))
    monkeypatch.setenv("KCC_OFFLINE", "1")
    assert _download.fetch(here(server)) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED])
def test_no_way_to_the_host(server, monkeypatch, number):
    def connect(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(errors.OfflineError, match=r"cannot be reached.*put the file"):
        _download.fetch(here(server))
    assert left() == []


class Full(io.FileIO):
    """A file on a disk that takes a few bytes."""

    def write(self, block):
        super().write(bytes(block)[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up(server, monkeypatch):
    opened = _download.Path.open
    monkeypatch.setattr(_download.Path, "open", lambda path, mode="r": Full(path, mode[0]))
    with pytest.raises(errors.CacheFullError, match=r"is full \(.* MB are needed, .* are free\)"):
        _download.fetch(here(server))
    assert left() == ["x.h5.part"]
    monkeypatch.setattr(_download.Path, "open", opened)
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=1000-"


def test_too_little_room_is_seen_before_the_download(server, monkeypatch):
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr(_faults.shutil, "disk_usage", lambda _: free)
    with pytest.raises(errors.CacheFullError, match=r"is full \(0\.0 MB are needed, 0\.0 MB are"):
        _download.fetch(here(server))
    assert left() == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_cache_that_is_read_only(server, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_download.Path, "mkdir", refuse)
    with pytest.raises(
        errors.CacheReadOnlyError, match=r"is read-only.*KERAS_HOME.*x\.h5"
    ) as caught:
        _download.fetch(here(server))
    assert "make room" not in str(caught.value)


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(errors.CacheError, match="cannot be written"):
        _download.fetch(here(server))


def send(handler, pieces, length=None, wait=0.0):
    """Answers with pieces of a file, and a pause after each."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT) if length is None else length))
    handler.end_headers()
    for piece in pieces:
        handler.wfile.write(piece)
        time.sleep(wait)


def test_a_slow_server(server, monkeypatch):
    """Slower in all than the limit for one wait, and each piece is seen when it comes."""
    seen = []
    monkeypatch.setattr(_download, "TIMEOUT", 1.0)
    monkeypatch.setattr(_download, "_progress", lambda *_: contextlib.nullcontext(seen.append))
    size = -(-len(CONTENT) // 6)
    pieces = [CONTENT[i : i + size] for i in range(0, len(CONTENT), size)]
    server.script = [lambda handler: send(handler, pieces, wait=0.2)]
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert len(seen) > 1
    assert sum(seen) == len(CONTENT)
    assert len(server.requests) == 1


def test_a_server_that_stalls(server, monkeypatch):
    over = threading.Event()

    def stall(handler):
        send(handler, [CONTENT[:1000]])
        over.wait(30)

    monkeypatch.setattr(_download, "TIMEOUT", 0.5)
    monkeypatch.setattr(_download, "ATTEMPTS", 2)
    server.script = [stall]
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-"]
    server.script = [lambda _: over.wait(30)] * 2
    with pytest.raises(errors.DownloadError, match=r"in 2 attempts.*timed out") as caught:
        _download.fetch(here(server, "y.h5"))
    assert "is kept" not in str(caught.value)
    over.set()


def test_a_network_that_goes_in_the_middle(server, monkeypatch):
    """It is no failure of the cache."""
    errors_of_reading = [OSError(errno.EHOSTUNREACH, "gone"), ssl.SSLError("bad record")]
    read = http.client.HTTPResponse.read1

    def fail(self, size):
        if errors_of_reading:
            raise errors_of_reading.pop()
        return read(self, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", fail)
    assert _download.fetch(here(server)).read_bytes() == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("length", ["abc", "-5"])
def test_a_length_that_is_none(server, length):
    server.script = [lambda handler: send(handler, [CONTENT], length)]
    assert _download.fetch(here(server)).read_bytes() == CONTENT


def test_what_cannot_be_gone_on_with_is_not_kept(server):
    server.script = [0.5] * 5
    with pytest.raises(errors.DownloadError, match=r"bytes arrived\. Try again later") as caught:
        _download.fetch(here(server, digest=""))
    assert "is kept" not in str(caught.value)
    assert left() == []


@pytest.mark.parametrize(("digest", "kept"), [(MD5, ["x.h5.part"]), ("", [])])
def test_an_interrupted_download(server, monkeypatch, digest, kept):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_download, "_progress", lambda *_: contextlib.nullcontext(interrupt))
    with pytest.raises(KeyboardInterrupt):
        _download.fetch(here(server, digest=digest))
    assert left() == kept


def test_a_link_in_place_of_a_broken_download_is_not_followed(server, tmp_path):
    own = tmp_path / "own"
    own.write_bytes(b"")
    for name in ("x.h5.part", "x.h5.zip.part", "x.h5.whole"):
        (_download.cache_dir()).mkdir(parents=True, exist_ok=True)
        (_download.cache_dir() / name).symlink_to(own)
    server.files["/x.h5.zip"] = zipped({"x.h5": CONTENT})
    _download.fetch(here(server)).unlink()
    _download.fetch(here(server, "x.h5.zip"))
    assert own.read_bytes() == b""
    assert left() == ["x.h5"]


def test_two_at_once(server):
    """All get the file, and it is downloaded once."""
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(_download.fetch, [here(server)] * 4))
    assert paths == {_download.cache_dir() / "x.h5"}
    assert left() == ["x.h5"]
    assert len(server.requests) == 1


def test_two_processes_at_once(server):
    """The other one holds the lock and downloads while this one waits."""
    code = (
        "import sys; from keras_cnn_classics.registry import WeightsFile\n"
        "from keras_cnn_classics.weights import _download\n"
        "print(_download.fetch(WeightsFile(*sys.argv[1:])))"
    )
    begun = threading.Event()

    def slowly(handler):
        begun.set()
        send(handler, [CONTENT[:1000], CONTENT[1000:]], wait=0.2)

    server.script = [slowly]
    call = [sys.executable, "-c", code, f"{server.url}/x.h5", MD5]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as other:
        assert begun.wait(120)
        path = _download.fetch(here(server))
        assert other.communicate()[0].strip() == str(path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


HUB = "https://huggingface.co/timm/tiny.a1_in1k/resolve/main/model.safetensors"


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """A hub on this machine, for the library that asks it."""
    from huggingface_hub import constants

    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda _: None)  # between its many attempts
    server.files["/timm/tiny.a1_in1k/resolve/main/model.safetensors"] = TENSORS
    return server


def test_a_file_of_the_hub(hub, monkeypatch):
    path = _download.fetch(WeightsFile(HUB))
    assert path.read_bytes() == TENSORS
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _download.fetch(WeightsFile(HUB)) == path
    assert len(hub.requests) == asked


def test_a_file_that_the_hub_has_spoilt(hub):
    hub.files["/timm/tiny.a1_in1k/resolve/main/model.safetensors"] = TENSORS[:-1] + b"?"
    hub.tag = hashlib.sha256(TENSORS).hexdigest()
    with pytest.raises(errors.HashError, match="what the hub tells: its sha256 is"):
        _download.fetch(WeightsFile(HUB))
    assert _download.cached(WeightsFile(HUB)) is None


def test_a_bad_file_in_the_hubs_cache_is_replaced(hub, monkeypatch):
    path = _download.fetch(WeightsFile(HUB))
    path.resolve().write_bytes(b"cut")
    with monkeypatch.context() as patch:
        patch.setenv("KCC_OFFLINE", "1")
        with pytest.raises(errors.OfflineError, match=r"model\.safetensors is there, but its"):
            _download.fetch(WeightsFile(HUB))
    assert _download.fetch(WeightsFile(HUB)).read_bytes() == TENSORS


def test_a_truncated_file_of_the_hub(hub):
    """Asked for its length the hub tells the whole one, and then a proxy sends half."""

    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(TENSORS) // 2))
        handler.end_headers()
        handler.wfile.write(TENSORS[: len(TENSORS) // 2])

    hub.script = [None, None, half]
    with pytest.raises(errors.DownloadError, match=r"Consistency check failed.*by hand"):
        _download.fetch(WeightsFile(HUB))
    assert _download.cached(WeightsFile(HUB)) is None
    assert _download.fetch(WeightsFile(HUB)).read_bytes() == TENSORS


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, errors.NotPublishedError), (401, errors.NotPublishedError), (500, errors.DownloadError)],
)
def test_a_hub_that_does_not_give_it(hub, code, kind):
    hub.script = [code] * 50
    with pytest.raises(kind, match="by hand"):
        _download.fetch(WeightsFile(HUB))


def test_a_page_in_place_of_the_hub(hub):
    hub.script = [lambda handler: send(handler, [], 0)] * 9
    with pytest.raises(errors.PageError, match=r"not of the hub.*by hand"):
        _download.fetch(WeightsFile(HUB))


@pytest.mark.parametrize("proxy", [False, True])
def test_no_way_to_the_hub(hub, monkeypatch, caplog, proxy):
    """It says so after one attempt, with nothing else on the screen; so does another file."""
    from huggingface_hub import close_session, constants

    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    host = "http://host.test" if proxy else "http://127.0.0.1:9"
    if proxy:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        close_session()  # which reads the variable once
    nowhere = host + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    with pytest.raises(errors.OfflineError, match=r"hub cannot be reached.*by hand"):
        _download.fetch(WeightsFile(HUB))
    if proxy:
        close_session()
    else:
        with pytest.raises(errors.OfflineError, match="cannot be reached"):
            _download.fetch(WeightsFile("http://127.0.0.1:9/x.h5", MD5))
    assert waits == []
    assert caplog.text == ""


def test_what_the_hubs_cache_cannot_take(hub, monkeypatch):
    for number, kind, words in (
        (errno.ENOSPC, errors.CacheFullError, "hub is full.*make room"),
        (errno.EROFS, errors.CacheReadOnlyError, "hub is read-only"),
        (None, errors.DownloadError, "could not be downloaded"),
    ):

        def fail(*args, number=number, **kwargs):
            raise OSError(number, "why") if number else OSError("why")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(kind, match=rf"{words}.*HF_HOME|{words}.*\(why\)"):
            _download.fetch(WeightsFile(HUB))
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr(_faults.shutil, "disk_usage", lambda _: free)
    with pytest.raises(errors.CacheFullError, match=r"hub is full \(.* MB are needed"):
        _download.fetch(WeightsFile(HUB))

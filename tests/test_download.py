"""Downloads from a server on this machine that does everything that servers do wrong."""

import errno
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import pytest

from keras_cnn_classics.registry import WeightsFile
from keras_cnn_classics.weights import _download, errors


def hdf5():
    """A file that is not too small to be broken off."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["x"] = list(range(5000))
    return stream.getvalue()


CONTENT = hdf5()
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
        (CONTENT[:-1] + b"?", f"gave a file whose md5 is [0-9a-f]+, not {MD5[4:]}"),
        (b"<!DOCTYPE html><html>Please log in", "gave a page of text"),
        (b"", "gave a file whose md5"),
    ],
)
def test_other_files_under_the_name(server, content, words):
    server.files["/x.h5"] = content
    with pytest.raises(errors.HashError, match=words):
        _download.fetch(here(server))
    assert left() == []


@pytest.mark.parametrize(
    ("content", "words"), [(b"<html>", "gave a page"), (b"text", "is no HDF5 file")]
)
def test_other_files_where_no_hash_is_known(server, content, words):
    server.files["/x.h5"] = content
    with pytest.raises(errors.HashError, match=words):
        _download.fetch(here(server, digest=""))
    assert left() == []


def test_a_bad_file_in_the_cache_is_replaced(server):
    path = _download.fetch(here(server))
    path.write_bytes(b"cut")
    assert _download.cached(here(server)) is None
    assert _download.fetch(here(server)).read_bytes() == CONTENT


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
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
        (zipped({"x.h5": b"other"}), "whose md5"),
        (zipped({"x.h5": CONTENT})[:300], "a damaged archive"),
    ],
)
def test_archives_of_something_else(server, content, words):
    server.files["/x.h5.zip"] = content
    with pytest.raises(errors.HashError, match=words):
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
    server.script = [f"{server.url}/x.h5"] * 20
    with pytest.raises(errors.WeightsError):
        _download.fetch(here(server, "moved.h5"))


def test_a_mirror_serves_in_place_of_the_publishers(server, monkeypatch, tmp_path):
    gone = WeightsFile("https://example.invalid/models/x.h5.zip", MD5)
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", server.url + "/")
    assert _download.fetch(gone).read_bytes() == CONTENT
    assert server.requests == [("/x.h5", None)]
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("KCC_WEIGHTS_MIRROR", folder.as_uri())
    hub = "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    (folder / "timm--resnet50.a1_in1k--model.safetensors").write_bytes(b"not HDF5")
    assert _download.fetch(WeightsFile(hub)).read_bytes() == b"not HDF5"
    with pytest.raises(errors.NotPublishedError, match="does not exist"):
        _download.fetch(here(server, "other.h5"))


def test_a_proxy_is_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.files["http://localhost:9/x.h5"] = CONTENT
    assert _download.fetch(WeightsFile("http://localhost:9/x.h5", MD5)).read_bytes() == CONTENT


def test_without_network(server, monkeypatch):
    with pytest.raises(errors.OfflineError, match=r"host of .* is unknown.*HTTPS_PROXY.*put the"):
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


def test_a_full_disk(server, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_download, "_check_room", full)
    with pytest.raises(errors.CacheError, match=r"is full.*KERAS_HOME.*x\.h5"):
        _download.fetch(here(server))
    assert left() == []


def test_too_little_room_is_seen_before_the_download(server, monkeypatch):
    free = type("Usage", (), {"free": 10})
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda _: free)
    with pytest.raises(errors.CacheError, match=r"is full.*MB are needed"):
        _download.fetch(here(server))
    assert left() == []


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(errors.CacheError, match="cannot be written"):
        _download.fetch(here(server))


def test_two_at_once(server):
    """All get the file, and it is downloaded once."""
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(_download.fetch, [here(server)] * 4))
    assert paths == {_download.cache_dir() / "x.h5"}
    assert left() == ["x.h5"]
    assert len(server.requests) == 1


@pytest.mark.slow
def test_two_processes_at_once(server):
    code = (
        "import sys; from keras_cnn_classics.registry import WeightsFile\n"
        "from keras_cnn_classics.weights import _download\n"
        "print(_download.fetch(WeightsFile(*sys.argv[1:])))"
    )
    call = [sys.executable, "-c", code, f"{server.url}/x.h5", MD5]
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {one.communicate()[0].strip() for one in both}
    assert paths == {str(_download.cache_dir() / "x.h5")}
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
    server.files["/timm/tiny.a1_in1k/resolve/main/model.safetensors"] = CONTENT
    return server


def test_a_file_of_the_hub(hub, monkeypatch):
    path = _download.fetch(WeightsFile(HUB))
    assert path.read_bytes() == CONTENT
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _download.fetch(WeightsFile(HUB)) == path
    assert len(hub.requests) == asked


def test_a_file_that_the_hub_has_spoilt(hub):
    hub.files["/timm/tiny.a1_in1k/resolve/main/model.safetensors"] = CONTENT[:-1] + b"?"
    hub.tag = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(errors.HashError, match="SHA-256 is not the one that the hub tells"):
        _download.fetch(WeightsFile(HUB))
    assert _download.cached(WeightsFile(HUB)) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, errors.NotPublishedError), (401, errors.NotPublishedError), (500, errors.WeightsError)],
)
def test_a_hub_that_does_not_give_it(hub, code, kind):
    hub.script = [code] * 50
    with pytest.raises(kind, match="by hand"):
        _download.fetch(WeightsFile(HUB))


def test_no_way_to_the_hub(hub, monkeypatch):
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    with pytest.raises(errors.OfflineError, match=r"hub cannot be reached.*by hand"):
        _download.fetch(WeightsFile(HUB))

"""`/api/run/files` and `/api/run/file`: what lies in a run's folder is sent as it is, and nothing else ever."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy
import pytest

import lossbook
from lossbook.errors import BadArgument
from lossbook.web.api import files
from lossbook.web.api.files import FileQuestion, FilesQuestion
from lossbook.web.file_response import CHUNK_BYTES, SentFile, UnknownFile, range_of
from lossbook.web.session import Session

RUN = ("p", "one")


@pytest.fixture
def run_path(store: Path) -> Path:
    """The folder of a run with a picture, a checkpoint file and a console."""
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.log({"sample": lossbook.Image(numpy.zeros((2, 2, 3), dtype=numpy.uint8))}, step=1)
        Path(run.dir).mkdir(exist_ok=True)
        (Path(run.dir) / "model.bin").write_bytes(bytes(range(256)) * 10)
    return Path(run.path)


@pytest.fixture
def session(run_path: Path) -> Iterator[Session]:
    session = Session(lossbook.open(run_path.parent.parent))
    yield session
    session.close()


def listed(session: Session) -> dict[str, Any]:
    return {one.path: one for one in files.files(session, FilesQuestion(*RUN)).files}


def sent(session: Session, path: str, *, text: bool = False, method: str = "GET", **headers: str) -> Any:
    """A file as a browser gets it: status, headers, body."""
    found = files.file(session, FileQuestion(*RUN, path, text))
    reply = found.reply(method, {name.replace("_", "-"): value for name, value in headers.items()})
    return reply.status, reply.headers, b"".join(reply.chunks)


# -- which there are ------------------------------------------------------------------------------------------------


def test_the_files_of_a_run_are_listed_with_their_sizes(session: Session) -> None:
    found = listed(session)
    assert found["files/model.bin"].bytes == 2560
    assert {"run.json", "journal/r0-000001.jsonl"} <= set(found)
    (picture,) = [one for one in found.values() if one.path.startswith("media/")]
    assert picture.picture
    assert not found["run.json"].picture
    assert abs(found["run.json"].changed - os.stat(Path(session.run(*RUN).path) / "run.json").st_mtime) < 1e-3


def test_what_a_person_looks_for_comes_before_thousands_of_pictures(session: Session, run_path: Path) -> None:
    for number in range(files.MOST_FILES + 5):
        (run_path / "media" / f"{number:06d}.png").touch()
    answer = files.files(session, FilesQuestion(*RUN))
    assert len(answer.files) == files.MOST_FILES
    assert not answer.whole
    assert answer.files[0].path == "files/model.bin"
    assert "run.json" in {one.path for one in answer.files}


def test_links_out_of_the_folder_pipes_and_sockets_are_not_listed(
    session: Session, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("x")
    (run_path / "files/out").symlink_to(tmp_path / "secret")
    (run_path / "files/folder").symlink_to(tmp_path)
    (run_path / "files/loop").symlink_to(run_path / "files/loop")
    (run_path / "files/within").symlink_to(run_path / "files/model.bin")
    os.mkfifo(run_path / "files/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(run_path / "files")  # the path of a socket has 100 bytes at the most
        listener.bind("socket")
        found = {path for path in listed(session) if path.startswith("files/")}
    assert found == {"files/model.bin", "files/within"}


# -- what is sent ---------------------------------------------------------------------------------------------------


def test_a_file_is_something_to_save_and_never_runs(session: Session, run_path: Path) -> None:
    (run_path / "files/page.html").write_text("<script>alert(1)</script>")
    (run_path / "files/drawing.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    )
    (run_path / "files/fake.png").write_text("<script>alert(1)</script>")
    for path in ("files/page.html", "files/drawing.svg", "files/fake.png", "files/model.bin", "run.json"):
        status, headers, _ = sent(session, path)
        assert status == 200
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment;")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("sandbox;")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
    ],
)
def test_a_picture_is_told_by_its_first_bytes_and_shown(
    session: Session, run_path: Path, head: bytes, kind: str
) -> None:
    (run_path / "files/anything.html").write_bytes(head + bytes(40))
    status, headers, body = sent(session, "files/anything.html")
    assert (status, headers["Content-Type"]) == (200, kind)
    assert headers["Content-Disposition"].startswith("inline;")
    assert headers["Content-Security-Policy"].startswith("sandbox;")
    assert body == head + bytes(40)


def test_text_can_be_looked_at_as_plain_text(session: Session, run_path: Path) -> None:
    (run_path / "files/page.html").write_text("<b>ü</b>" * 2000)
    _, headers, _ = sent(session, "files/page.html", text=True)
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Disposition"].startswith("inline;")
    _, headers, _ = sent(session, "files/model.bin", text=True)
    assert headers["Content-Type"] == "application/octet-stream"


def test_a_logged_picture_is_found_under_the_path_that_its_row_names(session: Session) -> None:
    (event,) = session.run(*RUN).events("image")
    status, headers, body = sent(session, event["value"]["file"])
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert "immutable" in headers["Cache-Control"]
    assert hashlib.sha256(body).hexdigest() in event["value"]["file"]


def test_odd_names_are_saved_as_they_are(session: Session, run_path: Path) -> None:
    names = ["ein ü 日本.txt", 'a"b;c\n\r.txt', "percent%2e%2e.txt", " ", "x" * 250]
    for name in names:
        (run_path / "files" / name).write_text("x")
        assert f"files/{name}" in listed(session)
        status, headers, body = sent(session, f"files/{name}")
        assert (status, body) == (200, b"x")
        assert f"filename*=UTF-8''{quote(name, safe='')}" in headers["Content-Disposition"]
        assert "\n" not in headers["Content-Disposition"]
        headers["Content-Disposition"].encode("latin-1")


def test_a_name_that_is_no_utf8_can_be_listed_and_sent(session: Session, run_path: Path) -> None:
    with open(os.path.join(os.fsencode(run_path), b"files/\xff\xfe.bin"), "wb") as file:
        file.write(b"odd")
    (path,) = [path for path in listed(session) if "\ufffd" in path]
    assert sent(session, path)[2] == b"odd"


# -- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=100-", (100, 100)),
        ("bytes=-0", (100, 100)),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        (f"bytes=0-{'9' * 5000}", None),
    ],
)
def test_a_range_is_read_as_rfc_9110_has_it(asked: str, span: tuple[int, int] | None) -> None:
    assert range_of(asked, 100) == span


def test_a_part_of_a_file_is_sent(session: Session) -> None:
    status, headers, body = sent(session, "files/model.bin", range="bytes=250-260")
    assert status == 206
    assert body == (bytes(range(256)) * 2)[250:261]
    assert (headers["Content-Range"], headers["Content-Length"]) == ("bytes 250-260/2560", "11")
    status, headers, body = sent(session, "files/model.bin", range="bytes=2560-")
    assert (status, headers["Content-Range"], body) == (416, "bytes */2560", b"")


def test_a_part_of_a_file_that_changed_since_is_the_whole_of_it(session: Session, run_path: Path) -> None:
    _, headers, _ = sent(session, "files/model.bin")
    assert sent(session, "files/model.bin", range="bytes=0-3", if_range=headers["ETag"])[0] == 206
    (run_path / "files/model.bin").write_bytes(b"other")
    assert sent(session, "files/model.bin", range="bytes=0-3", if_range=headers["ETag"])[::2] == (200, b"other")


def test_a_file_that_the_browser_has_is_not_sent_again(session: Session) -> None:
    _, headers, _ = sent(session, "files/model.bin")
    assert sent(session, "files/model.bin", if_none_match=f'"x", W/{headers["ETag"]}')[::2] == (304, b"")


def test_asking_for_the_head_alone_sends_no_body(session: Session) -> None:
    status, headers, body = sent(session, "files/model.bin", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "2560", b"")


def test_a_huge_file_is_sent_in_small_pieces(session: Session, run_path: Path) -> None:
    path = run_path / "files/huge.bin"
    path.touch()
    os.truncate(path, 10 << 30)
    reply = files.file(session, FileQuestion(*RUN, "files/huge.bin")).reply()
    assert reply.headers["Content-Length"] == str(10 << 30)
    assert len(next(reply.chunks)) <= CHUNK_BYTES
    assert sent(session, "files/huge.bin", range="bytes=-5")[2] == bytes(5)


def test_a_journal_that_is_being_written_is_sent_as_it_stands(session: Session, store: Path) -> None:
    run = lossbook.init(store=store, project="p", id="live", console=False)
    run.log({"loss": 1.0}, step=1)
    reply = files.file(session, FileQuestion("p", "live", "journal/r0-000001.jsonl")).reply()
    run.log({"loss": 2.0}, step=2)
    body = b"".join(reply.chunks)
    assert len(body) == int(reply.headers["Content-Length"])
    assert body.endswith(b"}\n")
    assert b'"s":1' in body
    assert b'"s":2' not in body
    run.finish()


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["../one/run.json", "files/../../two/run.json", "/etc/passwd", "files//model.bin", "./run.json", "", "..", "a\0b",
     "files/" + "x" * 5000],
)  # fmt: skip
def test_a_path_that_could_lead_out_of_the_folder_is_refused(session: Session, path: str) -> None:
    with pytest.raises(BadArgument, match="path"):
        files.file(session, FileQuestion(*RUN, path))


@pytest.mark.parametrize("path", ["files", "nothing", "files/nothing", "run.json/x", "x" * 300, "files/\ufffd", "~/x"])
def test_what_is_no_file_of_the_run_is_not_found(session: Session, path: str) -> None:
    with pytest.raises(UnknownFile):
        files.file(session, FileQuestion(*RUN, path))


def test_a_link_is_followed_within_the_folder_only(session: Session, run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("x")
    (run_path / "files/out").symlink_to(tmp_path / "outside/secret")
    (run_path / "files/folder").symlink_to("../../../../outside")
    (run_path / "files/loop").symlink_to("loop")
    (run_path / "files/within").symlink_to("model.bin")
    (run_path / "again").symlink_to("files")
    for path in ("files/out", "files/folder/secret", "files/loop"):
        with pytest.raises(UnknownFile):
            files.file(session, FileQuestion(*RUN, path))
    for path in ("files/within", "again/model.bin", "again/within"):
        assert len(sent(session, path)[2]) == 2560


def test_a_run_beside_this_one_with_a_like_name_is_outside(session: Session, run_path: Path) -> None:
    neighbour = run_path.with_name("one-more")
    neighbour.mkdir()
    (neighbour / "secret").write_text("x")
    (run_path / "files/near").symlink_to(neighbour / "secret")
    with pytest.raises(UnknownFile, match="leads out"):
        files.file(session, FileQuestion(*RUN, "files/near"))


def test_pipes_devices_and_sockets_hold_up_nobody(session: Session, run_path: Path) -> None:
    os.mkfifo(run_path / "files/pipe")
    (run_path / "files/link").symlink_to("pipe")
    (run_path / "files/zero").symlink_to("/dev/zero")
    for path in ("files/pipe", "files/link", "files/zero"):
        with pytest.raises(UnknownFile):
            files.file(session, FileQuestion(*RUN, path))
    try:
        os.mknod(run_path / "files/device", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        return
    with pytest.raises(UnknownFile, match="no plain file"):
        files.file(session, FileQuestion(*RUN, "files/device"))


def test_a_run_that_is_itself_reached_through_a_link_is_served(store: Path, run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(store)
    session = Session(lossbook.open(tmp_path / "linked"))
    assert len(sent(session, "files/model.bin")[2]) == 2560
    assert "files/model.bin" in listed(session)
    session.close()


def test_descriptors_are_not_left_open(session: Session) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    sent(session, "run.json")
    before = count()
    for _ in range(20):
        sent(session, "files/model.bin")
        sent(session, "files/model.bin", range="bytes=9999-")
        sent(session, "files/model.bin", method="HEAD")
        found: SentFile | None = files.file(session, FileQuestion(*RUN, "run.json"))
        found = None  # never asked for its contents
        with pytest.raises(UnknownFile):
            files.file(session, FileQuestion(*RUN, "files"))
    assert found is None
    assert count() == before


# -- over HTTP ------------------------------------------------------------------------------------------------------


def test_files_are_served(served: Any, run_path: Path, store: Path) -> None:
    server = served(store)
    here = {"project": "p", "run": "one"}
    assert "files/model.bin" in {one["path"] for one in server.get("/api/run/files", **here)["files"]}
    answer = server.raw("GET", "/api/run/file?project=p&run=one&path=files%2Fmodel.bin", range="bytes=1-3")
    assert (answer.status, answer.body) == (206, b"\x01\x02\x03")
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.raw("HEAD", "/api/run/file?project=p&run=one&path=run.json").status == 200
    for path, status in (("..%2F..%2Fx", 400), ("%00", 400), ("nothing", 404), ("files", 404)):
        answer = server.raw("GET", f"/api/run/file?project=p&run=one&path={path}")
        assert answer.status == status
        assert isinstance(answer.json["error"], str)

"""Tests of image files: which files are reported, which are never opened, and what batches contain."""

import contextlib
import itertools
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from image_data import PICTURE, encoded, fill, raw_png
from PIL import Image

from flaxnets.cli import train
from flaxnets.cli.command import run
from flaxnets.data import Augmentation, DataError, ImageFiles, channel_statistics, load


def noise(form: str) -> bytes:
    return encoded(form, Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))


def changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def grey_tiff(kind: type, low: float, high: float) -> bytes:
    return encoded("TIFF", Image.fromarray(np.array([[low, high], [low, low]], kind)))


TURNED = PICTURE.transpose(Image.Transpose.ROTATE_180)
FRAMES = [PICTURE, TURNED]
GREY_16 = Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20))
NOISE_16 = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (64, 64), np.uint16))
CMYK = PICTURE.convert("CMYK")

# The name of a file in a folder of a class, its content, and the reported reason.
BAD_CONTENT: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "empty.jpg": (b"", "empty"),
    "half.png": (noise("PNG")[:5000], "damaged"),
    "half.jpg": (noise("JPEG")[:2000], "truncated"),
    "half.gif": (noise("GIF")[:2500], "truncated"),
    "half.bmp": (noise("BMP")[:5000], "truncated"),
    "half.webp": (encoded("WEBP")[:60], "not an image|damaged"),
    "half.tiff": (noise("TIFF")[:6000], "not an image|damaged|truncated"),
    "half.ppm": (noise("PPM")[:6000], "truncated"),
    "last_byte.bmp": (noise("BMP")[:-1], "truncated"),
    "head_only.jpg": (encoded("JPEG")[:30], "damaged"),
    "head_only.png": (encoded()[:20], "damaged"),
    "one_byte.png": (b"\x89", "not an image that Pillow can read, it begins with 89"),
    "text.jpg": (b"not an image", "not an image that Pillow can read, it begins with 6e 6f 74 20"),
    "page.png": (b"<html><body>404</body></html>", "not an image that Pillow can read, it begins with 3c 68 74 6d"),
    "zeros.png": (bytes(500), "begins with 00 00 00 00"),
    "script.gif": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image that Pillow can read"),
    "bit_flip.png": (changed(noise("PNG"), 3000), "damaged"),
    "pixel_flip.png": (changed(encoded(compress_level=0), 300), "damaged"),
    "header_flip.png": (changed(encoded(), 20), "damaged|not an image"),
    "half_cmyk.jpg": (encoded("JPEG", CMYK)[:-200], "truncated|damaged"),
    "half_deep.png": (encoded("PNG", NOISE_16)[:2000], "damaged|truncated"),
    "half_deep.pgm": (encoded("PPM", GREY_16)[:-9], "truncated"),
    "negative.tif": (grey_tiff(np.int32, -5, 9), "gray values from -5 to 9, expected 0 to 255"),
    "bright.tif": (grey_tiff(np.int32, 0, 65_536), "gray values from 0 to 65536, expected 0 to 65535"),
    "negative_float.tif": (grey_tiff(np.float32, -0.5, 1), "gray values from -0.5 to 1.0, expected 0 to 1"),
    "bright_float.tif": (grey_tiff(np.float32, 0, 256), "gray values from 0.0 to 256.0, expected 0 to 255"),
    "nan.tif": (grey_tiff(np.float32, 0, np.nan), "gray values from nan to nan"),
    "infinite.tif": (grey_tiff(np.float32, 0, np.inf), "gray values from 0.0 to inf"),
    "half_png.jpg": (noise("PNG")[:5000], "damaged"),
    "half_jpeg.png": (noise("JPEG")[:2000], "truncated"),
    "moving_gif.jpg": (encoded("GIF", save_all=True, append_images=[TURNED]), "2 frames, expected one image"),
    "heic.jpg": (b"\0\0\0\x18ftypheic" + bytes(99), "not an image that Pillow can read, it begins with 00 00 00 18"),
    "page.pdf.png": (b"%PDF-1.7\n" + bytes(99), "not an image that Pillow can read, it begins with 25 50 44 46"),
    "archive.jpg": (b"PK\3\4" + bytes(99), "not an image that Pillow can read, it begins with 50 4b 03 04"),
    "film.gif": (b"RIFF\0\0\0\0AVI LIST", "not an image that Pillow can read, it begins with 52 49 46 46"),
    "huge.png": (raw_png((30_000, 30_000), 1, 0, b""), "more than 89,478,485 pixels"),
    "bomb.png": (encoded("PNG", Image.new("1", (10_000, 9_000))), "more than 89,478,485 pixels"),
    "no_width.ppm": (b"P6 0 5 255\n", "damaged|not an image"),
    "moving.gif": (encoded("GIF", save_all=True, append_images=FRAMES[1:]), "2 frames, expected one image"),
    "moving.png": (encoded("PNG", save_all=True, append_images=FRAMES[1:]), "2 frames, expected one image"),
    "moving.webp": (encoded("WEBP", save_all=True, append_images=FRAMES[1:]), "2 frames, expected one image"),
    "pages.tif": (encoded("TIFF", save_all=True, append_images=FRAMES[1:]), "2 frames, expected one image"),
    "notes.txt": (b"cats", "not an image suffix, expected one of .bmp"),
    "no_ending": (encoded(), "not an image suffix"),
    "drawing.svg": (b"<svg/>", "not an image suffix"),
    "half_progressive.jpg": (encoded("JPEG", progressive=True)[:-200], "truncated"),
    "half_packed.tif": (encoded("TIFF", compression="tiff_lzw")[:-40], "not an image|damaged"),
    "half.pgm": (encoded("PPM", PICTURE.convert("L"))[:-9], "truncated"),
    "two_bytes.bmp": (b"BM", "not an image|damaged"),
    "moving.tiff": (encoded("TIFF", save_all=True, append_images=FRAMES), "3 frames, expected one image"),
    "phone.heic": (b"\0\0\0\x18ftypheic", "not an image suffix"),
    "line\nbreak.png": (b"", "empty"),
}
OUTSIDE = "outside of"


def bind(path: Path, outside: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:  # addresses of sockets must be short
        server.bind(path.name)


# The name of an entry that is not a regular file, a function that creates it, and the reported reason.
BAD_ENTRIES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "folder.png": (lambda path, outside: path.mkdir(), "a folder, expected an image file"),
    "pipe.png": (lambda path, outside: os.mkfifo(path), "a named pipe, expected an image file"),
    "link_to_pipe.png": (lambda path, outside: path.symlink_to(outside / "pipe"), f"a link that leads {OUTSIDE}"),
    "link_to_image.png": (
        lambda path, outside: path.symlink_to(outside / "secret.png"),
        f"a link that leads {OUTSIDE}",
    ),
    "climbing_link.png": (lambda path, outside: path.symlink_to("../../forbidden/secret.png"), f"leads {OUTSIDE}"),
    "link_to_folder": (lambda path, outside: path.symlink_to(outside), f"a link that leads {OUTSIDE}"),
    "socket.png": (bind, "a socket, expected an image file"),
    "link_to_device.png": (lambda path, outside: path.symlink_to("/dev/zero"), f"a link that leads {OUTSIDE}"),
    "dangling.png": (lambda path, outside: path.symlink_to("nowhere.png"), "no such file"),
    "endless.png": (lambda path, outside: path.symlink_to("endless.png"), "cannot be read: Too many levels"),
    "unreadable.png": (lambda path, outside: path.write_bytes(encoded()), "cannot be read: Permission denied"),
}
# Lines of a CSV file in a folder with a.png, b.png ..., and the reported reason of each line.
BAD_LINES: list[tuple[bytes, str]] = [
    (b"a.png", "expected 2 fields, image path and label, got 1"),
    (b"a.png,cat,train", "expected 2 fields, image path and label, got 3"),
    (b"a.png,", "no label"),
    (b"a.png,  ", "no label"),
    (b",cat", "no image path"),
    (b"nowhere.png,cat", "no such file"),
    (b"c.png,dog", "the same image as on line 2"),
    (b"./c.png,cat", "the same image as on line 2"),
    (b'"a.png,cat', "not a line of a CSV file: unexpected end of data"),
    (b'more",cat', "no such file"),
    (b'"a"b.png,cat', "not a line of a CSV file"),
    (b"a.png\0,cat", "a NUL in the line"),
    (b"a.png,caf\xe9", "not UTF-8: the byte e9 after 9 others"),
    (b"\xff\xfea.png,cat", "not UTF-8: the byte ff after 0 others"),
    (b"../forbidden/secret.png,cat", OUTSIDE),
    (b"sub/../../forbidden/secret.png,cat", OUTSIDE),
    (b"/dev/zero,cat", OUTSIDE),
    (b"/etc/passwd,cat", OUTSIDE),
    (b"link.png,cat", f"a link that leads {OUTSIDE}"),
    (b"%s.png,cat" % (b"x" * 300), "cannot be read: File name too long"),
    (b".,cat", "a folder, expected an image file"),
    (b"bad.png,cat", "empty"),
]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[str]]:
    """Return a list of the paths that are opened or listed."""
    paths, watching = [], [True]

    def hook(event: str, arguments: tuple) -> None:
        if watching and event in ("open", "os.scandir", "os.listdir"):
            paths.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, Path)) else "")

    sys.addaudithook(hook)
    yield paths
    watching.clear()  # audit hooks cannot be removed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with five good images of two classes, and a folder next to it that must never be read."""
    outside, root = tmp_path / "forbidden", tmp_path / "pets"
    outside.mkdir()
    os.mkfifo(outside / "pipe")
    (outside / "secret.png").write_bytes(encoded())
    for name in ("cat/1.png", "cat/2.png", "cat/deeper/3.png", "dog/1.png", "dog/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded())
    (root / "cat" / ".hidden").write_bytes(b"")
    whole = Image.open

    def without_permission(path, *arguments, **options):
        if Path(path).name == "unreadable.png":
            # Mocked: these tests may run as root, who can read every file.
            raise PermissionError(13, "Permission denied")
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Image, "open", without_permission)
    return root


@pytest.fixture
def bad_folder(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return the folder with all bad entries, and the expected reason of each path."""
    expected = {}
    for name, (content, reason) in BAD_CONTENT.items():
        (folder / "cat" / name).write_bytes(content)
        expected[str(folder / "cat" / name)] = reason
    for name, (make, reason) in BAD_ENTRIES.items():
        make(folder / "dog" / name, folder.parent / "forbidden")
        expected[str(folder / "dog" / name)] = reason
    (folder / "horse").mkdir()
    (folder / "beside.png").write_bytes(encoded())
    (folder / "linked").symlink_to(folder.parent / "forbidden")
    (folder / "labels.txt").write_text("no class, no image")
    expected[str(folder / "horse")] = "no images in it"
    expected[str(folder / "beside.png")] = "expected a folder of images, got a file"
    expected[str(folder / "linked")] = f"a link that leads {OUTSIDE}"
    return folder, expected


@pytest.fixture
def bad_table(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return a table with all bad lines, and the expected reason of each line."""
    outside, table = tmp_path / "forbidden", tmp_path / "root" / "pets.csv"
    outside.mkdir()
    table.parent.mkdir()
    (outside / "secret.png").write_bytes(encoded())
    for name in "abcdef":
        (table.parent / f"{name}.png").write_bytes(encoded())
    (table.parent / "bad.png").write_bytes(b"")
    (table.parent / "link.png").symlink_to(outside / "secret.png")
    good = [b"path,label", b"c.png,cat", b"d.png,cat", b"e.png,dog", b"f.png,dog", b""]
    table.write_bytes(b"\n".join([*good, *(line for line, _ in BAD_LINES), b""]))
    start = len(good) + 1
    return table, {f"{table}:{number}": reason for number, (_, reason) in enumerate(BAD_LINES, start=start)}


def shown(path: str) -> str:
    return path if path.isprintable() else repr(path)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the files that list all bad images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flaxnets"


def assert_each_is_named_once(lines: list[str], expected: dict[str, str]) -> None:
    """Check that ten reasons are printed, and that the file in the last line lists all."""
    *shown, last = lines
    rest = re.fullmatch(r"\.\.\. and (\d+) more; all in (.*)", last)
    assert rest, last
    assert (len(shown), int(rest[1])) == (10, len(expected) - 10)
    lines = Path(rest[2]).read_text().splitlines()
    assert lines[:10] == shown
    assert_each_has_a_line(lines, expected)


def assert_each_has_a_line(lines: list[str], expected: dict[str, str]) -> None:
    text = "\n".join(lines)
    assert len(lines) == len(expected)
    for where, reason in expected.items():
        assert [bool(re.search(reason, line)) for line in lines if line.startswith(f"{shown(where)}: ")] == [True], (
            where
        )
        assert len(re.findall(rf"{re.escape(shown(where))}(?![\w.])", text)) == 1, where


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_all_bad_files_and_lines_are_named_in_one_error(kind, request, opened):
    place, expected = request.getfixturevalue("bad_folder" if kind == "folder" else "bad_table")
    opened.clear()
    with pytest.raises(
        DataError, match=rf"{len(expected)} cannot be used\. Fix: repair them, or skip them with"
    ) as error:
        load(f"{kind}:{place}")
    assert_each_is_named_once(str(error.value).splitlines()[1:], expected)
    assert not [path for path in opened if "forbidden" in path or path.startswith(("/dev/zero", "/etc"))]
    assert any(path.endswith(".png") for path in opened)


@pytest.mark.parametrize(("bad_files", "status"), [("stop", 2), ("skip", 0)])
def test_the_command_names_each_on_a_line(bad_files, status, bad_folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    place, expected = bad_folder
    options = ["--arch", "mlp", "--dataset", f"folder:{place}", "--bad-files", bad_files, "--dry-run"]
    assert run(train.main, options, "train.py") == status
    said = capsys.readouterr()
    lines = said.err.splitlines()
    named = [line.removeprefix("skipped: ") for line in lines if line.startswith((str(place), "skipped", "..."))]
    assert_each_is_named_once(named, expected)


@pytest.mark.parametrize(("kind", "count"), [("folder", 5), ("csv", 4)])
def test_the_good_ones_are_left_where_bad_ones_are_skipped(kind, count, request, opened):
    place, expected = request.getfixturevalue("bad_folder" if kind == "folder" else "bad_table")
    opened.clear()
    lines: list[str] = []
    data = load(f"{kind}:{place}", bad_files="skip", warn=lines.append)
    assert len(data.train) + len(data.test) == count
    assert data.classes == ("cat", "dog")
    assert_each_is_named_once([line.removeprefix("skipped: ") for line in lines], expected)
    assert not [path for path in opened if "forbidden" in path or path.startswith(("/dev/zero", "/etc"))]


def test_what_is_left_out_is_warned_of(folder):
    (folder / "cat" / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"skipped: .*cat/0\.png: empty"):
        load(f"folder:{folder}", bad_files="skip")


def test_nothing_but_stop_and_skip_can_be_done_with_bad_files(folder):
    with pytest.raises(ValueError, match="bad_files must be 'stop' or 'skip', got 'keep'"):
        load(f"folder:{folder}", bad_files="keep")  # type: ignore[arg-type]


LAYOUTS: dict[str, tuple[dict[str, int], dict[str, int], dict[str, int]]] = {
    "one folder": ({"a": 12, "b": 2, "c": 5}, {"a": 10, "b": 1, "c": 4}, {"a": 2, "b": 1, "c": 1}),
    "val": ({"train/a": 3, "train/b": 1, "val/a": 1, "val/b": 2, "test/b": 9}, {"a": 3, "b": 1}, {"a": 1, "b": 2}),
    "valid": ({"train/a": 1, "train/b": 1, "valid/a": 1, "valid/b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1}),
    "test": ({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1}),
}


@pytest.mark.parametrize(("files", "train", "test"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_folder_is_split_by_its_folders_or_a_fifth_of_each_class_is_tested_on(files, train, test, tmp_path):
    data, again = (load(f"folder:{fill(tmp_path, files)}") for _ in range(2))
    assert data.model_options == {"num_classes": len(train)}
    assert data.classes == tuple(sorted(train))
    for part, other, counts in ((data.train, again.train, train), (data.test, again.test, test)):
        assert isinstance(part, ImageFiles)
        assert part.paths == other.paths
        assert part.targets.dtype == np.int32
        labels = [data.classes[target] for target in part.targets]
        assert {label: labels.count(label) for label in counts} == counts
        assert [path.parent.name for path in part.paths] == labels
    assert not {*data.train.paths} & {*data.test.paths}
    assert len(set(data.train.take(4).targets)) > 1 or len(data.train) < 4


FOLDERS_THAT_WILL_NOT_DO: dict[str, tuple[dict[str, int], type[Exception], str]] = {
    "nothing": ({}, FileNotFoundError, "pets: no such folder"),
    "no class": ({"": 0}, DataError, "pets: expected images of at least two classes, got none"),
    "one class": ({"a": 3}, DataError, r"at least two classes, got \['a'\]"),
    "one image": ({"a": 3, "b": 1}, DataError, "one image of 'b', expected at least two"),
    "train lacks": ({"train/a": 1, "val/a": 1, "val/b": 1}, DataError, "no training images of 'b'"),
    "both lack": (
        {"train/a": 1, "val/b": 1, "train/c": 1, "val/c": 1}, DataError,
        "no training images of 'b' and no test images of 'a'; expected both parts to have every class",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "error", "message"), FOLDERS_THAT_WILL_NOT_DO.values(), ids=FOLDERS_THAT_WILL_NOT_DO)
def test_a_folder_that_will_not_do_says_why(files, error, message, tmp_path):
    fill(tmp_path / "pets", files)
    with pytest.raises(error, match=message):
        load(f"folder:{tmp_path / 'pets'}")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "pets").write_bytes(b"")
    with pytest.raises(DataError, match="pets: expected a folder of images, got a file"):
        load(f"folder:{tmp_path / 'pets'}")


def test_a_linked_part_outside_is_not_looked_into(tmp_path, opened):
    fill(tmp_path / "forbidden", {"a": 1, "b": 1})
    fill(tmp_path / "pets", {"val/a": 1, "val/b": 1})
    (tmp_path / "pets" / "train").symlink_to(tmp_path / "forbidden")
    opened.clear()
    with pytest.raises(DataError, match="pets/train: a link that leads outside of"):
        load(f"folder:{tmp_path / 'pets'}")
    assert not [path for path in opened if "forbidden" in path]


def write_table(root: Path, lines: list[str], lists: dict[str, list[str]], files: int = 6) -> Path:
    fill(root, {"a": files, "b": files})
    for part, names in lists.items():
        (root / f"pets.{part}.txt").write_text("\n".join(names))
    (root / "pets.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return root / "pets.csv"


ROWS = [f"{label}/{i}.png,{label.upper()}" for i in range(6) for label in "ab"]


@pytest.mark.parametrize("header", [[], ["path,label"], ["Filename, Class"]])
def test_a_table_names_images_from_its_own_folder(header, tmp_path):
    data = load(f"csv:{write_table(tmp_path, [*header, *ROWS], {})}")
    assert (data.classes, len(data.train), len(data.test)) == (("A", "B"), 10, 2)
    for part in (data.train, data.test):
        assert [path.parent.name.upper() for path in part.paths] == [data.classes[i] for i in part.targets]


def test_lists_beside_a_table_say_what_is_tested_on(tmp_path):
    lists = {"train": ["a/0.png", "b/3.png", "", "a/1.png"], "test": ["b/5.png", "a/5.png"]}
    data = load(f"csv:{write_table(tmp_path, ROWS, lists)}")
    for part, names in ((data.train, lists["train"]), (data.test, lists["test"])):
        assert sorted(str(path.relative_to(tmp_path.resolve())) for path in part.paths) == sorted(filter(None, names))


TABLES_THAT_WILL_NOT_DO: dict[str, tuple[list[str], dict[str, list[str]], str]] = {
    "swapped": (["label,path", *ROWS], {}, r"pets\.csv:2: A: no such file; expected a path with a suffix, such as"),
    "empty": ([], {}, r"pets\.csv: expected images of at least two classes, got none"),
    "one list": (ROWS, {"train": ["a/0.png"]}, r"pets\.test\.txt: no such file; expected a list"),
    "not in the table": (ROWS[:-1], {"train": ["a/0.png", "b/5.png"], "test": []}, r"2: b/5\.png: pets\.csv has no"),
    "in both": (
        ROWS, {"train": ["a/0.png"], "test": ["b/0.png", "a/0.png"]},
        r"pets\.test\.txt:2: a/0\.png: the same image as on line 1 of pets\.train\.txt",
    ),
    "listed outside": (ROWS, {"train": ["/etc/passwd"], "test": []}, r"pets\.train\.txt:1: /etc/passwd: outside of"),
    "a class too few": (ROWS, {"train": ["a/0.png", "b/0.png"], "test": ["a/1.png"]}, "no test images of 'B'"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "lists", "message"), TABLES_THAT_WILL_NOT_DO.values(), ids=TABLES_THAT_WILL_NOT_DO)
def test_a_table_that_will_not_do_says_why(lines, lists, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load(f"csv:{write_table(tmp_path, lines, lists)}")


def test_a_list_outside_is_not_read(tmp_path, opened):
    table = write_table(tmp_path / "root", ROWS, {"train": ["a/0.png"]})
    (tmp_path / "forbidden.txt").write_text("a/1.png")
    (tmp_path / "root" / "pets.test.txt").symlink_to(tmp_path / "forbidden.txt")
    opened.clear()
    with pytest.raises(DataError, match=r"pets\.test\.txt: a link that leads outside of"):
        load(f"csv:{table}")
    assert not [path for path in opened if "forbidden" in path]


@pytest.mark.parametrize("kind", ["csv", "text"])
def test_a_file_that_is_not_there_or_would_block_is_named(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", "pipe"):
        with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
            load(f"{kind}:{tmp_path / name}")


COLOURS = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.fixture
def files(tmp_path: Path, rng) -> ImageFiles:
    paths = []
    for i in range(11):
        pixels = rng.integers(0, 256, (*rng.integers(9, 30, 2), 3), np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return ImageFiles(tuple(paths), np.arange(11, dtype=np.int32))


CHANGES = {
    "none": None,
    "crop and flip": Augmentation(crop_area=0.3, flip=0.5, mixup=1.0, erase=1.0),
    "padding": Augmentation(crop_padding=3, flip=0.5),
}


@pytest.mark.parametrize("augmentation", CHANGES.values(), ids=CHANGES)
def test_batches_do_not_depend_on_workers_or_on_where_they_begin(augmentation, files, rng):
    order, options = rng.permutation(11), {"image_shape": (3, 8, 9), "augmentation": augmentation, "seed": (3, 1)}
    whole = list(files.batches(order, 4, **options))
    assert [len(images) for images, _ in whole] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in whole]), order)
    for workers, start in itertools.product((0, 2), (0, 1, 2)):
        rest = list(files.batches(order[4 * start :], 4, **options, workers=workers))
        assert len(rest) == 3 - start
        for (images, targets), (expected, its_targets) in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(images, expected)
            np.testing.assert_array_equal(targets, its_targets)
    other = np.concatenate([images for images, _ in files.batches(order, 4, **{**options, "seed": (3, 2)})])
    assert (other != np.concatenate([images for images, _ in whole])).any() == (augmentation is not None)


def test_workers_end_with_the_batches_that_nobody_takes(files):
    before = set(threading.enumerate())
    batches = files.batches(np.arange(11), 2, image_shape=(1, 8, 8), workers=2)
    next(batches)
    workers = set(threading.enumerate()) - before
    assert workers
    batches.close()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_went_bad_since_is_named(workers, files):
    files.paths[7].write_bytes(b"")
    batches = files.batches(np.arange(11), 4, image_shape=(3, 8, 8), workers=workers)
    assert len(next(batches)[0]) == 4
    with pytest.raises(DataError, match=rf"{files.paths[7]}: not an image.*, although the file was valid"):
        next(batches)


def test_images_have_one_or_three_channels(files):
    with pytest.raises(ValueError, match=r"1 or 3 channels, got the shape \(2, 8, 8\)"):
        next(files.batches(np.arange(2), 2, image_shape=(2, 8, 8)))


def only(image: np.ndarray, tmp_path: Path, shape: tuple[int, int, int], **options) -> np.ndarray:
    path = tmp_path / "only.png"
    Image.fromarray(image.astype(np.uint8)).save(path)
    ((images, _),) = ImageFiles((path,), np.zeros(1, np.int32)).batches(
        np.zeros(1, int), 1, image_shape=shape, **options
    )
    return images[0].astype(int)


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path):
    columns = np.broadcast_to(np.arange(60) * 4, (20, 60))
    np.testing.assert_allclose(
        only(columns, tmp_path, (1, 10, 10))[0], np.broadcast_to((20.5 + 2 * np.arange(10)) * 4, (10, 10)), atol=0.51
    )
    np.testing.assert_allclose(
        only(columns.T, tmp_path, (3, 10, 10))[2].T,
        np.broadcast_to((20.5 + 2 * np.arange(10)) * 4, (10, 10)),
        atol=0.51,
    )


def test_a_flip_of_a_file_mirrors_it(tmp_path):
    plain = only(COLOURS, tmp_path, (3, 30, 40))
    np.testing.assert_array_equal(
        only(COLOURS, tmp_path, (3, 30, 40), augmentation=Augmentation(flip=1.0)), plain[..., ::-1]
    )


def test_a_padded_crop_of_a_file_is_a_window_of_the_padded_image(tmp_path):
    padded = np.pad(COLOURS.transpose(2, 0, 1), ((0, 0), (2, 2), (2, 2)))
    windows = {padded[:, i : i + 30, j : j + 40].astype(int).tobytes(): (i, j) for i in range(5) for j in range(5)}
    augmentation = Augmentation(crop_padding=2)
    found = {
        windows[only(COLOURS, tmp_path, (3, 30, 40), augmentation=augmentation, seed=(seed,)).tobytes()]
        for seed in range(40)
    }
    assert {i for i, _ in found} == {j for _, j in found} == set(range(5))


def test_statistics_are_those_of_the_channels(files, tmp_path):
    ((images, _),) = files.batches(np.arange(11), 11, image_shape=(3, 8, 8))
    mean, std = channel_statistics(files, (3, 8, 8))
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)) / 255)
    np.testing.assert_allclose(std, images.std((0, 2, 3)) / 255)
    with pytest.raises(ValueError, match="image_shape must be given for images in files, got None"):
        channel_statistics(files)

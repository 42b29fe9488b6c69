"""Tests of CSV files of images and labels: delimiters, headers, columns and paths."""

import json
from pathlib import Path

import pytest
from image_data import encoded, fill

from flaxnets.cli import train
from flaxnets.cli.command import run
from flaxnets.cli.train_options import Options
from flaxnets.cli.train_plan import make_plan
from flaxnets.data import DataError, load
from flaxnets.data.complaints import Complaint
from flaxnets.data.tables import read_table

AUTO = (None, None)
# The content of a file, the requested columns, and the expected images and labels.
TABLES: dict[str, tuple[str, tuple[str | None, str | None], list[tuple[str, str]]]] = {
    "no header": ("a/1.png,cat\nb/2.png,dog\n", AUTO, [("a/1.png", "cat"), ("b/2.png", "dog")]),
    "semicolons": ("path;label\na/1.png;cat\n", AUTO, [("a/1.png", "cat")]),
    "semicolons, no header": ("a/1.png;cat\nb/2.png;dog", AUTO, [("a/1.png", "cat"), ("b/2.png", "dog")]),
    "tabs": ("filename\tclass\na/1.png\tcat\n", AUTO, [("a/1.png", "cat")]),
    "tabs, no header": ("a/1.png\tcat\n", AUTO, [("a/1.png", "cat")]),
    "commas in labels": ("1.png;cats, a\n2.png;dogs, b\n", AUTO, [("1.png", "cats, a"), ("2.png", "dogs, b")]),
    "semicolons in labels of commas": ("a/1.png,cats; young\n", AUTO, [("a/1.png", "cats; young")]),
    "commas in paths of tabs": ("a,b;c/1.png\tcat\n", AUTO, [("a,b;c/1.png", "cat")]),
    "decimal commas": ("image;width;label\n1.png;2,5;cat\n2.png;3,5;dog\n", AUTO, [("1.png", "cat"), ("2.png", "dog")]),
    "said by its first line": ("sep=;\npath;label\n1.png;cat\n", AUTO, [("1.png", "cat")]),
    "another delimiter that is said": ("sep=|\npath|label\n1.png|cat\n", AUTO, [("1.png", "cat")]),
    "a BOM, CRLF and blank lines": ("\ufeff\r\npath;label\r\n\r\n1.png;cat\r\n", AUTO, [("1.png", "cat")]),
    "quotes": ('"path","label"\n"a, b/1.png","cat ""x"""\n', AUTO, [("a, b/1.png", 'cat "x"')]),
    "spaces before quotes": ('"path", "label"\n"a, b/1.png", "cat"\n', AUTO, [("a, b/1.png", "cat")]),
    "bars": ("path|label\na,b;c/1.png|cat\n", AUTO, [("a,b;c/1.png", "cat")]),
    "spaces": ("Image Path ; Class Name\n 1.png ; cat \n", AUTO, [("1.png", "cat")]),
    "label first": ("label,image\ncat,1.png\n", AUTO, [("1.png", "cat")]),
    "more columns": ("id,filename,split,label\n7,1.png,train,cat\n", AUTO, [("1.png", "cat")]),
    "an index of pandas": (",file_name,target\n0,1.png,cat\n", AUTO, [("1.png", "cat")]),
    "capitals": ("IMG,Category\n1.png,cat\n", AUTO, [("1.png", "cat")]),
    "species": ("filepath\tspecies\textra\n1.png\tcat\t\n", AUTO, [("1.png", "cat")]),
    "class names before numbers": ("path,class_id,class_name\n1.png,0,cat\n", AUTO, [("1.png", "cat")]),
    "numbers as labels": ("path,class_id\n1.png,1.0\n2.png,01\n", AUTO, [("1.png", "1.0"), ("2.png", "01")]),
    "ids with endings": ("image_id,breed\n1.png,cat\n", AUTO, [("1.png", "cat")]),
    "the other of two columns": ("image,what it shows\n1.png,cat\n", AUTO, [("1.png", "cat")]),
    "the other of two, first": ("snapshot,label\n1.png,cat\n", AUTO, [("1.png", "cat")]),
    "asked for by name": ("photo,a,b\n1.png,cat,dog\n", (None, "b"), [("1.png", "dog")]),
    "both asked for": ("x;y;z\n1.png;2.png;cat\n", ("y", "z"), [("2.png", "cat")]),
    "names against the usual": ("path,other,label\n1.png,2.png,cat\n", ("other", None), [("2.png", "cat")]),
    "by number": ("x;y;z\n1.png;2.png;cat\n", ("2", "3"), [("2.png", "cat")]),
    "by number, no header": ("7;1.png;cat\n8;2.png;dog\n", ("2", "3"), [("1.png", "cat"), ("2.png", "dog")]),
    "one number of two": ("cat,1.png\n", ("2", None), [("1.png", "cat")]),
    "a number that is a name": ("2,1\n1.png,cat\n", ("2", "1"), [("1.png", "cat")]),
    "a name and a number": ("x,y,label\n1.png,2.png,cat\n", ("1", None), [("1.png", "cat")]),
    "empty": ("", AUTO, []),
    "a header alone": ("path,label\n", AUTO, []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "columns", "rows"), TABLES.values(), ids=TABLES)
def test_a_table_is_read_as_it_was_meant(text, columns, rows, tmp_path):
    (tmp_path / "pets.csv").write_bytes(text.encode())
    complaints: list[Complaint] = []
    found = [(image, label) for _, image, label in read_table(tmp_path / "pets.csv", columns, complaints)]
    assert complaints == []
    assert found == rows


UNCLEAR: dict[str, tuple[str, tuple[str | None, str | None], str]] = {
    "no such name": (
        "path;label\n1.png;cat\n", (None, "breed"),
        "no column 'breed'. Expected one of 'path', 'label'. Fix: --csv-label-column",
    ),
    "no such image": ("path,label\n1.png,cat\n", ("Photo", None), "no column 'Photo'.*Fix: --csv-image-column"),
    "no header for a name": ("1.png,cat\n", ("photo", None), "no column 'photo'. Expected one of '1.png', 'cat'"),
    "no such number": ("1.png,cat\n", ("1", "3"), "no column 3. Expected 1 to 2. Fix: --csv-image-column"),
    "no number 0": ("1.png,cat\n", ("0", "1"), "no column 0. Expected 1 to 2"),
    "one column twice": ("path,label\n1.png,cat\n", ("path", "path"), "'path' cannot be both the image and the label"),
    "unknown label": (
        "path,age,color\n1.png,3,red\n", AUTO,
        "cannot detect the column of the label. The columns are 'path', 'age', 'color'. Fix: .* a number from 1",
    ),
    "unknown image": ("a,b,label\n1.png,2.png,cat\n", AUTO, "cannot detect the column of the image. The columns"),
    "unknown names": ("snap,what\n1.png,cat\n", AUTO, "which of the columns 'snap', 'what' are image and label"),
    "three without a header": ("7,1.png,cat\n8,2.png,dog", AUTO, "which of the columns '7', '1.png', 'cat' are image"),
    "two labels": (
        "path,label,class\n1.png,1,cat\n", AUTO,
        "several columns may be the label: 'label', 'class'. Fix: --csv-label-column",
    ),
    "two images": ("path,filename,label\na/1.png,1.png,cat\n", AUTO, "several columns may be the image: 'path', 'fi"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "columns", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_columns_that_cannot_be_told_are_an_error_that_lists_them(text, columns, message, tmp_path):
    fill(tmp_path, {"": 3})
    (tmp_path / "pets.csv").write_text(text)
    with pytest.raises(DataError, match=rf"pets\.csv: .*{message}"):
        load(f"csv:{tmp_path / 'pets.csv'}", csv_columns=columns)


BAD_LINES: dict[str, tuple[str, str]] = {
    "id without its ending": ("0,cat", "0: no such file; expected a path with a suffix, such as 0.jpg"),
    "id of a cloud": ("000bec.180eb,cat", "000bec.180eb: no such file; expected a path with a suffix"),
    "backslashes": ("a\\0.png,cat", "no such file; expected / between folders"),
    "absolute outside": ("{top}/forbidden/0.png,cat", "outside of .*/root, expected a path below it"),
    "absolute beside": ("{top}/root2/0.png,cat", "outside of .*/root, expected a path below it"),
    "absolute and up": ("{top}/root/a/../../forbidden/0.png,cat", "outside of .*/root, expected a path below it"),
    "absolute, twice": ("{top}/root/b/0.png,cat", "the same image as on line 2"),
    "absolute, missing": ("{top}/root/b/9.png,cat", "no such file$"),
    "one field too many": ("a/0.png,cat,7", "expected 2 fields, image path and label, got 3"),
    "another delimiter": ("a/0.png;cat", "expected 2 fields, image path and label, got 1"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_says_why(line, message, tmp_path):
    root = fill(tmp_path / "root", {"a": 2, "b": 2})
    fill(tmp_path, {"forbidden": 1, "root2": 1})
    line = line.format(top=tmp_path)
    (root / "pets.csv").write_text(f"path,label\nb/0.png,dog\nb/1.png,dog\n{line}\n")
    with pytest.raises(DataError, match=rf"1 cannot be used.*\n.*pets\.csv:4: .*{message}"):
        load(f"csv:{root / 'pets.csv'}")


@pytest.mark.parametrize("named", ["root", "link"])
@pytest.mark.parametrize("written", ["root", "link"])
def test_absolute_paths_inside_the_folder_are_read(named, written, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = fill(tmp_path / "root", {"a": 3, "b": 3})
    (tmp_path / "link").symlink_to(root)
    rows = [f"{tmp_path / written / name}/{i}.png;{name}" for name in "ab" for i in range(3)]
    (root / "pets.csv").write_text("\n".join(["file;label", *rows]))
    (root / "pets.train.txt").write_text("\n".join(row.split(";")[0] for row in rows if "2.png" not in row))
    (root / "pets.test.txt").write_text("a/2.png\nb/2.png")
    monkeypatch.chdir(tmp_path)
    # The paths of the table are outside the folder under the name that the user gave.
    if written == "link" and named == "root":
        with pytest.raises(DataError, match=r"12 cannot be used.*\n.*pets\.csv:2: .*link/a/0\.png: outside of"):
            load("csv:root/pets.csv")
        return
    data = load(f"csv:{named}/pets.csv")
    assert (len(data.train), len(data.test)) == (4, 2)


def test_the_command_takes_columns_and_keeps_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"a": 4, "b": 4})
    rows = [f"{name}/{i}.png;{i % 2};{name}" for name in "ab" for i in range(4)]
    Path("pets.csv").write_text("\n".join(["snap;age;what", *rows]))
    options = Options(arch="mlp", dataset="csv:pets.csv", csv_image_column="snap", csv_label_column="3")
    plan = make_plan(options)
    assert plan.data.classes == ("a", "b")
    assert json.loads(json.dumps(plan.record()["options"])).items() >= {"csv_image_column": "snap"}.items()
    assert make_plan(Options(arch="mlp", dataset="csv:pets.csv", csv_image_column="1", csv_label_column="age")).data
    arguments = ["--arch", "mlp", "--dry-run", "--csv-label-column", "what", "--dataset"]
    assert run(train.main, [*arguments, "csv:pets.csv"], "train.py") == 2
    assert "cannot detect the column of the image. The columns are 'snap', 'age', 'what'" in capsys.readouterr().err
    assert run(train.main, [*arguments, "mnist"], "train.py") == 2
    assert "--dataset mnist: columns of the image and the label are for csv:FILE, got mnist" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_one_error(encoding, tmp_path):
    (tmp_path / "pets.csv").write_bytes("\ufeff1.png\tcat\n".encode(encoding))
    with pytest.raises(DataError, match=r"pets\.csv: UTF-16, expected UTF-8"):
        load(f"csv:{tmp_path / 'pets.csv'}")


def test_labels_of_a_table_are_sorted_as_numbers(tmp_path):
    fill(tmp_path, {"a": 24})
    (tmp_path / "pets.csv").write_text("\n".join(f"a/{i}.png\t{i // 2}" for i in range(24)))
    data = load(f"csv:{tmp_path / 'pets.csv'}")
    assert data.classes == tuple(map(str, range(12)))
    part = data.part("all")
    assert [int(path.stem) // 2 for path in part.paths] == part.targets.tolist()


def test_a_png_in_a_table_may_be_called_jpg(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("PNG"))
    fill(tmp_path, {"b": 3})
    (tmp_path / "pets.csv").write_text("a.jpg;a\nb/0.png;a\nb/1.png;b\nb/2.png;b")
    with pytest.warns(UserWarning, match=r"format than .* 1; for .*pets\.csv:1: a\.jpg is a PNG file"):
        load(f"csv:{tmp_path / 'pets.csv'}")

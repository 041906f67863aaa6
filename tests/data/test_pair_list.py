"""Lists of pairs: what they are read from, and which images they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.data.image_names import ImageNames, find_images
from fiftyone_sfam.data.pair_list import parse_lfw, parse_pairs, read_pairs
from fiftyone_sfam.errors import DataError

# -- LFW -------------------------------------------------------------------------------

names = st.from_regex(r"[A-Z][a-z]{0,5}(_[A-Z][a-z]{0,5}){0,2}", fullmatch=True)
numbers = st.integers(1, 12000)
same = st.tuples(names, numbers, numbers).map(lambda pair: (True, pair))
different = st.tuples(names, numbers, names, numbers).map(lambda pair: (False, pair))


@st.composite
def lfw_lists(draw: st.DrawFn) -> tuple[int, int, list[tuple[bool, tuple]]]:
    """Number of folds, pairs of each kind per fold, and the pairs in a fold's order."""
    folds, each = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows: list[tuple[bool, tuple]] = []
    for _ in range(folds):
        fold = draw(st.lists(same, min_size=each, max_size=each))
        fold += draw(st.lists(different, min_size=each, max_size=each))
        rows += draw(st.permutations(fold))
    return folds, each, rows


@given(lfw_lists(), st.sampled_from(["\t", " "]), st.sampled_from(["\n", "\r\n"]))
def test_lfw_equals_a_naive_reading(listed, separator, end):
    folds, each, rows = listed
    head = [each] if folds == 1 else [folds, each]
    lines = [head, *(pair for _, pair in rows)]
    text = end.join(separator.join(map(str, line)) for line in lines)
    pairs = parse_lfw(text)
    assert len(pairs) == 2 * folds * each
    for row, (is_same, cells) in enumerate(rows):
        first, second = cells[0], cells[0] if is_same else cells[2]
        assert pairs.query[row] == first + "_" + str(cells[1]).zfill(4)
        assert pairs.gallery[row] == second + "_" + str(cells[-1]).zfill(4)
        assert pairs.label[row] == int(is_same)
        assert pairs.fold[row] == row // (2 * each)
    assert not pairs.ranked
    assert np.isnan(pairs.score).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty; a list of pairs"),
        ("a,b,same", "line 1 of the text is 'a,b,same'; LFW's format begins with"),
        ("10\t300\nA\t1\t2", "10 folds with 300 pairs of each kind, which are 6000"),
        ("1\nA\t1\t2\nA\t1\tB", "line 3 of the text is 'A 1 B'; LFW's format has"),
        ("1\nA\t1\t2\n\nA\t1\tB\tx", "line 4 of the text is 'A 1 B x'"),
        ("1\nA\t1\t2\nA\t1\t3", "fold 1 of the text has 2 pairs of one person and 0"),
        ("0\t5\n", "is '0 5', which announces no pairs"),
    ],
)
def test_a_broken_lfw_list_is_refused_with_its_line(text, message):
    with pytest.raises(DataError) as error:
        parse_lfw(text)
    assert message in str(error.value)


# -- tables ----------------------------------------------------------------------------


def test_the_same_pairs_from_python_table_and_csv(tmp_path: Path):
    rows = [("a", "b", True), ("a", "c", "different"), ("c", "b", None), ("b", "a", 1)]
    listed = read_pairs(rows)
    table = pd.DataFrame(
        {
            "first": ["a", "a", "c", "b"],
            "second": ["b", "c", "b", "a"],
            "genuine": [1.0, 0.0, np.nan, 1.0],
        }
    )
    columns = {"query": "first", "gallery": "second", "label": "genuine"}
    csv = tmp_path / "pairs.csv"
    table.to_csv(csv, index=False)
    tsv = tmp_path / "pairs.tsv"
    table.to_csv(tsv, index=False, sep="\t")
    for other in (
        read_pairs(table, columns),
        *(read_pairs(p, columns) for p in (csv, tsv)),
    ):
        assert other.query == listed.query == ("a", "a", "c", "b")
        assert other.gallery == listed.gallery
        assert other.label.tolist() == listed.label.tolist() == [1, 0, -1, 1]
        assert other.fold.tolist() == [-1] * 4
        assert other.rank.tolist() == [0] * 4
    assert read_pairs(listed) is listed


def test_names_of_a_csv_stay_as_they_are_written(tmp_path: Path):
    file = tmp_path / "pairs.csv"
    file.write_text("query,gallery,rank,score\n0001,NA,2,-0.5\n0001,nan,1,\n", "utf-8")
    pairs = read_pairs(file)
    assert pairs.query == ("0001", "0001")
    assert pairs.gallery == ("NA", "nan")
    assert pairs.rank.tolist() == [2, 1]
    assert pairs.ranked
    np.testing.assert_array_equal(pairs.score, [-0.5, np.nan])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the list has no rows"),
        (["ab"], "pair 0 of the list is 'ab'; (query, gallery) or"),
        ([("a", "b"), ("a",)], "pair 1 of the list is ('a',)"),
        ([("a", "")], "row 0 of the list has no gallery"),
        ([("a", "b", "maybe")], "row 0 of the list has the label 'maybe'; use 1 or"),
    ],
)
def test_a_broken_list_is_refused_with_its_row(rows, message):
    with pytest.raises(DataError) as error:
        read_pairs(rows)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("more", "columns", "message"),
    [
        ({"gallery": None}, None, "has no column 'gallery' for the gallery of each"),
        ({}, {"fold": "f"}, "no column 'f' for the fold of each pair; its columns are"),
        ({}, {"near": "f"}, "columns names 'near'; the columns of a list of pairs"),
        ({"rank": ["0"]}, None, "has the rank '0'; a whole number from 1 is needed"),
        ({"fold": [0.5]}, None, "has the fold '0.5'; a whole number from 0"),
        ({"score": ["inf"]}, None, "has the score 'inf'; a finite number is needed"),
    ],
)
def test_a_broken_table_is_refused(more, columns, message):
    table = {"query": ["a"], "gallery": ["b"], **more}
    given = {name: values for name, values in table.items() if values is not None}
    with pytest.raises(DataError) as error:
        read_pairs(pd.DataFrame(given), columns)
    assert message in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"missing\.csv' cannot be read"):
        read_pairs(tmp_path / "missing.csv")
    with pytest.raises(DataError, match=r"missing\.txt' cannot be read: No such file"):
        read_pairs(str(tmp_path / "missing.txt"))
    with pytest.raises(DataError, match=r"read as LFW's pairs\.txt; rename it, or"):
        read_pairs(tmp_path / "pairs.txt", {"query": "a"})


# -- text whose form its first line shows ----------------------------------------------


@pytest.mark.parametrize("separator", [",", ", ", "\t", ";", " ", "  "])
@pytest.mark.parametrize("head", [[], [["label", "gallery", "query"]]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_pasted_list(separator: str, head: list[list[str]], end: str):
    rows = [["a/1.jpg", "b", "same"], ["a/1.jpg", "c", "0"], ["c", "b", "1"]]
    lines = [*head, *(row[::-1] if head else row for row in rows)]
    text = end.join(map(separator.join, lines)) + end + end
    pairs = parse_pairs("\ufeff" + text)
    assert pairs.query == ("a/1.jpg", "a/1.jpg", "c")
    assert pairs.gallery == ("b", "c", "b")
    assert pairs.label.tolist() == [1, 0, 1]


def test_some_pasted_lines_have_no_label():
    pairs = parse_pairs("a,b\n\na,c,different\n")
    assert (pairs.query, pairs.gallery) == (("a", "a"), ("b", "c"))
    assert pairs.label.tolist() == [-1, 0]


def test_a_pasted_list_of_lfw_and_one_with_named_columns():
    assert parse_pairs("1\t1\nA\t1\t2\nA\t1\tB\t3\n").gallery == ("A_0002", "B_0003")
    columns = {"query": "file 1", "gallery": "file 2", "fold": "10"}
    pairs = parse_pairs('"file 1",10,"file 2"\n"x, y.jpg",3,z\n', columns)
    assert (pairs.query, pairs.gallery) == (("x, y.jpg",), ("z",))
    assert pairs.fold.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, "the text is empty; a list of pairs is needed."),
        (" \n", {"query": "q"}, "the text is empty; a list of pairs is needed."),
        ("a\n", None, "the line 'a' of the text has 1 column; give two images and"),
        ("a,b\na,b,1,2\n", None, "the line 'a b 1 2' of the text has 4 columns"),
        ("query,gallery\na,b,c\n", None, "row 0 of the text has 3 cells, but its head"),
        ("query,gallery\na\n", None, "row 0 of the text has no gallery; every pair"),
        ("query,gallery\n", None, "the text has no rows; at least one pair"),
        ("a,b\n", {"query": "q"}, "the text has no column 'q' for the query"),
        ("query,query,gallery\na,b,c\n", None, "the text has two columns 'query'"),
        ("a,b,maybe\n", None, "row 0 of the text has the label 'maybe'"),
        ('a,"' + "x" * 200_000, None, "the text cannot be read: field larger than"),
    ],
)
def test_a_broken_text_is_refused(text, columns, message):
    with pytest.raises(DataError) as error:
        parse_pairs(text, columns)
    assert message in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_a_list_or_a_sentence(text):
    told = ""
    try:
        pairs = parse_pairs(text)
    except DataError as error:
        told = str(error)
    if told:
        assert "\n" not in told
        assert told.endswith(".")
    else:
        assert len(pairs.query) == len(pairs.gallery) > 0


# -- images ----------------------------------------------------------------------------

FILES = [
    "/data/Ann/Ann_0001.jpg",
    "/data/Ann/Ann_0002.jpg",
    "/data/Bo/0001.png",
    "/data/Cy/0001.png",
    r"C:\faces\Dee\7.v2.png",
]
IDS = ["i0", "i1", "i2", "i3", "i4"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("i3", [3]),
        ("/data/Bo/0001.png", [2]),
        ("Bo/0001", [2]),
        ("o/0001", []),
        ("0001.png", [2, 3]),
        ("0001", [2, 3]),
        ("Ann_0001", [0]),
        ("Ann_0001.jpg", [0]),
        ("Ann_0001.png", []),
        ("Dee/7.v2", [4]),
        (r"Dee\7.v2.png", [4]),
        ("7", []),
    ],
)
def test_images_are_found_by_id_and_by_the_end_of_their_path(name, found):
    assert ImageNames(IDS, FILES).find(name) == found


def test_names_of_a_field_replace_paths():
    images = ImageNames(IDS, FILES, ["x", None, "y", "y", "z"])
    assert [images.find(name) for name in ("x", "y", "i1", "Ann_0001")] == [
        [0],
        [2, 3],
        [1],
        [],
    ]


def test_rows_without_their_images_have_a_reason():
    pairs = read_pairs([("i0", "i1"), ("i0", "Zoe_0001"), ("0001", "i4"), ("i4", "i2")])
    index, reasons = find_images(pairs, ImageNames(IDS, FILES), "x.jpg")
    assert index.tolist() == [[0, 1], [0, -1], [-1, 4], [4, 2]]
    assert reasons == {
        1: "'Zoe_0001' is not in the view.",
        2: "'0001' fits 2 images; give more of its path.",
    }
    with pytest.raises(DataError, match=r"none of the 1 pair of the list has both"):
        find_images(read_pairs([("a", "i0")]), ImageNames(IDS, FILES), "x.jpg")

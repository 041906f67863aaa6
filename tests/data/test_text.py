from fiftyone_sfam.data.text import (
    counted,
    escape_markdown,
    first_line,
    number,
    one_line,
    percent,
    percent_between,
    shorten,
)

NAN = float("nan")


def test_numbers_and_shares() -> None:
    assert [number(0.12345), number(-0.00001), number(-1.5, 1)] == [
        "0.1235",
        "0.0000",
        "-1.5",
    ]
    assert number(12_345_678.0) == "1.23e+07"
    assert number(NAN) == number(None) == percent(NAN) == percent(None) == "unknown"
    assert [percent(0.1234), percent(-0.0001), percent(0.5, 0)] == [
        "12.3 %",
        "0.0 %",
        "50 %",
    ]
    assert percent_between(0.5, 0.4, 0.625) == "50.0 % (40.0 to 62.5)"
    assert percent_between(0.5, NAN, NAN) == "50.0 %"
    assert percent_between(NAN, 0.4, 0.6) == "unknown"


def test_counts() -> None:
    assert counted(1, "pair") == "1 pair"
    assert counted(1200, "pair") == "1,200 pairs"
    assert counted(0, "identity", "identities") == "0 identities"


def test_long_texts_are_cut_and_stay_on_one_line() -> None:
    assert shorten("x" * 100, 100) == "x" * 100
    assert shorten("x" * 101, 100) == "x" * 99 + "…"
    assert one_line("a\n\tb\x1b[0m\u202e") == "a b\ufffd[0m\ufffd"
    assert one_line("👩\u200d🚀") == "👩\u200d🚀"
    assert one_line("x" * 200, 10) == "x" * 9 + "…"


def test_markdown_shows_the_text() -> None:
    assert escape_markdown("**b** <script> $x$") == r"\*\*b\*\* \<script\> \$x\$"
    assert escape_markdown("**[a](http://b)**") == r"\*\*\[a\]\(http\://b\)\*\*"
    assert escape_markdown('it\'s a "&"') == 'it\'s a "\\&"'


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError(" a.\nb")) == "a"
    assert first_line(ValueError()) == "ValueError"

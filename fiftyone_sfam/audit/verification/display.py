"""A verification as tables and sentences, the same wherever it is shown."""

from __future__ import annotations

from fiftyone_sfam.audit.evaluation.scores import MIN_FALSE_ACCEPTS, OperatingPoint
from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    number,
    percent,
    text,
)
from fiftyone_sfam.audit.verification.verify import Verification
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.data.text import percent as percent_text


def headline(verification: Verification) -> dict[str, Shown]:
    """Return the most important figures, by name."""
    shown = {"AUC": number(verification.scores.auc, 4)}
    if verification.folds:
        shown = {"accuracy by folds": percent(verification.accuracy, 2), **shown}
    return {**shown, "equal error rate": percent(verification.scores.equal_error)}


def measures_table(verification: Verification) -> Table:
    """Return the figures of all pairs."""
    scores, decided = verification.scores, verification.decided
    rows: dict[str, Shown] = {}
    if verification.folds:
        error = percent_text(verification.accuracy_error, 2)
        accuracy = percent(verification.accuracy, 2)
        rows[f"accuracy, mean of {len(verification.folds)} folds"] = Shown(
            f"{accuracy.text} ± {error}", "number", accuracy.value
        )
    rows |= {
        "AUC": number(scores.auc, 4),
        "equal error rate": percent(scores.equal_error, 2),
        "its threshold": number(scores.equal_error_threshold, 4),
        "best accuracy on the same pairs": percent(verification.best_accuracy, 2),
        "threshold of the best accuracy": number(verification.best_threshold, 4),
    }
    if decided is not None:
        at = f"at {decided.threshold:.4g}"
        rows |= {
            f"accuracy {at}": percent(decided.accuracy, 2),
            f"true accept rate {at}": percent(decided.tar, 2),
            f"false accept rate {at}": percent(decided.far, 2),
        }
    rows |= {
        "pairs of one identity": count(scores.genuine_pairs),
        "pairs of two identities": count(scores.impostor_pairs),
        "rows without label or score": count(verification.unlabeled),
        "rows skipped": count(verification.skipped),
    }
    return Table(
        ("measure", "value"), tuple((text(title), cell) for title, cell in rows.items())
    )


def folds_table(verification: Verification) -> Table:
    """Return the folds, numbered from 1."""
    rows = (
        (
            count(fold.fold + 1),
            count(fold.pairs),
            percent(fold.accuracy, 2),
            number(fold.threshold, 4),
        )
        for fold in verification.folds
    )
    return Table(("fold", "pairs", "accuracy", "threshold of the others"), tuple(rows))


def rate_text(point: OperatingPoint) -> str:
    """Say what is accepted at a false accept rate."""
    text = f"{percent_text(point.tar, 2)} at the threshold {point.threshold:.4f}"
    return text if point.supported else f"{text}; too few pairs of two identities"


def sentences(verification: Verification) -> tuple[str, ...]:
    """Say how a verification was made."""
    texts = [
        f"A pair is accepted if its {verification.score_name} is at least the "
        "threshold.",
        f"A false accept rate is supported from {MIN_FALSE_ACCEPTS} expected false "
        "accepts on.",
    ]
    if verification.created:
        texts.append(f"Verified {verification.created}.")
    if verification.folds:
        folds = counted(len(verification.folds), "fold")
        texts.insert(
            1,
            f"Of {folds}, each is measured at the threshold that is most accurate on "
            "all others; ± is the standard error of their mean.",
        )
    return tuple(texts)

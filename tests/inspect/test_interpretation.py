import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from drivetrain.errors import InvalidInput
from drivetrain.inspect.interpretation import Interpretation, TopLoss

PROBS = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 1, 1, 0])
PATHS = ["a/0.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg", "a/4.jpg"]
INTERPRETATION = Interpretation(probs=PROBS, labels=LABELS, paths=PATHS, classes=["a", "b", "c"])


def test_confusion_matrix_agrees_with_scikit_learn() -> None:
    counts = INTERPRETATION.confusion_matrix()
    assert counts.tolist() == [[1, 0, 1], [2, 1, 0], [0, 0, 0]]
    assert np.array_equal(counts, confusion_matrix(LABELS, PROBS.argmax(axis=1), labels=range(3)))


def test_most_confused_is_by_count_and_heeds_min_count() -> None:
    assert INTERPRETATION.most_confused() == [("b", "a", 2), ("a", "c", 1)]
    assert INTERPRETATION.most_confused(min_count=2) == [("b", "a", 2)]
    assert INTERPRETATION.most_confused(0) == INTERPRETATION.most_confused(1)


def test_top_losses_are_worst_first() -> None:
    first, second = INTERPRETATION.top_losses(2)
    assert first == TopLoss(
        path="b/3.jpg", label="b", prediction="a", probability=0.9, loss=pytest.approx(-np.log(0.05))
    )
    assert (second.path, second.prediction) == ("a/4.jpg", "c")


def test_top_losses_without_a_number_gives_all() -> None:
    losses = [row.loss for row in INTERPRETATION.top_losses()]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    assert INTERPRETATION.top_losses(0) == []


def test_top_losses_refuses_a_negative_number() -> None:
    with pytest.raises(InvalidInput, match="k: got -1"):
        INTERPRETATION.top_losses(-1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paths": PATHS[:4]}, "paths: got 4 paths; want 5"),
        ({"classes": ["a", "b"]}, "classes: got 2 names; want 3"),
        ({"labels": LABELS[:4]}, "one label for each of 5 pictures"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], said: str) -> None:
    parts = {"probs": PROBS, "labels": LABELS, "paths": PATHS, "classes": ["a", "b", "c"]}
    with pytest.raises(InvalidInput, match=said):
        Interpretation(**(parts | changes))  # type: ignore[arg-type]

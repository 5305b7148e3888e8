"""What the pictures of memorization show: colors, marks, lines, and samples."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from memorized import HISTORY, LOSS, MEMORIZED, VALUES, memorization_report
from shown import images, shown_tiles
from torch import nn

from filterwatch.memorization import OUTPUT, MemorizationReport, measure_memorization
from filterwatch.visuals import memorization_figure, render
from filterwatch.visuals.memorization_figures import memorization_map, memorized_samples_figure
from filterwatch.visuals.thumbnails import Thumbnails

NAMES = ["cat", "dog", "ship"]


def cells(figure: Figure) -> np.ndarray[Any, Any]:
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)  # type: ignore[no-untyped-call,no-any-return]


def marks(axes: Axes) -> set[tuple[int, int]]:
    """Return row and column of each marked cell."""
    return {(int(y), int(x)) for x, y in np.asarray(axes.collections[0].get_offsets())}


def upright(axes: Axes) -> list[float]:
    return [
        float(x[0]) for x in (np.asarray(line.get_xdata()) for line in axes.lines) if x[0] == x[1]
    ]


def written(figure: Figure) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def thumbnails() -> Thumbnails:
    return Thumbnails([(images(6), torch.tensor([0, 1, 2, 0, 1, 2]))], class_names=NAMES)


def test_layers_down_epochs_across_the_output_last_and_gaps_blank() -> None:
    moved = [
        {**entry, "memorization": dict(reversed(entry["memorization"].items()))}
        if "memorization" in entry
        else entry
        for entry in HISTORY
    ]
    for history, order in ((HISTORY, ["conv", "dense"]), (moved, ["dense", "conv"])):
        figure = memorization_map(history, {})
        expected = [[value for value, _ in VALUES[layer]] for layer in (*order, OUTPUT)]
        assert np.array_equal(cells(figure)[:, [0, 1, 3]], expected)
        assert np.isnan(cells(figure)[:, 2]).all()
        names = [text.get_text() for text in figure.axes[0].texts[:3]]
        assert names == [*order, "output (generalization gap)"]
    assert "Gray: not measured" in written(figure)
    assert "Gray" not in written(memorization_map(HISTORY[:2], {}))


def test_marks_are_exactly_where_a_value_exceeds_three_errors() -> None:
    axes = memorization_map(HISTORY, {}).axes[0]
    # conv at 0.03 ± 0.01 is at three errors, not beyond them; dense at 0.4 ± 0.2 below.
    assert marks(axes) == {(0, 3), (1, 3), (2, 1), (2, 3)}


def test_zero_is_white_and_hidden_layers_set_the_scale() -> None:
    figure = memorization_map(HISTORY, {})
    image = figure.axes[0].images[0]
    coolest, warmest = image.get_clim()
    assert warmest == 0.8  # not the 6.0 of the output
    zero, warm, cool, output = (image.cmap(image.norm(value)) for value in (0, 0.8, coolest, 6.0))
    assert min(zero) > 0.99
    assert warm == output
    assert warm[0] > warm[2]  # more red than blue
    assert cool[0] < cool[2]
    text = written(figure)
    assert "The output exceeds the scale" in text
    assert "+6.00" in text
    assert "exceeds" not in written(memorization_map(HISTORY[:1], {}))


def test_where_wrong_labels_take_all_layers_below_zero_red_is_the_output_s() -> None:
    wrong = [
        {
            "epoch": 0,
            "memorization": {"conv": -4.0, "dense": -2.0, OUTPUT: 1.0},
            "memorization_errors": {"conv": 0.1, "dense": 0.1, OUTPUT: 0.1},
        }
    ]
    figure = memorization_map(wrong, {})
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-4.0, 1.0)
    assert image.cmap(image.norm(1.0)) == image.cmap(1.0)
    assert "exceeds" not in written(figure)


def test_what_chance_may_do_stays_pale() -> None:
    calm = [
        {
            "epoch": 0,
            "memorization": {"conv": 0.1, "dense": -0.05},
            "memorization_errors": {"conv": 0.1, "dense": 0.1},
        }
    ]
    figure = memorization_map(calm, {})
    assert figure.axes[0].images[0].get_clim()[1] == pytest.approx(0.6)
    assert marks(figure.axes[0]) == set()


@pytest.mark.parametrize(
    ("curve", "place"),
    [
        ([(0, 2.0), (2, 1.0), (4, 1.5)], 1.0),
        ([(0, 2.0), (5, 1.0), (6, 1.5)], 2.5),  # between the third and the fourth
        ([(0, 2.0), (6, 1.0), (9, 0.5)], None),  # after all that is shown
        ([(0, float("nan"))], None),
    ],
)
def test_a_line_is_at_the_epoch_of_the_lowest_validation_loss(curve: Any, place: Any) -> None:
    figure = memorization_map(HISTORY, {"train_loss": LOSS["train_loss"], "val_loss": curve})
    assert upright(figure.axes[0]) == ([] if place is None else [place])
    assert ("lowest validation loss: epoch" in written(figure)) == (place is not None)


def test_without_a_validation_loss_there_is_no_line() -> None:
    assert upright(memorization_map(HISTORY, {"train_loss": LOSS["train_loss"]}).axes[0]) == []
    assert upright(memorization_map(HISTORY, LOSS).axes[0]) == [1.0]


def test_the_colors_are_explained() -> None:
    for figure in (memorization_map(HISTORY, LOSS), memorization_figure(memorization_report())):
        text = written(figure)
        assert "Red: knows more of its training images' labels than of new ones'" in text
        assert "Blue: speaks against training labels, which may be wrong" in text


def test_a_history_without_memorization_is_refused() -> None:
    with pytest.raises(ValueError, match="measured in no epoch"):
        memorization_map([{"epoch": 0, "count": 1, "by_layer": {}}], {})


def test_bars_have_the_length_of_values_and_lines_of_three_errors() -> None:
    figure = memorization_figure(memorization_report())
    (axes,) = figure.axes
    lengths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    assert lengths == [-0.2, 0.8, 0.1, 6.0]
    reach = [tuple(path.vertices[:, 0]) for path in axes.collections[0].get_paths()]  # type: ignore[index,union-attr]
    assert reach[0] == pytest.approx((-0.35, -0.05))
    assert reach[3] == pytest.approx((5.7, 6.3))
    colors = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert len({colors[0], colors[1], colors[2]}) == 3  # blue, red, gray
    assert colors[1] == colors[3]
    # The output would leave the layers no length.
    assert axes.get_xlim()[1] == pytest.approx(1.05 * 3 * 0.95)
    assert "+6.00 ± 0.10" in written(figure)
    assert "goes on beyond" in written(figure)


def test_a_report_plots_itself() -> None:
    """One of a real network, whose layers are all within chance."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    samples, labels = torch.rand(120, 1, 8, 8, generator=generator), torch.arange(120) % 2
    report = measure_memorization(model, (samples[:60], labels[:60]), (samples[60:], labels[60:]))
    figure = report.plot()
    assert [text.get_text() for text in figure.axes[0].texts[::2]] == [
        "1",
        "4",
        "all hidden layers together",
        "output (generalization gap)",
    ]
    assert render(figure).shape[1] == 860


def test_memorized_samples_worst_first_with_what_is_said_of_them() -> None:
    figure = memorized_samples_figure(memorization_report(), thumbnails(), 32)
    tiles = shown_tiles(figure)
    assert [int(image[0, 0, 0]) for image in tiles.images] == [
        round(255 * sample / 6) for sample in MEMORIZED
    ]
    assert tiles.captions == [
        "label dog\nrather ship\n#1  75%",
        "label cat\nrather dog\n#0  90%",
        "label ship\nrather cat\n#2  50%",
    ]
    assert "3 of 3, worst first; 2 ± 0 more than among as many new images" in written(figure)
    few = memorized_samples_figure(memorization_report(), thumbnails(), 2)
    assert len(shown_tiles(few).images) == 2


def test_what_is_no_more_than_chance_is_called_so() -> None:
    by_chance = memorization_report(memorized_samples=0.5, memorized_error=1.0)
    text = written(memorized_samples_figure(by_chance, thumbnails(), 32))
    assert "none beyond chance" in text
    assert "no more than among as many new images" in text
    none = memorization_report(predictions=torch.full((6,), -1))
    assert "learned by heart: none" in written(memorized_samples_figure(none, thumbnails(), 32))


def large() -> tuple[list[dict[str, Any]], MemorizationReport, Thumbnails]:
    layers = [f"encoder.block{at}.convolution.of.a.long.name" for at in range(60)] + [OUTPUT]
    history = [
        {
            "epoch": epoch,
            "memorization": {name: 0.01 * at * epoch for at, name in enumerate(layers)},
            "memorization_errors": dict.fromkeys(layers, 0.05),
        }
        for epoch in range(100)
    ]
    small = memorization_report()
    hidden = dict.fromkeys(layers[:-1], small.layers["dense"])
    rest = {name: small.layers[name] for name in list(small.layers)[2:]}
    samples = {"labels": 0, "predictions": 0, "witness_labels": 1}
    fields: dict[str, Any] = {name: torch.full((64,), at) for name, at in samples.items()}
    rows = {name: _of_samples(layer, 64) for name, layer in (hidden | rest).items()}
    noise = torch.rand(64, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    thumbnails = Thumbnails([(noise, fields["labels"])], class_names=["a long name of a class"] * 2)
    return history, memorization_report(layers=rows, **fields), thumbnails


def _of_samples(layer: Any, n_samples: int) -> Any:
    return type(layer)(**{**vars(layer), "evidence": torch.full((n_samples,), -1.0)})


def test_large_ones_fit_their_paper_and_are_drawn_in_time() -> None:
    history, report, samples = large()
    drawings = {
        "map": lambda: memorization_map(history, LOSS),
        "bars": lambda: memorization_figure(report),
        "samples": lambda: memorized_samples_figure(report, samples, 32),
    }
    for name, draw in drawings.items():
        seconds = []
        for _ in range(3):
            started = time.process_time()
            pixels = render(draw())
            seconds.append(time.process_time() - started)
        print(f"{name}: {min(seconds):.2f} s")
        assert min(seconds) < 0.6, name
        assert pixels.shape[0] < 1900
        assert (pixels[:, :4] == 255).all(), name
        assert (pixels[:, -4:] == 255).all(), name

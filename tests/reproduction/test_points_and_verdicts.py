import pytest
import torch
from torch import nn

from filterwatch import AnomalyCriteria, detect_anomaly_filters
from filterwatch.models import SimpleCNN
from reproduction import kept_probes
from reproduction.cell_images import Images
from reproduction.cells import Cell
from reproduction.kept_probes import Configuration, code_version, probe_images, probed
from reproduction.points_and_verdicts import cluster, kurtosis, probe_points, report_on, verdict_of
from reproduction.run_folder import UNTRAINED, RunFolder

CRITERIA = [AnomalyCriteria(), AnomalyCriteria(0.1), AnomalyCriteria.paper(2)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SimpleCNN(image_size=8)


@pytest.fixture(scope="module")
def probe():
    return torch.randn(120, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def datamodule(image_folder):
    made = Images("cifar10", image_folder).divided(Cell("lenet5", "cifar10"))
    made.setup("fit")
    return made


def reported(network, probe, max_clusters, **options):
    points = probe_points(network, probe, **options)
    return report_on(points, cluster(points, max_clusters=max_clusters)).report


@pytest.mark.parametrize("criteria", CRITERIA)
@pytest.mark.parametrize("options", [{}, {"max_clusters": 5}])
def test_verdicts_are_those_of_the_public_function(network, probe, criteria, options):
    report = detect_anomaly_filters(network, probe, criteria=criteria, **options)
    most = options.get("max_clusters", Configuration().max_clusters)
    verdict = verdict_of(reported(network, probe, most), criteria)
    assert verdict.count == report.count
    assert verdict.sources == report.filters
    assert verdict.outliers == report.outlier_samples()
    assert verdict.isolated == report.isolations


def test_against_the_median_one_huge_index_silences_nobody(network, probe):
    report = reported(network, probe, 6)
    criteria = AnomalyCriteria(0.1, small_cluster_ratio=None, activation_ratio=None)
    for layer in report.layers.values():
        layer.ch_index.clamp_(max=100.0)
        layer.ch_index[0] = 1e5
    assert verdict_of(report, criteria).count == len(report.layers)
    verdict = verdict_of(report, criteria, ch_reference="median")
    for name, layer in report.layers.items():
        defined = layer.ch_index[~torch.isnan(layer.ch_index)]
        assert int(verdict.flagged[name].sum()) == int((defined > defined.median()).sum())


def test_a_filter_that_hardly_fires_does_not_lift_the_mean_of_active_ones(network, probe):
    report = reported(network, probe, 6)
    criteria = AnomalyCriteria(0.1, small_cluster_ratio=None)
    for layer in report.layers.values():
        layer.ch_index[0] = 1e5
        layer.activation[0] = 1e-9
    assert verdict_of(report, criteria).count == 0
    verdict = verdict_of(report, criteria, ch_reference="active")
    for name, layer in report.layers.items():
        alive = ~torch.isnan(layer.ch_index)
        active = alive & (layer.activation >= 0.2 * layer.activation[alive].mean())
        expected = active & (layer.ch_index > layer.ch_index[active].mean())
        assert torch.equal(verdict.flagged[name], expected)


def test_layer_wise_components_are_those_of_the_public_function(network, probe):
    report = detect_anomaly_filters(network, probe, pca="layer", criteria=AnomalyCriteria(0.1))
    again = reported(network, probe, Configuration().max_clusters, pca="layer")
    assert verdict_of(again, AnomalyCriteria(0.1)).count == report.count


def test_statistics_of_a_map_by_hand():
    """Three samples through a filter that passes the only pixel on: 0, 1 and 5."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    nn.init.ones_(network[0].weight)
    values = [0.0, 1.0, 5.0]
    images = torch.tensor(values).view(3, 1, 1, 1).expand(3, 1, 2, 2).contiguous()
    layer = probe_points(network, images)["1"].statistics
    deviations = [value - 2 for value in values]
    fourth, second = (sum(d**power for d in deviations) / 3 for power in (4, 2))
    assert layer.kurtosis.item() == pytest.approx(fourth / second**2)
    assert layer.max_to_median.item() == pytest.approx(5)
    assert layer.sparsity.item() == pytest.approx(1 / 3)


def test_kurtosis_of_a_constant_is_undefined():
    assert kurtosis(torch.tensor([[2.0, 2.0], [-1.0, 1.0]])).tolist() == pytest.approx(
        [float("nan"), 1.0], nan_ok=True
    )


def test_a_second_look_comes_from_disk(trained_runs, datamodule):
    folder = RunFolder(trained_runs / "lenet5-cifar10-overfit-seed0")

    def refuse():
        raise AssertionError("images were asked for")

    configuration = Configuration(max_clusters=6)
    found = probed(folder, UNTRAINED, lambda: datamodule, configuration)
    again = probed(folder, UNTRAINED, refuse, configuration)
    said, said_again = (one.report.to_dict(include_samples=True) for one in (found, again))
    assert said == said_again
    for name, statistics in found.statistics.items():
        for kept, kept_again in zip(
            vars(statistics).values(), vars(again.statistics[name]).values(), strict=True
        ):
            torch.testing.assert_close(kept, kept_again, rtol=0, atol=0, equal_nan=True)
    # Other clusterings of the same points need no images either.
    probed(folder, UNTRAINED, refuse, Configuration(max_clusters=5))


def test_a_new_engine_forgets_what_the_old_one_found(monkeypatch):
    before = Configuration().clusters_key()
    monkeypatch.setattr(kept_probes, "code_version", lambda: "other")
    assert Configuration().clusters_key() != before


def test_the_fingerprint_of_code_ignores_its_text(tmp_path):
    versions = []
    for source in ('"""Old."""\nx = 1\n', '"""New."""\n# said\nx = 1\n', "x = 2\n"):
        (tmp_path / "detection").mkdir(exist_ok=True)
        (tmp_path / "detection" / "module.py").write_text(source)
        versions.append(code_version.__wrapped__(tmp_path))
    assert versions[0] == versions[1] != versions[2]


def test_draws_are_disjoint_and_held_out(datamodule):
    draws = [
        probe_images(datamodule, Configuration(probe_size=40, draw=draw))[0] for draw in (0, 1, 2)
    ]
    pixels = torch.cat(draws).flatten(1)
    assert len(pixels.unique(dim=0)) == 120
    train, _ = probe_images(datamodule, Configuration(probe_size=420, source="train"))
    assert not (pixels[:, None] == train.flatten(1)[None]).all(2).any()


def test_too_many_draws_are_refused(datamodule):
    with pytest.raises(ValueError, match="draw 3 of 40 samples needs 160 images and there are 120"):
        probe_images(datamodule, Configuration(probe_size=40, draw=3))

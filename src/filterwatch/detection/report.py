"""What `detect_anomaly_filters` found: the flagged filters, every layer, and the samples behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from filterwatch._reports import Report, data_frame, visuals, write_json
from filterwatch._words import first_few
from filterwatch.detection.criteria import (
    AnomalyCriteria,
    flag_anomalies,
    mean_index,
    small_clusters,
)

_FORMAT = 1
# A layer's tensors in a file, and their types there.
_COLUMNS = {
    "ch_index": torch.float64,
    "n_clusters": torch.int64,
    "cluster_sizes": torch.int64,
    "activation": torch.float64,
    "is_anomaly": torch.bool,
    "votes": torch.float64,
    "points": torch.float64,
    "labels": torch.int64,
}
_OF_SAMPLES = ("points", "labels")


@dataclass(frozen=True)
class AnomalyFilter:
    """One flagged feature map.

    Attributes:
        layer: Name of the layer whose map was flagged.
        channel: Channel of that layer.
        source_layer: Module name of the convolution filter whose masking silences this map, or
            ``None`` where no single one exists (behind a residual addition).
        source_channel: That filter's index in its convolution.
        ch_index: Calinski-Harabasz index of the clustering.
        n_clusters: Number of non-empty clusters.
        cluster_sizes: Samples in each, largest first.
        activation: Mean absolute activation.
        outliers: Probe indices of the samples in small clusters, ascending.
    """

    layer: str
    channel: int
    source_layer: str | None
    source_channel: int | None
    ch_index: float
    n_clusters: int
    cluster_sizes: list[int]
    activation: float
    outliers: list[int]


@dataclass(frozen=True, eq=False)
class LayerReport:
    """Every filter of one layer; all tensors on the CPU.

    Attributes:
        kind: ``"convolution"``, ``"activation"`` or ``"max_pool"``.
        ch_index: Calinski-Harabasz index of the chosen clustering, [C]; NaN for a dead filter.
        n_clusters: Number of non-empty clusters of the chosen clustering, [C]; 0 for a dead filter.
        cluster_sizes: Samples in each cluster, largest first, padded with 0, [C, K].
        activation: Mean absolute activation, [C].
        is_anomaly: Which filters are flagged, [C].
        sources: For each channel the convolution filter behind it as (module name, index), or
            ``None``.
        points: The feature maps reduced to two dimensions, [C, N, 2]; ``None`` in a report that
            was read from a file without them.
        labels: Cluster of each sample, [C, N], 0 the largest cluster; -1 in a dead filter. Small
            integers (int8 for up to 127 clusters): to index with them, call ``.long()`` first.
            ``None`` in a report that was read from a file without them.
        votes: Share of the random parts of the probe on which a filter was flagged, [C]; ``None``
            where the clustering of the whole probe decided.
    """

    kind: str
    ch_index: Tensor
    n_clusters: Tensor
    cluster_sizes: Tensor
    activation: Tensor
    is_anomaly: Tensor
    sources: list[tuple[str, int] | None]
    points: Tensor | None = None
    labels: Tensor | None = None
    votes: Tensor | None = None

    def __repr__(self) -> str:
        n_filters = len(self.ch_index)
        return f"<LayerReport: {self.kind}, {self.count} of {n_filters} filters flagged>"

    @property
    def count(self) -> int:
        """Number of flagged filters."""
        return int(self.is_anomaly.sum())

    @property
    def mean_ch_index(self) -> float:
        """The mean Calinski-Harabasz index that criterion 2 compares with; see `mean_index`."""
        return float(mean_index(self.ch_index, self.cluster_sizes))

    @property
    def dead(self) -> list[int]:
        """Channels that could not be judged: constant over the probe, or without a clustering."""
        return torch.isnan(self.ch_index).nonzero().flatten().tolist()

    def described(self, name: str, channel: int, outliers: list[int]) -> AnomalyFilter:
        """Return what is known of one filter of this layer, flagged or not.

        Args:
            name: The layer's name.
            channel: The filter.
            outliers: Probe indices of its small clusters.
        """
        sizes = self.cluster_sizes[channel]
        source_layer, source_channel = self.sources[channel] or (None, None)
        return AnomalyFilter(
            layer=name,
            channel=channel,
            source_layer=source_layer,
            source_channel=source_channel,
            ch_index=float(self.ch_index[channel]),
            n_clusters=int(self.n_clusters[channel]),
            cluster_sizes=sizes[sizes > 0].tolist(),
            activation=float(self.activation[channel]),
            outliers=outliers,
        )


@dataclass(frozen=True, eq=False)
class AnomalyReport(Report):
    """What `detect_anomaly_filters` found: anomalous filters, and the samples behind them.

    ``print(report)`` shows it as a table. Two reports are equal only if they are the same object;
    ``report.to_dict() == other.to_dict()`` compares what they say.

    Attributes:
        anomalies: The flagged maps, in forward order.
        layers: Layer name to its `LayerReport`, in forward order.
        skipped: Layer name to the reason why it was not judged.
        n_samples: Number of samples in the probe.
        criteria: The thresholds that were applied.
        small_cluster_limit: Lambda as a number of samples: the largest size of a small cluster.
        settings: The other arguments of the probe, as plain values.
        isolations: Probe index to the number of filters, flagged or not, that isolate the sample
            in a small cluster.
    """

    anomalies: list[AnomalyFilter]
    layers: dict[str, LayerReport]
    skipped: dict[str, str]
    n_samples: int
    criteria: AnomalyCriteria
    small_cluster_limit: int
    settings: dict[str, Any] = field(default_factory=dict)
    isolations: dict[int, int] = field(default_factory=dict)

    def flags(self, criteria: AnomalyCriteria) -> dict[str, Tensor]:
        """Return which filters other criteria flag, by layer, each [C].

        The clusterings of the whole probe are judged, also where parts of it have voted.
        """
        limit = criteria.small_cluster_limit(self.n_samples)
        return {
            name: flag_anomalies(
                layer.cluster_sizes,
                layer.ch_index,
                layer.activation,
                limit=limit,
                criteria=criteria,
            )
            for name, layer in self.layers.items()
        }

    @property
    def count(self) -> int:
        """Number of flagged (layer, channel) maps, as the paper counts."""
        return len(self.anomalies)

    @property
    def filters(self) -> list[tuple[str, int]]:
        """The distinct convolution filters behind the flagged maps, as (module name, index)."""
        pairs = {
            (anomaly.source_layer, anomaly.source_channel): None
            for anomaly in self.anomalies
            if anomaly.source_layer is not None and anomaly.source_channel is not None
        }
        return [(layer, channel) for layer, channel in pairs if layer is not None]

    @property
    def count_by_layer(self) -> dict[str, int]:
        """Layer name to its number of flagged maps, in forward order, zeros included."""
        return {name: layer.count for name, layer in self.layers.items()}

    def outlier_samples(self, *, all_filters: bool = False) -> dict[int, int]:
        """Return how many filters isolate each sample in a small cluster, most isolated first.

        Probe index to number of filters (maps); samples that none isolates are absent.

        Args:
            all_filters: Count the small clusters of every filter, as in the paper's experiment 2,
                rather than those of the flagged ones.
        """
        if all_filters:
            counts = Counter(self.isolations)
        else:
            counts = Counter(index for anomaly in self.anomalies for index in anomaly.outliers)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_dict(self, *, include_samples: bool = False) -> dict[str, Any]:
        """Return the report as plain lists, numbers and strings, NaN as ``None``.

        With ``include_samples`` also points and labels of every filter, which are most of the data.
        """
        return {
            "format": _FORMAT,
            "count": self.count,
            "n_samples": self.n_samples,
            "criteria": asdict(self.criteria),
            "small_cluster_limit": self.small_cluster_limit,
            "settings": self.settings,
            "anomalies": [asdict(anomaly) for anomaly in self.anomalies],
            "layers": {
                name: _layer_to_dict(layer, include_samples) for name, layer in self.layers.items()
            },
            "skipped": self.skipped,
            "isolations": {str(index): count for index, count in self.isolations.items()},
        }

    def to_json(self, path: str | Path, *, include_samples: bool = False) -> None:
        """Write the report to a JSON file; see `to_dict`."""
        write_json(path, self.to_dict(include_samples=include_samples))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AnomalyReport:
        """Return the report that `to_dict` described; ``ValueError`` if it is no such report."""
        if data.get("format") != _FORMAT:
            raise ValueError(
                f"not a report of format {_FORMAT}: found format {data.get('format')!r}; "
                "write it again with this version of filterwatch"
            )
        return cls(
            anomalies=[AnomalyFilter(**anomaly) for anomaly in data["anomalies"]],
            layers={name: _layer_from_dict(layer) for name, layer in data["layers"].items()},
            skipped=dict(data["skipped"]),
            n_samples=data["n_samples"],
            criteria=AnomalyCriteria(**data["criteria"]),
            small_cluster_limit=data["small_cluster_limit"],
            settings=data["settings"],
            isolations={int(index): count for index, count in data["isolations"].items()},
        )

    def to_pandas(self) -> Any:
        """Return the filters of all layers, dead ones too, as a ``pandas.DataFrame``, a row each.

        Column ``isolated``: samples in small clusters of the filter, flagged or not.
        ``ImportError`` if pandas is not installed.
        """
        columns: dict[str, list[Any]] = {}
        for name, layer in self.layers.items():
            n_filters, sizes = len(layer.ch_index), layer.cluster_sizes
            small = small_clusters(sizes, self.small_cluster_limit)
            of_layer: dict[str, list[Any]] = {
                "layer": [name] * n_filters,
                "kind": [layer.kind] * n_filters,
                "channel": list(range(n_filters)),
                "source_layer": [source and source[0] for source in layer.sources],
                "source_channel": [source and source[1] for source in layer.sources],
                "is_anomaly": layer.is_anomaly.tolist(),
                "ch_index": layer.ch_index.tolist(),
                "n_clusters": layer.n_clusters.tolist(),
                "isolated": sizes.where(small, 0).sum(1).tolist(),
                "activation": layer.activation.tolist(),
                **({} if layer.votes is None else {"votes": layer.votes.tolist()}),
            }
            for column, values in of_layer.items():
                columns.setdefault(column, []).extend(values)
        return data_frame(columns, "to_json")

    def plot(self) -> Any:
        """Return a matplotlib figure: flagged filters by layer, and the clusters of three."""
        return visuals().report_figure(self)

    def to_html(
        self,
        path: str | Path,
        images: Any,
        *,
        labels: Tensor | None = None,
        class_names: Sequence[str] = (),
        memorization: Any = None,
        training: Any = None,
    ) -> None:
        """Write the report as a page with the probe's images, one file that needs no network.

        Args:
            path: The file to write.
            images: The probe, as `detect_anomaly_filters` takes it.
            labels: Class of each image, int64 [N]. Default: those in the probe, if any.
            class_names: Names of the classes.
            memorization: A `MemorizationReport` of the same model, to go to the top of the page.
            training: Its training samples, as `measure_memorization` takes them.

        Raises:
            ValueError: If the report was read from a file without points, or there are not as many
                images as samples in the reports.
        """
        visuals().write_report_page(
            path,
            self,
            images,
            labels=labels,
            class_names=class_names,
            memorization=memorization,
            training=training,
        )

    def __rich__(self) -> Table:
        table = Table(
            title=f"{self.count} anomaly filters ({len(self.filters)} distinct convolution "
            f"filters) on a probe of {self.n_samples} samples",
            caption=escape("\n".join(self._notes())) or None,
            caption_justify="left",
        )
        table.add_column("layer", overflow="fold")
        for heading in ("filters", "dead", "anomalies"):
            table.add_column(heading, justify="right", overflow="fold")
        table.add_column("channels: outlier samples", overflow="fold")
        silent = [layer for layer in self.layers.values() if not layer.count]
        for name, layer in self.layers.items():
            if layer.count:
                flagged = [anomaly for anomaly in self.anomalies if anomaly.layer == name]
                shown = [f"{anomaly.channel}: {len(anomaly.outliers)}" for anomaly in flagged]
                numbers = (len(layer.ch_index), len(layer.dead), layer.count)
                table.add_row(escape(name), *map(str, numbers), first_few(shown, 8))
        if silent:
            filters = sum(len(layer.ch_index) for layer in silent)
            dead = sum(len(layer.dead) for layer in silent)
            other = "other " if len(silent) < len(self.layers) else ""
            name = f"{len(silent)} {other}layer{'s' if len(silent) > 1 else ''}: none"
            table.add_row(name, str(filters), str(dead), "0", "")
        return table

    def _notes(self) -> Iterator[str]:
        samples = list(self.outlier_samples().items())
        if samples:
            shown = ", ".join(f"{index} ({count})" for index, count in samples[:8])
            yield f"{len(samples)} outlier samples; most isolated, with number of filters: {shown}"
        for name, reason in self.skipped.items():
            yield f"skipped {name}: {reason}"

    def __repr__(self) -> str:
        return (
            f"<AnomalyReport: {self.count} anomaly filters ({len(self.filters)} distinct "
            f"convolution filters) in {len(self.layers)} layers, {self.n_samples} samples>"
        )


def _layer_to_dict(layer: LayerReport, include_samples: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": layer.kind, "sources": layer.sources, "votes": None}
    for name in _COLUMNS:
        values = getattr(layer, name)
        if values is not None and (include_samples or name not in _OF_SAMPLES):
            data[name] = values.tolist()
    data["ch_index"] = [None if value != value else value for value in data["ch_index"]]
    return data


def _layer_from_dict(data: dict[str, Any]) -> LayerReport:
    ch_index = [float("nan") if value is None else value for value in data["ch_index"]]
    columns: dict[str, Any] = {
        name: torch.tensor(values, dtype=_COLUMNS[name])
        for name, values in {**data, "ch_index": ch_index}.items()
        if name in _COLUMNS and values is not None
    }
    if "labels" in columns:
        columns["labels"] = small_integers(columns["labels"])
    sources = [None if source is None else (source[0], source[1]) for source in data["sources"]]
    return LayerReport(kind=data["kind"], sources=sources, **columns)


def small_integers(labels: Tensor) -> Tensor:
    """Return a copy of labels in a byte each, where they fit."""
    fits = not labels.numel() or int(labels.max()) <= torch.iinfo(torch.int8).max
    return labels.to(torch.int8 if fits else torch.int16, copy=True)

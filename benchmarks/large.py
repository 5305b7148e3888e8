"""Large networks: time and memory beyond the forward passes, growth, and a GPU."""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
import torchvision

from benchmarks.rows import Row, at_most, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import cluster_points, detect_anomaly_filters
from filterwatch.models import AlexNet

_GIBIBYTE = 2**30
_N_IMAGES, _BATCH = 1000, 64
_ON_A_GPU = "CUDA: AlexNet at {0} x {0}, N = {1:,}, every layer"


def rows(setting: Setting) -> list[Row]:
    """Return the rows of VGG16-BN, and of growth."""
    torch.manual_seed(0)
    network = torchvision.models.vgg16_bn(weights=None).eval()
    images = torch.randn(_N_IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.no_grad():
            for batch in images.split(_BATCH):
                network(batch)

    def detect() -> None:
        detect_anomaly_filters(network, images, batch_size=_BATCH)

    with threads(1):  # once each: they take minutes, and what a first call costs is lost in them
        _compile()
        bare = seconds(forward, repeats=1, warm_up=False)
        whole = seconds(detect, repeats=1, warm_up=False)
    above = _peak_in_a_process_of_its_own("detection") - _peak_in_a_process_of_its_own("forward")
    what = f"VGG16-BN at 224 x 224, {_N_IMAGES:,} images in batches of {_BATCH}"
    return [
        informs(f"{what}: bare forward", bare, f"{bare:.1f} s"),
        at_most(f"{what}: detection over the bare forward", whole / bare, 1.2, "{:.3f}"),
        at_most(
            f"{what}: peak memory above the bare forward", above / _GIBIBYTE, 1.0, "{:.2f} GiB"
        ),
        *_growth(),
    ]


def _compile() -> None:
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    detect_anomaly_filters(small, torch.randn(20, 3, 16, 16))


def _growth() -> list[Row]:
    generator = torch.Generator().manual_seed(0)

    def cost(n_filters: int, n_samples: int) -> float:
        points = torch.randn(n_filters, n_samples, 2, generator=generator) ** 3
        with threads(1):
            return seconds(lambda: cluster_points(points), repeats=3)

    filters = [cost(n, 1000) for n in (50, 100, 200)]
    samples = [cost(50, n) for n in (1000, 2000, 4000)]
    return [
        informs(
            "time for 50, 100, 200 filters",
            filters[2] / filters[0],
            ", ".join(f"{t:.3f} s" for t in filters) + f": {filters[2] / filters[0]:.2f} x for 4 x",
        ),
        informs(
            "time for 1,000, 2,000, 4,000 samples",
            samples[2] / samples[0],
            ", ".join(f"{t:.3f} s" for t in samples) + f": {samples[2] / samples[0]:.2f} x for 4 x",
        ),
    ]


def _peak_in_a_process_of_its_own(mode: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large", mode], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def _measure_peak(mode: str) -> float:
    """Return the most memory that this process ever held, in bytes, after one pass."""
    torch.set_num_threads(1)
    network = torchvision.models.vgg16_bn(weights=None).eval()
    images = torch.randn(_BATCH if mode == "forward" else _N_IMAGES, 3, 224, 224)
    _compile()
    if mode == "forward":
        with torch.no_grad():
            network(images)
    else:
        detect_anomaly_filters(network, images, batch_size=_BATCH)
    images_beyond = (len(images) - _BATCH) * images[0].numel() * 4
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - images_beyond


def cuda_rows(setting: Setting) -> list[Row]:
    """Return the rows of a CUDA GPU, or that there is none."""
    if not torch.cuda.is_available():
        return [Row(_ON_A_GPU.format(227, 1000), None, "not run: no CUDA GPU here", "<= 0.5 s")]
    name = f"{torch.cuda.get_device_name()}, {torch.get_num_threads()} threads"
    return device_rows(torch.device("cuda"), name, image_size=227, n_samples=1000)


def device_rows(device: torch.device, name: str, *, image_size: int, n_samples: int) -> list[Row]:
    """Return the rows of AlexNet on a device: the whole, and where it goes."""
    torch.manual_seed(0)
    network = AlexNet(num_classes=10, image_size=image_size).to(device).eval()
    images = torch.randn(n_samples, 3, image_size, image_size)

    def forward() -> None:
        with torch.no_grad():
            for batch in images.split(256):
                network(batch.to(device))
        _wait_for(device)

    spent = seconds(lambda: detect_anomaly_filters(network, images), clock="wall")
    report = detect_anomaly_filters(network, images)
    points = torch.cat([layer.points for layer in report.layers.values()])
    parts = {
        "the forward passes alone": forward,
        "its clustering on the host": lambda: cluster_points(points),
    }
    times = {part: seconds(work, repeats=1, clock="wall") for part, work in parts.items()}
    return [
        Row(
            _ON_A_GPU.format(image_size, n_samples),
            spent,
            f"{spent:.2f} s on {name}",
            "<= 0.5 s",
            spent <= 0.5,
        ),
        *(informs(f"CUDA: {part}", cost, f"{cost:.2f} s") for part, cost in times.items()),
    ]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(_measure_peak(sys.argv[1]))

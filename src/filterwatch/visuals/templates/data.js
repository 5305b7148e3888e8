// The page's data: typed arrays out of the embedded JSON.

const payload = JSON.parse(document.getElementById('payload').textContent);
const ARRAYS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };

function unpack(packed) {
  if (packed === null) return null;
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  return new ARRAYS[packed.dtype](bytes.buffer);
}

// A filter is known by its position among all filters of all layers.
function readRun(raw) {
  const chIndex = unpack(raw.ch_index);
  const run = {
    ...raw,
    count: chIndex.length,
    chIndex,
    activation: unpack(raw.activation),
    sizes: unpack(raw.cluster_sizes),
    sources: unpack(raw.sources),
    confidences: unpack(raw.confidences),
    layerOf: new Uint32Array(chIndex.length),
    channelOf: new Uint32Array(chIndex.length),
    clusters: new Uint32Array(chIndex.length),
    chartOf: new Map(raw.charts.filters.map((filter, position) => [filter, position])),
    points: unpack(raw.charts.points),
    labels: unpack(raw.charts.labels),
  };
  let filter = 0;
  run.layers.forEach((layer, position) => {
    layer.first = filter;
    for (let channel = 0; channel < layer.filters; channel += 1, filter += 1) {
      run.layerOf[filter] = position;
      run.channelOf[filter] = channel;
      run.clusters[filter] = sizesOf(run, filter).length;
    }
  });
  return run;
}

// Samples in each non-empty cluster, largest first.
function sizesOf(run, filter) {
  const start = filter * run.max_clusters;
  let stop = start;
  while (stop < start + run.max_clusters && run.sizes[stop] > 0) stop += 1;
  return run.sizes.subarray(start, stop);
}

const isDead = (run, filter) => Number.isNaN(run.chIndex[filter]);
const layerName = (run, filter) => run.layers[run.layerOf[filter]].name;

function sourceOf(run, filter) {
  const module = run.sources[2 * filter];
  return module < 0 ? null : { module: run.modules[module], channel: run.sources[2 * filter + 1] };
}

// x and y of each sample and its cluster, or null where the file has no points of this filter.
function chartData(run, filter) {
  const position = run.chartOf.get(filter);
  if (position === undefined) return null;
  const n = payload.n_samples;
  const [left, bottom, right, top] = run.charts.bounds[position];
  const x = new Float64Array(n);
  const y = new Float64Array(n);
  for (let sample = 0; sample < n; sample += 1) {
    const at = 2 * (position * n + sample);
    x[sample] = left + (run.points[at] / 65535) * (right - left);
    y[sample] = bottom + (run.points[at + 1] / 65535) * (top - bottom);
  }
  return { x, y, labels: run.labels.subarray(position * n, (position + 1) * n) };
}

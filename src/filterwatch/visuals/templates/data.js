// The page's data: typed arrays out of the embedded JSON.

const payload = JSON.parse(document.getElementById('payload').textContent);
const ARRAYS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const unpack = (packed) => packed && new ARRAYS[packed.dtype](bytesOf(packed.data).buffer);

// A filter is known by its position among all filters of all layers.
function readRun(raw) {
  const chIndex = unpack(raw.ch_index);
  const run = {
    ...raw,
    count: chIndex.length,
    chIndex,
    activation: unpack(raw.activation),
    nearlyDead: unpack(raw.nearly_dead),
    sizes: unpack(raw.cluster_sizes),
    sources: unpack(raw.sources),
    confidences: unpack(raw.confidences),
    places: raw.layers.flatMap(({ filters }, layer) => Array.from({ length: filters }, (_, channel) => ({ layer, channel }))),
    chartOf: new Map(raw.charts.filters.map((filter, position) => [filter, position])),
    points: unpack(raw.charts.points),
    labels: unpack(raw.charts.labels),
  };
  run.clusters = run.places.map((_, filter) => sizesOf(run, filter).length);
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
// Its points coincide within their clusters: the index is as large as rounding lets it be.
const isNearlyDead = (run, filter) => run.nearlyDead[filter] === 1;
const layerOf = (run, filter) => run.layers[run.places[filter].layer];
const relativeCh = (run, filter) => run.chIndex[filter] / layerOf(run, filter).mean_ch;
const relativeActivation = (run, filter) => run.activation[filter] / layerOf(run, filter).mean_activation;

// "module channel" of the convolution filter behind a map, or null where there is no single one.
function sourceOf(run, filter) {
  const [module, channel] = run.sources.subarray(2 * filter, 2 * filter + 2);
  return module < 0 ? null : `${run.modules[module]} ${channel}`;
}

// The cluster of each sample, or null where the file has no points of this filter.
function labelsOf(run, filter) {
  const n = payload.n_samples;
  const position = run.chartOf.get(filter);
  return position === undefined ? null : run.labels.subarray(position * n, (position + 1) * n);
}

// x and y of a sample in the plot of a filter that has one.
function pointOf(run, filter, sample) {
  const position = run.chartOf.get(filter);
  const [left, bottom, right, top] = run.charts.bounds[position];
  const at = 2 * (position * payload.n_samples + sample);
  return [left + (run.points[at] / 65535) * (right - left), bottom + (run.points[at + 1] / 65535) * (top - bottom)];
}

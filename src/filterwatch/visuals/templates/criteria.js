// The three criteria, exactly as the detection applies them.

function thresholdsOf(criteria) {
  return {
    limit: criteria.limit,
    smallClusterRatio: criteria.small_cluster_ratio,
    chRatio: criteria.ch_ratio,
    activationRatio: criteria.activation_ratio,
  };
}

function smallClusters(run, filter, limit) {
  const start = filter * run.max_clusters;
  let small = 0;
  for (let at = start; at < start + run.max_clusters && run.sizes[at] > 0; at += 1) {
    if (run.sizes[at] <= limit) small += 1;
  }
  return small;
}

// The detection multiplies a whole number of clusters by a ratio in single precision, and the
// other two comparisons are in double precision, as numbers are here.
function isUnbalanced(run, filter, thresholds) {
  const ratio = thresholds.smallClusterRatio;
  if (ratio === null) return true;
  const allowed = Math.fround(Math.fround(ratio) * run.clusters[filter]);
  return smallClusters(run, filter, thresholds.limit) > allowed;
}

function isSeparated(run, filter, thresholds) {
  const ratio = thresholds.chRatio;
  return ratio === null || run.chIndex[filter] > ratio * run.layers[run.layerOf[filter]].mean_ch;
}

function isActive(run, filter, thresholds) {
  const ratio = thresholds.activationRatio;
  return ratio === null || run.activation[filter] >= ratio * run.layers[run.layerOf[filter]].mean_activation;
}

const CRITERIA = [isUnbalanced, isSeparated, isActive];

function judge(run, thresholds) {
  const flagged = new Uint8Array(run.count);
  const met = new Uint8Array(run.count); // a bit for each criterion
  const alone = [0, 0, 0];
  let count = 0;
  for (let filter = 0; filter < run.count; filter += 1) {
    if (isDead(run, filter)) continue;
    CRITERIA.forEach((holds, at) => {
      if (holds(run, filter, thresholds)) {
        met[filter] |= 1 << at;
        alone[at] += 1;
      }
    });
    if (met[filter] === 7) {
      flagged[filter] = 1;
      count += 1;
    }
  }
  return { flagged, met, alone, count };
}

// Samples of a filter's small clusters, or null where the file has no labels of this filter.
function outliersOf(run, filter, limit) {
  const position = run.chartOf.get(filter);
  if (position === undefined) return null;
  const sizes = sizesOf(run, filter);
  const n = payload.n_samples;
  const found = [];
  for (let sample = 0; sample < n; sample += 1) {
    if (sizes[run.labels[position * n + sample]] <= limit) found.push(sample);
  }
  return found;
}

function isolatedCount(run, filter, limit) {
  return sizesOf(run, filter).reduce((sum, size) => (size <= limit ? sum + size : sum), 0);
}

function distinctSources(run, flagged) {
  const seen = new Set();
  flagged.forEach((yes, filter) => {
    if (yes && run.sources[2 * filter] >= 0) seen.add(`${run.sources[2 * filter]}/${run.sources[2 * filter + 1]}`);
  });
  return seen.size;
}

// Which flagged filters isolate each sample, as far as the file has their labels.
function isolations(run, flagged, limit) {
  const bySample = new Map();
  let unknown = 0;
  flagged.forEach((yes, filter) => {
    if (!yes) return;
    const outliers = outliersOf(run, filter, limit);
    if (outliers === null) {
      unknown += 1;
      return;
    }
    outliers.forEach((sample) => {
      if (!bySample.has(sample)) bySample.set(sample, []);
      bySample.get(sample).push(filter);
    });
  });
  const ordered = [...bySample].sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
  return { ordered, bySample, unknown };
}

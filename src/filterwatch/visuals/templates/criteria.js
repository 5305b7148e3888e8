// The three criteria, exactly as the detection applies them: all in double precision.

function thresholdsOf(criteria) {
  return {
    limit: criteria.limit,
    smallClusterRatio: criteria.small_cluster_ratio,
    chRatio: criteria.ch_ratio,
    activationRatio: criteria.activation_ratio,
  };
}

const smallClusters = (run, filter, limit) => sizesOf(run, filter).filter((size) => size <= limit).length;

const CRITERIA = [
  function isUnbalanced(run, filter, { limit, smallClusterRatio: ratio }) {
    return ratio === null || smallClusters(run, filter, limit) > ratio * run.clusters[filter];
  },
  function isSeparated(run, filter, { chRatio: ratio }) {
    return ratio === null || run.chIndex[filter] > ratio * layerOf(run, filter).mean_ch;
  },
  function isActive(run, filter, { activationRatio: ratio }) {
    return ratio === null || run.activation[filter] >= ratio * layerOf(run, filter).mean_activation;
  },
];

function judge(run, thresholds) {
  const flagged = new Uint8Array(run.count);
  const met = new Uint8Array(run.count); // a bit for each criterion
  const alone = [0, 0, 0];
  for (let filter = 0; filter < run.count; filter += 1) {
    if (isDead(run, filter)) continue;
    CRITERIA.forEach((holds, at) => {
      if (!holds(run, filter, thresholds)) return;
      met[filter] |= 1 << at;
      alone[at] += 1;
    });
    flagged[filter] = Number(met[filter] === 7);
  }
  return { flagged, met, alone, count: flagged.reduce((sum, yes) => sum + yes, 0) };
}

// Samples of a filter's small clusters, or null where the file has no labels of this filter.
function outliersOf(run, filter, limit) {
  const labels = labelsOf(run, filter);
  if (labels === null) return null;
  const sizes = sizesOf(run, filter);
  const found = [];
  labels.forEach((cluster, sample) => { if (sizes[cluster] <= limit) found.push(sample); });
  return found;
}

function isolatedCount(run, filter, limit) {
  return sizesOf(run, filter).reduce((sum, size) => (size <= limit ? sum + size : sum), 0);
}

// Which flagged filters isolate each sample, as far as the file has their labels.
function isolations(run, flagged, limit) {
  const bySample = new Map();
  let unknown = 0;
  flagged.forEach((yes, filter) => {
    if (!yes) return;
    const outliers = outliersOf(run, filter, limit);
    if (outliers === null) unknown += 1;
    else {
      outliers.forEach((sample) => {
        if (!bySample.has(sample)) bySample.set(sample, []);
        bySample.get(sample).push(filter);
      });
    }
  });
  const ordered = [...bySample].sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
  return { ordered, bySample, unknown };
}

// The three criteria, exactly as the detection applies them: all in double precision.

const smallClusters = (run, filter, limit) => sizesOf(run, filter).filter((size) => size <= limit).length;

// A threshold of null is not asked for.
const CRITERIA = [
  function isUnbalanced(run, filter, { limit, small_cluster_ratio: ratio }) {
    return ratio === null || smallClusters(run, filter, limit) > ratio * run.clusters[filter];
  },
  function isSeparated(run, filter, { ch_ratio: ratio }) {
    return ratio === null || run.chIndex[filter] > ratio * layerOf(run, filter).mean_ch;
  },
  function isActive(run, filter, { activation_ratio: ratio }) {
    return ratio === null || run.activation[filter] >= ratio * layerOf(run, filter).mean_activation;
  },
];

// How many criteria each filter meets, and whether it is flagged: 0 or 1.
function judge(run, thresholds) {
  const met = run.places.map((_, filter) => (isDead(run, filter) ? 0 : CRITERIA.filter((holds) => holds(run, filter, thresholds)).length));
  const flagged = Uint8Array.from(met, (number) => number === CRITERIA.length);
  return { met, flagged, count: flagged.reduce((sum, yes) => sum + yes, 0) };
}

// Samples of a filter's small clusters, or null where the file has no labels of this filter.
function outliersOf(run, filter, limit) {
  const sizes = sizesOf(run, filter);
  const labels = labelsOf(run, filter);
  return labels && [...labels.keys()].filter((sample) => sizes[labels[sample]] <= limit);
}

function isolatedCount(run, filter, limit) {
  return sizesOf(run, filter).reduce((sum, size) => (size <= limit ? sum + size : sum), 0);
}

// Which flagged filters isolate each sample, as far as the file has their labels.
function isolations(run, flagged, limit) {
  const bySample = new Map();
  let unknown = 0;
  flagged.forEach((yes, filter) => {
    const outliers = yes ? outliersOf(run, filter, limit) : [];
    if (outliers === null) unknown += 1;
    outliers?.forEach((sample) => {
      if (!bySample.has(sample)) bySample.set(sample, []);
      bySample.get(sample).push(filter);
    });
  });
  const ordered = [...bySample].sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
  return { ordered, bySample, unknown };
}

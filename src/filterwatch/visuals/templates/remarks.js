// What the page says where bare numbers would mislead: nothing is flagged, or everything isolated.

// What a filter reaches of each criterion's threshold, and in words what it misses.
const REACHED = [
  (run, filter, { limit, small_cluster_ratio: ratio }) => {
    const small = smallClusters(run, filter, limit);
    return [small / run.clusters[filter] / (ratio || 1), `${small} of its ${run.clusters[filter]} clusters are small, not more than ${percent(ratio)}`];
  },
  (run, filter, { ch_ratio: ratio }) => [relativeCh(run, filter) / (ratio || 1), `its CH index is ${short(relativeCh(run, filter))} times its layer’s mean, not more than ${ratio}`],
  (run, filter, { activation_ratio: ratio }) => [relativeActivation(run, filter) / (ratio || 1), `its activation is ${short(relativeActivation(run, filter))} times its layer’s mean, not ${ratio} or more`],
];

// The filter that comes nearest to the criteria, or null where all are dead or nearly dead. A
// criterion counts 1 where it is met, else by what share of its threshold is reached.
function nearestFilter(run, thresholds) {
  let best = null;
  run.places.forEach((_, filter) => {
    if (isDead(run, filter) || isNearlyDead(run, filter)) return;
    const unmet = CRITERIA.flatMap((holds, at) => (holds(run, filter, thresholds) ? [] : [REACHED[at](run, filter, thresholds)]));
    const score = CRITERIA.length - unmet.length + unmet.reduce((sum, [share]) => sum + Math.min(share, 1 - 1e-9), 0);
    if (best === null || score > best.score) best = { filter, score, missing: unmet.map(([, text]) => text) };
  });
  return best;
}

// What there is to say of one model's verdicts at these thresholds; `whose` names it among two.
function remarks(run, verdict, nIsolated, thresholds, whose = '') {
  const made = (...content) => element('p', { class: 'remark' }, whose && element('b', {}, `${whose}: `), ...content);
  const n = payload.n_samples;
  if (verdict.count === 0) {
    const nearest = nearestFilter(run, thresholds);
    if (nearest === null) return [made(element('b', {}, 'Nothing flagged. '), 'All filters are dead, or nearly: there is nothing to judge.')];
    const name = nameOf(run, nearest.filter);
    return [made(element('b', {}, 'Nothing flagged. '), 'Nearest: ', linkButton(() => show(nearest.filter), name), ` – ${nearest.missing.join('; ')}.`)];
  }
  if (2 * nIsolated <= n) return [];
  const clusters = run.clusters.filter((_, filter) => verdict.flagged[filter]).sort((one, other) => one - other);
  const usual = clusters[Math.floor(clusters.length / 2)];
  const says = element('b', {}, `${whole.format(nIsolated)} of ${whole.format(n)} images isolated says little. `);
  if (4 * thresholds.limit * usual < n) return [made(says, 'So many filters isolate a few each that hardly an image is left: look at those that most of them isolate.')];
  const percentile = Math.max(1, Math.floor(n / 100));
  const lower = percentile < thresholds.limit ? `Lower λ (1% of these images is ${percentile}; --small-cluster-size 0.01)` : 'Allow fewer clusters (--max-clusters)';
  return [made(says, `λ is too large for K = ${usual}: clusters have ${whole.format(Math.round(n / usual))} images on average, and up to ${whole.format(thresholds.limit)} count as small, so that ordinary clusters do. ${lower}, or use more images.`)];
}

// The page of one model.

const startCount = judge(first, payload.criteria).count;
const isNotable = (filter) => state.verdicts[0].flagged[filter];

function verdictCell(filter) {
  if (isDead(first, filter)) return badge('dead');
  return isNotable(filter) ? badge('anomaly', 'anomaly') : badge(`${state.verdicts[0].met[filter]} of 3`);
}

function rankOf(filter) {
  const relative = relativeCh(first, filter);
  return state.verdicts[0].met[filter] + relative / (1 + relative);
}

// The largest clusters and all small ones; the rest is in the tooltip.
function sizesCell(filter) {
  const sizes = [...sizesOf(first, filter)];
  const [large, small] = [sizes.filter((size) => size > limit()), sizes.filter((size) => size <= limit())];
  const shown = large.slice(0, 3).join(' ') + (large.length > 3 ? ' … ' : ' ');
  return element('span', { title: sizes.join(' ') }, shown, element('b', {}, small.join(' ')));
}

const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Verdict', hint: 'Criteria that hold; all three make an anomaly filter', value: rankOf, cell: verdictCell },
  nameColumn,
  numberColumn('K', 'Number of clusters', (filter) => first.clusters[filter]),
  numberColumn('Small', 'Small clusters', (filter) => smallClusters(first, filter, limit())),
  numberColumn('Isolated', 'Images in small clusters', (filter) => isolatedCount(first, filter, limit())),
  numberColumn('CH', 'Calinski-Harabasz index', (filter) => first.chIndex[filter], short),
  numberColumn('CH / mean', 'Calinski-Harabasz index over the mean of the layer', (filter) => relativeCh(first, filter), short),
  numberColumn('Act. / mean', 'Mean absolute activation over the mean of the layer', (filter) => relativeActivation(first, filter), short),
  { title: 'Cluster sizes', hint: 'Images in each cluster, small clusters bold; sorted by the largest cluster', value: (filter) => first.sizes[filter * first.max_clusters], cell: sizesCell, kind: 'sizes' },
], { onChoose: chooseFilter });

function showChanges() {
  const [verdict] = state.verdicts;
  state.isolated = isolations(first, verdict.flagged, limit());
  const { ordered, unknown } = state.isolated;
  const dead = everyFilter.filter((filter) => isDead(first, filter));
  const flagged = everyFilter.filter(isNotable);
  const sources = new Set(flagged.map((filter) => sourceOf(first, filter)).filter((source) => source !== null));
  fill(
    byId('tiles'),
    tile(whole.format(verdict.count), `anomaly filters among ${whole.format(first.count)} feature maps`, 'anomaly'),
    tile(whole.format(sources.size), 'distinct convolution filters behind them'),
    tile((unknown ? 'at least ' : '') + whole.format(ordered.length), `of ${whole.format(payload.n_samples)} images isolated by them`),
    first.accuracy === null ? tile('–', 'accuracy: no labels to compare with') : tile(percent(first.accuracy), 'accuracy on the probe'),
    tile(whole.format(dead.length), 'dead filters, which are not judged'),
  );
  showVerdict([verdict.count], verdict.count === startCount ? '' : `; ${whole.format(startCount)} at the run’s thresholds`);
  byId('images-hint').textContent = `${count(ordered.length, 'image is', 'images are')} isolated by at least one anomaly filter, most isolated first. They are unusual to these filters: odd crops, rare views.${unknownNote(unknown)}`;
  fill(byId('gallery'), gallery(ordered, ([sample, filters]) => imageCard(sample, linkButton(() => narrow({ sample, layer: null }), count(filters.length, 'anomaly filter'))), CARDS));
  const perLayer = (filters) => first.layers.map((_, at) => filters.filter((filter) => first.places[filter].layer === at).length);
  const [deadIn, flaggedIn] = [perLayer(dead), perLayer(flagged)];
  drawLayers([
    { title: 'Kind', cell: (at) => first.layers[at].kind.replace('_', '-') },
    numberColumn('Filters', null, (at) => first.layers[at].filters, whole.format),
    numberColumn('Dead', null, (at) => deadIn[at], whole.format),
    { title: 'Anomaly filters', cell: (at) => barred(flaggedIn[at], Math.max(...flaggedIn)) },
    numberColumn('Mean CH', null, (at) => first.layers[at].mean_ch ?? NaN, short),
    numberColumn('Mean activation', null, (at) => first.layers[at].mean_activation ?? NaN, short),
  ]);
}

start();

// The page of one model.

const startCount = judge(first, sliders.start).count;
const flaggedOnly = addSwitch('flagged-only', 'anomaly filters only');
const withChart = addSwitch('with-chart', 'with scatter plot only');
const criteriaMet = (filter) => [1, 2, 4].filter((bit) => state.verdicts[0].met[filter] & bit).length;
let shownCards = CARDS;

function verdictCell(filter) {
  if (isDead(first, filter)) return element('span', { class: 'badge' }, 'dead');
  if (state.verdicts[0].flagged[filter]) return element('span', { class: 'badge anomaly' }, 'anomaly');
  return element('span', { class: 'badge' }, `${criteriaMet(filter)} of 3`);
}

function rankOf(filter) {
  const relative = relativeCh(first, filter);
  return isDead(first, filter) ? NaN : criteriaMet(filter) + relative / (1 + relative);
}

// The largest clusters and all small ones; the rest is in the tooltip.
function sizesCell(filter) {
  const sizes = Array.from(sizesOf(first, filter));
  if (!sizes.length) return 'dead';
  const large = sizes.filter((size) => size > limit());
  const small = sizes.filter((size) => size <= limit());
  const shown = large.slice(0, 3).join(' ') + (large.length > 3 ? ' …' : '');
  return element('span', { title: sizes.join(' ') }, shown, small.length ? ' ' : '', element('b', {}, small.join(' ')));
}

const numberColumn = (title, hint, value, text = String) => ({ title, hint, value, cell: (filter) => text(value(filter)), number: true });
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

function isWanted(filter) {
  return (!flaggedOnly.checked || state.verdicts[0].flagged[filter])
    && (!withChart.checked || first.chartOf.has(filter))
    && (state.sample === null || (state.isolated.bySample.get(state.sample) ?? []).includes(filter));
}

function showImages() {
  const { ordered, unknown } = state.isolated;
  const missing = unknown ? ` ${count(unknown, 'filter that is', 'filters that are')} flagged at these thresholds ${unknown === 1 ? 'is' : 'are'} not counted here: the file does not hold ${unknown === 1 ? 'its' : 'their'} points.` : '';
  byId('images-hint').textContent = `${count(ordered.length, 'image is', 'images are')} isolated by at least one anomaly filter, most isolated first. Look for wrong labels, odd crops and rare views.${missing}`;
  const card = ([sample, filters]) => imageCard(sample, {}, linkButton(() => jumpTo({ sample, layer: null }), count(filters.length, 'anomaly filter', 'anomaly filters')));
  fill(byId('gallery'), ...ordered.slice(0, shownCards).map(card));
  byId('more-images').hidden = ordered.length <= shownCards;
}
byId('more-images').addEventListener('click', () => {
  shownCards += 4 * CARDS;
  showImages();
});

function showChanges() {
  const [verdict] = state.verdicts;
  state.isolated = isolations(first, verdict.flagged, limit());
  const { ordered, unknown } = state.isolated;
  const dead = everyFilter.filter((filter) => isDead(first, filter));
  const flagged = everyFilter.filter((filter) => verdict.flagged[filter]);
  const sources = new Set(flagged.map((filter) => sourceOf(first, filter)).filter((source) => source !== null));
  fill(
    byId('tiles'),
    tile(whole.format(verdict.count), `anomaly filters among ${whole.format(first.count)} feature maps`, 'anomaly'),
    tile(whole.format(sources.size), 'distinct convolution filters behind them'),
    tile((unknown ? 'at least ' : '') + whole.format(ordered.length), `of ${whole.format(payload.n_samples)} images isolated by them`),
    tile(first.accuracy === null ? '–' : percent(first.accuracy), first.accuracy === null ? 'accuracy: no labels to compare with' : 'accuracy on the probe'),
    tile(whole.format(dead.length), 'dead filters, which are not judged'),
  );
  const changed = verdict.count === startCount ? '' : `; ${whole.format(startCount)} at the run’s thresholds`;
  fill(
    document.querySelector('.verdict'),
    element('b', { id: 'count', 'data-count': verdict.count }, whole.format(verdict.count)),
    ` anomaly filters at these thresholds${changed}`,
  );
  showImages();
  const perLayer = (filters) => first.layers.map((_, at) => filters.filter((filter) => first.places[filter].layer === at).length);
  const [deadIn, flaggedIn] = [perLayer(dead), perLayer(flagged)];
  drawLayers([
    { title: 'Kind', cell: (at) => first.layers[at].kind.replace('_', '-') },
    { title: 'Filters', cell: (at) => whole.format(first.layers[at].filters), number: true },
    { title: 'Dead', cell: (at) => whole.format(deadIn[at]), number: true },
    { title: 'Anomaly filters', cell: (at) => barred(flaggedIn[at], Math.max(...flaggedIn)) },
    { title: 'Mean CH', cell: (at) => short(first.layers[at].mean_ch ?? NaN), number: true },
    { title: 'Mean activation', cell: (at) => short(first.layers[at].mean_activation ?? NaN), number: true },
  ]);
}

start();

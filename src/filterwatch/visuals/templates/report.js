// The page of one model.

const startCount = judge(first, payload.criteria).count;
const isNotable = (filter) => state.verdicts[0].flagged[filter];

function verdictCell(filter) {
  if (isDead(first, filter)) return badge('dead');
  const verdict = isNotable(filter) ? badge('anomaly', 'anomaly') : badge(`${state.verdicts[0].met[filter]} of 3`);
  return isNearlyDead(first, filter) ? element('span', {}, verdict, ' ', badge('nearly dead')) : verdict;
}

// Nearly dead filters have no place among the others, and come last.
const chOf = (filter) => (isNearlyDead(first, filter) ? NaN : first.chIndex[filter]);
const relativeChOf = (filter) => chOf(filter) / layerOf(first, filter).mean_ch;

function rankOf(filter) {
  const relative = relativeChOf(filter);
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
  minor(numberColumn('Small', 'Number of small clusters: those of at most λ images', (filter) => smallClusters(first, filter, limit()))),
  numberColumn('Isolated', 'Images in small clusters', (filter) => isolatedCount(first, filter, limit())),
  minor(numberColumn('CH', 'Calinski-Harabasz index: how far apart the clusters are, for their width', chOf, short)),
  minor(numberColumn('CH / mean', 'Calinski-Harabasz index over the mean of the layer', relativeChOf, short)),
  minor(numberColumn('Act. / mean', 'Mean absolute activation over the mean of the layer', (filter) => relativeActivation(first, filter), short)),
  { title: 'Cluster sizes', hint: 'Images in each cluster, small clusters bold; sorted by the largest cluster', value: (filter) => first.sizes[filter * first.max_clusters], cell: sizesCell, kind: 'sizes minor' },
], { onChoose: chooseFilter });

const SHOWN_FILTERS = 2; // of those that isolate an image

// An image and the filters that isolate it, the strongest first.
function isolatedCard([sample, filters]) {
  const strongest = [...filters].sort((one, other) => (rankOf(other) || 0) - (rankOf(one) || 0)).slice(0, SHOWN_FILTERS);
  return imageCard(sample, element(
    'div',
    { class: 'by' },
    linkButton(() => narrow({ sample, layer: null }), count(filters.length, 'anomaly filter')),
    ...strongest.map((filter) => linkButton(() => show(filter, sample), nameOf(first, filter))),
  ));
}

function showChanges() {
  const [verdict] = state.verdicts;
  state.isolated = isolations(first, verdict.flagged, limit());
  const { ordered, unknown } = state.isolated;
  const dead = everyFilter.filter((filter) => isDead(first, filter));
  const flagged = everyFilter.filter(isNotable);
  const sources = new Set(flagged.map((filter) => sourceOf(first, filter)).filter((source) => source !== null));
  const nearly = everyFilter.filter((filter) => isNearlyDead(first, filter));
  fill(
    byId('tiles'),
    tile((unknown ? 'at least ' : '') + whole.format(ordered.length), `of ${whole.format(payload.n_samples)} images isolated`, ordered.length ? 'anomaly' : ''),
    tile(whole.format(verdict.count), `${verdict.count === 1 ? 'anomaly filter' : 'anomaly filters'} of ${whole.format(first.count)}${verdict.count ? `, on ${count(sources.size, 'convolution filter')}` : ''}`),
    first.accuracy === null ? tile('–', 'accuracy: no labels to compare with') : tile(percent(first.accuracy), 'accuracy on these images'),
    tile(whole.format(dead.length), `dead ${dead.length === 1 ? 'filter' : 'filters'}, not judged${nearly.length ? `; ${whole.format(nearly.length)} nearly dead` : ''}`),
  );
  fill(byId('remarks'), ...remarks(first, verdict, ordered.length, sliders.thresholds));
  showVerdict([verdict.count], verdict.count === startCount ? '' : `; ${whole.format(startCount)} at the run’s thresholds`);
  byId('images-hint').textContent = ordered.length ? `Most isolated first. They are unusual to these filters (odd crops, rare views), not mislabeled more often than others.${unknownNote(unknown)}` : unknownNote(unknown);
  fill(byId('gallery'), gallery(ordered, isolatedCard, CARDS));
  const perLayer = (filters) => first.layers.map((_, at) => filters.filter((filter) => first.places[filter].layer === at).length);
  const judgedFilters = everyFilter.filter((filter) => !isDead(first, filter) && !isNearlyDead(first, filter));
  const [deadIn, flaggedIn, judgedIn] = [perLayer(dead), perLayer(flagged), perLayer(judgedFilters)];
  drawLayers([
    { title: 'Anomaly filters', hint: 'Filters that all three criteria hold for', cell: (at) => barred(flaggedIn[at], Math.max(...flaggedIn)) },
    numberColumn('Filters', 'Feature maps of the layer', (at) => first.layers[at].filters, whole.format),
    numberColumn('Dead', 'The same map for every image: not judged', (at) => deadIn[at], whole.format),
    minor({ title: 'Kind', hint: 'What the layer does', cell: (at) => first.layers[at].kind.replace('_', '-') }),
    minor(numberColumn('Mean CH', 'Mean Calinski-Harabasz index, which criterion β compares with; without dead and nearly dead filters', (at) => (judgedIn[at] ? first.layers[at].mean_ch : NaN), short)),
    minor(numberColumn('Mean activation', 'Mean absolute activation, which criterion θ compares with; without dead filters', (at) => first.layers[at].mean_activation ?? NaN, short)),
  ]);
}

start();

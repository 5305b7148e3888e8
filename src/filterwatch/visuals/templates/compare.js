// The page of two models on the same images.

const STATUS = ['neither', 'ceased', 'turned', 'both'];
const RANKS = ['neither', 'both', 'ceased', 'turned'];
const statusOf = (filter) => STATUS[state.verdicts[0].flagged[filter] + 2 * state.verdicts[1].flagged[filter]];
const isNotable = (filter) => ['turned', 'ceased'].includes(statusOf(filter));
const verdictCell = (filter) => badge(statusOf(filter), statusOf(filter));

// Nearly dead filters have no place among the others, and come last.
const chOf = (run, filter) => (isNearlyDead(run, filter) ? NaN : run.chIndex[filter]);

const perRun = (title, hint, value, text = String) => runs.map((run, at) => ({
  ...numberColumn(`${title} ${at + 1}`, `${hint} in the ${ORDINALS[at]} model`, (filter) => value(run, filter)),
  cell: (filter) => (isDead(run, filter) ? 'dead' : text(value(run, filter))),
}));
const table = new Table(byId('filter-table'), byId('pager'), [
  { title: 'Change', hint: 'Anomalous in the second only (turned), in the first only (ceased), in both', value: (filter) => RANKS.indexOf(statusOf(filter)), cell: verdictCell },
  nameColumn,
  ...perRun('K', 'Number of clusters', (run, filter) => run.clusters[filter]).map(minor),
  ...perRun('Isolated', 'Images in small clusters', (run, filter) => isolatedCount(run, filter, limit())),
  ...perRun('CH', 'Calinski-Harabasz index', chOf, short).map(minor),
  ...perRun('CH / mean', 'Calinski-Harabasz index over the layer’s mean', (run, filter) => chOf(run, filter) / layerOf(run, filter).mean_ch, short).map(minor),
], { onChoose: chooseFilter, pageSize: 10 });

// Shows the images that filters isolate which are flagged in this run only.
function showImages(status, run) {
  const { ordered, unknown } = isolations(run, everyFilter.map((filter) => statusOf(filter) === status), limit());
  const card = ([sample, filters]) => imageCard(sample, element('div', {}, count(filters.length, 'filter')));
  fill(byId(`gallery-${status}`), gallery(ordered, card, CARDS));
  byId(`isolated-${status}`).hidden = !ordered.length;
  return unknown;
}

function showChanges() {
  const layers = first.layers.map(() => ({ neither: 0, ceased: 0, turned: 0, both: 0 }));
  everyFilter.forEach((filter) => { layers[first.places[filter].layer][statusOf(filter)] += 1; });
  const [turned, ceased, both] = ['turned', 'ceased', 'both'].map((status) => whole.format(layers.reduce((sum, layer) => sum + layer[status], 0)));
  const counts = state.verdicts.map((verdict) => verdict.count);
  const accuracy = (run) => (run.accuracy === null ? '' : `, accuracy ${percent(run.accuracy)}`);
  fill(
    byId('tiles'),
    ...runs.map((run, at) => tile(whole.format(counts[at]), `anomaly filters in the ${ORDINALS[at]}${accuracy(run)}`, counts[at] ? 'anomaly' : '')),
    tile(turned, 'turned: anomalous in the second alone'),
    tile(ceased, 'ceased: anomalous in the first alone'),
    tile(both, 'anomalous in both'),
  );
  showVerdict(counts, `; ${turned} turned, ${ceased} ceased`);
  const nIsolated = (run, at) => isolations(run, state.verdicts[at].flagged, limit()).ordered.length;
  fill(byId('remarks'), ...runs.flatMap((run, at) => remarks(run, state.verdicts[at], nIsolated(run, at), sliders.thresholds, at ? 'Second' : 'First')));
  const unknown = showImages('turned', second) + showImages('ceased', first);
  byId('images-hint').textContent = `Most isolated first. They are unusual to these filters (odd crops, rare views), not mislabeled more often than others.${unknownNote(unknown)}`;
  const most = Math.max(...layers.map((layer) => layer.both + Math.max(layer.ceased, layer.turned)));
  drawLayers([
    { title: 'In the first', hint: 'Filters that all three criteria hold for in the first model', cell: (at) => barred(layers[at].both + layers[at].ceased, most, 'second') },
    { title: 'In the second', hint: 'Filters that all three criteria hold for in the second model', cell: (at) => barred(layers[at].both + layers[at].turned, most) },
    minor(numberColumn('Turned', 'Anomalous in the second model alone', (at) => layers[at].turned, whole.format)),
    minor(numberColumn('Ceased', 'Anomalous in the first model alone', (at) => layers[at].ceased, whole.format)),
    minor(numberColumn('Filters', 'Feature maps of the layer', (at) => first.layers[at].filters, whole.format)),
  ]);
}

start();
